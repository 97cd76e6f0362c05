from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from penstock.schemas.alerts.metrics import METRICS
from penstock.schemas.errors import InvalidConfiguration
from penstock.schemas.events import ERROR_TYPES
from penstock.streams.core import metrics as m
from penstock.streams.core.alerts.counted import COUNTED, CellWindow
from penstock.streams.core.alerts.signals import (
    PaneWindow,
    Reading,
    SignalReading,
    read,
    read_signal,
)
from penstock.streams.core.alerts.watch import Watch, counters_for_rules
from penstock.streams.core.pipeline import WindowRows
from penstock.streams.core.windows import rows_of
from penstock.tests.unit.streams.core.alerts.build import (
    ERROR,
    ERRORS,
    OVER_1000,
    OVER_1200,
    P95,
    REQUESTS,
    STEPS,
    Counts,
    rule,
    tile,
)


def rows(counts: Counts, length_s: int = 60) -> PaneWindow:
    merged = tile(counts)
    return PaneWindow(WindowRows(length_s, 600, *rows_of(merged, length_s, 0, False)))


def readings(
    condition: dict[str, Any],
    counts: Counts,
    baseline: Counts | None = None,
    members: tuple[int, ...] = (0,),
    **fields: Any,
) -> dict[int, Reading]:
    watch = Watch(rule(condition=condition, **fields))
    window = CellWindow(tile(counts), 60) if watch.uses_cells else rows(counts)
    before = None if baseline is None else rows(baseline, 3600)
    found = read(watch, window, np.array(members), before)
    every = list(found.positions(None))
    return {int(found.slices[at]): found.at(at) for at in every}


def test_a_ratio_of_each_slice_that_has_data() -> None:
    counts = {0: {REQUESTS: 10, ERROR: 2}, 2: {REQUESTS: 5}, 3: {STEPS: 1}, 4: {REQUESTS: 1}}
    found = readings(ERRORS, counts, members=(0, 2, 3, 9))
    assert found == {
        0: Reading(0.2, 0.1, 10, True, False, "ratio", "error_rate"),
        2: Reading(0.0, 0.1, 5, False, True, "ratio", "error_rate"),
        3: Reading(None, 0.1, 0, None, None, "ratio", "error_rate"),  # steps, and no request
    }
    assert readings(ERRORS, {}) == {}


KEYS = [m.key(metric) for metric in range(1, m.CACHE_EVICTIONS + 1)]
KEYS += [m.key(metric, at) for metric in (m.STATUS, m.ERROR_TYPE) for at in range(1, 10)]


@given(st.dictionaries(st.integers(0, 4).filter(lambda n: n != 1),
       st.dictionaries(st.sampled_from(KEYS), st.integers(1, 10**12), min_size=1), min_size=1))  # fmt: skip
def test_counted_metrics_are_those_of_windows(counts: Counts) -> None:
    counted, expected = CellWindow(tile(counts), 60), rows(counts)
    here = np.isin(expected.slices, counted.slices)
    for name in COUNTED:
        np.testing.assert_array_equal(counted.column(name), expected.column(name)[here], name)
    assert COUNTED.keys() == {name for name, metric in METRICS.items() if metric.counted}


def test_too_few_rows_say_nothing() -> None:
    (found,) = readings(ERRORS, {0: {REQUESTS: 10, ERROR: 2}}, min_requests=11).values()
    assert (found.value, found.breach, found.clear) == (0.2, None, None)


@pytest.mark.parametrize(
    ("limits", "errors", "breach", "clear"),
    [
        ({"op": ">", "value": 0.2}, 2, False, True),
        ({"op": ">=", "value": 0.2}, 2, True, False),
        ({"op": "<", "value": 0.2}, 2, False, True),
        ({"op": "<=", "value": 0.2}, 2, True, False),
        ({"op": ">", "value": 0.5, "resolve_below": 0.3}, 3, False, False),
        ({"op": ">", "value": 0.5, "resolve_below": 0.3}, 2, False, True),
        ({"op": "<", "value": 0.5, "resolve_above": 0.7}, 7, False, False),
        ({"op": "<", "value": 0.5, "resolve_above": 0.7}, 8, False, True),
    ],
)
def test_comparisons(limits: dict[str, Any], errors: int, breach: bool, clear: bool) -> None:
    found = readings(ERRORS | limits, {0: {REQUESTS: 10, ERROR: errors}})[0]
    assert (found.breach, found.clear) == (breach, clear)


