"""Two files of items, paired by key: evaluation results, or mirrored requests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .....schemas.gates.offline import PairedMetric
from ..eprocess import FloatArray
from ..paired import log_e_mcnemar
from ..reasons import Reason
from ..verdict import ArmEvidence
from .conclude import Check, Interval, Measured, rounded
from .means import Sample

_LN10 = math.log(10.0)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one file.

    Attributes:
        keys: what pairs a row, in the order of the file.
        columns: name -> one value per row; None where a row has none.
    """

    keys: Sequence[str]
    columns: Mapping[str, Sequence[Any]]

    def row(self, at: int) -> tuple[Any, ...]:
        """All values of a row."""
        return tuple(values[at] for values in self.columns.values())


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rows of the two files that have each other's key, in the baseline's order.

    Attributes:
        baseline, run: the files.
        at: (row of the baseline, row of the run) of each pair.
        missing_in_run, missing_in_baseline: keys that only the other file has.
        repeated: rows that were there before, alike: they count once.
        contradicting: keys that occur twice with different values.
    """

    baseline: Table
    run: Table
    at: tuple[tuple[int, int], ...]
    missing_in_run: int
    missing_in_baseline: int
    repeated: int
    contradicting: tuple[str, ...]

    @property
    def unpaired(self) -> int:
        """Keys without a twin."""
        return self.missing_in_run + self.missing_in_baseline

    def column(self, name: str) -> tuple[list[Any], list[Any]] | None:
        """Values of both files for each pair; None where a file has no such column."""
        ours, theirs = self.baseline.columns.get(name), self.run.columns.get(name)
        if ours is None or theirs is None:
            return None
        return [ours[i] for i, _ in self.at], [theirs[j] for _, j in self.at]


def pair(baseline: Table, run: Table) -> Pairs:
    """Pair two files by key."""
    ours, again, wrong = _index(baseline)
    theirs, again_run, wrong_run = _index(run)
    at = tuple((i, theirs[key]) for key, i in ours.items() if key in theirs)
    return Pairs(
        baseline,
        run,
        at,
        len(ours) - len(at),
        len(theirs) - len(at),
        again + again_run,
        tuple(sorted({*wrong, *wrong_run})),
    )


def _index(table: Table) -> tuple[dict[str, int], int, set[str]]:
    found: dict[str, int] = {}
    repeated, contradicting = 0, set()
    for at, key in enumerate(table.keys):
        first = found.setdefault(key, at)
        if first != at and table.row(first) == table.row(at):
            repeated += 1
        elif first != at:
            contradicting.add(key)
    return found, repeated, contradicting


def pairing_checks(
    pairs: Pairs, allowed: float, lost: int, reason: Reason, what: str
) -> list[Check]:
    """Whether the files are about the same items.

    Args:
        pairs: the pairs.
        allowed: share of items that may lack a twin.
        lost: items that lack one.
        reason: what too many of them are called.
        what: what items are called.
    """
    total = max(len(pairs.at) + lost, 1)
    names = ", ".join(pairs.contradicting[:3])
    return [
        Check(
            "duplicates",
            not pairs.contradicting,
            f"{len(pairs.contradicting)} {what} occur twice with different values, such as {names}"
            if pairs.contradicting
            else f"every one of the {what} once; {pairs.repeated} repeated rows count once",
            "INVALID",
            "duplicate_items",
        ),
        Check(
            "paired",
            lost <= allowed * total,
            f"{lost:,} of {total:,} {what} lack a twin: {pairs.missing_in_run:,} are not in the run, "
            f"{pairs.missing_in_baseline:,} not in the baseline; allowed {allowed * 100:g} %",
            "INVALID",
            reason,
        ),
    ]


def absent(names: Sequence[str], baseline: Table, run: Table) -> list[Check]:
    """A check for every column that a file lacks."""
    return [
        Check(
            "measured",
            False,
            f"{side} has no column {name}; it has {', '.join(sorted(table.columns)) or 'none'}",
            "NO_DATA",
            "metric_missing",
        )
        for name in names
        for side, table in (("the baseline", baseline), ("the run", run))
        if name not in table.columns
    ]


@dataclass(frozen=True, slots=True)
class Losses:
    """What the new build loses on each pair that both files scored.

    Attributes:
        metric: the metric.
        values: loss per pair in the metric's own unit, positive is worse, shape (N,).
        old, new: scores, shape (N,).
        where: positions among the pairs.
        unscored: pairs that one file scored and the other did not.
    """

    metric: PairedMetric
    values: FloatArray
    old: FloatArray
    new: FloatArray
    where: npt.NDArray[np.intp]
    unscored: int


def losses_of(pairs: Pairs, metric: PairedMetric) -> Losses | None:
    """The losses of a metric; None where a file has no such column.

    Raises:
        ValueError: a score that is no number, or outside of the metric's range.
    """
    columns = pairs.column(metric.metric)
    if columns is None:
        return None
    old, new = (_numbers(values, metric) for values in columns)
    both = np.isfinite(old) & np.isfinite(new)
    loss = (old - new)[both] * (1.0 if metric.direction == "higher" else -1.0)
    loss = np.clip(loss, -metric.width, metric.width)  # the width itself is rounded
    return Losses(
        metric,
        loss,
        old[both],
        new[both],
        np.flatnonzero(both),
        int((np.isfinite(old) ^ np.isfinite(new)).sum()),
    )


def _numbers(values: Sequence[Any], metric: PairedMetric) -> FloatArray:
    try:
        found = np.array([math.nan if value is None else float(value) for value in values])
    except (TypeError, ValueError):
        raise ValueError(f"{metric.metric}: scores must be numbers or true and false") from None
    there = found[np.isfinite(found)]
    low, high = metric.range
    if metric.kind == "binary" and not bool(np.isin(there, metric.range).all()):
        raise ValueError(
            f"{metric.metric}: kind binary takes {low:g} and {high:g}; else kind: score"
        )
    if there.size and (there.min() < low or there.max() > high):
        raise ValueError(f"{metric.metric}: scores must lie in range [{low:g}, {high:g}]")
    return found


def paired_measure(
    losses: Losses,
    chosen: npt.NDArray[np.bool_] | None = None,
    name: str | None = None,
    lost: int = 0,
    reason: Reason = "parity_lost",
) -> Measured:
    """The mean loss against its margin.

    Args:
        losses: of the metric.
        chosen: which of them, as a mask; all without one.
        name: of a slice, which can fail the gate but is not needed to pass.
        lost: items that a file lacks: left out for FAIL, and taken as lost entirely for PASS.
        reason: what a FAIL is called.
    """
    metric = losses.metric
    mask = np.ones(losses.values.size, np.bool_) if chosen is None else chosen
    values, width = losses.values[mask], metric.width
    fail_above = metric.margin if metric.fail_above is None else metric.fail_above
    shown = Sample.of(values, -width, width)
    strict = Sample.of(np.concatenate([values, np.full(lost, width)]), -width, width)

    worse_than, better_than = shown.above(fail_above), strict.below(metric.margin)

    def log_e(scale: float) -> tuple[float, float]:
        return worse_than.log_e(scale), better_than.log_e(scale)

    def interval(alpha: float) -> Interval:
        return shown.interval(alpha)

    worse, better = int((values > 0).sum()), int((values < 0).sum())
    return Measured(
        metric=name or metric.name,
        declared=f"a loss of {metric.margin:g}",
        unit="difference",
        limit=metric.margin,
        estimate=shown.mean,
        n=shown.n,
        log_e=log_e,
        interval=interval,
        reason=reason,
        critical=metric.critical,
        bad=worse,
        passes=name is None,
        arms=(_arm("treatment", losses.new[mask]), _arm("control", losses.old[mask])),
        detail={
            "worse": worse,
            "better": better,
            "log10_mcnemar_e": rounded(float(log_e_mcnemar(worse, better)[0]) / _LN10),
        },
    )


def _arm(name: str, scores: FloatArray) -> ArmEvidence:
    return ArmEvidence(
        name, scores.size, None, rounded(float(scores.mean())) if scores.size else None
    )
