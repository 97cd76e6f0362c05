"""Alerts, objectives and budgets of a shard: the same story whatever crashes, each change told once."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from penstock.schemas.config import Configuration, parse
from penstock.schemas.errors import StoreError
from penstock.streams.core import signals as core
from penstock.streams.core.alerts.audit import Entry, verify
from penstock.streams.core.boots import LedgerEntry
from penstock.streams.core.watched import watched_by
from penstock.streams.signals.signals import Signals, signals_of
from penstock.tests.unit.streams.core.memory import MemoryStore, Row
from penstock.tests.unit.streams.core.world import SECOND, Sent, World

START_S = 1_767_225_600  # Thursday, 1 January 2026
CRASHES = (
    "panes_rows", "windows_rows", "checkpoints_rows", "alert_transitions_rows", "audit_log_rows",
    "slo_status_rows", "cost_status_rows", "spend_status_rows",
)  # fmt: skip
CONFIGURATION = parse("""
slos:
  - {id: answers, filter: {model: a}, sli: {kind: availability}, target: 0.99, window: 7d}
costs:
  budgets:
    - {id: day, period: day, usd: 0.5}
alerts:
  rules:
    - id: errors
      by: model
      condition: {kind: threshold, metric: error_rate, window: 1m, op: ">", value: 0.2}
      for_s: 30
      resolve_for_s: 20
      annotations: {summary: "{{ labels.model }}: {{ value }}"}
    - id: slow
      condition: {kind: threshold, metric: latency_ms_p95, window: 1m, op: ">", value: 500}
    - id: slow-route
      by: model_route
      condition: {kind: threshold, metric: latency_ms_p99, window: 1m, op: ">", value: 500}
      for_s: 10
    - id: silent
      by: model
      condition: {kind: absence, of: requests, absent_s: 60}
    - id: burning
      condition: {kind: burn_rate, id: answers, limit: {op: ">", value: 2}}
      for_s: 60
