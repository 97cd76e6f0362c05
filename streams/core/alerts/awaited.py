"""Messages that wait a moment, so that they can say what changed when their alerts fired."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Awaited:
    """Explanations that are being looked for.

    Attributes:
        wait_s: how long a message waits for them at most; 0 for not at all.
        seen_s: id of each alert that fires -> since when that is known here, seconds since 1970 UTC.
        missing: ids of those without an explanation.
    """

    wait_s: int = 0
    seen_s: Mapping[str, int] = field(default_factory=dict)
    missing: Collection[str] = ()

    def holds(self, alerts: Collection[str], now_s: int) -> bool:
        """Whether a message that tells of some alerts for the first time waits.

        It counts from the alert that is known for longest, so others that join it do not prolong it. A
        clock that was set back ends it.

        Args:
            alerts: their ids.
            now_s: the time.

        >>> awaited = Awaited(3, {"a": 100, "b": 102}, {"b"})
        >>> awaited.holds(["a"], 100), awaited.holds(["a", "b"], 102), awaited.holds(["a", "b"], 103)
        (False, True, False)
        """
        if not any(alert in self.missing for alert in alerts):
            return False
        return 0 <= now_s - min(self.seen_s[alert] for alert in alerts) < self.wait_s


AT_ONCE = Awaited()
"""Nobody waits."""
