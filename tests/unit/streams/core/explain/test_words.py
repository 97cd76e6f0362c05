"""Explanations as values and in sentences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from penstock.streams.core.explain.contribution import Sums
from penstock.streams.core.explain.evidence import Gauge
from penstock.streams.core.explain.explanation import Answer, Explanation, Release, explain
from penstock.streams.core.explain.measures import measure_of
from penstock.streams.core.explain.question import Question, Stretch
from penstock.streams.core.explain.ranking import Dimension
from penstock.streams.core.explain.words import one_line, sentences


def sums(*rows: tuple[float, ...]) -> Sums:
    return Sums(*np.array(rows, float).T)


def question(metric: str, limit: float | None = None) -> Question:
    measure = measure_of(metric)
    assert measure is not None
    return Question(measure, limit, {}, Stretch(600, 660), Stretch(200, 500), 620, 660)


MARKER = Release(580, 40, "r2", "chat", "canary", "canary", "")
QUEUE = Gauge("queue_depth", "number", 41.25, 3.1)
VARIANT = Dimension("variant", ["canary", ""], sums((50, 100, 1, 100), (9, 900, 9, 900)))
ANSWER = Answer(sums((59, 1000, 10, 1000)), [VARIANT], [MARKER], engine=[QUEUE], limit=1200.0)


def test_sentences() -> None:
    found = explain(question("ttft_ms_p95", 1200), ANSWER)
    assert sentences(found) == [
        "share of ttft_ms above 1,200 ms: 5.9 %, before 1 %",
        "variant=canary explains 100 % of the change (1 % -> 50 %), on 10 % of the rows (before 10 %)",
        "release r2 canary 40 s before it began",
        "engine: queue 3.1 -> 41.25",
    ]
    assert one_line(found) == (
        "variant=canary explains 100 % of the change (1 % -> 50 %);"
        " release r2 canary 40 s before it began; queue 3.1 -> 41.25"
    )
    assert Explanation.from_json(found.to_json()) == found


def test_one_line_leaves_out_what_is_far_or_did_not_move() -> None:
    found = explain(question("error_rate"), replace(ANSWER, limit=None))
    far = replace(MARKER, after_s=7200)
    after = replace(MARKER, after_s=-30)
    for marker in (far, after):
        same = Gauge("kv_cache_usage", "ratio", 0.5, 0.45)
        unknown = Gauge("step_ms", "ms", 3.0, None)
        told = replace(found, releases=(marker,), engine=(same, unknown))
        assert one_line(told) == "variant=canary explains 100 % of the change (1 % -> 50 %)"
    assert "30 s after it began" in sentences(replace(found, releases=(after,)))[2]
    assert "2 h before it began" in sentences(replace(found, releases=(far,)))[2]
    nameless = Release(0, 86_400, "", "", "", "full", "")
    assert sentences(replace(found, releases=(nameless,)))[2] == "full 1 d before it began"


@pytest.mark.parametrize(
    ("metric", "row", "note"),
    [
        ("error_rate", (0, 0, 10, 100), "no row of the time that the alert is about tells"),
        ("error_rate", (5, 100, 0, 0), "there are no rows before to compare with"),
        ("error_rate", (5, 100, 5, 100), "it was the same before"),
        ("requests", (0, 0, 100, 100), "nothing is left of it, in any slice"),
        ("error_rate", (50, 100, 5, 100), "no slice stands out"),
    ],
)
def test_notes(metric: str, row: tuple[float, float, float, float], note: str) -> None:
    even = Dimension("route", ["/a", "/b"], sums(*[tuple(v / 2 for v in row)] * 2))
    found = explain(question(metric), Answer(sums(row), [even]))
    assert (found.note, found.slices) == (note, ())
    assert note in sentences(found)[0]
    assert one_line(found) == note


def test_what_is_no_explanation_is_refused() -> None:
    for text in ("{}", '{"note": "", "now": 3}', '{"note": "", "now": null, "before": null}'):
        with pytest.raises(ValueError, match="not an explanation"):
            Explanation.from_json(text)
