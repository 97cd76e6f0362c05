"""What alert rules cost that are read off cells of 2,000 slices, CPU milliseconds for a second of event time.

    python benchmarks/alert_cells.py

Every slice has traffic in every second. The cells of a grouping set are projected as they close, become
rows of the store, and are added up for windows of a minute and of five, which a rule on each reads.
"""

from __future__ import annotations

import resource
import tempfile
import time

import numpy as np
from penstock.schemas.alerts.rules import AlertRule
from penstock.streams.core import metrics as m
from penstock.streams.core.alerts.engine import AlertEngine
from penstock.streams.core.alerts.moment import Panes
from penstock.streams.core.pipeline import WindowRows
from penstock.streams.core.slices import Combos, Slice, SliceRegistry
from penstock.streams.core.tiles import SLICE_BITS, Span, Tile, tile_of
from penstock.streams.storage.migrate import migrate
from penstock.streams.storage.publish import tile_rows
from penstock.streams.storage.store import Store

SLICES, KEYS = 2000, 25
BEFORE_S, MEASURED_S = 600, 30


def rules() -> list[AlertRule]:
    """One over a minute, one over five."""
    condition = {"kind": "threshold", "metric": "error_rate", "op": ">", "value": 0.5}
    return [
        AlertRule.model_validate({"id": of, "by": "route", "condition": condition | {"window": of}})
        for of in ("1m", "5m")
    ]


def open_cell(combos: Combos) -> Tile:
    """A second of every slice, by combination, as it is before it closes."""
    numbers = np.array(
        [
            combos.number_of(
                tuple(Slice("route", (f"/{at}",)) if g == 6 else None for g in range(8))
            )
            for at in range(SLICES)
        ],
        np.uint64,
    )
    keys = np.array([m.key(metric) for metric in range(1, KEYS + 1)], np.uint64)
    codes = ((numbers << np.uint64(SLICE_BITS))[:, None] | keys).ravel()
    return tile_of(codes, np.ones(len(codes), np.int64))


def no_panes(length_s: int, end_s: int) -> WindowRows:
    """Nothing here is read off panes."""
    raise AssertionError((length_s, end_s))


def main() -> None:
    combos = Combos(SliceRegistry(SLICES + 1, 10))
    cell = open_cell(combos)
    closed = combos.project(cell, ("route",))
    begin_s = int(time.time())  # older cells are not kept
    engine = AlertEngine(rules(), combos.registry, lambda _: True, begin_s - 1)
    before = [(Span(1, begin_s - at), closed) for at in range(1, BEFORE_S + 1)]
    engine.close(before, begin_s, Panes(no_panes))
    spent = dict.fromkeys(("project", "rows", "insert", "rules"), 0.0)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"chdb://{folder}/db")
        migrate(store)
        for at in range(begin_s, begin_s + MEASURED_S):
            times = [time.process_time()]
            closed = combos.project(cell, ("route",))
            times.append(time.process_time())
            table = tile_rows([(Span(1, at), closed)], combos.registry.slices, 0, at)
            assert table is not None
            times.append(time.process_time())
            store.insert("panes_rows", table, str(at))
            times.append(time.process_time())
            engine.close([(Span(1, at), closed)], at + 1, Panes(no_panes))
            times.append(time.process_time())
            for name, took in zip(spent, np.diff(times), strict=True):
                spent[name] += float(took)
        store.close()
    parts = ", ".join(f"{name} {took / MEASURED_S * 1000:.1f}" for name, took in spent.items())
    print(f"{SLICES} slices, {KEYS} counters each: {parts} ms a second")
    print(f"resident at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")


if __name__ == "__main__":
    main()
