"""From rows to numbered frames: the one place that gives out sequence numbers."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..schemas.errors import TooLarge
from ..schemas.events import EventName
from ..schemas.frames import FrameHeader, FrameKind, encode_frame
from ..schemas.topics import DEFAULT_PARTITIONS, home_of
from .gaps import Gap, merge_gaps
from .rows import Row

_LOG = logging.getLogger("penstock")


@dataclass
class Boot:
    """One life of an emitting process.

    Attributes:
        worker_id: as the operator names the process.
        boot_id: random.
        next_seq: next number to give out.
        promised_us: no event built from now on has an earlier ts, unless the caller set it.
        home: partition of all its frames, chosen before the first; None over HTTP.
    """

    worker_id: str
    boot_id: str = field(default_factory=lambda: secrets.token_hex(16))
    next_seq: int = 0
    promised_us: int = 0
    home: int | None = None

    def settle(self, partitions: int | None) -> None:
        """Choose the home, once and for life.

        Args:
            partitions: of the topic; None when the brokers could not be asked.
        """
        if self.home is None:
            self.home = home_of(self.boot_id, partitions or DEFAULT_PARTITIONS)


class Framer:
    """Numbers rows and encodes them; every number given out is in a frame or in a declared gap."""

    def __init__(self, boot: Boot) -> None:
        self.boot = boot
        self.lost_events = 0
        self._gaps: list[Gap] = []

    def skip(self, count: int) -> None:
        """Give `count` events a number each and declare them lost."""
        if count:
            low = self.boot.next_seq
            self.boot.next_seq += count
            self.lost_events += count
            self._gaps.append((low, low + count))

    def declare(self, gaps: Sequence[Gap]) -> None:
        """These numbers, lost elsewhere, are declared by the next frame."""
        self._gaps.extend(gaps)

    @property
    def has_gaps(self) -> bool:
        """Whether losses wait to be declared."""
        return bool(self._gaps)

    def frames(self, kind: EventName, rows: Sequence[Row], clock_us: int) -> list[bytes]:
        """Rows as one frame, or several where one would be too large."""
        if not rows:
            return []
        header = self._header(kind, len(rows), clock_us, self.boot.next_seq + len(rows))
        try:
            frame = encode_frame(header, rows)
        except TooLarge as error:
            if len(rows) == 1:
                _LOG.error("dropped a %s event that no frame can hold: %s", kind, error)
                self.skip(1)
                return []
            half = len(rows) // 2
            # The promise holds for the last frame only: rows of the second half may be earlier.
            first = self.frames(kind, rows[:half], self.boot.promised_us)
            return first + self.frames(kind, rows[half:], clock_us)
        self._gaps.clear()
        self.boot.next_seq = header.next_seq
        self.boot.promised_us = clock_us
        return [frame]

    def control(self, clock_us: int, *, closing: bool = False) -> bytes:
        """A frame without rows: heartbeat, gaps, end of the boot."""
        header = self._header("control", 0, clock_us, self.boot.next_seq, closing)
        frame = encode_frame(header, [])
        self._gaps.clear()
        self.boot.promised_us = clock_us
        return frame

    def _header(
        self, kind: FrameKind, count: int, clock_us: int, next_seq: int, closing: bool = False
    ) -> FrameHeader:
        return FrameHeader(
            kind=kind,
            worker_id=self.boot.worker_id,
            boot_id=self.boot.boot_id,
            seq0=self.boot.next_seq,
            count=count,
            next_seq=next_seq,
            clock_us=clock_us,
            closing=closing,
            gaps=merge_gaps(self._gaps),
            home=self.boot.home,
        )
