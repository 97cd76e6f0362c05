"""One drift monitor on a running stream: from counts of closed windows to rows, and its state."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from ....schemas.drift.monitors import DriftMonitor
from ..gates.canonical import canonical_json, sha256
from .binning import binning_of
from .categorical import CategoryScores, category_counts, compare_categories
from .continuous import Scores, compare
from .monitor import Ints, Watch, WatchState, design_effect
from .pairs import pair, quantile_bins
from .references import Key, Reference, tile_of_counts

NAMES = 30  # categories that a watch tells apart; the rest counts as one
Bins = Mapping[int, int]
Names = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Counts:
    """What arrived: counts by bin of each feature (`binning_of`), by name of each category."""

    features: Mapping[str, Bins] = field(default_factory=dict)
    categories: Mapping[str, Names] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class References:
    """What it is compared with. A series without a reference is left out of the rows."""

    features: Mapping[str, Reference[int]] = field(default_factory=dict)
    categories: Mapping[str, Reference[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sequential:
    """The sequential monitor of one series after a look.

    Attributes:
        state: with `alarm`, whether this look alarmed.
        design_effect: values that weigh as one; infinite where it is not known, then it is blind.
        reset: whether it began anew, because the monitor or an uploaded reference changed.
    """

    state: WatchState
    design_effect: float
    reset: bool


@dataclass(frozen=True, slots=True)
class DriftRow:
    """What one look says about one series.

    Attributes:
        name: of the feature or category.
        end_s: end of the window.
        reference_version: of the reference.
        scores: of a feature, one series; or of a category.
        sequential: None against a control arm, whose own chance is not in its likelihood.
        reference, current: counts that were compared, by bin or by name.
    """

    name: str
    end_s: int
    reference_version: int
    scores: Scores | CategoryScores
    sequential: Sequential | None
    reference: Bins | Names = field(default_factory=dict)
    current: Bins | Names = field(default_factory=dict)

    @property
    def state(self) -> str:
        """no_data, ok, moderate or drift, by the rule for a single look."""
        if isinstance(self.scores, CategoryScores):
            return self.scores.state
        return self.scores.state(0) if len(self.scores) else "no_data"

    @property
    def p(self) -> float:
        """p of the single look, NaN without data: for `benjamini_hochberg` over all rows."""
        if isinstance(self.scores, CategoryScores):
            return self.scores.p
        return float(self.scores.ks_p[0]) if self.scores.enough.any() else math.nan

    @property
    def e_value(self) -> float:
        """e-value of the sequential monitor, NaN without one: for `e_bh` over all rows."""
        log_e = self.sequential.state.log_e if self.sequential else None
        return math.nan if log_e is None else math.exp(min(log_e, 700.0))


@dataclass(slots=True)
class _Kept:
    """State of one series: what it is bound to, the names it tells apart, the watch."""

    identity: str
    names: list[str]
    watch: WatchState | None = None


class DriftKeeper:
    """One monitor and the state of its series.

    Args:
        spec: the monitor.
        saved: what `to_json` gave; None to begin.

    Raises:
        ValueError: `saved` is not the state of a monitor.
    """

    def __init__(self, spec: DriftMonitor, saved: str | None = None) -> None:
        self.spec = spec
        self._kept: dict[str, _Kept] = {}
        self._effects: dict[str, tuple[int, float]] = {}  # by version of the reference
        try:
            for name, item in (json.loads(saved) if saved else {}).items():
                watch = item["watch"] and WatchState.from_json(canonical_json(item["watch"]))
                self._kept[name] = _Kept(item["identity"], item["names"], watch)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the state of a monitor: {error}") from error

    def to_json(self) -> str:
        """Canonical JSON of the state; equal states give equal text."""
        return canonical_json({name: asdict(kept) for name, kept in self._kept.items()})

    def look(
        self, end_s: int, references: References, window: Counts, fresh: Counts
    ) -> list[DriftRow]:
        """Judge a closed window.

        The same look again changes no state. A window that late rows amended may be judged again for
        its scores; the sequential monitor does not go back.

        Args:
            end_s: end of the window in seconds of event time.
            references: as of this look.
            window: counts of [end_s - window_s, end_s), which the scores are of.
            fresh: counts of [end_s - every_s, end_s), which the sequential monitor takes in.
        """
        rows = []
        for name in self.spec.features:
            if name in references.features:
                now, new = window.features.get(name, {}), fresh.features.get(name, {})
                rows.append(self._feature(name, end_s, references.features[name], now, new))
        for name in self.spec.categories:
            if name in references.categories:
                seen, added = window.categories.get(name, {}), fresh.categories.get(name, {})
                rows.append(self._category(name, end_s, references.categories[name], seen, added))
        return rows

    def _feature(
        self, name: str, end_s: int, reference: Reference[int], window: Bins, fresh: Bins
    ) -> DriftRow:
        chosen = self._chosen(reference, end_s)
        limits = self.spec.thresholds
        scores = compare(
            tile_of_counts([chosen]), tile_of_counts([window]), limits, binning_of(name)
        )

        def binned(whole: Bins, parts: Sequence[Bins]) -> tuple[Ints, Ints]:
            sides = tile_of_counts([whole] * len(parts)), tile_of_counts(parts)
            return quantile_bins(pair(*sides), limits.quantile_bins)

        before, after = binned(chosen, [fresh])
        effect = self._effect(
            name,
            reference,
            lambda: design_effect(binned(reference.counts(), [*reference.hours.values()])[1], True),
        )
        kept, reset = self._series(name, reference)
        sequential = self._advance(kept, end_s, before.sum(0), after.sum(0), effect, reset, True)
        return DriftRow(name, end_s, reference.version, scores, sequential, chosen, window)

    def _category(
        self, name: str, end_s: int, reference: Reference[str], window: Names, fresh: Names
    ) -> DriftRow:
        chosen = self._chosen(reference, end_s)
        kept, reset = self._series(name, reference)
        if not kept.names:
            largest = sorted(reference.counts().items(), key=lambda item: (-item[1], item[0]))
            kept.names = sorted(found for found, _ in largest[:NAMES])

        def binned(counts: Names) -> Ints:
            return category_counts(kept.names, counts)

        effect = self._effect(
            name,
            reference,
            lambda: design_effect(np.stack([*map(binned, reference.hours.values())]), False),
        )
        sequential = self._advance(kept, end_s, binned(chosen), binned(fresh), effect, reset, False)
        scores = compare_categories(chosen, window, self.spec.thresholds)
        return DriftRow(name, end_s, reference.version, scores, sequential, chosen, window)

    def _chosen(self, reference: Reference[Key], end_s: int) -> Mapping[Key, int]:
        if not self.spec.same_hour_of_week:
            return reference.counts()
        start_s = end_s - self.spec.window_s
        return reference.same_hours(start_s, end_s, self.spec.thresholds.min_values)

    def _series(self, name: str, reference: Reference[Key]) -> tuple[_Kept, bool]:
        """State of a series, new where the monitor or an uploaded reference changed; and whether."""
        source = self.spec.reference
        version = reference.version if source.kind == "uploaded" else 0
        identity = sha256([self.spec.model_dump(mode="json"), name, version])
        kept = self._kept.get(name)
        if kept is not None and kept.identity == identity:
            return kept, False
        self._kept[name] = fresh = _Kept(identity, [])
        return fresh, kept is not None

    def _effect(self, name: str, reference: Reference[Key], measured: Callable[[], float]) -> float:
        if self.spec.design_effect is not None:
            return self.spec.design_effect
        known = self._effects.get(name)
        if known is None or known[0] != reference.version:
            effect = measured() if len(reference.hours) > 1 else math.inf
            known = self._effects[name] = reference.version, effect
        return known[1]

    def _advance(
        self,
        kept: _Kept,
        end_s: int,
        before: Ints,
        after: Ints,
        effect: float,
        reset: bool,
        ordered: bool,
    ) -> Sequential | None:
        if self.spec.reference.kind == "control":
            return None
        spec = self.spec
        watch = Watch(
            kept.identity, len(before), ordered, spec.looks_per_30d, spec.alarms_per_30d, effect
        )
        kept.watch = watch.look(watch.begin(kept.watch), end_s, before, after)
        return Sequential(kept.watch, effect, reset)
