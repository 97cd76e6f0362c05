"""What a value is made of, and which gauges moved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.streams.core.explain.contribution import Sums
from penstock.streams.core.explain.drifted import Bar, Look, explain_drift
from penstock.streams.core.explain.evidence import (
    Gauge,
    Kind,
    moved,
    parts_of_kinds,
    parts_of_phases,
    told,
)
from penstock.streams.core.explain.explanation import Answer, Explanation, explain
from penstock.streams.core.explain.measures import measure_of
from penstock.streams.core.explain.question import Question, Stretch
from penstock.streams.core.explain.words import one_line, sentences


def total(n: float, d: float, n0: float, d0: float) -> Sums:
    return Sums(*(np.array([value]) for value in (n, d, n0, d0)))


def ms(name: str, now: float | None, before: float | None) -> Gauge:
    return Gauge(name, "ms", now, before)


LATENCY = ms("latency_ms", 300.0, 100.0)


def test_the_phase_that_became_longer_is_told() -> None:
    (decode,) = parts_of_phases(LATENCY, [ms("queue_ms", 20.0, 10.0), ms("decode_ms", 280.0, 90.0)])
    assert decode.name == "decode_ms"
    assert decode.power == pytest.approx(0.95)
    assert (decode.now, decode.before) == (280.0, 90.0)


@pytest.mark.parametrize(
    ("whole", "phases"),
    [
        (None, [LATENCY]),
        (ms("latency_ms", None, 100.0), [LATENCY]),
        (ms("latency_ms", 300.0, None), [LATENCY]),
        (ms("latency_ms", 109.0, 100.0), [ms("decode_ms", 99.0, 90.0)]),  # hardly longer
        (LATENCY, [ms("queue_ms", None, 10.0), ms("decode_ms", 120.0, 90.0)]),  # most is elsewhere
    ],
)
def test_no_phase_is_told_where_none_explains_it(whole: Gauge | None, phases: list[Gauge]) -> None:
    assert parts_of_phases(whole, phases) == []


def test_kinds_of_a_sum_and_without_a_time_before() -> None:
    kinds = [Kind("oom", 50.0, 2.0), Kind("timeout", 5.0, 5.0)]
    (counted,) = parts_of_kinds(kinds, total(55, 55, 7, 7), False)
    assert (counted.unit, counted.power, counted.now, counted.before) == ("count", 1.0, 50.0, 2.0)
    (new,) = parts_of_kinds([Kind("oom", 50.0, 0.0)], total(50, 100, 0, 0), True)
    assert (new.power, new.now, new.before) == (1.0, 0.5, None)
    assert parts_of_kinds(kinds, total(7, 100, 7, 100), True) == []


@given(st.lists(st.floats(-2, 2), max_size=8))
def test_few_parts_that_explain_most_are_told_or_none(powers: list[float]) -> None:
    (kept,) = parts_of_kinds([Kind("x", 2, 0)], total(2, 10, 0, 10), True)
    parts = [replace(kept, name=str(at), power=power) for at, power in enumerate(powers)]
    found = told(parts)
    assert len(found) <= 3
    assert found == told(parts[::-1])
    if found:
        assert sum(part.power for part in found) >= 0.67
        assert min(part.power for part in found) >= 0.1


def test_gauges_that_moved_come_by_how_much_and_little_ones_not_at_all() -> None:
    queue = Gauge("queue_depth", "number", 0.05, 0.007)
    fill = Gauge("batch_fill", "ratio", 0.6, 0.3)
    step = ms("step_ms", 90.0, 30.0)
    rose = Gauge("preemptions", "number", 2.0, 0.0)
    fell = Gauge("kv_cache_usage", "ratio", 0.2, 0.8)
    still = [ms("a", 1.2, 1.0), ms("b", None, 1.0), ms("c", 1.0, None), ms("d", 0.0, 0.0)]
    assert moved([queue, fill, step, rose, fell, *still]) == [rose, fell, step, fill]


def explained(metric: str, answer: Answer) -> Explanation:
    measure = measure_of(metric)
    assert measure is not None
    question = Question(measure, 100.0, {}, Stretch(600, 660), Stretch(200, 500), 620, 660)
    return explain(question, answer)


def test_phases_and_requests_in_words() -> None:
    longer = [
        Gauge("input_tokens", "number", 50.0, 900.0),
        Gauge("output_tokens", "number", 400.0, 200.0),
    ]
    found = explained(
        "latency_ms_p95",
        Answer(
            total(50, 100, 5, 100),
            [],
            phases=[LATENCY, ms("decode_ms", 290.0, 95.0)],
            requests=longer,
        ),
    )
    assert one_line(found) == (
        "no slice stands out; phase decode explains 98 % of the change (95 ms -> 290 ms);"
        " output tokens 200 -> 400"
    )
    assert sentences(found)[1:] == [
        "phase decode explains 98 % of the change (95 ms -> 290 ms)",
        "requests: input tokens 900 -> 50, output tokens 200 -> 400",
    ]
    assert Explanation.from_json(found.to_json()) == found
    unstated = explained(
        "latency_ms_p95", Answer(total(5, 10, 1, 10), [], phases=[ms("a", 9.0, 1.0)])
    )
    assert unstated.parts == ()


def test_errors_that_nothing_is_compared_with() -> None:
    found = explained(
        "error_rate", Answer(total(50, 100, 0, 0), [], kinds=[Kind("oom", 50.0, 0.0)])
    )
    assert one_line(found) == (
        "there are no rows before to compare with; error type oom is 100 % of it (now 50 %)"
    )
    gone = explained("error_rate", Answer(total(0, 0, 5, 100), [], kinds=[Kind("oom", 0.0, 5.0)]))
    assert (gone.parts_of, gone.parts) == ("", ())


def test_an_explanation_of_before_there_were_parts_is_still_read() -> None:
    found = explained("error_rate", Answer(total(50, 100, 5, 100), []))
    text = found.to_json()
    for name in ("parts_of", "parts", "requests"):
        value = '""' if name == "parts_of" else "[]"
        assert f'"{name}":{value},' in text
        text = text.replace(f'"{name}":{value},', "")
    assert Explanation.from_json(text) == found


def test_of_the_series_that_drifted_confirmed_ones_come_first() -> None:
    window = Stretch(0, 600)
    bars = [Bar("a", 90, 10), Bar("", 10, 90), Bar("c", 0, 0)]
    looks = [
        Look("length", window, 3.0, False, ()),
        Look("route", window, 0.5, True, bars),
        Look("class", window, 0.4, True, ()),
        Look("language", window, None, False, ()),
    ]
    found = explain_drift(looks)
    assert one_line(found) == (
        "route changed most, but also class; route (none) explains 50 % of the change (10 % -> 90 %);"
        " route a explains 50 % of the change (90 % -> 10 %)"
    )
    assert sentences(found)[0].startswith("PSI of route: 0.5 (route changed most")
    assert explain_drift(looks[::-1]) == found
    assert explain_drift(looks[:1]).parts == ()
    assert explain_drift([]).note == "no look of the monitor is stored"
    assert Explanation.from_json(found.to_json()) == found
