"""OpenSLO v1 documents: accepted as the specification has them, and what becomes of them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import yaml
from penstock.schemas.slo.objective import Composite, Objective
from penstock.schemas.slo.section import SloSection, objectives_of
from penstock.schemas.slo.sli import Latency, Ratio
from pydantic import TypeAdapter, ValidationError

SECTION: TypeAdapter[Any] = TypeAdapter(SloSection)

FLEET = """
apiVersion: openslo/v1
kind: DataSource
metadata: {name: store, displayName: Store, labels: {team: [a, b], tier: one}}
spec: {type: Penstock, connectionDetails: {anything: [goes]}}
---
apiVersion: openslo/v1
kind: Service
metadata: {name: chat, annotations: {example.com/owner: ml}}
spec: {description: Chat}
---
apiVersion: openslo/v1
kind: SLI
metadata: {name: errors}
spec:
  description: Requests that end well
  ratioMetric:
    counter: true
    good:
      metricSource: {metricSourceRef: store, spec: {counter: status, values: [ok, cancelled], filter: {model: m}}}
    total:
      metricSource: {metricSourceRef: store, spec: {counter: requests, filter: {model: m}}}
---
apiVersion: openslo/v1
kind: AlertNotificationTarget
metadata: {name: on-call}
spec: {target: slack, description: The people on call}
---
apiVersion: openslo/v1
kind: AlertCondition
metadata: {name: fast-burn}
spec:
  severity: page
  condition: {kind: burnrate, op: gt, threshold: 14.4, lookbackWindow: 1h, alertAfter: 5m}
---
apiVersion: openslo/v1
kind: AlertPolicy
metadata: {name: fast}
spec:
  alertWhenBreaching: true
  alertWhenResolved: false
  conditions: [{conditionRef: fast-burn}]
  notificationTargets: [{targetRef: on-call}]
