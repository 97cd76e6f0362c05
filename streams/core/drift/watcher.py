"""One drift monitor, look by look: scores, what is confirmed, and what it tells alert rules.

A series is confirmed where its sequential monitor alarms, whose false alarms per 30 days are stated.
Where there is none (a control arm, or a design effect that nobody knows) a single look must say drift
and be believed beside the other series of the look. It stays so until a look says ok.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ....schemas.drift.monitors import DriftConfiguration, DriftMonitor
from ..alerts.signals import SignalReading
from ..gates.canonical import canonical_json
from .concept import ConceptLook, Evidence, judge_concept
from .described import figures, psi_of
from .discovery import benjamini_hochberg, e_bh
from .keeper import Counts, DriftKeeper, DriftRow, References
from .missing import Missing, missing
from .series_counts import NOTHING, SeriesCounts

Window = Mapping[str, SeriesCounts]


@dataclass(frozen=True, slots=True)
class SeriesLook:
    """What one look says about one series.

    Attributes:
        name: of the feature or category.
        kind: which of the two.
        n: values in the window.
        rows: of the window that carry a value or could have done.
        row: None without a reference.
        missing: None without a reference.
        confirmed_s: the look that confirmed drift which is still there; None without.
        believed: whether it is among those of this look that are believed, by the evidence so far
            (e-BH), or of a single look where there is no other (Benjamini-Hochberg).
    """

    name: str
    kind: str
    n: int
    rows: int
    row: DriftRow | None = None
    missing: Missing | None = None
    confirmed_s: int | None = None
    believed: bool = False

    @property
    def state(self) -> str:
        """no_reference, no_data, ok, moderate or drift."""
        return "no_reference" if self.row is None else self.row.state


@dataclass(frozen=True, slots=True)
class MonitorLook:
    """What one look says: its series, the concept, and the readings of its signals."""

    end_s: int
    series: Sequence[SeriesLook]
    concept: ConceptLook
    readings: Sequence[SignalReading]


class MonitorWatcher:
    """One monitor and what it remembers. Not for several threads at once.

    Args:
        spec: the monitor.
        limits: thresholds and rates that all monitors share.
        saved: what `to_json` gave; None to begin.

    Raises:
        ValueError: `saved` is not the state of a monitor.
    """

    def __init__(
        self, spec: DriftMonitor, limits: DriftConfiguration, saved: str | None = None
    ) -> None:
        self.spec = spec
        self._limits = limits
        try:
            state = json.loads(saved) if saved else {"keeper": {}, "confirmed": {}}
            self._confirmed = {str(name): int(at) for name, at in state["confirmed"].items()}
            self._keeper = DriftKeeper(spec, canonical_json(state["keeper"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the state of a monitor: {error}") from error

    def to_json(self) -> str:
        """Canonical JSON of the state; equal states give equal text."""
        keeper = json.loads(self._keeper.to_json())
        return canonical_json({"keeper": keeper, "confirmed": self._confirmed})

    def look(
        self, end_s: int, references: References, window: Window, fresh: Window, evidence: Evidence
    ) -> MonitorLook:
        """Judge the window that ends at `end_s`; looks come in ascending order.

        Args:
            end_s: seconds of event time.
            references: as of this look.
            window: counts of [end_s - window_s, end_s) by series.
            fresh: counts of [end_s - every_s, end_s).
            evidence: labels and importances.
        """
        rows = self._keeper.look(end_s, references, self._counts(window), self._counts(fresh))
        by_name = {row.name: row for row in rows}
        believed = self._believed(rows)
        for row in rows:
            if row.sequential is not None and row.sequential.reset:
                self._confirmed.pop(row.name, None)
        self._confirmed = {
            row.name: self._confirmed.get(row.name, end_s)
            for row in rows
            if self._holds(row, row.name in believed)
        }
        series = [
            self._series(name, window.get(name, NOTHING), by_name.get(name), references, believed)
            for name in self.spec.series
        ]
        concept = self._concept(by_name, evidence)
        readings = [
            self._drift(end_s, series),
            self._missing(end_s, series),
            self._concept_reading(end_s, concept),
            *self._prediction(end_s, series),
        ]
        return MonitorLook(end_s, series, concept, readings)

    def _counts(self, window: Window) -> Counts:
        spec = self.spec
        return Counts(
            {name: window[name].bins for name in spec.features if name in window},
            {name: window[name].counts for name in spec.categories if name in window},
        )

    def _believed(self, rows: Sequence[DriftRow]) -> set[str]:
        rate = self._limits.false_discovery_rate

        def chosen(
            some: Sequence[DriftRow], values: Iterable[float], rule: Callable[..., np.ndarray]
        ) -> Iterator[str]:
            flags = rule(np.array([*values], np.float64), rate)
            return (row.name for row, flag in zip(some, flags.tolist(), strict=True) if flag)

        watched = [row for row in rows if _sees(row)]
        single = [row for row in rows if not _sees(row)]
        return {
            *chosen(watched, (row.e_value for row in watched), e_bh),
            *chosen(single, (row.p for row in single), benjamini_hochberg),
        }

    def _holds(self, row: DriftRow, believed: bool) -> bool:
        """Whether a series is confirmed after a look."""
        if row.sequential is not None and row.sequential.state.alarm:
            return True
        if not _sees(row) and row.state == "drift" and believed:
            return True
        # Without data nothing is known, so that nothing ends.
        return row.name in self._confirmed and row.state != "ok"

    def _series(
        self,
        name: str,
        counts: SeriesCounts,
        row: DriftRow | None,
        references: References,
        believed: set[str],
    ) -> SeriesLook:
        is_feature = name in self.spec.features
        kind = "feature" if is_feature else "category"
        reference = (references.features if is_feature else references.categories).get(name)
        if row is None or reference is None:
            return SeriesLook(name, kind, counts.present, counts.rows)
        found = None
        if reference.total:
            usual = reference.missing_share
            found = missing(counts.rows, counts.present, self.spec.missing, usual)
        return SeriesLook(
            name, kind, counts.present, counts.rows, row, found, self._confirmed.get(name),
            name in believed,
        )  # fmt: skip

    def _concept(self, rows: Mapping[str, DriftRow], evidence: Evidence) -> ConceptLook:
        def known(name: str, figure: str) -> float | None:
            row = rows.get(name)
            return None if row is None or row.state == "no_data" else figures(row).get(figure)

        return judge_concept(
            evidence,
            known("output_score", "js"),
            known("output_class", "psi"),
            self._limits.concept,
        )

    def _drift(self, end_s: int, series: Sequence[SeriesLook]) -> SignalReading:
        """The largest PSI; broken where a series is confirmed."""
        known = _by_psi(series)
        confirmed = [item for item in series if item.confirmed_s is not None]
        shown = next((item for item in [*_by_psi(confirmed), *known]), None)
        broken = bool(confirmed) if known or confirmed else None
        value = max((_psi(item) for item in known), default=None)
        note = "" if shown is None else f"is the largest PSI; most changed: {shown.name}"
        n = max((item.n for item in known), default=0)
        limit = self.spec.thresholds.psi
        return self._reading("", end_s, broken, value, limit, n, "number", note)

    def _missing(self, end_s: int, series: Sequence[SeriesLook]) -> SignalReading:
        """The largest share of rows without a feature, above the usual."""
        known = [
            (item.missing.excess, item)
            for item in series
            if item.missing is not None and item.missing.state != "no_data"
        ]
        if not known:
            return self._reading("missing", end_s, None, None, math.nan, 0, "ratio", "")
        excess, worst = max(known, key=lambda pair: (pair[0], pair[1].name))
        broken = any(found.missing and found.missing.state != "ok" for _, found in known)
        limit, note = self.spec.missing.warning, f"of rows lack {worst.name}, more than usual"
        return self._reading("missing", end_s, broken, excess, limit, worst.rows, "ratio", note)

    def _concept_reading(self, end_s: int, found: ConceptLook) -> SignalReading:
        broken = None if found.state == "no_data" else found.state == "drift"
        by_labels = found.by == "labels"
        what = "lost by labels" if by_labels else "indicators of changed predictions"
        note = f"{what} ({', '.join(found.reasons)})" if found.reasons else what
        unit = "ratio" if by_labels else "count"
        return self._reading(
            "concept", end_s, broken, found.value, found.limit, found.n, unit, note
        )

    def _prediction(self, end_s: int, series: Sequence[SeriesLook]) -> Iterator[SignalReading]:
        if not self.spec.outputs:
            return
        known = _by_psi(item for item in series if item.name in self.spec.outputs)
        value = _psi(known[0]) if known else None
        limit = self._limits.prediction.psi
        broken = None if value is None else value > limit
        note = f"is the PSI of {known[0].name}" if known else ""
        n = known[0].n if known else 0
        yield self._reading("prediction", end_s, broken, value, limit, n, "number", note)

    def _reading(
        self,
        part: str,
        end_s: int,
        breach: bool | None,
        value: float | None,
        limit: float,
        n: int,
        unit: str,
        note: str,
    ) -> SignalReading:
        name = f"{self.spec.id}.{part}" if part else self.spec.id
        labels = self.spec.filter.given()
        return SignalReading("drift", name, end_s, labels, breach, value, limit, n, unit, note)


def _sees(row: DriftRow) -> bool:
    """Whether a sequential monitor can alarm on a series."""
    return row.sequential is not None and math.isfinite(row.sequential.design_effect)


def _psi(item: SeriesLook) -> float:
    found = None if item.row is None else psi_of(item.row)
    return -math.inf if found is None else found


def _by_psi(series: Iterable[SeriesLook]) -> list[SeriesLook]:
    """Those with data, the largest PSI first."""
    known = (item for item in series if item.row is not None and item.row.state != "no_data")
    return sorted(known, key=lambda item: (-_psi(item), item.name))
