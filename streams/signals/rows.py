"""Signals as rows for the store's tables: changes of alerts, objectives, costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa

from ...schemas.costs.capacity import CapacityForecast
from ..core.alerts.transition import Transition
from ..core.costs.budget import BudgetStatus
from ..core.costs.capacity import Saturation
from ..core.costs.limits import LimitLook, limit_hash
from ..core.costs.saturation import forecast_hash
from ..core.slo.status import ObjectiveStatus
from ..storage.publish import timestamps

_SECONDS = pa.timestamp("s", "UTC")
_TEXTS = pa.map_(pa.string(), pa.string())


def _seconds(values: Iterable[int | None]) -> Any:
    return pa.array(list(values), pa.int64()).cast(_SECONDS)


def _texts(values: Iterable[Mapping[str, str]]) -> Any:
    return pa.array([list(value.items()) for value in values], _TEXTS)


def _plain(items: Sequence[Any], names: Mapping[str, str], kind: pa.DataType) -> dict[str, Any]:
    """Columns that are attributes: column -> attribute."""
    return {
        column: pa.array([getattr(item, name) for item in items], kind)
        for column, name in names.items()
    }


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


def transition_rows(items: Sequence[Transition], shard: int, recorded_us: int) -> pa.Table:
    """Changes of alerts for `alert_transitions_rows`."""
    texts = _same("id", "alert_id", "kind", "reason", "rule_id", "rule_hash", "text")
    return pa.table(
        _plain(items, texts, pa.string())
        | _plain(items, _same("sequence"), pa.uint32())
        | _plain(items, {"value": "value", "limit_value": "limit"}, pa.float64())
        | _plain(items, _same("n"), pa.uint64())
        | {
            "severity": [item.labels["severity"] for item in items],
            "at": _seconds(item.at_s for item in items),
            "started": _seconds(item.started_s for item in items),
            "labels": _texts(item.labels for item in items),
            "annotations": _texts(item.annotations for item in items),
            "runbook": [item.runbook or "" for item in items],
            "shard": pa.array([shard] * len(items), pa.uint32()),
            "recorded_at": timestamps([recorded_us] * len(items)),
        }
    )


def objective_rows(items: Sequence[ObjectiveStatus], version: int) -> pa.Table:
    """Objectives for `slo_status_rows`."""
    shares = _same(
        "target", "attainment", "consumed", "budget_minutes", "left_minutes", "exhaustion_s",
        "burn_1h", "coverage",
    )  # fmt: skip
    return pa.table(
        _plain(items, {"slo_id": "id", **_same("state", "declared", "spec_hash")}, pa.string())
        | _plain(items, shares, pa.float64())
        | _plain(items, _same("bad", "total"), pa.int64())
        | {
            "as_of": _seconds(item.end_s for item in items),
            "version": pa.array([version] * len(items), pa.uint64()),
            "period_start": _seconds(item.period_start_s for item in items),
            "period_end": _seconds(item.period_end_s for item in items),
            "burns": [orjson.dumps(item.burns).decode() for item in items],
            "alarm_at": _seconds(item.alarm_s for item in items),
        }
    )


def budget_rows(items: Sequence[tuple[int, BudgetStatus]], version: int) -> pa.Table:
    """Budgets and their moments for `cost_status_rows`."""
    statuses = [status for _, status in items]
    amounts = {
        f"{name}_nanousd": name
        for name in ("budget", "spent", "projected", "low", "high", "last_hour", "budget_per_hour")
    }
    return pa.table(
        _plain(statuses, {"budget_id": "id", **_same("state", "method", "spec_hash")}, pa.string())
        | _plain(statuses, amounts, pa.int64())
        | _plain(statuses, _same("measured_share"), pa.float64())
        | {
            "as_of": _seconds(at_s for at_s, _ in items),
            "version": pa.array([version] * len(items), pa.uint64()),
            "reasons": pa.array([list(s.reasons) for s in statuses], pa.list_(pa.string())),
            "period_start": _seconds(status.start_s for status in statuses),
            "period_end": _seconds(status.end_s for status in statuses),
        }
    )


def limit_rows(looks: Sequence[LimitLook], version: int) -> pa.Table:
    """Looks at spend limits for `spend_status_rows`."""
    specs = [look.spec for look in looks]
    return pa.table(
        _plain(specs, {"limit_id": "id", **_same("by")}, pa.string())
        | _plain(specs, _same("window_s"), pa.uint32())
        | _plain(specs, {"limit_nanousd": "nanousd"}, pa.int64())
        | _plain(looks, _same("above"), pa.uint32())
        | {
            "as_of": _seconds(look.at_s for look in looks),
            "version": pa.array([version] * len(looks), pa.uint64()),
            "keys": _lists(looks, "key", pa.string()),
            "spent_nanousd": _lists(looks, "spent", pa.int64()),
            "since": _lists(looks, "since_s", pa.int64()).cast(pa.list_(_SECONDS)),
            "spec_hash": [limit_hash(spec) for spec in specs],
        }
    )


def _lists(looks: Sequence[LimitLook], name: str, kind: pa.DataType) -> Any:
    return pa.array([[getattr(key, name) for key in look.keys] for look in looks], pa.list_(kind))


def forecast_rows(
    items: Sequence[tuple[int, CapacityForecast, Saturation]], version: int
) -> pa.Table:
    """Forecasts and their moments for `capacity_forecasts_rows`."""
    found = [item for _, _, item in items]
    loads = [item.saturating_load or (None, None, None) for item in found]
    names = ("saturating_load", "saturating_load_low", "saturating_load_high")
    return pa.table(
        _plain(found, _same("state", "reason"), pa.string())
        | _plain(found, _same("horizon_s", "estimate_s", "low_s", "high_s", "steps"), pa.uint32())
        | _plain(found, _same("load"), pa.float64())
        | _plain(found, _same("daily"), pa.bool_())
        | {
            name: pa.array(column, pa.float64())
            for name, column in zip(names, zip(*loads, strict=True), strict=True)
        }
        | {
            "forecast_id": [spec.id for _, spec, _ in items],
            "as_of": _seconds(at_s for at_s, _, _ in items),
            "version": pa.array([version] * len(items), pa.uint64()),
            "history_end": _seconds(item.end_s for item in found),
            "signal": [item.signal or "" for item in found],
            "spec_hash": [forecast_hash(spec) for _, spec, _ in items],
        }
    )
