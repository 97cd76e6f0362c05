"""The labelled series of tests/data/nab, and how alarms on them are scored."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from penstock.streams.core.detectors.base import Detector

Flags = npt.NDArray[np.bool_]
FOLDER = Path(__file__).parents[4] / "data" / "nab"


@dataclass(frozen=True)
class Series:
    """Values in order, and for each labelled window which of them it holds, shape (w, n)."""

    values: list[float]
    windows: Flags


@dataclass(frozen=True)
class Score:
    """Windows with an alarm in them, and alarms outside all windows."""

    found: int
    windows: int
    false_alarms: int
    points: int

    @property
    def recall(self) -> float:
        return self.found / self.windows

    @property
    def per_10k(self) -> float:
        """False alarms per 10,000 points."""
        return 1e4 * self.false_alarms / self.points


def load() -> dict[str, Series]:
    labels = json.loads((FOLDER / "windows.json").read_text())
    found = {}
    for path in sorted(FOLDER.glob("*.csv")):
        rows = list(csv.DictReader(path.read_text().splitlines()))
        times = np.array([datetime.fromisoformat(row["timestamp"]).timestamp() for row in rows])
        inside = []
        for first, last in labels[path.name]:
            low, high = (datetime.fromisoformat(end).timestamp() for end in (first, last))
            inside.append((times >= low) & (times <= high))
        found[path.name] = Series([float(row["value"]) for row in rows], np.array(inside))
    return found


def alarms_of(detector: Detector, values: list[float]) -> Flags:
    flags = []
    for value in values:
        detector.update(value)
        flags.append(detector.drift_detected)
    return np.array(flags)


def score(series: Mapping[str, Series], alarms: Mapping[str, Flags]) -> Score:
    found = windows = false_alarms = points = 0
    for name, item in series.items():
        hits = np.asarray((item.windows & alarms[name]).any(axis=1))
        found += int(hits.sum())
        windows += len(hits)
        false_alarms += int((alarms[name] & ~item.windows.any(axis=0)).sum())
        points += len(item.values)
    return Score(found, windows, false_alarms, points)


def random_alarms(series: Mapping[str, Series], like: Mapping[str, Flags], seed: int) -> Score:
    """A dummy with as many alarms on each series, at random places."""
    rng = np.random.default_rng(seed)
    return score(series, {name: rng.permutation(like[name]) for name in series})


def regular_alarms(series: Mapping[str, Series], like: Mapping[str, Flags]) -> Score:
    """A dummy with as many alarms on each series, evenly spaced."""
    alarms = {}
    for name, item in series.items():
        count, size = int(like[name].sum()), len(item.values)
        alarms[name] = np.zeros(size, bool)
        alarms[name][((np.arange(count) + 0.5) * size / max(count, 1)).astype(int)] = True
    return score(series, alarms)