def test_errors_of_one_type_and_coverage() -> None:
    oom = m.key(m.ERROR_TYPE, ERROR_TYPES.index("oom"))
    count = ERRORS | {"metric": "errors_by_type.oom", "value": 2}
    assert readings(count, {0: {REQUESTS: 9, oom: 3}})[0].breach
    workers = ERRORS | {"metric": "workers", "op": "<", "value": 1}
    assert readings(workers, {})[0].breach  # that nothing came is what it tells
    gone = ERRORS | {"metric": "coverage", "op": "<", "value": 0.9}
    assert readings(gone, {})[0].breach is None


def test_presence() -> None:
    absence = {"kind": "absence", "of": "steps"}
    assert readings(absence, {0: {REQUESTS: 1}}) == {}
    assert readings(absence, {0: {STEPS: 1}})[0].value == 0


CHANGE = {"kind": "change", "metric": "request_rate", "op": "<", "value": 0.5, "window": "1m"}


def test_a_ratio_to_the_baseline() -> None:
    counts, before = {0: {REQUESTS: 24}, 2: {REQUESTS: 60}}, {0: {REQUESTS: 3600}}
    found = readings(CHANGE, counts, before, members=(0, 2))
    assert (found[0].value, found[0].breach, found[0].unit) == (0.4, True, "ratio")
    assert found[2].breach is None  # was not there before
    assert readings(CHANGE, counts)[0].breach is None
    assert readings(CHANGE | {"min_baseline": 1.5}, counts, before)[0].breach is None


def test_a_difference_to_the_baseline() -> None:
    more = CHANGE | {"compare": "difference", "op": ">", "value": 0.1, "metric": "error_rate"}
    found = readings(more, {0: {REQUESTS: 10, ERROR: 3}}, {0: {REQUESTS: 10, ERROR: 1}})[0]
    assert found.value == pytest.approx(0.2)
    assert found.breach
    zero = {0: {REQUESTS: 10}}
    assert readings(CHANGE | {"metric": "error_rate"}, zero, zero)[0].breach is None


def share(n: int, above: int, condition: dict[str, Any], number: int = OVER_1200) -> Reading:
    counts = {0: {REQUESTS: n, m.key(number): n, m.key(number, 1): above}}
    return readings(condition, counts)[0]


@given(st.integers(1, 10**9), st.data())
def test_a_quantile_is_an_exact_share(n: int, data: st.DataObject) -> None:
    near = n // 20
    above = data.draw(st.integers(max(near - 2, 0), min(near + 2, n)))
    over = Fraction(above, n) > Fraction(5, 100)
    for op, breach in ((">", over), ("<=", not over)):
        found = share(n, above, P95 | {"op": op})
        assert found.breach == breach
        assert found.clear != breach
    assert found.value == above / n
    assert found.limit == 0.05


def test_not_below_a_limit_is_above_the_microsecond_before_it() -> None:
    at_least = P95 | {"op": ">=", "value": 1000}
    assert share(100, 6, at_least, OVER_1000).breach
    assert share(100, 5, at_least | {"op": "<"}, OVER_1000).breach
    assert share(100, 6, P95).note == "of requests above 1200 ms"


def test_a_quantile_has_an_easier_limit_too() -> None:
    counts = {0: {REQUESTS: 100, m.key(OVER_1200): 100, m.key(OVER_1000): 100,
                  m.key(OVER_1200, 1): 2, m.key(OVER_1000, 1): 9}}  # fmt: skip
    found = readings(P95 | {"resolve_below": 1000}, counts)[0]
    assert (found.breach, found.clear) == (False, False)
    low = P95 | {"op": "<", "value": 1000, "resolve_above": 1200}
    found = readings(low, counts)[0]
    assert (found.breach, found.clear) == (False, False)


def test_without_the_latency_a_quantile_is_unknown() -> None:
    assert readings(P95, {0: {REQUESTS: 5}})[0].breach is None