""")


def traffic(minute: int, rng: random.Random) -> Iterator[Row]:
    """Two models; one answers with errors for four minutes and is silent for three, then slow."""
    for second in range(60):
        for model in "ab":
            if model == "b" and 8 <= minute < 11:
                continue
            failed = model == "a" and 3 <= minute < 7 and rng.random() < 0.5
            slow = model == "b" and minute >= 12
            yield {
                "ts": (START_S + minute * 60 + second) * SECOND,
                "model": model,
                "route": f"/{model}",
                "status": "error" if failed else "ok",
                "latency_ms": 900 if slow else 100,
                "cost_usd": 0.001,
                "input_tokens": 10,
                "output_tokens": 10,
            }


def traffic_of(minutes: int, seconds: int) -> Iterator[list[Row]]:
    """The rows of some minutes, in flushes of so many seconds."""
    rng = random.Random(1)
    for minute in range(minutes):
        rows = list(traffic(minute, rng))
        while rows:
            until_us = rows[0]["ts"] // SECOND // seconds * seconds * SECOND + seconds * SECOND
            part = [row for row in rows if row["ts"] < until_us]
            rows = rows[len(part) :]
            yield part


@dataclass(frozen=True)
class Trouble:
    """How often something happens, by the seed."""

    seed: int
    crashes: float = 0.0
    restarts: float = 0.0


CALM = Trouble(0)


class Story(World):
    """A world with one boot, told in flushes."""

    seq = 0

    def tell(self, sent: Sent, entry: LedgerEntry) -> None:
        """No truth is kept beside it."""

    def flush(self, rows: list[Row], crash: str | None = None) -> None:
        """Rows arrive, and what closes is published."""
        clock_us = max(rows[-1]["ts"] + SECOND // 2, self.now_us)
        self.deliver([Sent("request", "w", "boot", self.seq, rows, clock_us)], clock_us)
        self.seq += len(rows)
        self.tick(clock_us + 1000, crash)

    def end(self) -> None:
        """The boot ends, so that everything closes and is evaluated."""
        ended = Sent("control", "w", "boot", self.seq, (), self.now_us, self.seq, True)
        self.deliver([ended], self.now_us)
        self.tick(self.now_us + 20 * SECOND)
        while self.signals is not None and self.signals.lags:
            self.tick(self.now_us + 1)

    @property
    def signals(self) -> Signals | None:
        """Of the only shard."""
        return self.evaluator._held[0].signals


def run(
    trouble: Trouble = CALM, configuration: Configuration = CONFIGURATION, flush_s: int = 10
) -> MemoryStore:
    """Fourteen minutes, published as they come; returns the store after them."""
    rng = random.Random(trouble.seed)
    store = MemoryStore()
    with store.installed():
        story = Story(store, configuration)
        for part in traffic_of(14, flush_s):
            story.flush(part, rng.choice(CRASHES) if rng.random() < trouble.crashes else None)
            if rng.random() < trouble.restarts:
                story.restart()
        story.end()
    return store


def changes(store: MemoryStore) -> dict[str, Row]:
    """Stored changes by id, but for when they were recorded."""
    rows = store.keyed["alert_transitions_rows"].values()
    return {row["id"]: {k: v for k, v in row.items() if k != "recorded_at"} for row in rows}


def log_of(store: MemoryStore, chain: str = "shard-0") -> list[Entry]:
    """The audit log as a reader of the table gets it."""
    rows = [row for row in store.keyed["audit_log_rows"].values() if row["chain"] == chain]
    return [
        Entry(
            row["seq"], int(row["at"].timestamp()), row["kind"], row["who"],
            json.loads(row["body"]), row["previous"], row["hash"],
        )
        for row in sorted(rows, key=lambda row: row["seq"])
    ]  # fmt: skip


def statuses(store: MemoryStore, name: str, key: str) -> dict[Any, Mapping[str, Any]]:
    """The newest status of each objective or budget."""
    newest: dict[Any, Mapping[str, Any]] = {}
    for row in sorted(store.keyed[name].values(), key=lambda row: row["as_of"]):
        newest[row[key]] = {k: v for k, v in row.items() if k != "version"}
    return newest


@pytest.fixture(scope="module")
def calm() -> MemoryStore:
    """What an uninterrupted run stores."""
    return run()


def test_the_story(calm: MemoryStore) -> None:
    told: dict[tuple[str, str], list[str]] = {}
    for row in sorted(changes(calm).values(), key=lambda row: (row["at"], row["sequence"])):
        labels = dict(row["labels"])
        told.setdefault((row["rule_id"], labels.get("model", "")), []).append(row["kind"])
    assert told == {
        ("errors", "a"): ["pending", "firing", "resolved"],
        ("burning", "a"): ["pending", "firing"],
        ("answers.budget", "a"): ["firing"],
        ("day.budget", ""): ["firing"],
        ("silent", "b"): ["firing", "resolved"],
        ("slow", ""): ["firing"],
        ("slow-route", "b"): ["pending", "firing"],
    }


def test_statuses_are_exact(calm: MemoryStore) -> None:
    slo = statuses(calm, "slo_status_rows", "slo_id")["answers"]
    rows = [row for row in calm.raw["requests_rows"] if row["model"] == "a"]
    minute_us = int(slo["as_of"].timestamp()) * SECOND
    counted = [row for row in rows if row["ts"] < minute_us]
    bad = sum(row["status"] == "error" for row in counted)
    assert (slo["bad"], slo["total"]) == (bad, len(counted)) == (bad, 14 * 60)
    assert slo["state"] == "breached"
    assert slo["coverage"] == 1.0
    budget = statuses(calm, "cost_status_rows", "budget_id")["day"]
    spent = sum(row["cost_nanousd"] for row in calm.raw["requests_rows"])
    assert (budget["spent_nanousd"], budget["state"]) == (spent, "exceeded")


def test_the_audit_log_has_each_change_once_and_is_whole(calm: MemoryStore) -> None:
    log = log_of(calm)
    assert verify(log) is None
    assert sorted(entry.body["id"] for entry in log) == sorted(changes(calm))


@pytest.mark.parametrize(
    "trouble",
    [
        Trouble(2, 0.3, 0.3),
        pytest.param(Trouble(1, 0.5, 0.2), marks=pytest.mark.slow),
        pytest.param(Trouble(3, 0.1, 0.6), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_crashes_and_restarts_change_nothing(calm: MemoryStore, trouble: Trouble) -> None:
    store = run(trouble)
    assert changes(store) == changes(calm)
    log = log_of(store)
    assert verify(log) is None
    assert sorted(entry.body["id"] for entry in log) == sorted(changes(calm))
    for name, key in (("slo_status_rows", "slo_id"), ("cost_status_rows", "budget_id")):
        assert statuses(store, name, key) == statuses(calm, name, key)


@pytest.mark.slow
def test_how_much_is_evaluated_at_once_changes_nothing(
    calm: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "MOST_S", 25)
    store = run(Trouble(4, 0.2, 0.2), flush_s=60)
    assert changes(store) == changes(calm)


def test_without_sections_nothing_is_kept() -> None:
    store = run(configuration=Configuration(), flush_s=60)
    assert [row["signals"] for row in store.keyed["checkpoints_rows"].values()] == [""]
    assert not [name for name in CRASHES[3:] if store.keyed[name]]


@pytest.mark.slow
def test_alerts_of_rules_that_went_end_and_are_forgotten() -> None:
    store = MemoryStore()
    with store.installed():
        story = Story(store, CONFIGURATION)
        for part in traffic_of(5, 20):
            story.flush(part)
        story.configuration = Configuration()
        story.restart()
        for part in traffic_of(6, 20):
            if part[0]["ts"] >= (START_S + 300) * SECOND:
                story.flush(part)
        ended = {row["rule_id"]: row for row in changes(store).values() if row["sequence"] > 1}
        assert ended["errors"]["reason"] == "rule_removed"
        assert ended["errors"]["kind"] == "resolved"
        # With rules again, the audit log goes on where it ended.
        logged = log_of(store)
        story.configuration = CONFIGURATION
        story.restart()
        for part in traffic_of(14, 20):
            if part[0]["ts"] >= story.now_us:
                story.flush(part)
        after = log_of(store)
        assert after[: len(logged)] == logged
        assert len(after) > len(logged)
        assert verify(after) is None


def test_late_rows_amend_an_alert_once() -> None:
    store = MemoryStore()
    off_panes = parse("""
