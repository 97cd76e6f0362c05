"""Looks of drift monitors as rows for the store's tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import orjson
import pyarrow as pa

from ...schemas.drift.monitors import DriftMonitor
from ..core.drift.described import bars, figures, reasons, severity
from ..core.drift.watcher import MonitorLook, SeriesLook

CONCEPT = "(concept)"
_SECONDS = pa.timestamp("s", "UTC")
_TEXT = pa.string()
_TEXTS = pa.list_(pa.string())
_COUNT, _SHARE = pa.uint64(), pa.float64()
_COLUMNS: dict[str, pa.DataType] = {
    "series": _TEXT, "kind": _TEXT, "state": _TEXT, "severity": _TEXT, "reasons": _TEXTS,
    "confirmed": pa.int64(), "believed": pa.bool_(), "revision": pa.uint32(),
    "n_reference": _COUNT, "n_current": _COUNT, "psi": _SHARE, "js": _SHARE, "p": _SHARE,
    "ks": _SHARE, "wasserstein": _SHARE, "cramers_v": _SHARE, "e_value": _SHARE,
    "alarm": pa.bool_(), "missing_share": _SHARE, "missing_state": _TEXT, "figures": _TEXT,
    "bars": _TEXT,
}  # fmt: skip
_SCORES = ("psi", "js", "p", "ks", "wasserstein", "cramers_v")


def score_rows(spec: DriftMonitor, looks: Sequence[MonitorLook], version: int) -> pa.Table:
    """Looks for `drift_scores_rows`."""
    rows = [
        {"end": look.end_s} | row
        for look in looks
        for row in (*map(_series, look.series), _concept(look))
    ]
    n = len(rows)
    traffic = list(spec.filter.given().items())
    columns: dict[str, Any] = {
        name: pa.array([row[name] for row in rows], kind) for name, kind in _COLUMNS.items()
    }
    columns["confirmed"] = columns["confirmed"].cast(_SECONDS)
    return pa.table(
        columns
        | {
            "monitor": [spec.id] * n,
            "end": pa.array([row["end"] for row in rows], pa.int64()).cast(_SECONDS),
            "window_s": pa.array([spec.window_s] * n, pa.uint32()),
            "filter": pa.array([traffic] * n, pa.map_(_TEXT, _TEXT)),
            "version": pa.array([version] * n, pa.uint64()),
        }
    )


def _series(item: SeriesLook) -> dict[str, Any]:
    row = item.row
    found = {} if row is None else figures(row)
    sequential = None if row is None else row.sequential
    lacking = item.missing
    if lacking is not None:
        found |= {
            f"missing_{name}": value
            for name in ("share", "low", "high", "usual")
            if math.isfinite(value := getattr(lacking, name))
        }
    if sequential is not None and math.isfinite(sequential.design_effect):
        found["design_effect"] = sequential.design_effect
    e_value = math.nan if row is None else row.e_value
    return {
        "series": item.name,
        "kind": item.kind,
        "state": item.state,
        "severity": "" if row is None else severity(row),
        "reasons": [] if row is None else [*reasons(row)],
        "confirmed": item.confirmed_s,
        "believed": item.believed,
        "revision": 0 if row is None else row.reference_version,
        "n_reference": int(found.pop("n_reference", 0)),
        "n_current": int(found.pop("n_current", item.n)),
        **{name: found.get(name) for name in _SCORES},
        "e_value": e_value if math.isfinite(e_value) else None,
        "alarm": sequential is not None and sequential.state.alarm,
        "missing_share": found.get("missing_share"),
        "missing_state": "" if lacking is None else lacking.state,
        "figures": orjson.dumps(found).decode(),
        "bars": orjson.dumps([] if row is None else bars(row)).decode(),
    }


def _concept(look: MonitorLook) -> dict[str, Any]:
    concept = look.concept
    details = {"by": concept.by, "value": concept.value, "limit": concept.limit}
    nothing: dict[str, Any] = dict.fromkeys(_COLUMNS)
    return nothing | {
        "series": CONCEPT,
        "kind": "concept",
        "state": concept.state,
        "severity": concept.severity or "",
        "reasons": [*concept.reasons],
        "believed": False,
        "revision": 0,
        "n_reference": 0,
        "n_current": concept.n,
        "alarm": False,
        "missing_state": "",
        "figures": orjson.dumps(details | {"details": dict(concept.details)}).decode(),
        "bars": "[]",
    }
