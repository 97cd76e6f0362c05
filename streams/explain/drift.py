"""What a drift monitor saw when its alert fired, as the store has it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import orjson

from ..core.alerts.transition import shown
from ..core.explain.drifted import Bar, Look
from ..core.explain.question import Stretch
from ..storage.store import Store


def looks_at(store: Store, monitor: str, series: Collection[str], at_s: int) -> list[Look]:
    """The newest look of a monitor at each of some series.

    Args:
        store: migrated.
        monitor: its id.
        series: features and categories.
        at_s: when the alert fired; later looks are not of interest.

    Raises:
        StoreError: the store is away.
    """
    rows = store.query(
        "SELECT series, toUnixTimestamp(end) AS end_s, window_s, psi, confirmed IS NOT NULL AS sure,"
        " bars FROM penstock.drift_scores WHERE monitor = {monitor:String}"
        " AND series IN {series:Array(String)} AND end <= toDateTime({at:Int64}, 'UTC')"
        " ORDER BY end DESC LIMIT 1 BY series",
        {"monitor": monitor, "series": sorted(series), "at": at_s},
    )
    return [_look(row) for row in rows]


def _look(row: Mapping[str, Any]) -> Look:
    end_s = int(row["end_s"])
    return Look(
        row["series"],
        Stretch(end_s - int(row["window_s"]), end_s),
        row["psi"],
        bool(row["sure"]),
        [Bar(_name(bar), bar["reference"], bar["current"]) for bar in orjson.loads(row["bars"])],
    )


def _name(bar: Mapping[str, Any]) -> str:
    if "name" in bar:
        return str(bar["name"])
    if bar["low"] is None or bar["high"] is None:
        return "no value"
    return f"{shown(bar['low'], 'number')} to {shown(bar['high'], 'number')}"
