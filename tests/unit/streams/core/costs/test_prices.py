from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.schemas.costs.prices import TokenPrice, TrainingPrice
from penstock.streams.core.costs.prices import (
    HOUR_US,
    Prices,
    Tokens,
    Training,
    request_costs,
    training_costs,
    usd_per_1k_tokens,
    with_costs,
)

JANUARY_US = 1_767_225_600_000_000
MARCH_US = 1_772_323_200_000_000


def price(**fields: Any) -> TokenPrice:
    given_ = {"valid_from": "2026-01-01", "input_usd": "0.15", "output_usd": "0.6"}
    return TokenPrice.model_validate(given_ | fields)


PRICES = Prices([
    price(model="m", cached_usd="0.075", reasoning_usd="1.2"),
    price(model="m", valid_from="2026-03-01", input_usd="0.1"),
    price(valid_from="2026-02-01", input_usd=9),
])  # fmt: skip


def tokens(*rows: tuple[int, int, int, int]) -> Tokens:
    return Tokens(*np.array(rows, np.int64).reshape(-1, 4).T)


def exact(entry: TokenPrice, row: tuple[int, int, int, int]) -> int:
    """Nano-dollars by decimals, half up."""
    given_input, given_output, cached, reasoning = row
    prices = (entry.input_usd, entry.cached_usd, entry.output_usd, entry.reasoning_usd)
    names = [entry.input_usd if prices[1] is None else prices[1]]
    paid = [
        (max(given_input - cached, 0), entry.input_usd),
        (cached, names[0]),
        (max(given_output - reasoning, 0), entry.output_usd),
        (reasoning, entry.output_usd if prices[3] is None else prices[3]),
    ]
    per = 1000 if entry.per == "1k" else 10**6
    nano = sum((Decimal(count) * usd for count, usd in paid), Decimal(0)) * 10**9 / per
    return int((nano + Decimal("0.5")).to_integral_value(ROUND_FLOOR))


def test_a_price_by_model_and_time() -> None:
    def found(model: str, at_us: int) -> Decimal | None:
        entry = PRICES.price(model, at_us)
        return None if entry is None else entry.input_usd

    assert found("m", JANUARY_US - 1) is None
    assert found("m", JANUARY_US) == found("m", MARCH_US - 1) == Decimal("0.15")
    assert found("m", MARCH_US) == Decimal("0.1")
    assert found("other", JANUARY_US) is None
    assert found("other", MARCH_US) == 9


def test_before_its_first_price_a_model_costs_what_any_does() -> None:
    prices = Prices([price(model="m", valid_from="2026-03-01"), price(input_usd=9)])
    entry = prices.price("m", MARCH_US - 1)
    assert entry is not None
    assert entry.input_usd == 9


def test_overlapping_prices_are_refused_here_too() -> None:
    with pytest.raises(ValueError, match="overlap"):
        Prices([price(), price()])


def test_costs_of_requests() -> None:
    ts = np.array([JANUARY_US - 1, JANUARY_US, MARCH_US, MARCH_US, MARCH_US], np.int64)
    models = (np.array([0, 0, 0, 1, 1]), ["m", "other"])
    used = tokens(
        (10, 10, 0, 0), (1000, 100, 400, 40), (1000, 100, 400, 40), (1, 0, 0, 0), (0, 0, 0, 0)
    )
    cost, priced = request_costs(PRICES, models, ts, used)
    assert priced.tolist() == [False, True, True, True, True]
    assert cost.dtype == np.int64
    # 600 * 150 + 400 * 75 + 60 * 600 + 40 * 1200; 1000 * 100 + 100 * 600; 1 * 9000
    assert cost.tolist() == [0, 204_000, 160_000, 9_000, 0]


def test_more_cached_than_input_is_paid_as_it_stands() -> None:
    models, ts = (np.zeros(1, np.int64), ["m"]), np.array([JANUARY_US], np.int64)
    cost, _ = request_costs(PRICES, models, ts, tokens((10, 0, 100, 5)))
    assert cost.tolist() == [100 * 75 + 5 * 1200]


