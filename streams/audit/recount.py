"""What raw rows add to tiles, counted again a stretch of event time after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..core.counting import counted
from ..core.delta import Cuts
from ..core.metrics import CostScore, Threshold
from ..core.slices import CELL_GROUPINGS, Combos
from ..core.tally import measure_feedback
from ..core.tiles import CELL_S, PANE_S, SECOND_US, Span, Tile, merge
from ..storage.counter import KINDS
from ..storage.readback import joined_feedback_between, rows_between
from ..storage.store import Store

HOUR_S, MINUTE_S = 3600, 60
MAX_ROWS = 500_000  # counted at once


class Recount:
    """Counts stored rows again.

    Args:
        store: to read.
        combos: numbers the slices.
        counters: that the configuration asks for.

    Attributes:
        rows: counted so far.
    """

    def __init__(
        self, store: Store, combos: Combos, counters: Sequence[Threshold | CostScore]
    ) -> None:
        self._store = store
        self._counters = counters
        self._judged = bool(store.query("SELECT 1 FROM penstock.feedback_rows LIMIT 1"))
        self.combos = combos
        self.rows = 0

    def tiles(
        self, start_s: int, end_s: int, upto: Cuts
    ) -> tuple[Mapping[Span, Tile], list[tuple[Span, Tile]]]:
        """What the rows of a stretch up to some cuts add, by slice: its panes, and its cells.

        Raises:
            StoreError: the store is away or refuses.
        """
        combos = self.combos
        parts: dict[Span, list[Tile]] = {}
        for kind in KINDS:
            table = rows_between(self._store, kind, start_s, end_s, upto)
            self.rows += table.num_rows
            if table.num_rows:
                for span, tile in counted(combos, kind, table, self._counters).items():
                    parts.setdefault(span, []).append(tile)
        if self._judged:
            pairs = joined_feedback_between(self._store, start_s, end_s, upto)
            if pairs.num_rows:
                measured = measure_feedback(pairs)
                for span, tile in counted(combos, "request", pairs, (), measured).items():
                    parts.setdefault(span, []).append(tile)
        panes = {s: combos.project(merge(t)) for s, t in parts.items() if s.length_s == PANE_S}
        cells = [
            (span, combos.project(merge(tiles), CELL_GROUPINGS))
            for span, tiles in parts.items()
            if span.length_s == CELL_S
        ]
        return panes, cells

    def busy_hours(self, low_s: int, high_s: int) -> list[int]:
        """Starts of the hours of [low_s, high_s) in which anything happened or is published, ascending.

        Raises:
            StoreError: the store is away or refuses.
        """
        hour = "intDiv(toUnixTimestamp({}), 3600) * 3600"
        rows = self._store.query(
            f"SELECT DISTINCT hour FROM (SELECT {hour.format('ts')} AS hour"
            " FROM penstock.requests_rows"
            f" UNION ALL SELECT {hour.format('ts')} FROM penstock.steps_rows"
            f" UNION ALL SELECT {hour.format('clock_ts')} FROM penstock.frames_rows"
            f" UNION ALL SELECT {hour.format('pane_start')} FROM penstock.panes_rows"
            f" WHERE pane_s IN (10, 60)) WHERE hour >= {low_s} AND hour < {high_s} ORDER BY hour"
        )
        return [int(row["hour"]) for row in rows]

    def chunks(self, hour_s: int) -> Iterator[tuple[int, int]]:
        """An hour in whole minutes, as many at once as hold few enough rows.

        Raises:
            StoreError: the store is away or refuses.
        """
        low, high = hour_s * SECOND_US, (hour_s + HOUR_S) * SECOND_US
        within = f"ts >= fromUnixTimestamp64Micro({low}) AND ts < fromUnixTimestamp64Micro({high})"
        rows = self._store.query(
            "SELECT intDiv(toUnixTimestamp(ts), 60) * 60 AS minute, count() AS n FROM ("
            f" SELECT ts FROM penstock.requests_rows WHERE {within}"
            f" UNION ALL SELECT ts FROM penstock.steps_rows WHERE {within}) GROUP BY minute"
        )
        sizes = {int(row["minute"]): int(row["n"]) for row in rows}
        start_s, size = hour_s, 0
        for minute in range(hour_s, hour_s + HOUR_S, MINUTE_S):
            if size and size + sizes.get(minute, 0) > MAX_ROWS:
                yield start_s, minute
                start_s, size = minute, 0
            size += sizes.get(minute, 0)
        yield start_s, hour_s + HOUR_S
