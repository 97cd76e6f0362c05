from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from penstock.schemas.costs.budgets import SpendLimit
from penstock.streams.core.costs.limits import (
    MOST_KEYS,
    KeySpend,
    LimitLook,
    LimitWatch,
    SpendLedger,
    limit_hash,
)

WINDOW_S = 600
SPEC = SpendLimit.model_validate(
    {"id": "l", "by": "user_hash", "usd": "1e-7", "window_s": WINDOW_S}  # 100 nano-dollars
)
KEYS = ["a", "b", "c"]
Rows = list[tuple[int, int, int]]
rows = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40), st.integers(0, 80)), max_size=60)


def ledger_of(items: Rows) -> SpendLedger:
    ledger = SpendLedger()
    codes, minutes, nano = np.array(items, np.int64).reshape(-1, 3).T
    ledger.add([KEYS[code] for code in codes], minutes * 60, nano)
    return ledger


def looks(
    items: Rows, minutes: range, told: dict[str, int | None] | None = None
) -> list[LimitLook]:
    watch, ledger = LimitWatch(SPEC, told or {}), ledger_of(items)
    return [watch.look(ledger, minute * 60) for minute in minutes]


def plain(items: Rows, key: str, now_min: int) -> int:
    return sum(
        nano
        for code, minute, nano in items
        if KEYS[code] == key and now_min - 10 <= minute < now_min
    )


@given(rows)
def test_sums_and_beginnings_are_those_of_a_plain_loop(items: Rows) -> None:
    since: dict[str, int | None] = dict.fromkeys(KEYS)
    told: set[str] = set()
    for now, look in enumerate(looks(items, range(55))):
        spent = {key: plain(items, key, now) for key in KEYS}
        above = {key for key in KEYS if spent[key] > 100}
        since = {key: (since[key] or now * 60) if key in above else None for key in KEYS}
        expected = {key for key in KEYS if spent[key] >= 50 or (key in told and spent[key])}
        assert look.above == len(above)
        assert {item.key: item for item in look.keys} == {
            key: KeySpend(key, spent[key], since[key]) for key in expected
        }
        assert look.left == tuple(KeySpend(key, spent[key]) for key in sorted(told - expected))
        told = expected


@given(rows, st.randoms(use_true_random=False), st.integers(0, 60))
def test_order_and_parts_and_forgetting_do_not_matter(items: Rows, rng: Any, cut: int) -> None:
    shuffled = list(items)
    rng.shuffle(shuffled)
    ledger = ledger_of(shuffled[:cut])
    ledger.forget_before(20 * 60)
    rest = ledger_of(shuffled[cut:])
    for code, minute, nano in shuffled[cut:]:
        ledger.add([KEYS[code]], np.array([minute * 60]), np.array([nano]))
    assert {*ledger.names} <= {*KEYS}
    assert rest.spent(0, 3600).sum() == sum(nano for _, _, nano in shuffled[cut:])
    whole = looks(items, range(30, 31))
    assert [LimitWatch(SPEC, {}).look(ledger, 30 * 60)] == whole


@given(rows, st.integers(1, 40))
def test_a_restart_goes_on_from_what_was_told(items: Rows, at: int) -> None:
    whole = looks(items, range(50))
    told = {item.key: item.since_s for item in whole[at - 1].keys}
    assert looks(items, range(at, 50), told) == whole[at:]


def test_the_limit_itself_is_allowed() -> None:
    (at_limit,) = looks([(0, 5, 100)], range(6, 7))
    assert (at_limit.above, at_limit.keys) == (0, (KeySpend("a", 100),))
    (above,) = looks([(0, 5, 100), (0, 5, 1)], range(6, 7))
    assert (above.above, above.keys) == (1, (KeySpend("a", 101, 360),))
    assert looks([(0, 5, 101)], range(16, 17))[0].keys == ()
    assert looks([(0, 5, 49)], range(6, 7))[0].keys == ()


def test_a_key_that_is_told_of_is_not_pushed_out_by_larger_ones() -> None:
    ledger, watch = SpendLedger(), LimitWatch(SPEC, {})
    minute = np.zeros(1, np.int64)
    ledger.add(["first"], minute, np.array([101]))
    watch.look(ledger, 60)
    for at in range(2 * MOST_KEYS):
        ledger.add([f"k{at:03d}"], minute + 60, np.array([500 + at]))
    look = watch.look(ledger, 120)
    assert (len(look.keys), look.above, look.left) == (MOST_KEYS, 201, ())
    assert look.keys[0] == KeySpend("first", 101, 60)
    assert [item.key for item in look.keys[1:3]] == ["k199", "k198"]
    assert watch.look(ledger, 660).left == (KeySpend("first", 0),)


def test_another_amount_is_another_limit() -> None:
    other = SPEC.model_copy(update={"window_s": 1200})
    assert limit_hash(other) != limit_hash(SPEC)
    assert limit_hash(SPEC.model_copy(update={"id": "m"})) == limit_hash(SPEC)
