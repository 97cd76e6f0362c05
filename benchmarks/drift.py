"""Comparing 1,000 series from their sketches, beside scipy on the raw values, in the same run.

    python benchmarks/drift.py [--quick]

One core. Sketches are made before the clock starts, as panes hold them; the rival gets the raw values
in memory. Also printed: how far the scores of sketches are from those of the raw values, the six-case
outlier test over many seeds, and false alarms and delays of the sequential monitor.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from penstock.streams.core.drift.continuous import Scores, compare
from penstock.streams.core.drift.monitor import Watch, design_effect
from penstock.streams.core.drift.pairs import tile_of_sketches
from penstock.streams.core.sketch import bins_of
from penstock.streams.core.tiles import Tile
from scipy import stats
from scipy.signal import lfilter
from scipy.spatial.distance import jensenshannon

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
HOURS = 720
VALUES = 5000  # on either side of each series
EXPECTED = ["ok", "drift", "drift", "ok", "drift", "drift"]


def best(work: Callable[[], object], repeats: int) -> float:
    """Least seconds of several runs."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def sketched(samples: list[Floats]) -> Tile:
    return tile_of_sketches(np.unique(bins_of(values), return_counts=True) for values in samples)


def raw_scores(before: Floats, after: Floats) -> tuple[float, float, float, float]:
    """PSI and JS in ten quantile bins, KS, Wasserstein, with numpy and scipy."""
    edges = np.quantile(before, np.linspace(0, 1, 11)[1:-1])
    p, q = (
        np.bincount(np.searchsorted(edges, side), minlength=10) / len(side)
        for side in (before, after)
    )
    safe_p, safe_q = np.maximum(p, 1e-4), np.maximum(q, 1e-4)
    psi = float(((safe_q - safe_p) * np.log(safe_q / safe_p)).sum())
    ks = float(stats.ks_2samp(before, after, method="asymp").statistic)
    js = float(jensenshannon(p, q, base=2) ** 2)
    return psi, ks, js, float(stats.wasserstein_distance(before, after))


def speed(rng: np.random.Generator, series: int, repeats: int) -> None:
    shifts = rng.normal(0, 0.2, series)
    before = [rng.lognormal(5, 0.5, VALUES) for _ in range(series)]
    after = [rng.lognormal(5 + shift, 0.5, VALUES) for shift in shifts]
    here, there = sketched(before), sketched(after)
    mine = best(lambda: compare(here, there), repeats)
    begun = time.perf_counter()
    raw = np.array([raw_scores(*sides) for sides in zip(before, after, strict=True)])
    rival = time.perf_counter() - begun
    print(f"{series} series, {VALUES} values on each side")
    print(f"  sketches, every score and the rule   {mine:8.3f} s   (goal for 1,000: below 1 s)")
    print(f"  scipy and numpy on the raw values    {rival:8.3f} s   {rival / mine:.1f} times")
    differences(compare(here, there), raw)


def differences(scores: Scores, raw: Floats) -> None:
    ks_off = raw[:, 1] - scores.ks
    w_off = np.abs(raw[:, 3] - scores.wasserstein)
    print(f"  PSI differs by at most      {np.abs(scores.psi - raw[:, 0]).max():.4f} (other edges)")
    print(f"  JS differs by at most       {np.abs(scores.js - raw[:, 2]).max():.4f} bits")
    print(
        f"  KS D lies above by at most  {ks_off.max():.4f}, stated {scores.ks_error.max():.4f};"
        f" outside the stated error: {int(((ks_off < -1e-12) | (ks_off > scores.ks_error)).sum())}"
    )
    print(
        f"  Wasserstein differs by      {w_off.max():.2f}, stated {scores.wasserstein_error.max():.2f};"
        f" outside the stated error: {int((w_off > scores.wasserstein_error).sum())}"
    )


def six_cases(rng: np.random.Generator, runs: int) -> None:
    wrong = 0
    for _ in range(runs):
        before = [rng.lognormal(np.log(200), 0.5, VALUES) for _ in range(6)]
        after = [rng.lognormal(np.log(200), 0.5, VALUES) * by for by in (1, 1.2, 2) * 2]
        after[3:] = [np.append(values, 600_000.0) for values in after[3:]]
        scores = compare(sketched(before), sketched(after))
        wrong += [scores.state(at) for at in range(6)] != EXPECTED
    print(f"six cases, {runs} runs: {wrong} with another answer than {', '.join(EXPECTED)}")


def blocks(rng: np.random.Generator, count: int, size: int, phi: float, shift: float = 0) -> Ints:
    """Counts in ten bins of consecutive blocks of an AR(1) series with variance 1."""
    noise = rng.standard_normal(count * size + 500) * np.sqrt(1 - phi * phi)
    values = lfilter([1], [1, -phi], noise)[500:].reshape(count, size) + shift
    edges = stats.norm.ppf(np.linspace(0, 1, 11)[1:-1])
    return np.stack([np.bincount(row, minlength=10) for row in np.searchsorted(edges, values)])


def watched(looks: Ints, reference: Ints, alarms_per_30d: float, effect: float) -> list[int]:
    """Looks that alarmed, counted from 1."""
    watch = Watch("benchmark", 10, True, HOURS, alarms_per_30d, effect)
    state, found = watch.begin(), []
    for at, counts in enumerate(looks, 1):
        state = watch.look(state, at, reference, counts)
        found += [at] if state.alarm else []
    return found


def sequential(rng: np.random.Generator, streams: int) -> None:
    """False alarms of 30 days of hourly looks, and the delay of latency + 20 % (sigma 0.5)."""
    print(f"sequential monitor, {streams} streams a row; false alarms per 30 days with 1 accepted,")
    print("with the design effect (without), and hours to +20 % with 0.01 accepted: median, worst")
    for phi, size in ((0.0, 200), (0.6, 200), (0.9, 1000), (0.99, 1000)):
        false, naive, delays, effects = 0, 0, [], []
        for _ in range(streams):
            past, quiet = blocks(rng, 168, size, phi), blocks(rng, HOURS, size, phi)
            whole, effect = past.sum(axis=0), design_effect(past, True)
            effects.append(effect)
            false += len(watched(quiet, whole, 1.0, effect))
            naive += len(watched(quiet, whole, 1.0, 1.0))
            slower = blocks(rng, 100, size, phi, np.log(1.2) / 0.5)
            delays.append((watched(slower, whole, 0.01, effect) or [101])[0])
        print(
            f"  AR(1) {phi:<4} {size:>5} an hour, design effect {np.mean(effects):5.1f}:"
            f" {false / streams:5.2f} ({naive / streams:6.2f});"
            f" {np.median(delays):5.1f}, {max(delays)}{' (101: not in 100)' * (max(delays) > 100)}"
        )


def main() -> None:
    quick = "--quick" in sys.argv
    rng = np.random.default_rng(11)
    speed(rng, 100 if quick else 1000, 3 if quick else 5)
    six_cases(rng, 50 if quick else 1000)
    sequential(rng, 2 if quick else 20)


if __name__ == "__main__":
    main()
