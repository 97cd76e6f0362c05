"""SLOs on a running stream: closed tiles in, the status of every objective out.

What the ledgers hold is rebuilt from stored tiles; only the e-detectors have a state of their own,
because they count each minute once: a late row amends budgets and burn rates, not an alarm.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ....schemas.slo.burn import LONGEST_S
from ....schemas.slo.objective import Composite, Objective
from ..gates.canonical import canonical_json, sha256
from ..slices import COVERAGE_GROUPING, Slice, SliceRegistry
from ..tiles import PANE_S, Span, Tile
from .burn import burn_statuses
from .detector import ALTERNATIVES, EDetector
from .ledger import HOUR_S, TIERS_S, Ledger
from .period import period_at
from .readings import MINUTE_S, Reading, coverage_reading, reading_of, slice_of_objective
from .status import ObjectiveStatus, status_of
from .tile_reader import TileReader

DETECTOR = "slo-detector-1"
"""Version of the e-detector; it changes whenever an equal input could give another alarm."""


@dataclass(slots=True)
class _Kept:
    """One objective, its counts, and how far its e-detector has come."""

    objective: Objective
    reading: Reading
    ledger: Ledger
    log1p_r: list[float] = field(default_factory=lambda: [0.0] * len(ALTERNATIVES))
    counted_to_s: int = 0
    alarm_s: int | None = None

    @property
    def digest(self) -> str:
        """Hash of what the e-detector tests: it starts anew where that changed."""
        asked = self.objective.model_dump(
            mode="json", include={"filter", "sli", "target", "time_slice_target"}
        )
        return sha256([DETECTOR, asked])


class SloKeeper:
    """The objectives of one shard.

    Args:
        slos: what is evaluated; composites are left to `status.overall`, as they may span shards.
        registry: numbers the slices of the tiles that will be fed.
        saved: what `to_json` gave before a restart; None to begin. What is saved of an objective
            that changed since is left out.

    After a restart, feed the stored tiles of `needs(closed)` first. Minutes that no window will ask
    for again are passed over.

    Raises:
        ValueError: `saved` is not such a text.
    """

    def __init__(
        self,
        slos: Iterable[Objective | Composite],
        registry: SliceRegistry,
        saved: str | None = None,
    ) -> None:
        self._kept: list[_Kept] = []
        for objective in slos:
            if isinstance(objective, Objective):
                reading = reading_of(objective)
                self._kept.append(_Kept(objective, reading, Ledger(reading.rule)))
        self._lost = Ledger()
        self._ledgers = [*(kept.ledger for kept in self._kept), self._lost]
        readings = [(slice_of_objective(kept.objective), kept.reading) for kept in self._kept]
        readings.append((Slice(COVERAGE_GROUPING, ()), coverage_reading()))
        self._detector = EDetector(tuple(kept.objective.budget for kept in self._kept))
        self._newest_s = 0
        self._trimmed_s = 0
        self._reader = TileReader(readings, registry)
        if saved is not None:
            self._resume(saved)

    def feed(self, tiles: Mapping[Span, Tile]) -> None:
        """Take in closed tiles, new or amended, in any order: `Closing.tiles`, or stored ones.

        All of 10, 60 and 3600 s are needed; others are passed over.
        """
        self._newest_s = max([self._newest_s, *(span.end_s for span in tiles)])
        recent_s = self._newest_s - LONGEST_S - 2 * HOUR_S
        for span, tile in tiles.items():
            if span.length_s not in TIERS_S:
                continue
            pairs: Sequence[Sequence[int]] = self._reader.read(tile).tolist()
            wanted = span.length_s == HOUR_S or span.start_s >= recent_s
            for ledger, (left, right) in zip(self._ledgers, pairs, strict=True):
                if wanted or ledger.judges:
                    ledger.put(span, left, right)

    def evaluate(self, end_s: int, vanished: bool = False) -> dict[str, ObjectiveStatus]:
        """The status of every objective, by id.

        Args:
            end_s: what is closed (`Pipeline.closed_pane_s`); earlier calls had no later one.
            vanished: whether a worker fell silent, so that nobody knows how much is missing.
        """
        self._detect(end_s)
        statuses: dict[str, ObjectiveStatus] = {}
        for kept in self._kept:
            objective = kept.objective
            burns = burn_statuses(
                objective.rules, kept.ledger, objective.budget, end_s, kept.alarm_s
            )
            statuses[objective.id] = status_of(
                objective, kept.ledger, self._lost, end_s, burns, kept.alarm_s, vanished
            )
        self._trim(end_s)
        return statuses

    def needs(self, end_s: int) -> tuple[tuple[int, int, int], ...]:
        """Which stored tiles to feed after a restart, in as many pieces as it suits.

        Args:
            end_s: what is closed.

        Returns:
            Tile length, and first start and end of the stretch, in seconds, for each length.
        """
        shortest_s = (end_s - LONGEST_S) // HOUR_S * HOUR_S
        starts = [shortest_s, *(_reach(kept.objective, end_s) for kept in self._kept)]
        # Minutes are judged by themselves, the first ones by what came up to an hour before, too.
        judged = [
            start_s - HOUR_S
            for kept, start_s in zip(self._kept, starts[1:], strict=True)
            if kept.reading.rule is not None
        ]
        minute_s = end_s // MINUTE_S * MINUTE_S
        hour_s = end_s // HOUR_S * HOUR_S
        self._newest_s = max(self._newest_s, end_s)
        return (
            (HOUR_S, max(min(starts), 0), hour_s),
            (MINUTE_S, max(min([shortest_s, *judged]), 0), minute_s),
            (PANE_S, minute_s, end_s),
        )

    def _detect(self, end_s: int) -> None:
        """Count the minutes that closed since the last call, as far as a window holds them."""
        low_s = (end_s - LONGEST_S) // HOUR_S * HOUR_S
        minutes: dict[int, list[tuple[int, float, float]]] = {}
        for number, kept in enumerate(self._kept):
            start_s, unit = max(kept.counted_to_s, low_s), kept.reading.unit
            for at, (bad, total) in kept.ledger.minutes_from(start_s, end_s):
                minutes.setdefault(at, []).append((number, bad / unit, total / unit))
            kept.counted_to_s = max(kept.counted_to_s, end_s // MINUTE_S * MINUTE_S)
        if not minutes:
            return
        state = np.array([kept.log1p_r for kept in self._kept])
        for at, found in sorted(minutes.items()):
            units = np.zeros((2, len(self._kept)))
            for number, *counted in found:
                units[:, number] = counted
            state, _, alarm = self._detector.step(state, units[0], units[1])
            for number in np.flatnonzero(alarm).tolist():
                self._kept[number].alarm_s = at + MINUTE_S
        for kept, log1p_r in zip(self._kept, state.tolist(), strict=True):
            kept.log1p_r = log1p_r

    def to_json(self) -> str:
        """What must be kept over a restart, as canonical JSON."""
        return canonical_json({
            kept.objective.id: {
                "digest": kept.digest,
                "log1p_r": kept.log1p_r,
                "counted_to_s": kept.counted_to_s,
                "alarm_s": kept.alarm_s,
                "since_s": kept.ledger.since_s,
            }
            for kept in self._kept
        })  # fmt: skip

    def _resume(self, saved: str) -> None:
        try:
            data: dict[str, dict[str, Any]] = json.loads(saved)
            for kept in self._kept:
                mine = data.get(kept.objective.id)
                if mine is None or mine["digest"] != kept.digest:
                    continue
                kept.log1p_r = [float(value) for value in mine["log1p_r"]]
                kept.counted_to_s = int(mine["counted_to_s"])
                kept.alarm_s = mine["alarm_s"]
                if mine["since_s"] is not None:
                    kept.ledger.begin(int(mine["since_s"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the state of SLOs: {error}") from error

    def _trim(self, end_s: int) -> None:
        """Forget what no window holds any more, once an hour; and panes of full minutes."""
        for ledger in self._ledgers:
            ledger.settle(end_s // MINUTE_S * MINUTE_S)
        if end_s < self._trimmed_s + HOUR_S:
            return
        self._trimmed_s = end_s
        minutes_s = end_s - LONGEST_S - HOUR_S
        starts = [_reach(kept.objective, end_s) for kept in self._kept]
        for kept, start_s in zip(self._kept, starts, strict=True):
            kept.ledger.trim(minutes_s, start_s - HOUR_S)
        self._lost.trim(minutes_s, min(starts, default=end_s) - HOUR_S)


def _reach(objective: Objective, end_s: int) -> int:
    """Start of the longest window of an objective: its period's, or that of a burn rate."""
    return min(period_at(objective.window, end_s).start_s, (end_s - LONGEST_S) // HOUR_S * HOUR_S)