alerts:
  rules:
    - id: slow-route
      by: model_route
      condition: {kind: threshold, metric: latency_ms_p99, window: 30m, op: ">", value: 500}
""")
    with store.installed():
        story = Story(store, off_panes)
        for part in traffic_of(14, 20):
            story.flush(part)
        (fired,) = (
            row
            for row in changes(store).values()
            if (row["rule_id"], row["kind"]) == ("slow-route", "firing")
        )
        late_us = (int(fired["at"].timestamp()) - 15) * SECOND
        late = {"ts": late_us, "model": "b", "route": "/b", "status": "ok", "latency_ms": 100_000}
        story.flush([late])
        story.restart()
        story.end()
        notes = [row for row in changes(store).values() if row["kind"] == "amended"]
        assert [(row["alert_id"], row["at"]) for row in notes] == [(fired["alert_id"], fired["at"])]
        assert notes[0]["n"] == fired["n"] + 1
        assert verify(log_of(store)) is None


def test_cells_of_a_grouping_set_begin_with_the_rules_that_ask_for_them() -> None:
    """A rule that comes later waits for its window, over restarts; at the very start it need not."""
    few = parse("""
alerts:
  rules:
    - id: few
      by: route
      condition: {kind: threshold, metric: requests, window: 1m, op: "<", value: 50}
""")
    store = MemoryStore()
    with store.installed():
        story = Story(store, Configuration())
        for number, part in enumerate(traffic_of(6, 20)):
            if number == 7:
                story.configuration = few
            if number in (7, 8, 9):
                story.restart()
            story.flush(part)
        story.end()
    (row,) = store.keyed["checkpoints_rows"].values()
    first_s = START_S + 7 * 20 - 3  # what had closed by then
    assert json.loads(row["signals"])["cells"] == {"route": first_s}
    told = sorted(changes(store).values(), key=lambda row: row["at"])
    # A minute of one request a second; only when all of them end there are fewer.
    assert {int(row["at"].timestamp()) for row in told} == {START_S + 6 * 60 + 11}
    assert kept_by(store) == {"fleet", "model", "release", "route"}

    store = MemoryStore()
    with store.installed():
        story = Story(store, few)
        for part in traffic_of(1, 20):
            story.flush(part)
    (row,) = store.keyed["checkpoints_rows"].values()
    assert json.loads(row["signals"])["cells"] == {"route": 0}
    assert min(int(row["at"].timestamp()) for row in changes(store).values()) == START_S + 1


def kept_by(store: MemoryStore) -> set[str]:
    """The grouping sets that cells are stored of."""
    return {row["grouping"] for row in store.keyed["panes_rows"].values() if row["pane_s"] == 1}


def test_who_is_no_longer_the_owner_stores_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    insert = store.insert

    def overtaken(name: str, rows: Any, token: str) -> None:
        insert(name, rows, token)
        if name == "checkpoints_rows":
            row = store.keyed[name][(0,)]
            store.keyed[name][(0,)] = row | {"at": row["at"].replace(year=2027)}

    with store.installed():
        story = Story(store, CONFIGURATION)
        monkeypatch.setattr(store, "insert", overtaken)
        rows = [row for part in traffic_of(6, 20) for row in part]
        with pytest.raises(StoreError, match="has another owner"):
            story.flush(rows)
        assert changes(store) == {}


def test_a_shard_that_moved_on_meanwhile_is_not_taken_over() -> None:
    store = MemoryStore()
    with store.installed() as opened:
        story = Story(store, CONFIGURATION)
        for part in traffic_of(1, 20):
            story.flush(part)
        shard = story.evaluator.shards[0]
        assert shard.pipeline.closed_s is not None
        shard.pipeline.closed_s -= 1
        with pytest.raises(StoreError, match="taken over meanwhile"):
            signals_of(opened, CONFIGURATION, shard, 1, lambda name, rows: None)


def test_every_objective_and_budget_is_evaluated_by_one_shard() -> None:
    shards = [watched_by(CONFIGURATION, number, 5) for number in range(5)]
    assert sum(len(shard.objectives) for shard in shards) == 1
    assert sum(len(shard.budgets) for shard in shards) == 1


def test_what_is_no_state_is_refused() -> None:
    with pytest.raises(ValueError, match="not the state of signals"):
        core.Saved.from_dict({"evaluated_s": 1})
