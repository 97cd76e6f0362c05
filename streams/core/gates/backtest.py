"""A gate over stored history, before it is switched on.

- **A/A**: the traffic of one arm is parted by a hash of the unit, and one part plays the treatment. No
  release is worse than itself, so every FAIL is a false alarm, whatever the history looks like.
- **Injection**: the same, and the treatment's requests are changed as a worse release would: the share of
  FAIL is the power, and the time to it the delay. A rollback gate has one arm: the change sets in at a
  random block of the first half.
- **Past**: what the gate would have said of the releases that there were (api/gates_backtest.py).

Each run judges one *life*, a stretch of history as long as the gate would run, with a new random choice of
buckets. Given the history, runs are independent draws: intervals are exact binomial ones (Clopper and
Pearson 1934) over those draws, and say nothing about other histories. Clocks, lag and, of A/A and
injection, coverage are not judged: what is asked is how well the gate compares.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from ....schemas.gates.canary import CanaryGate
from ..tiles import SECOND_US
from .interface import CONTROL, TREATMENT, Context, GateInputs
from .live import QueriedGate, advance, begin, inputs_wanted
from .pool import joined, picked, stretch
from .verdict import Verdict

CONFIDENCE = 0.95
_BLOCKS_AT_ONCE = 120  # a decided gate counts no further
VERDICTS = ("PASS", "FAIL", "UNDECIDED", "NO_DATA", "INVALID")


@dataclass(frozen=True, slots=True)
class Draws:
    """How runs are drawn.

    Attributes:
        seed: of the random choices.
        runs: how many.
        share: of the buckets that play the treatment.
        buckets: that the traffic was parted into.
        life_blocks: blocks of a life; the history holds at least so many.
    """

    seed: int
    runs: int
    share: float
    buckets: int
    life_blocks: int

    @property
    def treated(self) -> int:
        """Buckets that play the treatment: at least one, and never all where there are two."""
        return min(max(round(self.share * self.buckets), 1), max(self.buckets - 1, 1))


@dataclass(frozen=True, slots=True)
class Run:
    """How one life ended.

    Attributes:
        verdict, reasons: the last.
        delay_s: of PASS and FAIL, event time from the start (of the change, if there is one) until it
            is told; negative where it came before the change. None for the others.
        units: that the verdict rests on.
    """

    verdict: str
    reasons: tuple[str, ...]
    delay_s: float | None
    units: int


@dataclass(frozen=True, slots=True)
class Told:
    """How often one verdict was told.

    Attributes:
        verdict: which.
        runs: that ended with it, and not before the change.
        share, low, high: of all runs, with its interval.
        median_s, median_low_s, median_high_s: time until half of all runs had told it, with its
            interval; None where it is beyond the life of a run.
        delays_s: of each of the runs, ascending.
    """

    verdict: str
    runs: int
    share: float
    low: float
    high: float
    median_s: float | None = None
    median_low_s: float | None = None
    median_high_s: float | None = None
    delays_s: tuple[float, ...] = ()


def judged(spec: QueriedGate, inputs: GateInputs, start_us: int) -> Verdict:
    """The answer after some blocks.

    Args:
        spec: the gate.
        inputs: at least one closed block.
        start_us: where its epoch begins.
    """
    rate = int(inputs.assigned.sum()) / max((int(inputs.end_us[-1]) - start_us) / SECOND_US, 1.0)
    state = begin(spec, 0, start_us)
    for low in range(0, len(inputs.end_us), _BLOCKS_AT_ONCE):
        mine = stretch(inputs, low, min(low + _BLOCKS_AT_ONCE, len(inputs.end_us)))
        closed_us = int(mine.end_us[-1]) + spec.mature_s * SECOND_US
        state, verdict = advance(spec, state, mine, Context(closed_us, requests_per_s=rate))
        if state.latched is not None or state.broken is not None:
            break
    return verdict


def run_of(spec: QueriedGate, verdict: Verdict, change_us: int) -> Run:
    """How a life ended whose change, or whose start, was at `change_us`."""
    decided = verdict.verdict in ("PASS", "FAIL")
    delay_s = (verdict.as_of_us - change_us) / SECOND_US
    told_s = delay_s + spec.mature_s if delay_s > 0 else delay_s
    return Run(verdict.verdict, verdict.reasons, told_s if decided else None, verdict.n)


def runs(
    spec: QueriedGate, plain: GateInputs, changed: GateInputs | None, draws: Draws
) -> Iterator[Run]:
    """One life after another; the n-th is the same whatever comes before it.

    Args:
        spec: the gate.
        plain: the history, with buckets as arms (`pool.pool_of`).
        changed: the same requests after the change, None for A/A.
        draws: how runs are drawn.

    Raises:
        ValueError: A/A of a gate that has one arm.
    """
    if changed is None and not isinstance(spec, CanaryGate):
        raise ValueError("A/A needs two arms, and a rollback gate has limits: use inject or past")
    length = draws.life_blocks
    starts = range(0, len(plain.end_us) // length * length, length)
    lives = [stretch(plain, low, low + length) for low in starts]
    worse_lives = lives if changed is None else [stretch(changed, at, at + length) for at in starts]
    for number in range(draws.runs):
        mine, worse = lives[number % len(lives)], worse_lives[number % len(lives)]
        rng = np.random.default_rng([draws.seed, number])
        if isinstance(spec, CanaryGate):
            yield _compared(spec, mine, worse, draws, rng)
        else:
            yield _watched(spec, mine, worse, rng)


def _compared(
    spec: CanaryGate,
    control: GateInputs,
    treatment: GateInputs,
    draws: Draws,
    rng: np.random.Generator,
) -> Run:
    """One choice of buckets as the treatment, the others as control."""
    is_treated = np.zeros(draws.buckets, np.bool_)
    is_treated[rng.choice(draws.buckets, draws.treated, replace=False)] = True
    arms = joined(
        picked(control, np.flatnonzero(~is_treated[control.arm]), CONTROL),
        picked(treatment, np.flatnonzero(is_treated[treatment.arm]), TREATMENT),
    )
    if spec.share is not None:  # that of the release is not that of the split
        share = np.full(len(arms.end_us), draws.treated / draws.buckets)
        arms = replace(arms, share=share)
    start_us = _start_us(spec, arms)
    return run_of(spec, judged(spec, arms, start_us), start_us)


def _watched(
    spec: QueriedGate, plain: GateInputs, worse: GateInputs, rng: np.random.Generator
) -> Run:
    """The change sets in at a random block."""
    at = int(rng.integers(0, max(len(plain.end_us) // 2, 1)))
    arms = joined(
        picked(plain, np.flatnonzero(plain.block < at), TREATMENT),
        picked(worse, np.flatnonzero(worse.block >= at), TREATMENT),
    )
    start_us = _start_us(spec, arms)
    step_us = int(arms.end_us[0]) - start_us
    return run_of(spec, judged(spec, arms, start_us), start_us + at * step_us)


def _start_us(spec: QueriedGate, inputs: GateInputs) -> int:
    wanted = inputs_wanted(spec)
    assert wanted is not None
    return int(inputs.end_us[0]) - wanted.block_s * SECOND_US


def table_of(found: Sequence[Run]) -> list[Told]:
    """How often each verdict was told, and how soon.

    Args:
        found: at least one run.
    """
    return [_told(name, found) for name in VERDICTS]


def _told(verdict: str, found: Sequence[Run]) -> Told:
    mine = [run for run in found if run.verdict == verdict and not _is_early(run)]
    low, high = proportion(len(mine), len(found))
    told = Told(verdict, len(mine), len(mine) / len(found), low, high)
    if verdict not in ("PASS", "FAIL"):
        return told
    delays = tuple(sorted(run.delay_s for run in mine if run.delay_s is not None))
    median, least, most = median_of([*delays, *[math.inf] * (len(found) - len(delays))])
    return replace(told, median_s=median, median_low_s=least, median_high_s=most, delays_s=delays)


def early(found: Sequence[Run]) -> int:
    """Runs that failed before their change: false alarms."""
    return sum(_is_early(run) for run in found)


def _is_early(run: Run) -> bool:
    return run.delay_s is not None and run.delay_s <= 0


def reasons_of(found: Sequence[Run]) -> dict[str, int]:
    """How often each reason was given for telling nothing, most often first."""
    open_ends = (run.reasons for run in found if run.delay_s is None)
    return dict(Counter(reason for reasons in open_ends for reason in reasons).most_common())


def proportion(count: int, total: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact interval of a share (Clopper and Pearson 1934).

    Args:
        count: of `total` > 0 draws.
        total: independent draws.
        confidence: of the interval.

    >>> [round(edge, 4) for edge in proportion(2, 200)]
    [0.0012, 0.0357]
    >>> proportion(0, 10)[0], proportion(10, 10)[1]
    (0.0, 1.0)
    """
    tail = (1.0 - confidence) / 2.0
    low = float(special.betaincinv(count, total - count + 1, tail)) if count else 0.0
    high = float(special.betaincinv(count + 1, total - count, 1.0 - tail)) if count < total else 1.0
    return low, high


def median_of(
    values: Sequence[float], confidence: float = CONFIDENCE
) -> tuple[float | None, float | None, float | None]:
    """Median of ascending values with the interval of its order statistics; None for infinity.

    The number of values below the median is binomial with 1/2, whatever the distribution; fewer than
    six values have no such interval.

    >>> median_of([float(n) for n in range(1, 21)])
    (10.5, 6.0, 15.0)
    >>> median_of([1.0, 2.0, math.inf])
    (2.0, None, None)
    """
    total = len(values)
    ranks = np.arange(total + 1)
    below = special.bdtr(ranks, total, 0.5)  # P(at most so many are below the median)
    rank = int(np.searchsorted(below, (1.0 - confidence) / 2.0, side="right"))
    middle = _finite((values[(total - 1) // 2] + values[total // 2]) / 2.0)
    if rank == 0:
        return middle, None, None
    return middle, _finite(values[rank - 1]), _finite(values[total - rank])


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
