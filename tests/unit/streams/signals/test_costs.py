"""Spend limits and forecasts on a running stream: exact, and the same whatever crashes."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import pytest
from penstock.schemas.config import parse
from penstock.streams.core.watched import watched_by
from penstock.tests.unit.streams.core.memory import MemoryStore, Row
from penstock.tests.unit.streams.core.world import SECOND, Sent
from penstock.tests.unit.streams.signals.test_signals import START_S, Story, changes

MINUTES = 44
CRASHES = ("spend_status_rows", "checkpoints_rows", "alert_transitions_rows")
CONFIGURATION = parse("""
costs:
  spend_limits:
    - {id: user, by: user_hash, usd: 0.02, window_s: 300}
    - {id: customer, by: tenant, usd: 100, window_s: 86400}
  forecasts:
    - {id: chat, filter: {model: chat}, load: requests_per_s, max_batch_fill: null}
""")


def requests(minute: int) -> Iterator[Row]:
    """A load that grows; from the tenth minute on, ann spends 0.005 a minute for ten minutes."""
    for at in range(10 + minute):
        rich = at == 0 and 10 <= minute < 20
        yield {
            "ts": (START_S + minute * 60) * SECOND + at,
            "model": "chat",
            "status": "ok",
            "tenant": "acme",
            "user_hash": "ann" if rich else f"u{at}",
            "cost_usd": 0.005 if rich else 0.000001,
        }


def late(minute: int) -> list[Row]:
    """What ann also spent two minutes ago."""
    ts = (START_S + (minute - 2) * 60) * SECOND
    return [{"ts": ts, "model": "chat", "status": "ok", "user_hash": "ann", "cost_usd": 0.001}]


def step(minute: int) -> Row:
    """The KV cache fills as load grows, and is full at 50 requests a minute."""
    usage = 0.018 * (10 + minute)
    return {
        "ts": (START_S + minute * 60 + 30) * SECOND,
        "kind": "engine",
        "model": "chat",
        "kv_cache_usage": usage,
    }


def tell(
    story: Story, rng: random.Random, crashes: float, restarts: float, minutes: int = MINUTES
) -> None:
    """The minutes, published one by one."""
    for minute in range(minutes):
        rows = [*requests(minute), *(late(minute) if minute == 14 else [])]
        clock_us = (START_S + minute * 60 + 50) * SECOND
        engine = Sent("step", "w", "boot", story.seq + len(rows), [step(minute)], clock_us)
        story.deliver([Sent("request", "w", "boot", story.seq, rows, clock_us), engine], clock_us)
        story.seq += len(rows) + 1
        story.tick(clock_us + 1000, rng.choice(CRASHES) if rng.random() < crashes else None)
        if rng.random() < restarts:
            story.restart()
    story.end()


def run(seed: int = 0, crashes: float = 0.0, restarts: float = 0.0) -> MemoryStore:
    """The story in memory; returns the store after it."""
    store = MemoryStore()
    with store.installed():
        tell(Story(store, CONFIGURATION), random.Random(seed), crashes, restarts)
    return store


@pytest.fixture(scope="module")
def calm() -> MemoryStore:
    return run()


def spending(store: MemoryStore, limit: str) -> dict[int, Row]:
    """Looks by minute of the story; after a crash, more rows are applied than before."""
    rows = store.keyed["spend_status_rows"].values()
    return {
        (int(row["as_of"].timestamp()) - START_S) // 60: row | {"version": 0}
        for row in rows
        if row["limit_id"] == limit
    }


def test_spend_is_exact_at_every_minute(calm: MemoryStore) -> None:
    looks = spending(calm, "user")
    assert {*range(1, MINUTES)} <= {*looks}
    for minute, row in looks.items():
        paid = [at for at in range(10, 20) if minute - 5 <= at < minute]
        # The late row was there for the look at the fourteenth minute's end, not before.
        extra = 1_000_000 if 14 <= minute <= 17 else 0
        spent = 5_000_000 * len(paid) + extra
        told = dict(zip(row["keys"], row["spent_nanousd"], strict=True))
        assert told.get("ann", 0) == (spent if spent >= 10_000_000 or (paid and minute > 14) else 0)
        assert row["above"] == (spent > 20_000_000)


def test_who_spends_too_much_is_told_once_and_that_it_ended(calm: MemoryStore) -> None:
    mine = [row for row in changes(calm).values() if row["rule_id"] == "user.spend-limit"]
    told = [
        (row["kind"], (int(row["at"].timestamp()) - START_S) // 60)
        for row in sorted(mine, key=lambda row: row["sequence"])
    ]
    assert told == [("firing", 14), ("resolved", 21)]
    assert {dict(row["labels"])["user_hash"] for row in mine} == {"ann"}
    assert mine[0]["value"] == pytest.approx(21 / 20)
    assert "of the 0.02 USD allowed in 300 s is spent" in mine[0]["text"]


def test_a_forecast_sees_the_end_coming(calm: MemoryStore) -> None:
    rows = sorted(calm.keyed["capacity_forecasts_rows"].values(), key=lambda row: row["as_of"])
    states = [row["state"] for row in rows]
    assert states[0] == "unknown"
    assert states == sorted(states, key=["unknown", "saturates", "saturated"].index)
    first = next(row for row in rows if row["state"] == "saturates")
    minute = (first["as_of"].timestamp() - START_S) / 60
    assert minute + first["estimate_s"] / 60 == pytest.approx(40, abs=2)
    assert (first["signal"], first["reason"], first["daily"]) == ("kv_cache_usage", "", False)
    assert rows[-1]["reason"] == "kv_cache_usage"
    fired = [row for row in changes(calm).values() if row["rule_id"] == "chat.capacity"]
    assert [row["kind"] for row in fired] == ["firing"]
    assert dict(fired[0]["labels"])["model"] == "chat"


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "crashes", "restarts"), [(6, 0.3, 0.2), (7, 0.0, 1.0)])
def test_crashes_and_restarts_change_nothing(
    calm: MemoryStore, seed: int, crashes: float, restarts: float
) -> None:
    store = run(seed, crashes, restarts)
    assert changes(store) == changes(calm)
    for limit in ("user", "customer"):
        assert spending(store, limit) == spending(calm, limit)


def test_the_checkpoint_names_the_look_and_does_not_hold_it(calm: MemoryStore) -> None:
    (row,) = calm.keyed["checkpoints_rows"].values()
    saved = json.loads(row["signals"])
    assert saved["spend"] == max(
        int(row["as_of"].timestamp()) for row in calm.keyed["spend_status_rows"].values()
    )
    assert "ann" not in json.dumps(saved["spend"])


def test_each_is_evaluated_by_one_shard() -> None:
    shards = [watched_by(CONFIGURATION, number, 5) for number in range(5)]
    assert sum(len(shard.limits) for shard in shards) == 2
    assert sum(len(shard.forecasts) for shard in shards) == 1
