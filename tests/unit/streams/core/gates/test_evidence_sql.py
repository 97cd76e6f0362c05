"""The text of the SQL behind a verdict; what it finds is tested on a store (tests/integration)."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from penstock.schemas.config import parse
from penstock.streams.core.gates.evidence_sql import Counted, MetricSql, metric_sql
from penstock.streams.core.gates.interface import WantedMetric
from penstock.streams.core.gates.row_sql import filled, is_arm, literal, row_measure

SECOND = 1_000_000
COUNTED = Counted(1_767_225_605 * SECOND, 1_767_225_900 * SECOND)
ODD = "it's \\ {a:String}"
CANARY = {
    "id": "g",
    "kind": "canary",
    "control": {"variant": "control"},
    "treatment": {"variant": ODD, "model_version": "v2"},
    "metrics": [
        {"metric": "error_rate", "margin_ratio": 1.5},
        {"metric": "latency", "field": "ttft_ms", "margin_ratio": 1.2},
    ],
    "baseline_health": [{"metric": "error_rate", "max_ratio": 0.2}],
}


def about(
    spec: dict[str, Any], typical_ms: dict[str, float | None] | None = None
) -> list[MetricSql]:
    (gate,) = parse(json.dumps({"gates": [spec]})).live_gates
    return list(metric_sql(gate, COUNTED, typical_ms or {}))


def test_nothing_is_left_to_be_bound_and_names_are_quoted() -> None:
    rate, _ = about(CANARY)
    for asked in (rate.every, rate.in_time):
        assert asked is not None
        for sql in (asked.counts, asked.examples, asked.slices, rate.late):
            assert r"'it\'s \\ {a:String}'" in sql
            assert not re.search(r"\{\w+:", sql.replace("{a:String}", ""))
    assert "NOT late" not in rate.every.counts


def test_checks_of_control_are_not_in_the_evidence() -> None:
    assert [one.metric for one in about(CANARY)] == ["error_rate", "ttft_ms_p95"]


def test_what_tells_the_arms_apart_is_no_slice() -> None:
    slices = about(CANARY)[0].every.slices
    assert "'model_version'" not in slices
    assert "'adapter'" in slices


def test_slow_is_slower_than_control_once_that_is_known() -> None:
    unknown, known = (about(CANARY, {"ttft_ms_p95": t})[1] for t in (None, 250.5))
    assert (unknown.measure, unknown.every.examples, unknown.every.slices) == (None, "", "")
    assert known.measure is not None
    assert known.measure.bad == "ttft_ms > 250.5"


@pytest.mark.parametrize(("for_s", "first_s"), [(60, 1_767_225_840), (300, 1_767_225_660)])
def test_a_rollback_gate_shows_no_minute_before_its_epoch(for_s: int, first_s: int) -> None:
    spec = {
        "id": "g", "kind": "rollback", "treatment": {"variant": "canary"}, "for_s": for_s,
        "limits": [{"metric": "error_rate", "max_ratio": 0.01}],
    }  # fmt: skip
    (found,) = about(spec)
    assert f"opener.1 >= toInt64({first_s * SECOND})" in found.every.counts
    assert found.arms == ("treatment",)


@pytest.mark.parametrize(
    ("field", "kind", "bad"),
    [
        ("timeout", "rate", "status = 'timeout'"),
        ("above_cap", "rate", "cost_usd > 0.25"),
        ("above:queue_ms", "rate", "queue_ms > 7.5"),
        ("cost", "moments", "cost_usd"),
        ("quality", "moments", "quality"),
    ],
)
def test_what_is_bad_in_a_row(field: str, kind: Any, bad: str) -> None:
    metric = WantedMetric("m", kind, field, "request", limit=7.5, cap=0.25)
    found = row_measure(metric, 0)
    assert found is not None
    assert (found.bad, found.is_mean) == (bad, kind == "moments")
    assert found.higher_is_better == (field == "quality")


def test_literals() -> None:
    assert literal(3) == "toInt64(3)"
    assert is_arm({}) == "1"
    assert is_arm({"model": "m", "route": "r'"}) == "model = 'm' AND route = 'r\\''"
    with pytest.raises(KeyError):
        filled("{missing:String}", {})
