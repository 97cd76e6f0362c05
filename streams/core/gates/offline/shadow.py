"""The shadow gate: mirrored traffic, paired by request.

Three questions about every metric: the mean loss over all pairs against its margin, the same
within each slice, and whether the new build's blocks fall below the baseline's mean, less the
margin, by more than `sigma` spreads of the baseline's own blocks more often than chance lets them.

By Cantelli's inequality at most one block in 1 + sigma^2 of any distribution lies that far below
its mean (one in ten for 3). The Shiryaev-Roberts e-detector (slo/detector.py) counts the blocks
that do: over B blocks its sum reaches B / alpha with probability at most alpha. Mean and spread
are those of the baseline's blocks in the file, taken as known: hence at least 20 of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from .....schemas.gates.offline import PairedMetric
from .....schemas.gates.shadow import ShadowGate
from ...slo.detector import EDetector
from ..boundaries import rate_confidence_sequence
from ..eprocess import BetaPrior, FloatArray, log_e_below
from ..verdict import Verdict
from .conclude import Interval, Measured, conclude
from .pairs import Losses, Pairs, Table, absent, losses_of, pair, paired_measure, pairing_checks

LEAST_BLOCKS = 20


def evaluate(spec: ShadowGate, run: Table, baseline: Table) -> Verdict:
    """Would users have been served as well by the new build, on their own requests?

    Args:
        spec: the gate.
        run: the mirrored twins.
        baseline: what users were served, in the order of time: blocks are cut in that order.

    Raises:
        ValueError: a column that cannot be what the specification says.
    """
    pairs = pair(baseline, run)
    wanted = [metric.metric for metric in spec.metrics if metric.critical]
    checks = [
        *pairing_checks(
            pairs, spec.max_unpaired_ratio, pairs.unpaired, "missing_pairs", "requests"
        ),
        *absent(wanted, baseline, run),
        *absent(spec.slices, baseline, baseline)[::2],
    ]
    measured = [item for metric in spec.metrics for item in _measures(spec, metric, pairs)]
    n = min((m.n for m in measured if m.unit == "difference" and m.passes), default=0)
    least = max(spec.min_units, LEAST_BLOCKS * spec.block)
    return conclude(spec, measured, checks, n, least, "pairs")


def _measures(spec: ShadowGate, metric: PairedMetric, pairs: Pairs) -> Iterator[Measured]:
    losses = losses_of(pairs, metric)
    if losses is None:
        return
    lost = pairs.unpaired + losses.unscored
    yield paired_measure(losses, lost=lost, reason="shadow_gap")
    for name in spec.slices:
        yield from _slices(spec, losses, pairs, name)
    yield _drop(spec, losses)


def _slices(spec: ShadowGate, losses: Losses, pairs: Pairs, name: str) -> Iterator[Measured]:
    column = pairs.baseline.columns.get(name)
    if column is None:
        return
    told = np.array([str(column[i]) for i, _ in pairs.at])[losses.where]
    for value in np.unique(told):
        mask = told == value
        if mask.sum() >= spec.min_slice_units:
            label = f"{losses.metric.name}[{name}={value}]"
            yield paired_measure(losses, mask, label, reason="shadow_gap_in_slice")


def _drop(spec: ShadowGate, losses: Losses) -> Measured:
    """Blocks of the new build that fall too far below the baseline's own."""
    metric = losses.metric
    old, new = (_block_means(scores, spec.block) for scores in (losses.old, losses.new))
    fallen = _fallen(spec, metric, old, new)
    share = cantelli(spec.sigma)
    blocks, bad = fallen.size, int(fallen.sum())
    prior = BetaPrior.around(float(share))

    def log_e(scale: float) -> tuple[float, float]:
        shown = log_e_below([bad * scale], [blocks * scale], float(share), prior)[0]
        log_detector = detector_log_e(fallen, share) * scale if bad else 0.0
        return log_detector, float(shown)

    def interval(alpha: float) -> Interval:
        return rate_confidence_sequence(bad, blocks, alpha, 100.0)

    return Measured(
        metric=f"{metric.name}_{spec.sigma:g}_sigma",
        declared=f"{float(share) * 100:g} % of blocks",
        unit="ratio",
        limit=float(share),
        estimate=bad / blocks if blocks else None,
        n=blocks,
        log_e=log_e,
        interval=interval,
        reason="shadow_drop",
        critical=metric.critical,
        bad=bad,
    )


def cantelli(sigma: float) -> Fraction:
    """Largest share of any distribution that lies `sigma` spreads or more below its mean.

    >>> cantelli(3.0)
    Fraction(1, 10)
    """
    return 1 / (1 + Fraction(str(sigma)) ** 2)


def _block_means(scores: FloatArray, length: int) -> FloatArray:
    """Means of whole blocks; what is left over at the end goes into the last one."""
    blocks = scores.size // length
    if not blocks:
        return np.empty(0)
    starts = np.arange(blocks) * length
    lengths = np.diff(np.append(starts, scores.size))
    return np.asarray(np.add.reduceat(scores, starts) / lengths, np.float64)


def _fallen(spec: ShadowGate, metric: PairedMetric, old: FloatArray, new: FloatArray) -> FloatArray:
    """1 for blocks that fell by more than the margin and sigma spreads beyond it, else 0."""
    if old.size < LEAST_BLOCKS:
        return np.empty(0)
    sign = 1.0 if metric.direction == "higher" else -1.0
    spread = max(float(old.std(ddof=1)), _least_spread(spec, metric, old))
    allowed = metric.margin + spec.sigma * spread
    return np.asarray(sign * (float(old.mean()) - new) > allowed, np.float64)


def _least_spread(spec: ShadowGate, metric: PairedMetric, old: FloatArray) -> float:
    """What chance alone makes of a block of binary scores, the margin lost; 0 for other scores."""
    if metric.kind != "binary":
        return 0.0
    share = (float(old.mean()) - metric.range[0]) / metric.width
    loss = metric.margin / metric.width * (1.0 if metric.direction == "higher" else -1.0)
    left = min(max(share - loss, 0.0), 1.0)
    return metric.width * math.sqrt(left * (1.0 - left) / spec.block)


def detector_log_e(fallen: FloatArray, share: Fraction) -> float:
    """Log of the detector's largest sum over the blocks, divided by their number.

    Args:
        fallen: 1 or 0 per block in the order of time, shape (B,).
        share: share of blocks that may have fallen.
    """
    detector = EDetector((share,))
    state, largest = detector.initial(1), -math.inf
    for bad in fallen:
        state, log_e, alarm = detector.step(state, np.array([bad]), np.array([1.0]))
        largest = max(largest, float(log_e[0]))
        if alarm[0]:  # it starts anew there; more would not change the answer
            break
    return largest - math.log(fallen.size)
