"""Errors, timeouts and safety: false verdicts and time to true ones, for two arms of counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from penstock.benchmarks._simulation_rules import (
    FiveMinutes,
    FixedTest,
    PolledMannWhitney,
    RepeatedZ,
    Rule,
    TwoArm,
    first_crossings,
    fixed_sample,
)
from penstock.benchmarks._simulation_streams import FloatArray, Shape, diurnal, flat, panes, ramp
from penstock.benchmarks._simulation_table import (
    EVER_FAIL,
    EVER_PASS,
    MEDIAN,
    OURS,
    Row,
    median,
    percent,
    three_errors,
)

ALPHAS = (0.05, 0.01)
AA, MARGIN, POWER, SOONER = (
    "A/A: errors, no true difference",
    "Errors: true ratio exactly at the margin",
    "Errors: time to FAIL",
    "Errors: time to PASS at equal rates",
)
UNITS = "requests"


@dataclass(frozen=True, slots=True)
class Run:
    """How much to simulate.

    Attributes:
        seed: every row has a generator of its own, made of this and its position.
        streams: per row.
        progress: told after each row.
    """

    seed: int
    streams: int
    progress: Callable[[str], None]

    def generator(self, *position: int) -> np.random.Generator:
        """The generator of a row."""
        return np.random.default_rng([self.seed, *position])


def simulate(run: Run) -> Iterator[Row]:
    """Every row of this module."""
    yield from no_difference(run)
    yield from at_the_margin(run)
    yield from time_to_fail(run)
    yield from time_to_pass(run)


def shapes() -> Iterator[Shape]:
    """Data shapes without a true difference."""
    for share in (0.01, 0.1, 0.5):
        for rate in (0.001, 0.01, 0.1, 0.5):
            yield flat(f"errors {rate:.1%}", rate, 200 if rate > 0.05 else 1000, share)
        yield diurnal(0.01, 1000, share)
    yield ramp(0.01, 1000)
    for burst in (1.0, 2.0, 5.0):
        shape = flat(f"errors 1.0%, bursts of {burst:g}", 0.01, 1000, 0.1)
        yield replace(shape, burst=burst)


def no_difference(run: Run) -> Iterator[Row]:
    """Ever FAIL with the same rate in both arms, and what the rules of today say of it."""
    for at, shape in enumerate(shapes()):
        rules = _rules(shape, run.streams)
        found = first_crossings(panes(run.generator(1, at), shape, run.streams), rules)
        units = UNITS if shape.burst == 1 else "request with its retries"
        yield from _ever(AA, shape, found, EVER_FAIL, units, three_errors)
        if shape.burst > 1:
            yield from _unreduced(run, at, shape)
        run.progress(f"{AA}: {shape.name}, {_share(shape)}")


def _rules(shape: Shape, streams: int) -> list[Rule]:
    rules: list[Rule] = [
        TwoArm(streams, ALPHAS, 1.0, "FAIL"),
        RepeatedZ(streams, ALPHAS, 1.0, "FAIL"),
        FiveMinutes(streams, 2 * float(shape.rate.mean())),
    ]
    if shape.share[0] != 0.01 and shape.burst == 1:  # at 1 % most of its minutes are ties
        rules.append(PolledMannWhitney(streams))
    return rules


def _unreduced(run: Run, at: int, shape: Shape) -> Iterator[Row]:
    """The same bursts with every retry as a unit: what reduction is for."""
    shape = replace(shape, as_requests=True)
    rules: list[Rule] = [TwoArm(run.streams, ALPHAS, 1.0, "FAIL")]
    found = first_crossings(panes(run.generator(1, at), shape, run.streams), rules)
    for row in _ever(AA, shape, found, EVER_FAIL, "each retry", None):
        yield replace(row, rule="the same e-value, not reduced")


def at_the_margin(run: Run) -> Iterator[Row]:
    """Ever PASS with the treatment worse by exactly the margin."""
    cases = [(rate, m, share) for rate in (0.005, 0.05) for m in (1.5, 2.0) for share in (0.1, 0.5)]
    for at, (rate, m, share) in enumerate(cases):
        shape = flat(f"errors {rate:.1%}, ratio {m:g} = margin", rate, 500, share)
        shape = replace(shape, ratio=m)
        rules: list[Rule] = [
            TwoArm(run.streams, ALPHAS, m, "PASS"),
            RepeatedZ(run.streams, ALPHAS, m, "PASS"),
        ]
        found = first_crossings(panes(run.generator(2, at), shape, run.streams), rules)
        yield from _ever(MARGIN, shape, found, EVER_PASS, UNITS, _exactly)
        run.progress(f"{MARGIN}: {shape.name}, {_share(shape)}")


def _exactly(alpha: float, _: int) -> float:
    return 100 * alpha


def time_to_fail(run: Run) -> Iterator[Row]:
    """Treatment units until a true difference is shown."""
    errors = [(0.005, w / 0.005, s) for s in (0.01, 0.1, 0.5) for w in (0.01, 0.02, 0.05)]
    for at, (rate, ratio, share) in enumerate([*errors, (0.0005, 4.0, 0.1), (0.0005, 10.0, 0.1)]):
        what = "safety" if rate < 0.005 else "errors"
        planned = {alpha: fixed_sample(rate, ratio, share, alpha) for alpha in ALPHAS}
        shape = flat(
            f"{what} {rate:.2%} to {rate * ratio:.2%}",
            rate,
            max(2.0, round(planned[0.05] / share / 100)),
            share,
            600,
        )
        shape = replace(shape, ratio=ratio)
        rng = run.generator(3, at)
        once = _planned_tests(shape, run.streams)
        rules: list[Rule] = [
            TwoArm(run.streams, ALPHAS, 1.0, "FAIL"),
            FiveMinutes(run.streams, 2 * rate),
            PolledMannWhitney(run.streams),
            *once,
        ]
        found = first_crossings(panes(rng, shape, run.streams), rules)
        names = {rule.name for rule in once}
        times = {key: value for key, value in found.items() if key[0] not in names}
        yield from _times(POWER, shape, times, rng, planned)
        looks = {key: value for key, value in found.items() if key[0] in names}
        yield from _ever(POWER, shape, looks, "FAIL at that look, %", UNITS, None)
        # what its stated error rate is worth where few bad units are expected
        same = replace(shape, ratio=1.0)
        looks = first_crossings(panes(rng, same, run.streams), _planned_tests(shape, run.streams))
        yield from _ever(POWER, shape, looks, "of equal rates, FAIL at that look, %", UNITS, None)
        run.progress(f"{POWER}: {shape.name}, {_share(shape)}")


def _planned_tests(shape: Shape, streams: int) -> list[Rule]:
    """Looked at once: planned by the variance of each arm, and by that of both together."""
    rate, share = float(shape.rate[0]), float(shape.share[0])
    return [
        FixedTest(streams, alpha, fixed_sample(rate, shape.ratio, share, alpha, pooled))
        for alpha in ALPHAS
        for pooled in ((False, True) if alpha == ALPHAS[0] else (False,))
    ]


def time_to_pass(run: Run) -> Iterator[Row]:
    """Treatment units until equal rates are shown to be within the margin."""
    for at, (rate, m) in enumerate(((0.005, 1.5), (0.005, 2.0), (0.05, 1.5))):
        name = f"errors {rate:.1%} in both, margin {m:g}"
        shape = flat(name, rate, 2.5 / rate, 0.1, 600)
        rng = run.generator(4, at)
        found = first_crossings(
            panes(rng, shape, run.streams), [TwoArm(run.streams, ALPHAS, m, "PASS")]
        )
        yield from _times(SOONER, shape, found, rng, {})
        run.progress(f"{SOONER}: {shape.name}")


Found = dict[tuple[str, float | None], FloatArray]


def _ever(
    section: str,
    shape: Shape,
    found: Found,
    measure: str,
    units: str,
    bar: Callable[[float, int], float] | None,
) -> Iterator[Row]:
    for (rule, alpha), times in found.items():
        value, error = percent(np.isfinite(times))
        limit = None
        if bar is not None and rule == OURS and alpha is not None:
            limit = bar(alpha, times.size)
        yield Row(
            section, shape.name, rule, measure, value, error, times.size, units, shape.horizon,
            _share(shape), alpha, limit,
        )  # fmt: skip


def _times(
    section: str,
    shape: Shape,
    found: Found,
    rng: np.random.Generator,
    planned: dict[float, float],
) -> Iterator[Row]:
    for (rule, alpha), times in found.items():
        value, error = median(times, rng)
        bar = _bar(shape, alpha, planned) if rule == OURS and alpha is not None else None
        yield Row(
            section, shape.name, rule, MEDIAN, value, error, times.size, "treatment requests",
            shape.horizon, _share(shape), alpha, bar,
        )  # fmt: skip


def _bar(shape: Shape, alpha: float, planned: dict[float, float]) -> float | None:
    """No slower than the fixed sample at shares up to 0.1, and 370 for errors of 0.5 to 2 %."""
    if not planned or shape.share[0] > 0.1:
        return None
    if (shape.rate[0], shape.ratio, shape.share[0], alpha) == (0.005, 4.0, 0.1, 0.05):
        return min(370.0, planned[alpha])
    return planned[alpha]


def _share(shape: Shape) -> float | str:
    first, last = float(shape.share[0]), float(shape.share[-1])
    return first if first == last else f"{first:g} to {last:g}"
