"""Another configuration in the middle of a story: nothing that was counted is lost, or told twice."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from penstock.schemas.config import Configuration, parse
from penstock.streams.core import metrics as m
from penstock.streams.core.alerts.audit import verify
from penstock.streams.core.configured import RECOUNT_S
from penstock.streams.core.slices import CELL_GROUPINGS
from penstock.streams.core.tiles import CELL_S
from penstock.streams.evaluator import Evaluator
from penstock.tests.unit.streams.core.memory import MemoryStore, Row
from penstock.tests.unit.streams.core.world import SECOND
from penstock.tests.unit.streams.signals.test_signals import (
    CONFIGURATION,
    CRASHES,
    Story,
    changes,
    log_of,
    run,
    traffic_of,
)

NEW = m.Threshold("latency_us", 150_000)
SLOWER = parse("""
alerts:
  rules:
    - id: errors
      by: model
      condition: {kind: threshold, metric: error_rate, window: 1m, op: ">", value: 0.2}
      for_s: 30
      resolve_for_s: 20
      annotations: {summary: "{{ labels.model }}: {{ value }}"}
    - id: silent
      by: model
      condition: {kind: absence, of: requests, absent_s: 60}
    - id: slow
      condition: {kind: threshold, metric: latency_ms_p95, window: 1m, op: ">", value: 150}
""")
KEPT = ("errors", "silent")  # rules that are the same in both


class Changing(Story):
    """A story whose processor follows a configuration; ingestion and evaluation one after the other."""

    def __init__(self, store: MemoryStore, configuration: Configuration) -> None:
        self.newest = configuration
        super().__init__(store, configuration)

    def restart(self) -> None:
        self.configuration = self.newest
        super().restart()
        self.evaluator = Evaluator(
            self.store, self.newest, 1, Counter(), lambda: self.now_us, lambda: self.newest
        )
        self.evaluator.assign(0)


def told(trouble: int, first: int, second: int, crashes: float = 0.0) -> MemoryStore:
    """Fourteen minutes.

    Args:
        trouble: seed of the crashes.
        first: flush before which evaluation is told of the other configuration.
        second: flush before which ingestion goes over to it; earlier or later.
        crashes: how often something does.
    """
    rng = random.Random(trouble)
    store = MemoryStore()
    with store.installed():
        story = Changing(store, CONFIGURATION)
        for number, part in enumerate(traffic_of(14, 10)):
            if number == first:
                story.newest = SLOWER
            if number == second:
                story.ingestion.reconfigure(SLOWER)
            story.flush(part, rng.choice(CRASHES) if rng.random() < crashes else None)
        story.end()
    return store


def counted(store: MemoryStore, name: str) -> dict[Any, Row]:
    """Rows of a table without the counters, and the cells, that a configuration asks for."""
    found = {}
    for key, row in store.keyed[name].items():
        if row.get("pane_s") == CELL_S and row["grouping"] not in CELL_GROUPINGS:
            continue
        row = {k: v for k, v in row.items() if k not in ("version", "epoch")}
        if "keys" in row:
            pairs = zip(row.pop("keys"), row.pop("counts"), strict=True)
            row["pairs"] = [(k, n) for k, n in pairs if k >> 16 < m.CONFIGURED_BASE]
        found[key] = row
    return found


def of_kept_rules(store: MemoryStore) -> dict[str, Row]:
    return {key: row for key, row in changes(store).items() if row["rule_id"] in KEPT}


@pytest.fixture(scope="module")
def calm() -> MemoryStore:
    """What is stored under the first configuration alone."""
    return run()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "first", "second", "crashes"),
    [(0, 70, 41, 0.0), (1, 25, 41, 0.0), (2, 50, 31, 0.3)],
)
def test_no_count_is_lost_and_no_alert_told_twice(
    calm: MemoryStore, seed: int, first: int, second: int, crashes: float
) -> None:
    store = told(seed, first, second, crashes)
    assert counted(store, "panes_rows") == counted(calm, "panes_rows")
    assert counted(store, "windows_rows") == counted(calm, "windows_rows")
    assert of_kept_rules(store) == of_kept_rules(calm)
    assert len(of_kept_rules(store)) >= 5
    entries = log_of(store)
    assert verify(entries) is None
    assert sorted(entry.body["id"] for entry in entries) == sorted(changes(store))
    check_new_counter(store, first)


def check_new_counter(store: MemoryStore, first: int) -> None:
    """Every cell has it, exactly, whoever counted it; those that closed long before have none."""
    cells: Counter[tuple[int, int]] = Counter()
    for row in store.keyed["panes_rows"].values():
        if row["pane_s"] == 1 and row["grouping"] == "fleet":
            pairs = dict(zip(row["keys"], row["counts"], strict=True))
            at = int(row["pane_start"].timestamp())
            for position in (0, 1):
                cells[at, position] += pairs.get(m.key(NEW.number, position), 0)
    wanted: Counter[tuple[int, int]] = Counter()
    for row in store.raw["requests_rows"]:
        at = row["ts"] // SECOND
        wanted[at, 0] += 1
        wanted[at, 1] += row["latency_us"] > 150_000
    parts = [*traffic_of(14, 10)]
    closed_s = parts[first][-1]["ts"] // SECOND - 2  # the lateness; when evaluation went over
    since_s = closed_s - RECOUNT_S
    assert len({at for at, _ in wanted if at < since_s}) == max(first * 10 - RECOUNT_S + 7, 0)
    assert +cells == Counter({k: n for k, n in wanted.items() if k[0] >= since_s and n})


@pytest.mark.slow
def test_rules_that_changed_or_went_end(calm: MemoryStore) -> None:
    ended = {
        (row["rule_id"], row["kind"], row["reason"])
        for row in changes(told(0, 80, 80)).values()
        if row["rule_id"] not in KEPT
    }
    assert ("burning", "resolved", "rule_removed") in ended
    assert ("answers.budget", "resolved", "rule_removed") in ended
    assert ("slow", "firing", "condition") in ended
    assert not any(kind == "resolved" for _, kind, _ in {
        (row["rule_id"], row["kind"], row["reason"])
        for row in changes(calm).values()
        if row["rule_id"] == "answers.budget"
    })  # fmt: skip
