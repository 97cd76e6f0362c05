"""What every detector is: its constructor is its configuration, `update` takes a value, and
`drift_detected` says whether that value raised an alarm (the manner of river's drift module).

A detector is a dataclass. Fields of the constructor are configuration; all others are state, hold
only what JSON holds, and have the value they start with as default.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

Severity = Literal["warning", "critical"]


@dataclass
class Detector(ABC):
    """One series' detector.

    Attributes:
        drift_detected: whether the last value raised an alarm.
        severity: of the last alarm; None after a value without one.
        seen: values taken in since the start or the last `reconfigure`.
        skipped: values that were not finite: they change nothing else and never alarm.
    """

    name: ClassVar[str]

    drift_detected: bool = field(default=False, init=False)
    severity: Severity | None = field(default=None, init=False)
    seen: int = field(default=0, init=False)
    skipped: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._check()

    def update(self, value: float) -> None:
        """Take in the next value; then read `drift_detected`."""
        self.drift_detected, self.severity = False, None
        if not math.isfinite(value):
            self.skipped += 1
            return
        self.seen += 1
        self.severity = self._update(float(value))
        self.drift_detected = self.severity is not None

    @abstractmethod
    def _update(self, value: float) -> Severity | None: ...

    @abstractmethod
    def _check(self) -> None:
        """Raise ValueError for a configuration that makes no sense."""

    def reset(self) -> None:
        """Forget the baseline and all history; the configuration stays."""
        for item in fields(self):
            if not item.init:
                setattr(self, item.name, _start(item))

    def reconfigure(self, **changes: Any) -> str:
        """Change the configuration, which resets the baseline and all history.

        Returns:
            A sentence that says so, for the audit log.

        Raises:
            ValueError: an unknown name or a value that makes no sense; then nothing changed.
        """
        before = self.configuration()
        unknown = sorted(set(changes) - set(before))
        if unknown:
            raise ValueError(f"{self.name} has no {', '.join(unknown)}")
        replace(self, **changes)  # checks them
        for name, value in changes.items():
            setattr(self, name, value)
        self.reset()
        told = ", ".join(f"{name} {before[name]} -> {changes[name]}" for name in sorted(changes))
        return f"{self.name}: {told or 'unchanged'}; baseline and history were reset"

    def configuration(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.init}

    def to_state(self) -> dict[str, Any]:
        """Everything, as JSON holds it; `catalogue.restore` makes an equal detector of it."""
        state = {item.name: getattr(self, item.name) for item in fields(self) if not item.init}
        return {"detector": self.name, "configuration": self.configuration(), "state": state}


def _start(item: Field[Any]) -> Any:
    if item.default_factory is not MISSING:
        return item.default_factory()
    return item.default


def require(holds: bool, message: str) -> None:
    """Raise ValueError with the message unless it holds."""
    if not holds:
        raise ValueError(message)
