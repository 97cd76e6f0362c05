"""How long a canary gate will take, before the release starts.

No simulation: what a stream of the assumed traffic shows on average is fed to the tests themselves,
and the number of units is found at which they decide, FAIL without any one worker too. Chance lets most
streams decide earlier: the median is at half to all of the number told. A gate whose PASS, for a release that equals control, or
whose FAIL, for one that is clearly worse, would come after its deadline is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy import special

from ....schemas.gates.canary import CanaryGate
from .cells import GROUPS
from .combine import thresholds
from .eprocess import FloatArray
from .interface import CONTROL, TREATMENT
from .live_state import TestState
from .mean_state import MeanState
from .quantile_state import QuantileState
from .quantiles import control_edges, edges_around
from .ratio_state import VIEWS, RatioState
from .tested import MeanTest, QuantileTest, RatioTest, Tested, metrics_tested
from .two_arm import NODES, Grid, grid_of
from .two_arm_evidence import first_factors, scaled

_ANCHOR = 8192
"""Any bin: a log-normal looks the same at every scale."""
_BIN = 0.020000666706669435 / 4
_ALL = np.ones(2)
_BY_CHANCE = 1.4
"""Bad units are few, and chance puts more of them on one worker, which is the one that is left out.

Medians of 40 streams of a rate of 0.5 % that fails at 4 times, margin 2, share 0.1, over what is planned
without it: 1.28 with two workers in each arm, 1.46 with four, 1.32 with eight.
"""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What is assumed of the traffic, as recent history shows it.

    Attributes:
        requests_per_s: of both arms together.
        share: of the treatment.
        rates: share of bad units of control, per rate (`error_rate`, ...); 0.5 % where not given.
        log_sd: standard deviation of the log of latencies.
        mean: mean of values in caps, per mean; 0.1 where not given.
        cv: their standard deviation over their mean.
        workers: of control and of treatment, equally busy, for worker blocks and for leaving one out.
        worse: how many times as many bad units a release has that FAIL must find, at least the margin
            squared; latencies and means are taken to be worse by twice their margin.
    """

    requests_per_s: float
    share: float
    rates: Mapping[str, float] = field(default_factory=dict)
    log_sd: float = 0.5
    mean: Mapping[str, float] = field(default_factory=dict)
    cv: float = 1.0
    workers: tuple[int, int] = (4, 2)
    worse: float = 2.0


