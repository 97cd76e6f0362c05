"""Rules on the real pipeline: rows in, transitions out."""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa
from penstock.schemas.alerts.rules import AlertRule
from penstock.streams.core.alerts.engine import AlertEngine
from penstock.streams.core.alerts.moment import Panes
from penstock.streams.core.alerts.transition import Transition
from penstock.streams.core.alerts.watch import counters_for_rules
from penstock.streams.core.counting import counted
from penstock.streams.core.fleet import Fleet
from penstock.streams.core.pipeline import Pipeline
from penstock.streams.core.slices import Combos, SliceRegistry
from penstock.streams.core.tiles import SECOND_US
from penstock.tests.unit.streams.core.alerts.build import P95, kinds, rule

RULES = [
    rule(id="cells", by="model", condition=P95, severity="critical",
         annotations={"summary": "{{ labels.model }}: {{ value }}"}),
    rule(id="panes", by="model_version", condition=P95 | {"window": "30m"}),
    rule(id="half", condition={"kind": "change", "metric": "request_rate", "op": "<", "value": 0.5,
                               "window": "1m", "baseline": "1m", "offset_s": 60}),
    rule(id="dead", condition={"kind": "absence", "absent_s": 30}),
    rule(id="nobody", condition={"kind": "threshold", "metric": "workers", "op": "<", "value": 1}),
]  # fmt: skip


def rows(start_s: int, end_s: int, slow: float) -> pa.Table:
    """Ten requests a second, a share of them taking 1.3 s instead of 1.1 s."""
    n = (end_s - start_s) * 10
    ts_us = start_s * SECOND_US + np.arange(n) * 100_000
    latency_us = np.where(np.arange(n) % 100 < slow * 100, 1_300_000, 1_100_000)
    return pa.table({
        "ts": ts_us, "latency_us": latency_us, "overflow": np.zeros(n, np.int64),
        "status": pa.array(["ok"] * n).dictionary_encode(),
        "model": pa.array(["chat"] * n).dictionary_encode(),
        "model_version": pa.array(["1"] * n).dictionary_encode(),
    })  # fmt: skip


def run(rules: list[AlertRule], *tables: pa.Table, until_s: int, step_s: int) -> list[Transition]:
    combos = Combos(SliceRegistry(100, 100))
    pipeline = Pipeline(combos, Fleet(), lambda _: {})
    for table in tables:
        pipeline.count(counted(combos, "request", table, counters_for_rules(rules)))
    engine = AlertEngine(rules, combos.registry, lambda _: True, 1000)
    said: list[Transition] = []
    for closed_s in range(1000 + step_s, until_s + 1, step_s):
        closing = pipeline.close(closed_s * SECOND_US)
        panes = Panes(pipeline.window, pipeline.history.oldest_s)
        said += engine.close(closing.cells, closed_s, panes)
    return said


@cache
def by_second() -> list[Transition]:
    return run(RULES, rows(1000, 1180, 0.0), rows(1180, 1240, 0.5), until_s=1290, step_s=1)


def test_a_fault_raises_what_it_should_and_nothing_else() -> None:
    said = by_second()
    by_rule = {item.id: kinds([t for t in said if t.rule_id == item.id]) for item in RULES}
    # The slow ones are the first half of each 10 s: 40 of 600 are more than 5 %, 30 are not.
    assert by_rule["cells"] == [(1184, "firing")]
    # At 1200 the sketch has rank floor(0.95 * 1999) just below the 100 slow ones.
    assert by_rule["panes"] == [(1230, "firing")]
    assert by_rule["half"] == [(1280, "firing")]
    assert by_rule["dead"] == [(1270, "firing")]
    assert by_rule["nobody"] == [(1010, "firing")]
    fired = next(item for item in said if item.rule_id == "cells")
    assert fired.annotations["summary"].startswith("chat: ")
    assert fired.annotations["summary"].endswith("% of requests above 1200 ms")
    assert fired.limit == 0.05


def test_how_it_closes_changes_nothing() -> None:
    tables = rows(1000, 1180, 0.0), rows(1180, 1240, 0.5)
    assert run(RULES, *tables, until_s=1290, step_s=145) == by_second()
    assert run(RULES[:4], *[rows(1000, 1290, 0.0)], until_s=1290, step_s=10) == []
