"""The parity gate: evaluation results of two builds, paired per item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .....schemas.gates.parity import ParityGate, TokenParity
from ..verdict import Verdict
from .conclude import Check, Interval, Measured, conclude
from .means import Sample
from .pairs import Pairs, Table, absent, losses_of, pair, paired_measure, pairing_checks


def evaluate(spec: ParityGate, run: Table, baseline: Table) -> Verdict:
    """Is the new build as right as the baseline on the same questions?

    Independent of the order of rows in either file.

    Raises:
        ValueError: a column that cannot be what the specification says.
    """
    pairs = pair(baseline, run)
    lost = _lost(spec, pairs)
    checks = [
        *pairing_checks(pairs, spec.max_missing_ratio, lost, "missing_items", "items"),
        *_question_set(spec, pairs),
        *absent([metric.metric for metric in spec.metrics if metric.critical], baseline, run),
    ]
    measured = [found for found in (_measure(m, pairs, lost) for m in spec.metrics) if found]
    n = min((item.n for item in measured if item.critical), default=0)
    return conclude(spec, measured, checks, n, spec.min_units, "items")


def _lost(spec: ParityGate, pairs: Pairs) -> int:
    """Items that either file lacks, or both of a fixed question set."""
    return max(pairs.unpaired, (spec.items or 0) - len(pairs.at))


def _question_set(spec: ParityGate, pairs: Pairs) -> list[Check]:
    if spec.items is None:
        return []
    there = len(pairs.at) + pairs.unpaired
    text = f"{there:,} different items, {spec.items:,} in the question set"
    return [Check("question_set", there <= spec.items, text, "INVALID", "missing_items")]


def _measure(metric: Any, pairs: Pairs, lost: int) -> Measured | None:
    if isinstance(metric, TokenParity):
        return _tokens(metric, pairs, lost)
    losses = losses_of(pairs, metric)
    return None if losses is None else paired_measure(losses, lost=lost + losses.unscored)


def _tokens(metric: TokenParity, pairs: Pairs, lost: int) -> Measured | None:
    columns = pairs.column(metric.metric)
    if columns is None:
        return None
    said = [(a, b) for a, b in zip(*columns, strict=True) if a is not None or b is not None]
    values = np.array([mismatch(a, b) for a, b in said], np.float64)
    there = np.isfinite(values)
    lost += int((~there).sum())
    shown = Sample.of(values[there], 0.0, 1.0)
    strict = Sample.of(np.concatenate([values[there], np.ones(lost)]), 0.0, 1.0)
    limit = metric.max_mismatch_ratio

    above, below = shown.above(limit), strict.below(limit)

    def log_e(scale: float) -> tuple[float, float]:
        return above.log_e(scale), below.log_e(scale)

    def interval(alpha: float) -> Interval:
        return shown.interval(alpha)

    return Measured(
        metric=metric.name,
        declared=f"{limit * 100:g} % of tokens",
        unit="ratio",
        limit=limit,
        estimate=shown.mean,
        n=shown.n,
        log_e=log_e,
        interval=interval,
        reason="parity_lost",
        critical=metric.critical,
        bad=int((values[there] > 0).sum()),
    )


def mismatch(one: Any, other: Any) -> float:
    """Share of positions at which two outputs differ; what only one of them has differs.

    Args:
        one, other: lists of tokens, or texts, which are compared word by word; None if missing.

    Returns:
        From 0 to 1; NaN where one is missing.

    >>> mismatch([1, 2, 3, 4], [1, 2, 5, 4])
    0.25
    >>> mismatch("the answer is 4", "the answer is 4 .")
    0.2
    """
    if one is None or other is None:
        return float("nan")
    a, b = _tokens_of(one), _tokens_of(other)
    longest = max(len(a), len(b))
    same = sum(x == y for x, y in zip(a, b, strict=False))
    return (longest - same) / longest if longest else 0.0


def _tokens_of(value: Any) -> Sequence[Any]:
    if isinstance(value, str):
        return value.split()
    if isinstance(value, Sequence | np.ndarray):
        return list(value)
    raise ValueError(f"tokens must be lists or texts, not {type(value).__name__}")
