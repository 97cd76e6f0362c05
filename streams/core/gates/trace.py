"""What every test of two arms leaves behind after each block, and how leave-one-worker-out joins in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .cells import GROUPS, Workers
from .eprocess import FloatArray
from .interface import IntArray


@dataclass(frozen=True, slots=True)
class Peaks:
    """Running maxima of one test.

    Attributes:
        fail: of the log e-value for FAIL, the smallest over leaving out any worker.
        passed: of the log e-value for PASS.
        fail_all: of the log e-value for FAIL of all workers together.
        now_fail, now_pass: the log e-values of all workers after the newest block.
    """

    fail: float = 0.0
    passed: float = 0.0
    fail_all: float = 0.0
    now_fail: float = 0.0
    now_pass: float = 0.0


@dataclass(frozen=True, slots=True)
class Trace:
    """A test after every block of a call, shape (B,) each.

    Attributes:
        fail, passed: running maxima that decide.
        leaning: whether the evidence of that moment is for PASS rather than FAIL.
        units: units so far, shape (B, 2).
    """

    fail: FloatArray
    passed: FloatArray
    leaning: npt.NDArray[np.bool_]
    units: IntArray


def traced(
    before: Peaks,
    fail: FloatArray,
    passed: FloatArray,
    units: IntArray,
    without: Callable[[IntArray], FloatArray],
) -> tuple[Peaks, Trace]:
    """Running maxima over blocks.

    Args:
        before: maxima so far.
        fail, passed: log e-values of all workers after each block, shape (B,).
        units: units after each block, shape (B, 2).
        without: positions of blocks -> smallest log e-value for FAIL over leaving out any worker, shape
            (B,), as `least_of_blocks` gives it. Asked only of those where the maximum could rise, as it is
            never above the value of all workers.
    """
    if len(fail) == 0:
        empty = np.empty(0)
        return before, Trace(empty, empty, np.empty(0, np.bool_), units)
    least = np.full(len(fail), -np.inf)
    rising = np.flatnonzero(fail > before.fail)
    if len(rising):
        least[rising] = np.minimum(fail[rising], without(rising)[rising])
    peak_fail = np.maximum.accumulate(np.maximum(least, before.fail))
    peak_pass = np.maximum.accumulate(np.maximum(passed, before.passed))
    after = Peaks(
        float(peak_fail[-1]),
        float(peak_pass[-1]),
        max(before.fail_all, float(fail.max())),
        float(fail[-1]),
        float(passed[-1]),
    )
    return after, Trace(peak_fail, peak_pass, passed > fail, units)


def left_out(counts: Sequence[int] | IntArray) -> Iterator[tuple[int, int]]:
    """(arm, group) of each group that may be left out: of arms with two or more.

    Args:
        counts: groups of control and of treatment.
    """
    for arm in (0, 1):
        if counts[arm] > 1:
            yield from ((arm, group) for group in range(counts[arm]))


def groups_seen(workers: Workers) -> tuple[int, int]:
    """Number of groups of control and of treatment."""
    return len(workers[0]), len(workers[1])


def mask_without(arm: int, group: int) -> FloatArray:
    """1 for every group but one, shape (2, 8)."""
    mask = np.ones((2, GROUPS))
    mask[arm, group] = 0.0
    return mask


def least_of_blocks(
    seen: IntArray, blocks: IntArray, log_e: Callable[[int, int, IntArray], FloatArray]
) -> FloatArray:
    """Smallest log e-value for FAIL over leaving out any group, for many blocks at once, shape (B,).

    Args:
        seen: groups of control and of treatment by the end of each block, shape (B, 2).
        blocks: that are asked for; infinite for the others, and where no group can be left out.
        log_e: arm and group that is left out, and blocks -> log e-values.
    """
    least = np.full(len(seen), np.inf)
    for arm in (0, 1):
        for group in range(GROUPS):
            some = blocks[seen[blocks, arm] > max(group, 1)]
            if len(some):
                least[some] = np.minimum(least[some], log_e(arm, group, some))
    return least


def weakest_group(
    workers: Workers, log_e: Callable[[Sequence[tuple[int, int]]], FloatArray]
) -> tuple[float, str] | None:
    """Smallest log e-value for FAIL over leaving out a worker, and which; None where none can be.

    Args:
        workers: names of the groups of both arms.
        log_e: (arm, group) of each group that is left out, G of them -> log e-values, shape (G,).
    """
    out = [*left_out(groups_seen(workers))]
    if not out:
        return None
    names = (workers[arm][group] for arm, group in out)
    return min(zip(log_e(out).tolist(), names, strict=True))


def masks_without(out: Sequence[tuple[int, int]]) -> FloatArray:
    """`mask_without` of each, shape (G, 2, 8)."""
    return np.stack([mask_without(arm, group) for arm, group in out])


def views_without(out: Sequence[tuple[int, int]]) -> list[int]:
    """Position of each where views are everybody, then without each group of control and treatment."""
    return [1 + arm * GROUPS + group for arm, group in out]
