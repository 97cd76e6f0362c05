"""Every detector by name, and how one comes back from its state."""

from __future__ import annotations

from typing import Any

from .adwin import Adwin
from .base import Detector
from .change_point import ChangePoint
from .page_hinkley import PageHinkley
from .performance import Performance
from .record import Record
from .zscore import ZScore

DETECTORS: dict[str, type[Detector]] = {
    detector.name: detector
    for detector in (ZScore, Performance, Adwin, PageHinkley, ChangePoint, Record)
}


def create(name: str, **configuration: Any) -> Detector:
    """A new detector.

    Raises:
        ValueError: an unknown name, or a configuration that makes no sense.

    >>> create("record", window=50).name
    'record'
    """
    if name not in DETECTORS:
        raise ValueError(f"no detector {name!r}; there are {', '.join(DETECTORS)}")
    try:
        return DETECTORS[name](**configuration)
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from error


def restore(state: dict[str, Any]) -> Detector:
    """The detector that `to_state` described: it goes on as if it had never stopped.

    Raises:
        ValueError: the state is not one of a detector.
    """
    try:
        detector = create(state["detector"], **state["configuration"])
        kept = state["state"]
        if set(kept) != set(detector.to_state()["state"]):
            raise ValueError(f"not a state of {detector.name}")
    except (KeyError, TypeError) as error:
        raise ValueError(f"not the state of a detector: {error}") from error
    for name, value in kept.items():
        setattr(detector, name, value)
    return detector
