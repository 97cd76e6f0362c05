"""Gates on a running stream: from closed cells to what a gate counts, and its epochs.

A gate's epoch begins with the newest release marker that its filter matches; before any, with the
first traffic. Markers that only change the share of traffic do not begin one. An epoch is numbered by the
second of its marker, so that a number stays what it was when older markers expire, or come late.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...schemas.events import STATUSES
from ...schemas.gates import LiveGate
from ...schemas.gates.absolute import AbsoluteGate, CostLimit, LatencyLimit
from ...schemas.gates.budget import BudgetGate
from . import metrics as m
from .gates.absolute import Context as GateContext
from .gates.absolute import CoverageState, evaluate
from .gates.records import Evaluation, noted, record_of, record_text
from .gates.state import GateState, initial_state
from .gates.units import CellCounts, cap_nano
from .gates.verdict import Verdict
from .pipeline import keep_only
from .slices import SliceRegistry
from .tiles import SECOND_US, Span, Tile

GATE_DIMENSIONS = ("model", "model_version", "release", "variant")
"""What a release marker states, as far as gates ask."""
RECENT_S = 60  # traffic is told over the last minute of cells


def counters_for(gates: Iterable[AbsoluteGate]) -> tuple[m.Threshold | m.CostScore, ...]:
    """The counters that cells must hold for these gates."""
    wanted: dict[int, m.Threshold | m.CostScore] = {}
    for gate in gates:
        for limit in gate.metrics:
            if isinstance(limit, LatencyLimit | CostLimit):
                counter = _counter(limit)
                wanted[counter.number] = counter
    return tuple(wanted.values())


def _counter(limit: LatencyLimit | CostLimit) -> m.Threshold | m.CostScore:
    if isinstance(limit, LatencyLimit):
        return m.Threshold(limit.field.removesuffix("_ms") + "_us", round(limit.max_ms * 1000))
    return m.CostScore(round(limit.max_usd * 1e9), cap_nano(limit))


@dataclass(frozen=True, slots=True)
class Marker:
    """A release marker, as far as gates ask: when, and the dimensions that it states.

    Attributes:
        gate: the only gate that it is for, where it is a reset of one; empty for a release.
        share: configured share of the traffic from then on, 0 to 1; None where it is not stated.
    """

    ts_us: int
    dimensions: Mapping[str, str]
    gate: str = ""
    share: float | None = None

    def matches(self, wanted: Mapping[str, str]) -> bool:
        """Whether it states every wanted dimension; one that it leaves open does not match."""
        return all(self.dimensions.get(name) == value for name, value in wanted.items())


MARKERS_SQL = (
    f"SELECT toUnixTimestamp64Micro(t.ts) AS ts, {', '.join(GATE_DIMENSIONS)},"
    " attributes['gate'] AS gate, variant_share FROM penstock.releases AS t"
)
"""Every release marker, as rows for `marker_of`."""


def marker_of(row: Mapping[str, Any]) -> Marker:
    """A row of `MARKERS_SQL`."""
    stated = {name: str(row[name]) for name in GATE_DIMENSIONS if row[name]}
    return Marker(int(row["ts"]), stated, str(row["gate"]), row["variant_share"])


@dataclass(frozen=True, slots=True, order=True)
class Epoch:
    """One life of a gate: its number, and where it starts in event time.

    Attributes:
        number: second of its marker since 1970 UTC, or one more than the number before where that is not
            higher; 0 before any marker. It only grows.
        start_us: whole second, microseconds since 1970 UTC; 0 before any marker.
    """

    number: int = 0
    start_us: int = 0


def current_epoch(markers: Iterable[Marker], wanted: Mapping[str, str], gate: str = "") -> Epoch:
    """The epoch after all markers, in event-time order; repeated markers of one release count once.

    Args:
        markers: in any order.
        wanted: dimensions of the gate's filter.
        gate: its id, for resets, each of which counts.
    """
    epoch = Epoch()
    previous: Mapping[str, str] | None = None
    for marker in sorted(markers, key=lambda item: item.ts_us):
        is_reset = bool(marker.gate) and marker.gate == gate
        is_release = not marker.gate and marker.matches(wanted) and marker.dimensions != previous
        if is_reset or is_release:
            second = marker.ts_us // SECOND_US
            epoch = Epoch(max(second, epoch.number + 1), second * SECOND_US)
        if is_release:
            previous = marker.dimensions
    return epoch


def epoch_of(spec: LiveGate, markers: Iterable[Marker], stored: int = 0) -> Epoch:
    """The epoch that the markers put a gate in; a budget outlives releases, and has only one.

    Args:
        spec: the gate.
        markers: those that are kept, in any order.
        stored: number of the newest epoch that is stored of it under this specification: it goes on
            where its marker has expired.
    """
    if isinstance(spec, BudgetGate):
        return Epoch()
    marked = current_epoch(markers, marked_by(spec), spec.id)
    return marked if marked.number >= stored else Epoch(stored, stored * SECOND_US)


def marked_by(spec: LiveGate) -> dict[str, str]:
    """What a release marker must state to be of the traffic that a gate watches."""
    if isinstance(spec, BudgetGate):
        return {}
    given = spec.filter.given() if isinstance(spec, AbsoluteGate) else spec.treatment.given()
    return {name: value for name, value in given.items() if name in GATE_DIMENSIONS}


@dataclass(slots=True)
class GateKeeper:
    """One gate and its state.

    Args:
        spec: the gate.
        state: where it left off; None to begin.
    """

    spec: AbsoluteGate
    state: GateState | None = None
    epoch: Epoch = field(default_factory=Epoch)
    verdict: Verdict | None = None
    _recent: list[tuple[int, int]] = field(default_factory=list)
    _evaluations: list[Evaluation] = field(default_factory=list)

    @property
    def counted_to_s(self) -> int:
        """End of the last cell counted, or the start of the epoch."""
        return 0 if self.state is None else self.state.end_us // SECOND_US

    def begin(self, epoch: Epoch) -> bool:
        """Enter an epoch; True where it is another one, so that its cells must be given again."""
        if epoch.number == self.epoch.number:
            return False
        self.epoch = epoch
        self.state = None
        self._recent.clear()
        self._evaluations = []
        return True

    def evaluate(
        self,
        cells: Sequence[tuple[Span, Tile]],
        registry: SliceRegistry,
        watermark_us: int,
        coverage: float | None,
        coverage_state: CoverageState,
    ) -> Verdict:
        """Count closed cells, ascending, and answer."""
        mine = keep_only(cells, registry.matching("release", self.spec.filter.given()))
        mine = [
            (span, tile) for span, tile in mine if span.start_s * SECOND_US >= self.epoch.start_us
        ]
        counts = cell_counts(self.spec, mine)
        if self.state is None:
            start_us = self.epoch.start_us
            if not start_us and mine:
                start_us = mine[0][0].start_s * SECOND_US
            elif not start_us:
                start_us = watermark_us
            self.state = initial_state(self.spec, self.epoch.number, start_us)
        self._remember(counts, watermark_us)
        context = GateContext(
            watermark_us=watermark_us,
            coverage=coverage,
            coverage_state=coverage_state,
            epoch=self.epoch.number,
            requests_per_s=sum(n for _, n in self._recent) / RECENT_S,
        )
        self._evaluations = noted(self._evaluations, (counts, context))
        self.state, self.verdict = evaluate(self.spec, self.state, counts, context)
        return self.verdict

    def take_record(self, before: str | None = None) -> str:
        """What was evaluated since the last call, for `replay`.

        Args:
            before: the record that this one replaces; what it tells comes first.
        """
        assert self.state is not None
        earlier = [] if before is None else record_of(before)[1]
        text = record_text(self.state.start_us, earlier + self._evaluations)
        self._evaluations = []
        return text

    def replay(self, record: str) -> list[Verdict]:
        """Evaluate again what a record tells; what the state has counted already is passed over.

        Returns:
            The verdict of each evaluation, in order; at least one.
        """
        start_us, evaluations = record_of(record)
        if self.state is None:
            self.state = initial_state(self.spec, self.epoch.number, start_us)
        verdicts: list[Verdict] = []
        for counts, context in evaluations:
            self.state, self.verdict = evaluate(self.spec, self.state, counts, context)
            verdicts.append(self.verdict)
        return verdicts

    def _remember(self, counts: CellCounts, watermark_us: int) -> None:
        self._recent += zip(counts.end_us.tolist(), counts.requests.tolist(), strict=True)
        since = watermark_us - RECENT_S * SECOND_US
        self._recent = [(end, n) for end, n in self._recent if end > since]


def cell_counts(spec: AbsoluteGate, cells: Sequence[tuple[Span, Tile]]) -> CellCounts:
    """Cells of the gate's traffic, each tile as one slice numbered 0, as what the gate counts."""
    size = len(cells)

    def counter(metric: int, position: int = 0) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        wanted = np.uint64(m.key(metric, position))
        values = np.zeros(size, np.int64)
        for at, (_, tile) in enumerate(cells):
            found = int(np.searchsorted(tile.codes, wanted))
            if found < len(tile) and tile.codes[found] == wanted:
                values[at] = tile.counts[found]
        return values

    requests = counter(m.REQUESTS)
    counts: dict[str, dict[str, Any]] = {"bad": {}, "units": {}, "cost": {}}
    for limit in spec.metrics:
        name = limit.name
        counts["units"][name] = requests
        if isinstance(limit, CostLimit):
            number = _counter(limit).number
            counts["cost"][name] = counter(number)
            counts["units"][name] = counter(number, 1)
        elif isinstance(limit, LatencyLimit):
            number = _counter(limit).number
            counts["units"][name] = counter(number)
            counts["bad"][name] = counter(number, 1)
        elif limit.metric == "error_rate":
            errors = counter(m.STATUS, STATUSES.index("error"))
            counts["bad"][name] = errors + counter(m.STATUS, STATUSES.index("timeout"))
        else:
            counts["bad"][name] = counter(m.SAFETY_VIOLATIONS)
    ends = np.array([span.end_s * SECOND_US for span, _ in cells], np.int64)
    return CellCounts(ends, requests, counts["bad"], counts["units"], counts["cost"])


def keeper_for(spec: AbsoluteGate, saved: str | None, epoch: Epoch) -> GateKeeper:
    """A keeper that goes on from a stored state, where that is of the same specification."""
    keeper = GateKeeper(spec, epoch=epoch)
    if saved:
        state = GateState.from_json(saved)
        fresh = initial_state(spec, epoch.number, 0)
        if state.spec_hash == fresh.spec_hash and state.epoch == epoch.number:
            keeper.state = replace(state)
    return keeper
