"""From OpenSLO documents to objectives.

A metric source of type `Penstock` says in its `spec` what is counted:

    thresholdMetric   metric: latency_ms (or another latency, throughput, cost_per_1k_tokens_usd)
    good, bad, total  counter: status, values: [ok]
    raw               sli: {kind: acceptance}      (rawType: success)

each with an optional `filter`. Queries of other systems cannot be evaluated here and are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from . import openslo as o
from .base import Model, Severity
from .burn import Window
from .objective import Composite, Objective

SOURCE = "penstock"
_SLOT = Decimal("0.001")  # ms: latencies are whole microseconds, so this is the next one below
_ROLLING: dict[str, Window] = {
    "7d": "7d", "1w": "7d", "28d": "28d", "4w": "28d", "30d": "30d",
}  # fmt: skip
_CALENDAR: dict[str, Window] = {"1w": "week", "7d": "week", "1M": "month", "1Q": "quarter"}
_SEVERITIES: dict[str, Severity] = {
    "info": "info", "warning": "warning", "ticket": "warning", "critical": "critical",
    "page": "critical", "emergency": "emergency",
    "sev1": "emergency", "sev2": "critical", "sev3": "warning", "sev4": "info",
}  # fmt: skip
_SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True)
class _Names:
    """Objects by kind and name."""

    by_kind: dict[str, dict[str, Any]]

    def get(self, kind: str, name: str) -> Any:
        found = self.by_kind.get(kind, {}).get(name)
        if found is None:
            raise ValueError(f"there is no {kind} {name}")
        return found


def convert(documents: Sequence[Model]) -> list[Objective | Composite]:
    """The objectives of every SLO among documents, in their order.

    Raises:
        ValueError: naming the SLO that cannot be evaluated and why.
    """
    names = _Names({})
    slos: list[o.SloDocument] = []
    for item in documents:
        document: Any = item
        known = names.by_kind.setdefault(document.kind, {})
        if document.metadata.name in known:
            raise ValueError(f"{document.kind} {document.metadata.name} is given twice")
        known[document.metadata.name] = document
        if isinstance(item, o.SloDocument):
            slos.append(item)
    found: list[Objective | Composite] = []
    for slo in slos:
        try:
            found += _slo(slo, names)
        except ValidationError as error:
            what = "; ".join(
                f"{'.'.join(map(str, item['loc']))}: {item['msg']}".removeprefix(": ")
                for item in error.errors()
            )
            raise ValueError(f"SLO {slo.metadata.name}: {what}") from error
        except ValueError as error:
            raise ValueError(f"SLO {slo.metadata.name}: {error}") from error
    return found


def _slo(slo: o.SloDocument, names: _Names) -> list[Objective | Composite]:
    spec, name = slo.spec, slo.metadata.name
    shared: dict[str, Any] = {
        "description": spec.description or slo.metadata.display_name,
        "service": spec.service,
        "window": _window(spec.time_window[0]) if spec.time_window else "30d",
        **_alerts(spec, names),
    }
    objectives = [
        Objective.model_validate({
            "id": name if len(spec.objectives) == 1 else f"{name}-{position}",
            **shared,
            **_indicator(_sli(spec, target, names), target, names),
            "target": target.share,
            "time_slice_target": _time_slices(spec, target),
        })
        for position, target in enumerate(spec.objectives, 1)
    ]  # fmt: skip
    if all(target.indicator is None and target.indicator_ref is None for target in spec.objectives):
        return [*objectives]
    if any(target.composite_weight not in (None, 1) for target in spec.objectives):
        raise ValueError("objectives of a composite count alike: compositeWeight is not supported")
    if len(objectives) == 1:
        return [*objectives]
    return [*objectives, Composite(id=name, of=tuple(item.id for item in objectives))]


def _sli(spec: o.SloSpec, target: o.SloTarget, names: _Names) -> o.SliSpec:
    for owner in (target, spec):
        if owner.indicator is not None:
            return owner.indicator.spec
        if owner.indicator_ref is not None:
            found: o.SliDocument = names.get("SLI", owner.indicator_ref)
            return found.spec
    raise ValueError("give indicator or indicatorRef")


def _indicator(sli: o.SliSpec, target: o.SloTarget, names: _Names) -> dict[str, Any]:
    """The fields `sli` and `filter` of an objective."""
    if sli.threshold_metric is not None:
        spec = _spec(sli.threshold_metric, names, ("metric", "filter"))
        return {"sli": _threshold(spec.get("metric"), target), "filter": spec.get("filter", {})}
    ratio = sli.ratio_metric
    assert ratio is not None
    if ratio.raw is not None:
        spec = _spec(ratio.raw, names, ("sli", "filter"))
        if ratio.raw_type != "success":
            raise ValueError("a raw ratio of Penstock is one of successes: rawType: success")
        return {"sli": spec.get("sli"), "filter": spec.get("filter", {})}
    sides = {"good": ratio.good, "bad": ratio.bad, "total": ratio.total}
    counts = {
        side: _spec(metric, names, ("counter", "values", "filter"))
        for side, metric in sides.items()
        if metric is not None
    }
    return {
        "sli": {"kind": "ratio", **counts},
        "filter": counts.get("total", {}).get("filter", {}),
    }


def _spec(metric: o.Metric, names: _Names, fields: tuple[str, ...]) -> dict[str, Any]:
    source = metric.metric_source
    kind = source.type
    if kind is None and source.metric_source_ref is not None:
        kind = names.get("DataSource", source.metric_source_ref).spec.type
    if kind is None or kind.lower() != SOURCE:
        raise ValueError(
            f"a metric source of type {kind} cannot be evaluated here; write type: Penstock and in"
            f" its spec {', '.join(fields)}"
        )
    unknown = sorted(set(source.spec) - set(fields))
    if unknown:
        raise ValueError(f"no {', '.join(unknown)} in a metric source; it takes {fields}")
    return source.spec


def _threshold(metric: Any, target: o.SloTarget) -> dict[str, Any]:
    if target.op is None or target.value is None:
        raise ValueError("a thresholdMetric needs op and value in its objective")
    wanted: tuple[str, ...] = ("lt", "lte")
    if metric == "throughput":
        wanted, sli = ("gte",), {"kind": "throughput", "min_per_s": target.value}
    elif metric == "cost_per_1k_tokens_usd":
        wanted, sli = ("lte",), {"kind": metric, "max_usd": target.value}
    else:
        limit = target.value - _SLOT if target.op == "lt" else target.value
        sli = {"kind": "latency", "field": metric, "max_ms": limit}
    if target.op not in wanted:
        raise ValueError(f"op of {metric} is {' or '.join(wanted)}, not {target.op}")
    return sli


def _time_slices(spec: o.SloSpec, target: o.SloTarget) -> Decimal | None:
    if spec.budgeting_method == "Occurrences":
        return None
    if spec.budgeting_method == "RatioTimeslices":
        raise ValueError("budgetingMethod RatioTimeslices is not supported")
    if target.time_slice_window not in (1, "1m"):
        raise ValueError("timeSliceWindow must be 1m: metrics are kept by minutes")
    if target.time_slice_target is None:
        raise ValueError("Timeslices need timeSliceTarget")
    return target.time_slice_target


def _window(window: o.TimeWindow) -> Window:
    if window.calendar is None:
        if not window.is_rolling or window.duration not in _ROLLING:
            raise ValueError(
                f"a rolling window is one of {', '.join(_ROLLING)} with isRolling: true"
            )
        return _ROLLING[window.duration]
    if window.is_rolling or window.duration not in _CALENDAR:
        raise ValueError(f"a calendar window is one of {', '.join(_CALENDAR)}")
    found = _CALENDAR[window.duration]
    if window.calendar.time_zone not in ("UTC", "Etc/UTC", "GMT", "Z"):
        raise ValueError("calendar windows are in UTC")
    start = window.calendar.start_time
    at = start if isinstance(start, datetime) else datetime.fromisoformat(start)
    first = at.weekday() == 0 if found == "week" else at.day == 1
    first = first and (found != "quarter" or at.month % 3 == 1)
    if not first or (at.hour, at.minute, at.second) != (0, 0, 0):
        raise ValueError(f"startTime must be the start of a {found}: periods follow the calendar")
    return found


def _alerts(spec: o.SloSpec, names: _Names) -> dict[str, Any]:
    """The fields `burn_rates` and `notify` of an objective; nothing without policies."""
    if not spec.alert_policies:
        return {}
    rates: list[dict[str, Any]] = []
    targets: list[str] = []
    for given in spec.alert_policies:
        policy: Any = given
        if isinstance(given, str):
            policy = names.get("AlertPolicy", given)
        elif isinstance(given, o.PolicyRef):
            policy = names.get("AlertPolicy", given.alert_policy_ref)
        if policy.spec.alert_when_breaching:
            rates.append(_rate(policy.spec.conditions[0], names))
        for target in policy.spec.notification_targets:
            if isinstance(target, o.TargetRef):
                target = names.get("AlertNotificationTarget", target.target_ref)
            targets.append(target.metadata.name)
    return {"burn_rates": rates, "notify": tuple(dict.fromkeys(targets))}


def _rate(given: o.ConditionRef | o.AlertCondition, names: _Names) -> dict[str, Any]:
    condition: o.AlertCondition = (
        names.get("AlertCondition", given.condition_ref)
        if isinstance(given, o.ConditionRef)
        else given
    )
    burn = condition.spec.condition
    if burn.op not in (None, "gt", "gte"):
        raise ValueError(f"a burn rate alerts above its threshold: op {burn.op} is not supported")
    return {
        "window": f"{_seconds(burn.lookback_window) // 60}m",
        "factor": burn.threshold,
        "severity": _SEVERITIES.get(condition.spec.severity.lower(), "warning"),
        "for_s": _seconds(burn.alert_after),
    }


def _seconds(duration: str) -> int:
    unit = _SECONDS.get(duration[-1])
    if unit is None:
        raise ValueError(f"{duration} is not a length of time: months and longer differ")
    return int(duration[:-1]) * unit