@dataclass(frozen=True, slots=True)
class PlanLine:
    """One verdict of one metric.

    Attributes:
        metric, verdict: which.
        ratio: treatment over control that is assumed (control over treatment where more is better).
        units: units of both arms until it is told; None where it never is.
        seconds: event time until then, the bake and the maturing included.
        reachable: whether that is before the deadline.
    """

    metric: str
    verdict: Literal["PASS", "FAIL"]
    ratio: float
    units: int | None
    seconds: float | None
    reachable: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What to expect of a gate.

    Attributes:
        lines: a PASS and a FAIL per metric.
        problems: why the gate would be undecided at its deadline; empty where it would not.
    """

    lines: tuple[PlanLine, ...]
    problems: tuple[str, ...]

    @property
    def decidable(self) -> bool:
        """Whether every critical verdict comes before the deadline."""
        return not self.problems


def plan(spec: CanaryGate, traffic: Traffic) -> Plan:
    """How many units and seconds each verdict needs.

    Args:
        spec: the gate.
        traffic: what is assumed.

    Raises:
        ValueError: no traffic, or a share outside (0, 1).
    """
    if not traffic.requests_per_s > 0 or not 0 < traffic.share < 1:
        raise ValueError("a plan needs requests_per_s above 0 and a share between 0 and 1")
    tests = metrics_tested(spec)
    lines: list[PlanLine] = []
    problems: list[str] = []
    for test in tests:
        to_fail, to_pass = thresholds(spec, tests, test.critical)
        for verdict, ratio in (("PASS", 1.0), ("FAIL", _worse(test, traffic))):
            threshold = to_fail if verdict == "FAIL" else to_pass
            line = _line(
                spec, test, traffic, "FAIL" if verdict == "FAIL" else "PASS", ratio, threshold
            )
            lines.append(line)
            if test.critical and not line.reachable:
                problems.append(_problem(spec, line))
    return Plan(tuple(lines), tuple(problems))


def _worse(test: Tested, traffic: Traffic) -> float:
    """Treatment over control that FAIL must find."""
    if isinstance(test, RatioTest):
        return max(traffic.worse, test.margin**2)
    if isinstance(test, QuantileTest):
        return math.exp(2 * test.bins * _BIN)
    if test.margin.absolute > 0:
        change = 2.0 * test.margin.absolute / _level(test, traffic)
        return 1.0 / (1.0 - min(change, 0.9)) if test.swapped else 1.0 + change
    return test.margin.ratio**2


def _level(test: Tested, traffic: Traffic) -> float:
    if isinstance(test, MeanTest) and not test.is_rate:
        return traffic.mean.get(test.name, 0.1)
    return traffic.rates.get(test.name, 0.005)


def _line(
    spec: CanaryGate,
    test: Tested,
    traffic: Traffic,
    verdict: Literal["PASS", "FAIL"],
    ratio: float,
    threshold: float,
) -> PlanLine:
    per_block = traffic.requests_per_s * spec.blocks_s
    views = _views(test, traffic) if verdict == "FAIL" else [_ALL]
    factor: float | None = 0.0
    for kept in views:
        expected = _expected(test, traffic, per_block, ratio, kept)
        found = _factor(test, expected, verdict, threshold)
        factor = None if factor is None or found is None else max(factor, found)
    if factor is not None and len(views) > 1 and isinstance(test, RatioTest):
        factor *= _BY_CHANCE
    blocks = None if factor is None else max(math.ceil(factor), 1)
    if blocks is None:
        return PlanLine(test.name, verdict, ratio, None, None, spec.deadline_s is None)
    seconds = float(blocks * spec.blocks_s + spec.mature_s)
    if verdict == "PASS":
        least = spec.min_units / (traffic.requests_per_s * min(traffic.share, 1 - traffic.share))
        seconds = max(seconds, spec.min_bake_s + spec.mature_s, least + spec.mature_s)
    reachable = spec.deadline_s is None or seconds <= spec.deadline_s
    return PlanLine(test.name, verdict, ratio, math.ceil(blocks * per_block), seconds, reachable)


def _factor(
    test: Tested, expected: TestState, verdict: Literal["PASS", "FAIL"], threshold: float
) -> float | None:
    """How many such blocks it takes; None where no number does."""
    found = first_factors(lambda f: scaled(test, expected, f), (threshold, threshold))
    return found[0 if verdict == "FAIL" else 1]


def _views(test: Tested, traffic: Traffic) -> list[FloatArray]:
    """Shares of both arms that are left: of all, then without the largest group of workers of each arm."""
    views = [_ALL]
    for arm, workers in enumerate(traffic.workers):
        if workers > 1:
            groups = min(workers, GROUPS)
            # in requests the last group is as large as all the workers in it
            out = 1 / groups if getattr(test, "blocks", False) else (workers - groups + 1) / workers
            kept = np.ones(2)
            kept[arm] = 1.0 - out
            views.append(kept)
    return views


def _problem(spec: CanaryGate, line: PlanLine) -> str:
    when = "is out of reach" if line.seconds is None else f"takes about {line.seconds:,.0f} s"
    return (
        f"{line.metric}: {line.verdict} at {line.ratio:.3g} times control {when}, and the deadline is"
        f" {spec.deadline_s} s: give it more traffic, a wider margin or a floor, or make it advisory"
    )


def _expected(
    test: Tested, traffic: Traffic, per_block: float, ratio: float, kept: FloatArray
) -> TestState:
    """The state after one block in which everything was as on average, of the workers that are kept."""
    n = kept * per_block * np.array([1 - traffic.share, traffic.share])
    workers = kept * np.minimum(np.array(traffic.workers, np.float64), GROUPS)
    if isinstance(test, RatioTest):
        rate = _level(test, traffic)
        bad = n * np.minimum([rate, rate * ratio], 1.0)
        return _ratio_state(test, n, bad)
    if isinstance(test, QuantileTest):
        return _quantile_state(test, traffic, n, workers, ratio)
    return _mean_state(test, traffic, n, workers, ratio)


def _one_group(values: FloatArray) -> FloatArray:
    out = np.zeros((2, GROUPS, *values.shape[1:]))
    out[:, 0] = values
    return out


def _ratio_state(test: RatioTest, n: FloatArray, bad: FloatArray) -> RatioState:
    share = float(n[TREATMENT] / n.sum())

    def logs(grid: Grid) -> FloatArray:
        tilt = share * (grid.ratio - grid.margin) / (share * grid.margin + 1 - share)
        told = bad[TREATMENT] * grid.log_over - bad.sum() * special.log1p(tilt)
        return np.asarray(told, np.float64)

    fail = np.zeros((VIEWS, NODES))
    fail[0] = logs(grid_of(test.margin, "FAIL"))
    passed = logs(grid_of(test.margin, "PASS"))
    # expected numbers are fractions of units; only their sums are asked for
    return RatioState(n=_one_group(n), bad=_one_group(bad), fail=fail, passed=passed)  # type: ignore[arg-type]


def _quantile_state(
    test: QuantileTest, traffic: Traffic, n: FloatArray, workers: FloatArray, ratio: float
) -> QuantileState:
    edges = edges_around(_ANCHOR)
    z = float(special.ndtri(test.quantile))
    below = []
    for arm, at in ((CONTROL, control_edges(edges, test.bins)), (TREATMENT, edges)):
        shift = math.log(ratio) if arm == TREATMENT else 0.0
        share = special.ndtr(((at - _ANCHOR) * _BIN - shift) / traffic.log_sd + z)
        share = np.where(at <= 0, 0.0, np.where(at >= 65534, 1.0, share))
        below.append(share)
    share = np.stack(below)
    if not test.blocks:
        counts = share * n[:, None]
        below_sums = _one_group(counts)
        return QuantileState(_ANCHOR, n=_one_group(n), below=below_sums, squares=below_sums)
    each = np.maximum(n / workers, 1.0)
    squares = share * share + share * (1 - share) / each[:, None]
    return QuantileState(
        _ANCHOR,
        n=_one_group(workers),
        below=_one_group(share * workers[:, None]),
        squares=_one_group(squares * workers[:, None]),
        least=_one_group(np.maximum(share - 3.0 * np.sqrt(squares - share * share), 0.0)),
    )


def _mean_state(
    test: MeanTest, traffic: Traffic, n: FloatArray, workers: FloatArray, ratio: float
) -> MeanState:
    level = _level(test, traffic)
    mean = np.array([level, level / ratio if test.swapped else level * ratio])
    if test.is_rate:
        bad = n * np.minimum(mean, 1.0)
        return MeanState(sums=_one_group(np.stack([n, bad, n, bad, bad, n], axis=1)))
    each = np.maximum(n / workers, 1.0) if test.blocks else np.ones(2)
    count = workers if test.blocks else n
    second = mean * mean * (1 + traffic.cv**2 / each)
    sums = np.stack([count, count * mean, count, count * second, count * mean, count], axis=1)
    first, other = (CONTROL, TREATMENT) if test.swapped else (TREATMENT, CONTROL)
    gap = mean[first] - test.margin.ratio * mean[other] - test.margin.absolute
    spread = (mean * traffic.cv) ** 2 / np.maximum(n, 1.0)
    variance = spread[first] + test.margin.ratio**2 * spread[other]
    paired = np.zeros((1 + 2 * GROUPS, 3))
    paired[0] = [1.0, gap, gap * gap + variance]
    tops = np.minimum(mean * (1.0 + 4.0 * traffic.cv / np.sqrt(each)), 1.0)
    return MeanState(
        sums=_one_group(sums),
        tops=_one_group(np.stack([tops, np.ones(2)], axis=1)),
        paired=paired if test.blocks else paired * 0,
    )
