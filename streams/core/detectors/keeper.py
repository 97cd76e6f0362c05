"""Detectors of one shard on a running stream: closed windows in, signals out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ....schemas.alerts.metrics import METRICS
from ....schemas.config import Configuration
from ....schemas.drift.detectors import SeriesDetector
from ....schemas.errors import InvalidConfiguration
from ..alerts.members import Members
from ..alerts.signals import PaneWindow, SignalReading
from ..alerts.watch import Watch
from ..gates.canonical import sha256
from ..pipeline import WindowRows
from ..slices import Slice, SliceRegistry
from ..windows import Ints
from .base import Detector
from .catalogue import create, restore

MOST_SLICES = 100  # of one detector, the first ones that are met
RESET = "baseline and history were reset"
Windows = Callable[[int, int, Ints], WindowRows]


def check_detectors(configuration: Configuration) -> None:
    """Whether every detector can be made.

    Raises:
        InvalidConfiguration: an option that it has not, or that makes no sense.
    """
    for at, spec in enumerate(configuration.drift.detectors):
        try:
            create(spec.detector, **spec.options)
        except (ValueError, TypeError) as error:
            raise InvalidConfiguration(f"drift.detectors.{at}: {spec.id}: {error}") from error


@dataclass(slots=True)
class _Series:
    """The detector of one slice, and its last alarm."""

    detector: Detector
    alarm_s: int | None = None
    severity: str = ""


class DetectorKeeper:
    """Detectors and their states. Not for several threads at once.

    Args:
        specs: all of the configuration; slices that are not owned here are left out.
        registry: numbers the slices.
        owns: which slices are evaluated here.
        saved: what `state` gave; None to begin. A detector that was configured anew since begins
            with a new baseline, and its next reading says so.

    Raises:
        ValueError: `saved` is not such a state.
    """

    def __init__(
        self,
        specs: Iterable[SeriesDetector],
        registry: SliceRegistry,
        owns: Callable[[Slice], bool],
        saved: Mapping[str, Any] | None = None,
    ) -> None:
        self._specs = {spec.id: spec for spec in specs}
        self._watches = {name: Watch(spec.rule) for name, spec in self._specs.items()}
        self._members = Members(registry, owns)
        self._series: dict[str, dict[str, _Series]] = {name: {} for name in self._specs}
        self._reset: set[str] = set()
        try:
            for name, item in (saved or {}).items():
                if name in self._specs:
                    self._restore(name, item)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the state of detectors: {error}") from error

    @property
    def state(self) -> dict[str, Any]:
        """Everything that must be kept over a restart, as JSON holds it."""
        return {
            name: {
                "spec": _identity(self._specs[name]),
                "series": {
                    key: [item.detector.to_state(), item.alarm_s, item.severity]
                    for key, item in sorted(series.items())
                },
            }
            for name, series in self._series.items()
        }

    def moments(self, after_s: int, end_s: int) -> list[int]:
        """Ends of windows within (after_s, end_s] that some detector reads."""
        lengths = {spec.length_s for spec in self._specs.values()}
        ends = (range(after_s // n * n + n, end_s + 1, n) for n in lengths)
        return sorted({at for some in ends for at in some})

    def evaluate(self, at_s: int, windows: Windows) -> list[SignalReading]:
        """Take in the windows that end at `at_s`; moments come in ascending order.

        Args:
            at_s: seconds of event time, one of `moments`.
            windows: rows of the window of a length that ends at a time, both in seconds, of some
                slices: `Pipeline.window`.
        """
        readings: list[SignalReading] = []
        for name, spec in self._specs.items():
            if at_s % spec.length_s == 0:
                members = self._members.of(self._watches[name])
                readings += self._read(spec, at_s, windows(spec.length_s, at_s, members))
                self._reset.discard(name)
        return readings

    def _read(self, spec: SeriesDetector, at_s: int, rows: WindowRows) -> Iterable[SignalReading]:
        window = PaneWindow(rows)
        values, counts = window.column(spec.metric), window.column(METRICS[spec.metric].per)
        found = zip(window.slices.tolist(), values.tolist(), counts.tolist(), strict=True)
        mine = self._series[spec.id]
        for number, value, n in found:
            if n < spec.min_requests or value != value:
                continue
            key = self._members.key(number)
            if key not in mine:
                if len(mine) >= MOST_SLICES:
                    continue
                mine[key] = _Series(create(spec.detector, **spec.options))
            item = mine[key]
            item.detector.update(value)
            if item.detector.drift_detected:
                item.alarm_s, item.severity = at_s, item.detector.severity or ""
            yield self._reading(spec, at_s, key, item, value, int(n))

    def _reading(
        self, spec: SeriesDetector, at_s: int, key: str, item: _Series, value: float, n: int
    ) -> SignalReading:
        broken = item.alarm_s is not None and at_s - item.alarm_s <= spec.hold_s
        note = f"{spec.metric}: {spec.detector}"
        if broken:
            note += f", {item.severity}"
        if spec.id in self._reset:
            note += f"; {RESET}"
        labels, unit = json.loads(key), METRICS[spec.metric].unit
        return SignalReading(
            "detector", spec.id, at_s, labels, broken, value, n=n, unit=unit, note=note
        )

    def _restore(self, name: str, item: Mapping[str, Any]) -> None:
        if item["spec"] != _identity(self._specs[name]):
            self._reset.add(name)
            return
        for key, (state, alarm_s, severity) in item["series"].items():
            self._series[name][key] = _Series(restore(state), alarm_s, severity)


def _identity(spec: SeriesDetector) -> str:
    """Hash of what a detector's past is worth nothing without."""
    return sha256(spec.model_dump(mode="json", exclude={"hold_s"}))