counts = st.integers(0, 2**32 - 1)
amounts = st.decimals(0, 100_000, places=6)


@given(
    st.tuples(amounts, amounts, st.none() | amounts, st.none() | amounts),
    st.lists(st.tuples(counts, counts, counts, counts), min_size=1, max_size=5),
)
def test_the_vectorised_cost_is_the_decimal_one(
    usd: tuple[Decimal, Decimal, Decimal | None, Decimal | None],
    rows: list[tuple[int, int, int, int]],
) -> None:
    entry = price(input_usd=usd[0], output_usd=usd[1], cached_usd=usd[2], reasoning_usd=usd[3])
    n = len(rows)
    cost, _ = request_costs(
        Prices([entry]), (np.zeros(n, np.int64), ["x"]), np.full(n, MARCH_US), tokens(*rows)
    )
    assert cost.tolist() == [exact(entry, row) for row in rows]


def test_half_a_nano_dollar_rounds_up_once_per_request() -> None:
    entry = price(input_usd="0.0005", output_usd="0.0004")  # 0.5 and 0.4 nano-dollars a token
    models, ts = (np.zeros(3, np.int64), ["x"]), np.full(3, MARCH_US)
    cost, _ = request_costs(
        Prices([entry]), models, ts, tokens((1, 0, 0, 0), (0, 1, 0, 0), (1, 1, 0, 0))
    )
    assert cost.tolist() == [1, 0, 1]


def test_tokens_of_no_valid_event_do_not_overflow() -> None:
    entry = price(input_usd=100_000, output_usd=100_000)
    models, ts = (np.zeros(2, np.int64), ["x"]), np.full(2, MARCH_US)
    cost, _ = request_costs(Prices([entry]), models, ts, tokens((2**63 - 1,) * 4, (-5, -5, -5, -5)))
    assert cost.tolist() == [2 * (2**32 - 1) * 10**8, 0]


def requests(**columns: Any) -> pa.Table:
    base = {
        "ts": pa.array([MARCH_US] * 5, pa.int64()),
        "model": pa.array(["m", "m", None, "m", "m"]).dictionary_encode(),
        "status": pa.array(["ok", "ok", "error", None, "ok"]).dictionary_encode(),
        "input_tokens": pa.array([10, 10, 10, 10, None], pa.int64()),
    }
    return pa.table(
        {name: column for name, column in (base | columns).items() if column is not None}
    )


def test_events_without_a_cost_get_one() -> None:
    filled, unpriced = with_costs(requests(), PRICES)
    # announced overdue: not ended; no tokens: nothing to price
    assert filled["cost_nanousd"].to_pylist() == [1000, 1000, 90_000, None, None]
    assert unpriced == 0
    stated = pa.array([7, None, 0, None, None], pa.int64())
    table = requests(cost_nanousd=stated)
    filled, _ = with_costs(table, PRICES)
    assert filled["cost_nanousd"].to_pylist() == [7, 1000, 0, None, None]
    assert filled.column_names == table.column_names


def test_costs_are_left_as_they_are_where_nothing_is_missing_or_priced() -> None:
    complete = requests(cost_nanousd=pa.array([1, 2, 3, 4, 5], pa.int64()))
    assert with_costs(complete, PRICES) == (complete, 0)
    ended = requests(cost_nanousd=pa.array([1, 2, 3, None, None], pa.int64()))
    assert with_costs(ended, PRICES) == (ended, 0)
    nothing = requests(input_tokens=None)
    assert with_costs(nothing, PRICES) == (nothing, 0)


def test_without_a_price_there_is_no_cost_and_it_is_told() -> None:
    only_n = Prices([price(model="n")])
    filled, unpriced = with_costs(requests(), only_n)
    assert filled["cost_nanousd"].to_pylist() == [None] * 5
    assert unpriced == 3


def test_pricing_twice_changes_nothing() -> None:
    once, _ = with_costs(requests(), PRICES)
    assert with_costs(once, Prices([price(input_usd=50)]))[0].equals(once)


