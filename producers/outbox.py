"""Frames waiting for delivery, oldest first: in memory while the server keeps up, else on disk."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from ..schemas.frames import FrameHeader, read_header
from .gaps import Gap, merge_gaps
from .spool import Spool

_LOG = logging.getLogger("penstock")
BODY_BYTES = 1 << 20
BODY_FRAMES = 64


class Outbox:
    """First in, first out, between the flusher (`put`) and the sender (`peek`, `ack`, `fail`).

    What is on disk is always older than what is in memory: while anything is spooled, new frames
    are spooled too. Frames that one delivery holds for longer than `patience_s` go to disk as well,
    so that a slow server does not turn the end of the process into loss.

    Args:
        open_spool: opens this boot's spool; called when it is first needed, and may raise OSError.
        memory_bytes: bound of what is kept in memory, where even the disk is not available.
        patience_s: how long frames stay in memory only.
    """

    def __init__(
        self,
        open_spool: Callable[[], Spool],
        *,
        memory_bytes: int = 32 << 20,
        patience_s: float = 1.0,
    ) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.spooled_frames = 0
        self._open_spool = open_spool
        self._memory_bytes = memory_bytes
        self._patience_s = patience_s
        self._memory: deque[bytes] = deque()
        self._held_bytes = 0
        self._spool: Spool | None = None
        self._in_flight = 0
        self._since = 0.0
        self._lost: list[Gap] = []
        self._lost_events = 0
        self._warned = False
        self._closed = False

    @property
    def empty(self) -> bool:
        """Whether everything put was acknowledged."""
        with self.changed:
            return not self._memory and (self._spool is None or self._spool.empty)

    @property
    def lost_events(self) -> int:
        """Events dropped over the bounds so far."""
        with self.changed:
            return self._lost_events + (self._spool.lost_events if self._spool else 0)

    def put(self, frames: Sequence[bytes]) -> None:
        """Add frames; never waits for the server."""
        with self.changed:
            self._memory.extend(frames)
            self._held_bytes += sum(map(len, frames))
            slow = self._in_flight and time.monotonic() - self._since > self._patience_s
            if slow or self._on_disk() or self._held_bytes > self._memory_bytes:
                self.spill()
            while self._held_bytes > self._memory_bytes and self._drop_oldest():
                pass
            self.changed.notify_all()

    def peek(self) -> list[bytes]:
        """The oldest frames, at most one body; they are in flight until `ack` or `fail`.

        Raises:
            OSError: the spool cannot be read.
        """
        with self.changed:
            frames: list[bytes] = []
            if self._closed:
                return frames
            self._since = time.monotonic()
            if self._spool is not None and self._on_disk():
                frames = self._spool.peek(BODY_BYTES, BODY_FRAMES)
            # Nothing when all that was left on disk was damaged.
            frames = frames or self._from_memory()
            self._in_flight = len(frames)
            return frames

    def ack(self, count: int) -> None:
        """The oldest `count` frames in flight were delivered (or set aside)."""
        with self.changed:
            if self._closed:  # a late answer: the frames are a later emitter's by now
                return
            self._in_flight -= count
            if self._spool is not None:
                on_disk = min(count, self._spool.in_flight)
                self._spool.ack(on_disk)
                count -= on_disk
            for _ in range(count):
                self._held_bytes -= len(self._memory.popleft())
            self.changed.notify_all()

    def fail(self) -> None:
        """The delivery failed: everything goes to disk until the server is back."""
        with self.changed:
            self._in_flight = 0
            if self._spool is not None and not self._closed:
                self._spool.fail()
            self.spill()

    def spill(self) -> None:
        """Move all frames from memory to disk; they stay where the disk does not take them."""
        with self.changed:
            try:
                while self._memory and not self._closed:
                    if self._spool is None:
                        self._spool = self._open_spool()
                    frame = self._memory[0]
                    self._spool.append(frame, in_flight=self._in_flight > self._spool.in_flight)
                    self.spooled_frames += 1
                    self._held_bytes -= len(self._memory.popleft())
                if self._spool is not None and not self._closed:
                    self._spool.sync()
            except OSError as error:
                if not self._warned:
                    self._warned = True
                    _LOG.warning("cannot spool frames, they are kept in memory only: %s", error)

    def declare(self, lost: FrameHeader) -> None:
        """What this frame held will never arrive; the next frame of the boot says so."""
        with self.changed:
            self._lost.extend([(lost.seq0, lost.seq0 + lost.count), *lost.gaps])
            self._lost_events += lost.count

    def take_gaps(self) -> tuple[Gap, ...]:
        """Losses not declared yet; the caller puts them into the next header."""
        with self.changed:
            gaps, self._lost = self._lost, []
            return merge_gaps(gaps)

    def close(self) -> None:
        """Spill what is left and let the spool go."""
        with self.changed:
            self.fail()
            self._closed = True
            if self._spool is not None:
                self._spool.close()

    def abandon(self) -> None:
        """In a forked child: close the file descriptors; takes no lock."""
        if self._spool is not None:
            self._spool.abandon()

    def _on_disk(self) -> bool:
        return self._spool is not None and not self._spool.empty

    def _drop_oldest(self) -> bool:
        """Drop the oldest frame in memory that is not in flight; False when there is none."""
        busy = self._in_flight - (self._spool.in_flight if self._spool is not None else 0)
        if busy >= len(self._memory):
            return False
        frame = self._memory[busy]
        del self._memory[busy]
        self._held_bytes -= len(frame)
        self.declare(read_header(frame))
        return True

    def _from_memory(self) -> list[bytes]:
        frames: list[bytes] = []
        total = 0
        for frame in self._memory:
            total += len(frame)
            if frames and (total > BODY_BYTES or len(frames) >= BODY_FRAMES):
                break
            frames.append(frame)
        return frames
