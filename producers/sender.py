"""The thread that delivers: leftovers of dead boots first, then this boot's frames, with backoff."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..schemas.frames import FrameHeader, read_header
from .gaps import gap_frame
from .outbox import BODY_BYTES, BODY_FRAMES, Outbox
from .spool import Spool, adopt
from .transport import DeliveryError, FramesRefused, Transport

_LOG = logging.getLogger("penstock")
ADOPT_EVERY_S = 30.0
_MAX_WAIT_S = 300.0
_MAX_REFUSED_FILES = 256


@dataclass
class DeliveryCounts:
    """What became of frames and events so far; written by one thread, read by any."""

    delivered_frames: int = 0
    delivered_events: int = 0
    refused_frames: int = 0
    rejected_events: int = 0
    failures: int = 0


class Source(Protocol):
    """Where frames come from: the outbox of this boot, or the spool of a dead one."""

    def peek(self) -> list[bytes]:
        """The oldest frames, in flight from now on."""
        ...

    def ack(self, count: int) -> None:
        """The oldest of them are settled."""
        ...

    def fail(self) -> None:
        """Nothing is in flight any more."""
        ...

    def declare(self, lost: FrameHeader) -> None:
        """This frame will never arrive."""
        ...


class Leftover:
    """A dead boot's spool as a `Source`."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool

    def peek(self) -> list[bytes]:
        """See `Source.peek`."""
        return self.spool.peek(BODY_BYTES, BODY_FRAMES)

    def ack(self, count: int) -> None:
        """See `Source.ack`."""
        self.spool.ack(count)

    def fail(self) -> None:
        """See `Source.fail`."""
        self.spool.fail()

    def declare(self, lost: FrameHeader) -> None:
        """The boot is dead: a control frame of its own says what is lost."""
        frame = gap_frame([lost])
        if frame is not None:
            self.spool.append(frame)


@dataclass
class Backoff:
    """Exponential waiting with jitter: base, twice that, ... up to the cap, each times 0.5..1.5."""

    base_s: float = 0.2
    cap_s: float = 30.0
    _failures: int = field(default=0, init=False)
    _random: random.Random = field(default_factory=random.Random, init=False)

    def next_s(self, at_least_s: float = 0.0) -> float:
        """Seconds to wait after one more failure; never less than the server asked for."""
        plain = min(self.cap_s, self.base_s * 2.0 ** min(self._failures, 32))
        self._failures += 1
        jittered = plain * self._random.uniform(0.5, 1.5)
        return min(_MAX_WAIT_S, max(jittered, at_least_s * self._random.uniform(1.0, 1.1)))

    def reset(self) -> None:
        """A delivery succeeded."""
        self._failures = 0


