"""Messages that wait a moment, so that they can say what changed when their alerts fired."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Awaited:
    """Explanations that are being looked for. Times are integer microseconds UTC.

    Attributes:
        now_us: the time.
        wait_us: how long a message waits for them at most; 0 for not at all.
        seen_us: id of each alert that fires -> since when that is known here.
        missing: ids of those without an explanation.
    """

    now_us: int = 0
    wait_us: int = 0
    seen_us: Mapping[str, int] = field(default_factory=dict)
    missing: Collection[str] = ()

    def holds(self, alerts: Collection[str]) -> bool:
        """Whether a message that tells of some alerts for the first time waits now.

        It counts from the alert that is known for longest, so others that join it do not prolong it. A
        clock that was set back ends it.

        Args:
            alerts: their ids.

        >>> awaited = Awaited(102, 3, {"a": 100, "b": 101}, {"b"})
        >>> awaited.holds(["a"]), awaited.holds(["b"]), awaited.holds(["a", "b"])
        (False, True, True)
        """
        if not any(alert in self.missing for alert in alerts):
            return False
        return 0 <= self.now_us - min(self.seen_us[alert] for alert in alerts) < self.wait_us


NOTHING = Awaited()
"""Nobody waits."""
