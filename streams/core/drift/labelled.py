"""Concept drift with labels: has the model become worse at its task?

Labels come late (FeedbackEvent), so `Labelled` is made of integers that merge by adding.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from ....schemas.drift.thresholds import ConceptThresholds
from .missing import wilson

Floats = npt.NDArray[np.float64]
CALIBRATION_BINS = 10
MICRO = 1_000_000
_ROUNDING = 1e-12  # 0.90 - 0.85 is five points and not more


@dataclass(frozen=True, slots=True)
class Labelled:
    """Predictions with their labels.

    Attributes:
        confusion: (label, predicted) -> rows.
        confidence: bin of ten equal ones -> (rows, sum of confidences in millionths, correct rows).
    """

    confusion: Mapping[tuple[str, str], int] = field(default_factory=dict)
    confidence: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[tuple[str, str, float | None]]) -> Labelled:
        """Counts of (label, predicted, confidence in 0..1 or None).

        >>> Labelled.of([("cat", "cat", 0.95), ("cat", "dog", None)]).confidence
        {9: (1, 950000, 1)}
        """
        confusion: Counter[tuple[str, str]] = Counter()
        bins: dict[int, tuple[int, int, int]] = {}
        for label, predicted, score in rows:
            confusion[label, predicted] += 1
            if score is not None:
                at = min(int(score * CALIBRATION_BINS), CALIBRATION_BINS - 1)
                n, total, correct = bins.get(at, (0, 0, 0))
                bins[at] = n + 1, total + round(score * MICRO), correct + (label == predicted)
        return cls(dict(confusion), bins)

    def __add__(self, other: Labelled) -> Labelled:
        confidence = dict(self.confidence)
        for at, (n, total, correct) in other.confidence.items():
            mine = confidence.get(at, (0, 0, 0))
            confidence[at] = mine[0] + n, mine[1] + total, mine[2] + correct
        return Labelled(dict(Counter(self.confusion) + Counter(other.confusion)), confidence)

    @property
    def rows(self) -> int:
        """Rows with a label."""
        return sum(self.confusion.values())

    @property
    def correct(self) -> int:
        """Rows whose prediction was right."""
        return sum(n for (label, predicted), n in self.confusion.items() if label == predicted)


@dataclass(frozen=True, slots=True)
class Drop:
    """How much worse one measure became; a rise of the calibration error counts as a drop.

    Attributes:
        before, after: the measure on the reference and now.
        drop: points lost, as a share; `low` to `high` at 95 %.
        p: one-sided p of "not worse".
    """

    before: float
    after: float
    drop: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, slots=True)
class ConceptDrift:
    """What labels say. `drops` has accuracy, f1 and, where confidences are known, ece."""

    state: Literal["no_data", "ok", "drift"]
    severity: Literal["medium", "high"] | None
    reasons: tuple[str, ...]
    drops: Mapping[str, Drop]
    n_reference: int
    n_current: int


def with_labels(
    reference: Labelled, current: Labelled, thresholds: ConceptThresholds | None = None
) -> ConceptDrift:
    """Drift where a measure is worse by more than 5 points with p < 0.05; high above 10 points.

    Accuracy by Fisher's exact test with Newcombe's interval (1998, method 10), macro F1 and the
    expected calibration error by the normal approximation of their standard errors.
    """
    limits = thresholds or ConceptThresholds()
    if min(reference.rows, current.rows) < limits.min_labels:
        return ConceptDrift("no_data", None, (), {}, reference.rows, current.rows)
    drops = {"accuracy": _accuracy(reference, current), "f1": _f1_drop(reference, current)}
    scored = [sum(n for n, _, _ in side.confidence.values()) for side in (reference, current)]
    if min(scored) >= limits.min_labels:
        drops["ece"] = _ece_rise(reference, current)
    shown = {
        name: drop
        for name, drop in drops.items()
        if drop.drop > limits.drop + _ROUNDING and drop.p < limits.p
    }
    worst = max((drop.drop for drop in shown.values()), default=0.0)
    high = worst > limits.drop_high + _ROUNDING
    severity: Literal["medium", "high"] = "high" if high else "medium"
    return ConceptDrift(
        "drift" if shown else "ok",
        severity if shown else None,
        tuple(shown),
        drops,
        reference.rows,
        current.rows,
    )


def _accuracy(reference: Labelled, current: Labelled) -> Drop:
    n, m = reference.rows, current.rows
    x, y = reference.correct, current.correct
    before, after = x / n, y / m
    # given x + y right of n + m, at most y of them among the current rows
    p = float(stats.hypergeom.cdf(y, n + m, x + y, m))
    low_before, high_before = wilson(x, n)
    low_after, high_after = wilson(y, m)
    drop = before - after
    low = drop - math.hypot(before - low_before, high_after - after)
    high = drop + math.hypot(high_before - before, after - low_after)
    return Drop(before, after, drop, low, high, p)


def _f1_drop(reference: Labelled, current: Labelled) -> Drop:
    names = sorted(
        {name for side in (reference, current) for pair in side.confusion for name in pair}
    )
    before, error_before = _macro_f1(reference, names)
    after, error_after = _macro_f1(current, names)
    return _normal(before, after, before - after, math.hypot(error_before, error_after))


def _macro_f1(side: Labelled, names: list[str]) -> tuple[float, float]:
    """Macro F1 over the classes that occur on this side, and its standard error (delta method)."""
    place = {name: at for at, name in enumerate(names)}
    table = np.zeros((len(names), len(names)))
    for (label, predicted), n in side.confusion.items():
        table[place[label], place[predicted]] += n
    shares = table / table.sum()
    hits = np.diag(shares)
    sums = shares.sum(axis=0) + shares.sum(axis=1)
    used = sums > 0
    safe = np.where(used, sums, 1.0)
    score = 2 * hits / safe
    # d F1_c / d share_ij = 2 [i = j = c] / s_c - F1_c ([i = c] + [j = c]) / s_c
    slope = -(score / safe)
    gradient = (slope[:, None] + slope[None, :] + np.diag(2 / safe)) / used.sum()
    mean = float((gradient * shares).sum())
    variance = float((gradient**2 * shares).sum()) - mean**2
    return float(score[used].mean()), math.sqrt(max(variance, 0.0) / table.sum())


def _ece_rise(reference: Labelled, current: Labelled) -> Drop:
    before, error_before, noise_before = _ece(reference)
    after, error_after, noise_after = _ece(current)
    rise = after - before - max(noise_after - noise_before, 0.0)
    return _normal(before, after, rise, math.hypot(error_before, error_after))


def _ece(side: Labelled) -> tuple[float, float, float]:
    """Expected calibration error (Naeini et al. 2015), its standard error, and what noise alone gives.

    A perfectly calibrated bin of n rows shows a gap of about sqrt(2 variance / (pi n)); where the
    current side is smaller than the reference, the difference of both is taken off the rise.
    """
    # In order, so that sums of floats do not depend on which row came first.
    n, total, correct = np.array([row for _, row in sorted(side.confidence.items())], np.float64).T
    weight = n / n.sum()
    share = correct / n
    variance = np.maximum(share * (1 - share), 0.25 / n) / n
    gap = np.abs(share - total / n / MICRO)
    noise = float((weight * np.sqrt(2 * variance / math.pi)).sum())
    return float((weight * gap).sum()), math.sqrt(float((weight**2 * variance).sum())), noise


def _normal(before: float, after: float, drop: float, error: float) -> Drop:
    if error == 0:
        return Drop(before, after, drop, drop, drop, 0.0 if drop > 0 else 1.0)
    half = float(stats.norm.isf(0.025)) * error
    return Drop(before, after, drop, drop - half, drop + half, float(stats.norm.sf(drop / error)))