class Sender:
    """Delivers until told to finish.

    Args:
        outbox: this boot's frames.
        transport: how they leave.
        spool_dir: where dead boots' leftovers and refused frames are.
        spool_max_bytes: bound of all leftovers together.
        backoff: how long to wait after failures.
    """

    def __init__(
        self,
        outbox: Outbox,
        transport: Transport,
        spool_dir: Path,
        spool_max_bytes: int,
        backoff: Backoff,
    ) -> None:
        self.counts = DeliveryCounts()
        self._outbox = outbox
        self._transport = transport
        self._spool_dir = spool_dir
        self._spool_max_bytes = spool_max_bytes
        self._backoff = backoff
        self._leftovers: list[Leftover] = []
        self._adopt_at = 0.0
        self._not_before = 0.0
        self._finish_at: float | None = None
        self._away = False
        self._unreachable = False
        self._patient = True
        self._thread = self._spawn()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def finish(self, timeout_s: float, say_goodbye: Callable[[], None]) -> None:
        """Deliver what is there, then what `say_goodbye` adds to the outbox, and stop.

        Returns after `timeout_s` at the latest; what is left is for the spool. A server that was
        away before, or that nobody finds now, gets one last attempt only.
        """
        end = time.monotonic() + timeout_s
        with self._outbox.changed:
            self._patient = not self._away
            self.hurry()
            # The closing record comes after everything else was settled, losses included.
            self._outbox.changed.wait_for(
                lambda: self._outbox.empty or self._given_up(), timeout_s if self._patient else 0.0
            )
        say_goodbye()
        with self._outbox.changed:
            self._finish_at = end
            self.hurry()
        self._thread.join(max(0.0, end - time.monotonic()))

    def hurry(self) -> None:
        """Try now, even while waiting after a failure."""
        with self._outbox.changed:
            self._not_before = 0.0
            self._outbox.changed.notify_all()

    def release(self) -> None:
        """Let leftovers go that were not delivered; a later emitter takes them."""
        if not self._thread.is_alive():
            for leftover in self._leftovers:
                leftover.spool.close()
            self._leftovers.clear()

    def abandon(self) -> None:
        """In a forked child: close the file descriptors of leftovers."""
        for leftover in self._leftovers:
            leftover.spool.abandon()

    def _spawn(self) -> threading.Thread:
        return threading.Thread(target=self._run, name="penstock-sender", daemon=True)

    def _run(self) -> None:
        finished = False
        try:
            while self._wait():
                try:
                    self._deliver()
                except (DeliveryError, OSError) as error:
                    self._pause(error, getattr(error, "retry_after_s", 0.0))
            finished = True
            self._transport.close()
        finally:
            # A transport of the user's own may raise what it should not: threading.excepthook
            # tells of it, and another thread tries again later; the frames are in the spool.
            if not finished:
                self._pause(RuntimeError("the transport failed unexpectedly"), 0.0)
                self._thread = self._spawn()
                self._thread.start()

    def _wait(self) -> bool:
        """Wait until there is something to do; False when it is time to stop."""
        with self._outbox.changed:
            while True:
                now = time.monotonic()
                if self._finish_at is not None and self._finished(now, self._finish_at):
                    return False
                if now >= self._not_before:
                    if now >= self._adopt_at and self._finish_at is None:
                        self._adopt(now)
                    if self._leftovers or not self._outbox.empty:
                        return True
                self._outbox.changed.wait(max(0.01, self._wake_at(now) - now))

    def _finished(self, now: float, finish_at: float) -> bool:
        waiting = self._not_before > now
        too_late = now >= finish_at or (waiting and self._not_before >= finish_at)
        done = self._outbox.empty and not self._leftovers
        return done or too_late or (waiting and self._given_up())

    def _given_up(self) -> bool:
        return self._unreachable or not self._patient

    def _wake_at(self, now: float) -> float:
        if self._not_before > now:
            return self._not_before
        return self._adopt_at

    def _adopt(self, now: float) -> None:
        self._adopt_at = now + ADOPT_EVERY_S
        if not self._spool_dir.is_dir():
            return
        try:
            found = adopt(self._spool_dir, self._spool_max_bytes)
        except OSError as error:
            _LOG.warning("cannot look for spools of dead boots: %s", error)
            return
        self._leftovers.extend(map(Leftover, found))

    def _deliver(self) -> None:
        source: Source = self._leftovers[0] if self._leftovers else self._outbox
        frames = source.peek()
        try:
            if frames:
                self._send(source, frames)
        except BaseException:
            source.fail()
            self._outbox.fail()
            raise
        self._backoff.reset()
        if self._away:
            self._away = self._unreachable = False
            _LOG.info("the server takes events again")
        if self._leftovers and self._leftovers[0].spool.empty:
            self._leftovers.pop(0).spool.close()

    def _send(self, source: Source, frames: list[bytes]) -> None:
        try:
            self._transport.send(frames)
        except FramesRefused as error:
            if len(frames) > 1:
                # One bad frame must not take its neighbours along.
                for frame in frames:
                    self._send(source, [frame])
                return
            self._set_aside(source, frames[0], error)
        else:
            self._count(frames)
        source.ack(len(frames))

    def _count(self, frames: Sequence[bytes]) -> None:
        self.counts.delivered_frames += len(frames)
        self.counts.delivered_events += sum(read_header(frame).count for frame in frames)

    def _set_aside(self, source: Source, frame: bytes, error: FramesRefused) -> None:
        header = read_header(frame)
        self.counts.refused_frames += 1
        _LOG.error(
            "the server refused a frame of %d %s events, kept in %s: %s",
            header.count,
            header.kind,
            self._spool_dir / "refused",
            error,
        )
        keep_refused(self._spool_dir, header, frame)
        # A refused control frame is not declared again: that one would be refused too.
        if header.count:
            source.declare(header)

    def _pause(self, error: Exception, retry_after_s: float) -> None:
        self.counts.failures += 1
        if not self._away:
            self._away = True
            _LOG.warning("events are spooled until the server takes them: %s", error)
        with self._outbox.changed:
            self._unreachable = getattr(error, "unreachable", False)
            self._not_before = time.monotonic() + self._backoff.next_s(retry_after_s)
            self._outbox.changed.notify_all()


def keep_refused(spool_dir: Path, header: FrameHeader, frame: bytes) -> None:
    """Keep a refused frame for people to look at; at most 256 of them, the oldest go."""
    folder = spool_dir / "refused"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = sorted(folder.glob("*.psf"), key=os.path.getmtime)
        for path in kept[: max(0, len(kept) + 1 - _MAX_REFUSED_FILES)]:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        (folder / f"{header.boot_id}-{header.seq0}.psf").write_bytes(frame)
    except OSError as error:
        _LOG.warning("cannot keep a refused frame: %s", error)