MODELS = ("a", "b", "", None)
entries = st.tuples(
    st.sampled_from(["a", "b", "*"]), st.integers(1, 28), st.tuples(amounts, amounts, amounts)
)
rows = st.fixed_dictionaries({
    "model": st.sampled_from(MODELS),
    "day": st.integers(0, 30),
    "status": st.sampled_from(["ok", "error", None]),
    "cost_nanousd": st.none() | st.integers(0, 10**12),
    **{f"{name}_tokens": st.none() | counts for name in ("input", "output", "cached", "reasoning")},
})  # fmt: skip


@given(st.lists(entries, max_size=6), st.lists(rows, min_size=1, max_size=12))
def test_each_row_costs_what_it_costs_alone(
    given_: list[tuple[str, int, tuple[Decimal, Decimal, Decimal]]], told: list[dict[str, Any]]
) -> None:
    dated = {(model, day): usd for model, day, usd in given_}
    made = [
        price(
            model=model, valid_from=f"2026-01-{day:02}",
            input_usd=usd[0], output_usd=usd[1], cached_usd=usd[2],
        )
        for (model, day), usd in sorted(dated.items())
    ]  # fmt: skip

    def cost(row: dict[str, Any]) -> int | None:
        """One row, by decimals."""
        names = ("input", "output", "cached", "reasoning")
        used = [row[f"{name}_tokens"] for name in names]
        if row["cost_nanousd"] is not None or not row["status"] or used == [None] * 4:
            stated: int | None = row["cost_nanousd"]
            return stated
        for model in (row["model"], "*"):
            begun = [e for e in made if e.model == model and e.valid_from.day <= row["day"] + 1]
            if begun:
                known = [count or 0 for count in used]
                return exact(begun[-1], (known[0], known[1], known[2], known[3]))
        return None

    columns = {name: [row[name] for row in told] for name in told[0]}
    table = pa.table({
        "ts": pa.array([JANUARY_US + day * 24 * HOUR_US for day in columns.pop("day")], pa.int64()),
        **{
            name: pa.array(columns.pop(name), pa.string()).dictionary_encode()
            for name in ("model", "status")
        },
        **{name: pa.array(values, pa.int64()) for name, values in columns.items()},
    })  # fmt: skip
    filled, unpriced = with_costs(table, Prices(made))
    found, wanted = filled["cost_nanousd"].to_pylist(), [cost(row) for row in told]
    assert found == wanted
    used = [any(row[f"{n}_tokens"] is not None for n in ("input", "output", "cached", "reasoning"))
            for row in told]  # fmt: skip
    lacking = [
        c is None and bool(r["status"]) and u for c, r, u in zip(wanted, told, used, strict=True)
    ]
    assert unpriced == sum(lacking)


def test_training_costs() -> None:
    prices = Prices([
        TrainingPrice.model_validate({"valid_from": "2026-01-01", "usd_per_accelerator_hour": "2.5"}),
        TrainingPrice.model_validate(
            {"model": "t", "valid_from": "2026-03-01", "usd_per_1k_tokens": "0.0004"}
        ),
    ])  # fmt: skip
    rows = [
        Training("t", MARCH_US - 1, 8 * HOUR_US, 10**6),
        Training("t", MARCH_US, 8 * HOUR_US, 1_000_001),
        Training("u", JANUARY_US - 1, HOUR_US, 1),
        Training("u", MARCH_US, 10**15, 0),
        Training("u", MARCH_US, 1, 0),
    ]
    costs = training_costs(prices, rows)
    # the last: 2.5e9 / 3.6e9 = 0.69 nano-dollars
    assert costs == [20 * 10**9, 400_000_400, None, 694_444_444_444_444, 1]


def test_dollars_per_1k_tokens() -> None:
    found = usd_per_1k_tokens([2_000_000_000, 5], [4000, 0])
    assert found[0] == 0.5
    assert np.isnan(found[1])
    assert float(usd_per_1k_tokens(3_000_000, 1500)) == 0.002
