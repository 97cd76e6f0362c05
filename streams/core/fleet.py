"""The boots of the whole fleet as evaluation sees them: who is there, who fell silent, what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from .boots import Losses, Presence


class Fleet:
    """What processors have told of their boots; each word on a boot replaces the one before."""

    def __init__(self) -> None:
        self._boots: dict[str, Presence] = {}
        self.newest_us = 0

    def tell(self, presences: Iterable[Presence]) -> Losses:
        """Take news of boots in.

        Returns:
            How the losses changed: (pane start in s, metric) -> events, negative where a hole was
            filled.
        """
        change: Losses = Counter()
        for presence in presences:
            before = self._boots.get(presence.boot_id)
            change.update(presence.losses)
            if before is not None:
                change.subtract(before.losses)
            self._boots[presence.boot_id] = presence
            self.newest_us = max(self.newest_us, presence.clock_us)
        return change

    def losses(self) -> dict[str, Losses]:
        """What is missing, of the boots of which anything is."""
        return {boot_id: boot.losses for boot_id, boot in self._boots.items() if boot.losses}

    def workers(self, start_us: int, end_us: int) -> int:
        """How many workers were alive in a stretch of event time."""
        return len(
            {
                boot.worker_id
                for boot in self._boots.values()
                if boot.first_clock_us < end_us and boot.clock_us >= start_us
            }
        )

    def any_vanished(self, start_us: int, end_us: int) -> bool:
        """Whether a boot fell silent within a stretch of event time, so that its tail is unknown."""
        return any(
            boot.vanished and start_us <= boot.clock_us < end_us for boot in self._boots.values()
        )

    def forget(self, before_us: int) -> None:
        """Drop boots whose clock stopped before a time."""
        for boot in [*self._boots.values()]:
            if boot.clock_us < before_us:
                del self._boots[boot.boot_id]
