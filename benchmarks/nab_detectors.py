"""Detectors on the labelled series of tests/data/nab: windows found, false alarms, and dummies.

    python benchmarks/nab_detectors.py

A window is found if an alarm falls in it; every alarm outside all windows is a false one. The dummies
alarm as often on each series, at random places (mean of 200 seeds) or evenly spaced. The rivals are the
rules that most scripts use. Nothing is fitted to a series before it is read, but the defaults of
`record` were chosen on these same series: the last line leaves out each series in turn, chooses the
setting on the others, and scores it on the one left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from penstock.streams.core.detectors.base import Detector
from penstock.streams.core.detectors.catalogue import DETECTORS
from penstock.streams.core.detectors.record import Record
from penstock.tests.unit.streams.core.detectors import nab
from penstock.tests.unit.streams.core.detectors.nab import Flags, Score, Series

WINDOWS = (300, 400, 500, 600)
MARGINS = (1.05, 1.1, 1.2, 1.3)
BUDGET_PER_10K = 23 / 2


def row(label: str, score: Score) -> None:
    print(
        f"  {label:<40} {score.found:>3}/{score.windows} {score.recall:6.0%}"
        f" {score.false_alarms:6d} {score.per_10k:8.1f}"
    )


def run(series: Mapping[str, Series], make: Callable[[], Detector]) -> dict[str, Flags]:
    return {name: nab.alarms_of(make(), item.values) for name, item in series.items()}


def quiet_after(flags: Flags, values: int) -> Flags:
    kept, last = np.zeros_like(flags), -values - 1
    for at in np.flatnonzero(flags).tolist():
        if at - last > values:
            kept[at], last = True, at
    return kept


def rolling(values: list[float], window: int, limit: float, robust: bool) -> Flags:
    """Further than `limit` spreads from the middle of the last `window` values, quiet for 100."""
    data = np.array(values)
    past = sliding_window_view(data, window)[:-1]
    if robust:
        middle = np.median(past, axis=1)
        spread = 1.4826 * np.median(np.abs(past - middle[:, None]), axis=1)
    else:
        middle, spread = past.mean(axis=1), past.std(axis=1)
    far = np.abs(data[window:] - middle) > limit * np.maximum(spread, 1e-9)
    return quiet_after(np.concatenate([np.zeros(window, bool), far]), 100)


def dummies(series: Mapping[str, Series], alarms: Mapping[str, Flags]) -> None:
    drawn = [nab.random_alarms(series, alarms, seed) for seed in range(200)]
    share = np.mean([score.recall for score in drawn])
    rate = np.mean([score.per_10k for score in drawn])
    print(f"  {'  dummy: as many, at random':<44} {share:6.0%} {'':6} {rate:8.1f}")
    row("  dummy: as many, evenly spaced", nab.regular_alarms(series, alarms))


def best_setting(scores: Mapping[str, Score]) -> tuple[float, float]:
    """For sorting: found windows within the budget of false alarms, then few false alarms."""
    found = sum(score.found for score in scores.values())
    wrong = sum(score.false_alarms for score in scores.values())
    rate = 1e4 * wrong / sum(score.points for score in scores.values())
    return (found if rate <= BUDGET_PER_10K else -rate, -wrong)


def settings(series: Mapping[str, Series]) -> None:
    by_setting: dict[tuple[int, float], dict[str, Score]] = {}
    print("Neighbouring settings of record: found windows @ false alarms per 10,000")
    print("  window " + "".join(f"{f'margin {margin}':>14}" for margin in MARGINS))
    for window in WINDOWS:
        line = f"  {window:<7}"
        for margin in MARGINS:
            alarms = run(series, partial(Record, window=window, margin=margin))
            total = nab.score(series, alarms)
            line += f"{f'{total.found} @ {total.per_10k:.1f}':>14}"
            by_setting[window, margin] = {
                name: nab.score({name: series[name]}, alarms) for name in series
            }
        print(line)
    held_out(series, by_setting)


def held_out(
    series: Mapping[str, Series], by_setting: Mapping[tuple[int, float], Mapping[str, Score]]
) -> None:
    total = [0, 0, 0, 0]
    for left in series:

        def without(setting: tuple[int, float], left: str = left) -> tuple[float, float]:
            return best_setting({n: s for n, s in by_setting[setting].items() if n != left})

        score = by_setting[max(itertools.product(WINDOWS, MARGINS), key=without)][left]
        for at, value in enumerate((score.found, score.windows, score.false_alarms, score.points)):
            total[at] += value
    print("Each series with the setting that was best on the others")
    row("record, left out", Score(*total))


def without_drift(values: int = 200_000) -> None:
    rng = np.random.default_rng(1)
    samples = {
        "normal": rng.normal(size=values),
        "Student-t(3)": rng.standard_t(3, values),
        "uniform 0..1": rng.random(values),
    }
    print(f"Alarms per 10,000 of {values} independent values without drift, baselines renewed")
    print("  " + " " * 14 + "".join(f"{name:>14}" for name in samples))
    for name, make in DETECTORS.items():
        line = f"  {name:<14}"
        for sample in samples.values():
            pieces = np.array_split(sample, values // 5000)
            count = sum(int(nab.alarms_of(make(), piece.tolist()).sum()) for piece in pieces)
            line += f"{1e4 * count / values:14.2f}"
        print(line)


def main() -> None:
    series = nab.load()
    points = sum(len(item.values) for item in series.values())
    print(f"{len(series)} series, {points} points: windows found, false alarms, per 10,000 points")
    alarms = run(series, Record)
    row("record (defaults)", nab.score(series, alarms))
    dummies(series, alarms)
    rivals: dict[str, dict[str, npt.NDArray[np.bool_]]] = {
        f"{label}, window {window}, {limit:g} spreads": {
            name: rolling(item.values, window, limit, robust) for name, item in series.items()
        }
        for label, robust in (("mean and sd", False), ("median and MAD", True))
        for window, limit in ((288, 3.0), (288, 6.0))
    }
    for label, found in rivals.items():
        row(label, nab.score(series, found))
        dummies(series, found)
    print("Other detectors at their defaults (made for shifts, not for these spikes)")
    for name, detector in DETECTORS.items():
        if name != "record":
            row(name, nab.score(series, run(series, detector)))
    settings(series)
    without_drift()


if __name__ == "__main__":
    main()