---
apiVersion: openslo/v1
kind: SLO
metadata: {name: chat-errors, displayName: Errors of chat}
spec:
  service: chat
  indicatorRef: errors
  timeWindow: [{duration: 4w, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{displayName: most, targetPercent: 99.9}, {target: 0.99}]
  alertPolicies:
    - alertPolicyRef: fast
    - kind: AlertPolicy
      metadata: {name: slow}
      spec:
        alertWhenBreaching: true
        conditions:
          - kind: AlertCondition
            metadata: {name: slow-burn}
            spec: {severity: weird, condition: {threshold: 2, lookbackWindow: 6h}}
        notificationTargets:
          - kind: AlertNotificationTarget
            metadata: {name: board}
            spec: {target: board}
"""


def converted(text: str) -> tuple[Objective | Composite, ...]:
    return objectives_of(SECTION.validate_python([*yaml.safe_load_all(text)]))


def slo(**spec: Any) -> dict[str, Any]:
    source = {"type": "Penstock", "spec": {"metric": "ttft_ms", "filter": {"model": "m"}}}
    return {
        "apiVersion": "openslo/v1",
        "kind": "SLO",
        "metadata": {"name": "s"},
        "spec": {
            "indicator": {"spec": {"thresholdMetric": {"metricSource": source}}},
            "objectives": [{"op": "lte", "value": 800, "target": 0.95}],
            **spec,
        },
    }


def of(*documents: dict[str, Any]) -> Objective:
    found = objectives_of(SECTION.validate_python(documents))[0]
    assert isinstance(found, Objective)
    return found


def ratio(**sides: Any) -> dict[str, Any]:
    metrics = {
        side: {"metricSource": {"type": "Penstock", "spec": spec}}
        if isinstance(spec, dict)
        else spec
        for side, spec in sides.items()
    }
    return {"spec": {"ratioMetric": metrics}}


def threshold(metric: str, kind: str | None = "Penstock", **spec: Any) -> dict[str, Any]:
    source = {"type": kind, "spec": {"metric": metric, **spec}}
    return {"spec": {"thresholdMetric": {"metricSource": source}}}


def test_references_and_inline_objects_become_objectives() -> None:
    first, second = converted(FLEET)
    assert isinstance(first, Objective)
    assert isinstance(second, Objective)
    assert (first.id, second.id) == ("chat-errors-1", "chat-errors-2")
    assert (first.service, first.window, first.description) == ("chat", "28d", "Errors of chat")
    assert (first.budget, second.budget) == (Fraction(1, 1000), Fraction(1, 100))
    assert first.filter.given() == {"model": "m"}
    assert isinstance(first.sli, Ratio)
    assert first.sli.good is not None
    assert first.sli.good.values == ("ok", "cancelled")
    assert first.notify == ("on-call", "board")
    fast, slow = first.rules
    assert (fast.long_s, fast.short_s, float(fast.factor)) == (3600, 300, 14.4)
    assert (fast.severity, fast.for_s, slow.severity) == ("critical", 300, "warning")


def test_thresholds() -> None:
    found = of(slo())
    assert (found.id, found.window, found.declared) == ("s", "30d", "ttft_ms <= 800 ms for 95 %")
    strict = of(slo(objectives=[{"op": "lt", "value": 800, "target": 0.95}]))
    assert isinstance(strict.sli, Latency)
    assert strict.sli.limit_us == 799_999
    flow = {"op": "gte", "value": 100, "target": 0.99}
    assert of(slo(indicator=threshold("throughput"), objectives=[flow])).of_minutes
    dear = slo(
        indicator=threshold("cost_per_1k_tokens_usd"),
        objectives=[{"op": "lte", "value": 0.01, "target": 0.99}],
    )
    assert of(dear).declared == "1k tokens <= 0.01 USD in 99 % of minutes"


def test_ratios_and_own_indicators() -> None:
    bad = ratio(bad={"counter": "error_type", "values": ["oom"]}, total={"counter": "requests"})
    found = of(slo(indicator=bad, objectives=[{"target": 0.99}]))
    assert isinstance(found.sli, Ratio)
    assert found.filter.given() == {}
    raw = ratio(raw={"sli": {"kind": "acceptance"}, "filter": {"tenant": "t"}}, rawType="success")
    found = of(slo(indicator=raw, objectives=[{"target": 0.8}]))
    assert (found.sli.kind, found.filter.grouping) == ("acceptance", "tenant")


def test_time_slices_and_composites() -> None:
    sliced = slo(
        budgetingMethod="Timeslices",
        objectives=[
            {
                "op": "lte", "value": 800, "target": 0.99,
                "timeSliceTarget": 0.95, "timeSliceWindow": "1m",
            }
        ],
    )  # fmt: skip
    assert of(sliced).declared == "ttft_ms <= 800 ms for 95 %, in 99 % of minutes"
    part = {"op": "lte", "value": 800, "target": 0.95, "indicator": threshold("ttft_ms")}
    both = slo(indicator=None, objectives=[part, {**part, "value": 900}])
    first, second, overall = objectives_of(SECTION.validate_python([both]))
    assert isinstance(overall, Composite)
    assert overall.of == (first.id, second.id)
    alone = objectives_of(SECTION.validate_python([slo(indicator=None, objectives=[part])]))
    assert len(alone) == 1


@pytest.mark.parametrize(
    ("duration", "start", "window"),
    [
        ("1w", "2026-01-05 00:00:00", "week"),
        ("1M", "2026-01-01 00:00:00", "month"),
        ("1Q", "2026-04-01 00:00:00", "quarter"),
    ],
)
def test_calendar_windows(duration: str, start: str, window: str) -> None:
    calendar = {"startTime": start, "timeZone": "UTC"}
    assert of(slo(timeWindow=[{"duration": duration, "calendar": calendar}])).window == window


CALENDAR = {"startTime": "2026-01-01 00:00:00", "timeZone": "UTC"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"indicator": threshold("x", "Prometheus")}, "type Prometheus cannot be evaluated here"),
        ({"indicator": threshold("x", None)}, "type None cannot be evaluated here"),
        ({"indicator": threshold("ttft_ms", query="up")}, "no query in a metric source"),
        ({"indicator": threshold("status")}, "no status; there are"),
        ({"indicator": None}, "give indicator or indicatorRef"),
        ({"indicator": None, "indicatorRef": "x"}, "there is no SLI x"),
        ({"indicator": {"spec": {}}}, "either thresholdMetric or ratioMetric"),
        ({"alertPolicies": ["x"]}, "there is no AlertPolicy x"),
        ({"objectives": [{"target": 0.95}]}, "needs op and value"),
        ({"objectives": [{"op": "gt", "value": 1, "target": 0.9}]}, "is lt or lte, not gt"),
        ({"objectives": [{"op": "lt", "value": 1}]}, "either target or targetPercent"),
        ({"budgetingMethod": "RatioTimeslices"}, "RatioTimeslices is not supported"),
        ({"budgetingMethod": "Timeslices"}, "timeSliceWindow must be 1m"),
        (
            {
                "budgetingMethod": "Timeslices",
                "objectives": [{"op": "lt", "value": 1, "target": 0.9, "timeSliceWindow": 1}],
            },
            "need timeSliceTarget",
        ),
        ({"timeWindow": [{"duration": "12h", "isRolling": True}]}, "a rolling window is one of"),
        ({"timeWindow": [{"duration": "1Y", "calendar": CALENDAR}]}, "calendar window is one of"),
        (
            {"timeWindow": [{"duration": "1w", "calendar": CALENDAR}]},
            "must be the start of a week",
        ),
        (
            {"timeWindow": [{"duration": "1M", "calendar": {**CALENDAR, "timeZone": "CET"}}]},
            "in UTC",
        ),
        (
            {
                "indicator": None,
                "objectives": [
                    {
                        "op": "lt", "value": 1, "target": 0.9, "compositeWeight": 2,
                        "indicator": threshold("ttft_ms"),
                    }
                ],
            },
            "compositeWeight is not supported",
        ),
        ({"indicator": ratio(raw={"sli": {}}, rawType="failure")}, "rawType: success"),
    ],
)  # fmt: skip
def test_what_cannot_be_evaluated_says_why(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        of(slo(**spec))


def policy(**fields: Any) -> list[dict[str, Any]]:
    condition = {"kind": "burnrate", "threshold": 2, "lookbackWindow": "1h", **fields}
    inline = {
        "kind": "AlertCondition",
        "metadata": {"name": "c"},
        "spec": {"severity": "page", "condition": condition},
    }
    spec = {"alertWhenBreaching": True, "conditions": [inline]}
    return [{"kind": "AlertPolicy", "metadata": {"name": "p"}, "spec": spec}]


def test_policies_that_cannot_be_kept_are_refused() -> None:
    with pytest.raises(ValidationError, match="op lt is not supported"):
        of(slo(alertPolicies=policy(op="lt")))
    with pytest.raises(ValidationError, match="1M is not a length of time"):
        of(slo(alertPolicies=policy(lookbackWindow="1M")))
    with pytest.raises(ValidationError, match=r"SLO s: .*cannot be reached"):
        of(slo(alertPolicies=policy(threshold=50)))
    silent = policy()
    silent[0]["spec"]["alertWhenBreaching"] = False
    assert of(slo(alertPolicies=silent)).rules == ()


def test_names_are_unique_by_kind_and_typing_errors_are_found() -> None:
    with pytest.raises(ValidationError, match="SLO s is given twice"):
        of(slo(), slo())
    with pytest.raises(ValidationError, match=r"openslo\.SLO\.spec\.servce"):
        of(slo(servce="x"))
    with pytest.raises(ValidationError, match="openslo/v1"):
        of({**slo(), "apiVersion": "openslo/v1alpha"})