@pytest.mark.parametrize(
    ("fields", "cells", "tick_s"),
    [
        ({}, True, 1),
        ({"condition": ERRORS | {"window": "5m"}}, True, 1),
        ({"condition": P95, "by": "model"}, True, 1),
        ({"condition": P95, "by": "route"}, True, 1),
        ({"condition": P95 | {"window": "1h"}}, False, 60),
        ({"condition": P95 | {"metric": "queue_depth_p99"}}, False, 10),
        ({"condition": P95 | {"metric": "workers"}}, False, 10),
        ({"condition": P95 | {"window": "30m"}}, False, 30),
        ({"condition": CHANGE}, False, 10),
        ({"condition": {"kind": "absence"}, "by": "release"}, False, 10),
        ({"condition": {"kind": "absence"}, "by": "route"}, False, 10),
    ],
)
def test_what_is_read_where_and_how_often(fields: dict[str, Any], cells: bool, tick_s: int) -> None:
    watch = Watch(rule(**fields))
    assert (watch.uses_cells, watch.tick_s) == (cells, tick_s)


COUNTED_RULES = [
    ERRORS | {"metric": name} for name in COUNTED if name in METRICS and METRICS[name].counted
] + [P95 | {"resolve_below": 1000}, P95 | {"op": "<", "resolve_above": 1300}]


@given(st.data())
@pytest.mark.parametrize("condition", COUNTED_RULES, ids=lambda c: f"{c['metric']} {c['op']}")
@settings(max_examples=15)
def test_the_keys_of_a_rule_are_all_that_it_reads(
    condition: dict[str, Any], data: st.DataObject
) -> None:
    watch = Watch(rule(condition=condition))
    every = sorted({*KEYS, *watch.keys, *(m.key(m.STATUS, at) for at in range(5))})
    counts = data.draw(
        st.dictionaries(
            st.integers(0, 2), st.dictionaries(st.sampled_from(every), st.integers(1, 9))
        )
    )
    found = []
    for keys in (every, watch.keys):
        held = {
            number: {k: n for k, n in row.items() if k in keys} for number, row in counts.items()
        }
        read_off = read(watch, CellWindow(tile(held), 60), np.arange(3))
        positions = [*read_off.positions(None)]
        found.append({int(read_off.slices[at]): read_off.at(at) for at in positions})
    assert found[0] == found[1]
    assert not Watch(rule(condition=condition | {"window": "1h"})).keys


def test_counters_are_those_that_cells_are_asked_for() -> None:
    both = rule(condition=P95 | {"resolve_below": 1000})
    low = rule(condition=P95 | {"op": "<", "resolve_above": 1500, "metric": "ttft_ms_p99"})
    rules = [both, both, low, rule(), rule(condition={"kind": "drift", "id": "d"})]
    rules += [rule(condition=P95 | {"window": "1h"}), rule(condition={"kind": "absence"})]
    assert counters_for_rules(rules) == (
        m.Threshold("latency_us", 1_200_000),
        m.Threshold("latency_us", 999_999),
        m.Threshold("ttft_us", 1_199_999),
        m.Threshold("ttft_us", 1_500_000),
    )


def test_two_limits_under_one_number_are_refused() -> None:
    numbers: dict[int, int] = {}
    for limit_us in range(1000, 10**6):
        number = m.Threshold("latency_us", limit_us).number
        if number in numbers:
            break
        numbers[number] = limit_us
    two = [rule(condition=P95 | {"value": us / 1000}) for us in (numbers[number], limit_us)]
    with pytest.raises(InvalidConfiguration, match="move one by 1 us"):
        counters_for_rules(two)


def test_signals_judge_themselves_or_by_the_rule() -> None:
    own = Watch(rule(condition={"kind": "drift", "id": "d"}, min_requests=10))
    said = SignalReading("drift", "d", 5, {}, True, 0.3, 0.2, 50)
    assert read_signal(own, said) == Reading(0.3, 0.2, 50, True, False)
    assert read_signal(own, SignalReading("drift", "d", 5, n=50)).breach is None
    assert read_signal(own, SignalReading("drift", "d", 5, breach=True, n=9)).breach is None
    limit = {"op": ">", "value": 0.5, "resolve_below": 0.3}
    mine = Watch(rule(condition={"kind": "drift", "id": "d", "limit": limit}))
    assert read_signal(mine, said) == Reading(0.3, 0.5, 50, False, False)
    assert read_signal(mine, SignalReading("drift", "d", 5, breach=True)).breach is None
