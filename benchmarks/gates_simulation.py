"""Absolute gates by simulation: false verdicts at the limit, and how soon true ones come.

Every stream is polled at every cell. The rival of the first table is the test most scripts use: a
one-sided z-test of the rate at the same nominal level, asked again at every cell. The second table
divides by the fixed-sample size that has 80 % power at one look. Seeded; `--quick` takes a tenth.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import numpy.typing as npt
from penstock.streams.core.gates.betting import BettingState, advance
from penstock.streams.core.gates.eprocess import BetaPrior, log_e_above, log_e_below
from scipy.stats import norm

CELLS = 400
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def standard_error(share: float, streams: int) -> float:
    return math.sqrt(max(share * (1 - share), 1 / streams) / streams)


def rate_streams(
    rng: np.random.Generator, rate: float, per_cell: int, streams: int
) -> tuple[IntArray, IntArray]:
    bad = rng.binomial(per_cell, rate, (streams, CELLS)).cumsum(axis=1)
    return bad, np.broadcast_to(np.arange(1, CELLS + 1) * per_cell, bad.shape)


def crossings(
    bad: IntArray, units: IntArray, limit: float, direction: str, alpha: float, prior: float = 1.0
) -> npt.NDArray[np.bool_]:
    test = log_e_above if direction == "FAIL" else log_e_below
    values = test(bad.ravel(), units.ravel(), limit, BetaPrior.around(limit, prior))
    return np.asarray(values.reshape(bad.shape) >= math.log(1 / alpha))


def z_crossings(
    bad: IntArray, units: IntArray, limit: float, direction: str, alpha: float
) -> npt.NDArray[np.bool_]:
    z = (bad - units * limit) / np.sqrt(units * limit * (1 - limit))
    return np.asarray((z if direction == "FAIL" else -z) >= norm.isf(alpha))


def fixed_sample(limit: float, rate: float, alpha: float) -> float:
    """Units of a one-look normal test with 80 % power."""
    spread = norm.isf(alpha) * math.sqrt(limit * (1 - limit))
    spread += norm.isf(0.2) * math.sqrt(rate * (1 - rate))
    return float((spread / (rate - limit)) ** 2)


def false_verdicts(streams: int) -> None:
    print(f"\nRate exactly at the limit, {streams} streams of {CELLS} cells: ever decided, %")
    print(f"{'limit':>8} {'per cell':>8} {'verdict':>8} {'alpha':>6} {'gate':>14} {'z polled':>14}")
    rng = np.random.default_rng(1)
    for limit, per_cell in ((0.001, 100), (0.01, 20), (0.05, 20), (0.5, 5)):
        bad, units = rate_streams(rng, limit, per_cell, streams)
        for direction, alpha in (("FAIL", 0.01), ("PASS", 0.05)):
            shares = [
                float(method(bad, units, limit, direction, alpha).any(axis=1).mean())
                for method in (crossings, z_crossings)
            ]
            told = [f"{100 * s:.2f} ± {100 * standard_error(s, streams):.2f}" for s in shares]
            print(f"{limit:>8} {per_cell:>8} {direction:>8} {alpha:>6} {told[0]:>14} {told[1]:>14}")


def decision_times(streams: int) -> None:
    print(f"\nUnits until the verdict, median of {streams} streams ± standard error")
    print(
        f"{'limit':>8} {'true rate':>9} {'verdict':>8} {'median':>14} {'fixed n':>8} {'ratio':>6}"
        f" {'prior 1/4':>9} {'prior 4':>8} {'prior 16':>8}"
    )
    rng = np.random.default_rng(2)
    cases = (
        (0.05, 1.2, "FAIL"),
        (0.05, 1.5, "FAIL"),
        (0.05, 2.0, "FAIL"),
        (0.001, 3.0, "FAIL"),
        (0.05, 0.8, "PASS"),
        (0.05, 0.5, "PASS"),
        (0.05, 0.2, "PASS"),
        (0.001, 0.5, "PASS"),
        (0.001, 0.0, "PASS"),
    )
    for limit, factor, direction in cases:
        alpha = 0.01 if direction == "FAIL" else 0.05
        rate = limit * factor
        fixed = fixed_sample(limit, rate, alpha)
        per_cell = max(1, round(fixed * 5 / CELLS))
        bad, units = rate_streams(rng, rate, per_cell, streams)
        times = {
            prior: first_cell(crossings(bad, units, limit, direction, alpha, prior)) * per_cell
            for prior in (1.0, 0.25, 4.0, 16.0)
        }
        median = float(np.median(times[1.0]))
        ratios = [np.median(times[prior]) / median for prior in (0.25, 4.0, 16.0)]
        told = f"{median:,.0f} ± {bootstrap_error(rng, times[1.0]):,.0f}"
        print(
            f"{limit:>8} {rate:>9.4g} {direction:>8} {told:>14} {fixed:>8,.0f} {median / fixed:>6.2f}"
            f" {ratios[0]:>9.2f} {ratios[1]:>8.2f} {ratios[2]:>8.2f}"
        )
    print("(the last three columns: median with another prior count, divided by the one in use)")


def first_cell(crossed: npt.NDArray[np.bool_]) -> FloatArray:
    """Number of the first crossing; CELLS for a stream without one."""
    return np.where(crossed.any(axis=1), crossed.argmax(axis=1) + 1.0, float(CELLS))


def bootstrap_error(rng: np.random.Generator, values: FloatArray) -> float:
    picks = rng.integers(0, values.size, (200, values.size))
    return float(np.std(np.median(values[picks], axis=1)))


def costs(streams: int) -> None:
    print(f"\nCost by betting, {streams} streams of {CELLS} cells, values in caps")
    print(
        f"{'mean':>6} {'sd of a cell':>12} {'ever FAIL %':>14} {'ever PASS %':>14} "
        f"{'cells to FAIL':>13} {'fixed n':>8} {'interval misses %':>18}"
    )
    rng = np.random.default_rng(3)
    for mean, sd in ((0.0, 0.1), (0.0, 0.5), (0.02, 0.1), (0.05, 0.1), (0.1, 0.2)):
        values = np.clip(rng.normal(mean, sd, (streams, CELLS)), -1, 1)
        fails, passes, misses, times = 0, 0, 0, []
        for row in values:
            state, up, down = advance(BettingState(), row, 0.05)
            low, high = state.interval(1.0, 0.05)
            crossed = up >= math.log(100)
            fails += bool(crossed.any())
            passes += bool((down >= math.log(20)).any())
            misses += not low <= mean <= high
            times.append(int(crossed.argmax()) + 1 if crossed.any() else CELLS)
        shares = [count / streams for count in (fails, passes, misses)]
        told = [f"{100 * s:.2f} ± {100 * standard_error(s, streams):.2f}" for s in shares]
        fixed = (norm.isf(0.01) + norm.isf(0.2)) ** 2 * (sd / mean) ** 2 if mean else math.nan
        soon = f"{np.median(times):.0f}" if mean else "-"
        print(
            f"{mean:>6} {sd:>12} {told[0]:>14} {told[1]:>14} {soon:>13} {fixed:>8.0f} {told[2]:>18}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the streams")
    quick = parser.parse_args().quick
    false_verdicts(500 if quick else 5000)
    decision_times(100 if quick else 1000)
    costs(200 if quick else 2000)


if __name__ == "__main__":
    main()
