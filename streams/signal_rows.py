"""Signals as rows for the store's tables: changes of alerts, objectives, budgets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa

from .core.alerts.transition import Transition
from .core.costs.budget import BudgetStatus
from .core.slo.status import ObjectiveStatus
from .publish import timestamps

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
