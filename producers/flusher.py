"""The thread that turns buffered calls into frames, so that callers never do."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

from ..schemas.errors import PenstockError
from ..schemas.events import EventName
from .framer import Framer
from .guards import Tracker
from .intake import Call
from .outbox import BODY_BYTES, BODY_FRAMES, Outbox
from .rows import Row, RowBuilder
from .settings import EmitterSettings
from .snapshot import Counters

_LOG = logging.getLogger("penstock")

# Rows handled between two moments at which another thread may take the interpreter lock at once,
# instead of waiting out its switch interval (5 ms).
_ROWS_AT_ONCE = 128
_BREATH_S = 20e-6
_CLOCK_STEP_US = 1_000_000
# What values that callers give may raise when they are merged, hashed and redacted.
_BAD_ROW = (
    TypeError,
    ValueError,
    AttributeError,
    LookupError,
    OverflowError,
    RecursionError,
    PenstockError,
)


class Flusher:
    """Drains the buffer into frames every `flush_interval_s`.

    `cycle` is called by the thread, and by others who want everything flushed now; `lock` is held
    meanwhile, and over no network operation.

    Args:
        calls: the buffers callers append to; any thread may append at any time.
        clock_us: the emitter's clock.
        us_per_tick: microseconds in a unit of the clock that callers read.
        partitions: asked on the thread, once and before the first frame, how many partitions the
            boot may be at home in; None for a transport without any.

    Attributes:
        settled: the home is chosen; before that no frame is built.
    """

    def __init__(
        self,
        calls: Mapping[EventName, deque[Call]],
        builder: RowBuilder,
        framer: Framer,
        outbox: Outbox,
        tracker: Tracker,
        settings: EmitterSettings,
        clock_us: Callable[[], int],
        us_per_tick: int,
        partitions: Callable[[], int | None] | None = None,
    ) -> None:
        self.lock = threading.RLock()
        self.settled = threading.Event()
        self._partitions = partitions
        if partitions is None:
            self.settled.set()
        self.framer = framer
        # Even the first frame promises something: nothing was emitted before now.
        framer.boot.promised_us = framer.boot.promised_us or clock_us()
        self.counters = Counters(clock_us())
        self._calls = calls
        self._builder = builder
        self._outbox = outbox
        self._tracker = tracker
        self._settings = settings
        self._clock_us = clock_us
        self._us_per_tick = us_per_tick
        self._last_frame_s = float("-inf")
        self._last_count = 0
        self._warned = False
        self._stop = threading.Event()
        self._thread = self._spawn()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and put what is left into the outbox."""
        self._stop.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self.cycle()

    def say_goodbye(self) -> None:
        """Put the boot's closing record into the outbox: the last frame of all."""
        with self.lock:
            self.cycle()
            self._put([self.framer.control(self._read_clock(), closing=True)])

    def cycle(self) -> None:
        """Put everything that is buffered now into frames, and these into the outbox.

        Nothing while the home of the boot is not settled: events stay in the buffer.
        """
        if not self.settled.is_set():
            return
        with self.lock:
            self._announce_overdue()
            promise_us = self._read_clock()
            self.framer.declare(self._outbox.take_gaps())
            counts = {kind: self._bounded(calls) for kind, calls in self._calls.items() if calls}
            self._last_count = max(counts.values(), default=0)
            self._frame(counts, promise_us)
            if not self._stop.is_set():
                self._beat(promise_us)

    def _spawn(self) -> threading.Thread:
        return threading.Thread(target=self._run, name="penstock-flusher", daemon=True)

    def _run(self) -> None:
        try:
            self._settle()
            while not self._stop.wait(self._pause_s()):
                self.cycle()
        finally:
            # Nothing known raises here. If something does, threading.excepthook tells of it, and
            # another thread goes on: a dead flusher would be silent loss in the user's process.
            if not self._stop.is_set():
                self._thread = self._spawn()
                self._thread.start()

    def _settle(self) -> None:
        if self._partitions is None or self.settled.is_set():
            return
        found = None
        try:
            found = self._partitions()  # takes a while, so no lock is held
        finally:
            self.framer.boot.settle(found)
            self.settled.set()

    def _pause_s(self) -> float:
        """The flush interval, less while more than a frame comes in one."""
        full = self._settings.max_frame_events
        return self._settings.flush_interval_s * min(1.0, full / max(self._last_count, 1))

    def _read_clock(self) -> int:
        """The clock, never behind what was promised unless somebody has set it back."""
        boot, now_us = self.framer.boot, self._clock_us()
        if now_us < boot.promised_us - _CLOCK_STEP_US:
            boot.promised_us = now_us
        return max(now_us, boot.promised_us)

    def _announce_overdue(self) -> None:
        for fields in self._tracker.overdue():
            self._calls["request"].append((self._clock_us() / self._us_per_tick, fields))

    def _bounded(self, calls: deque[Call]) -> int:
        """How many calls wait, after the oldest over the bound were dropped and declared."""
        dropped = max(0, len(calls) - self._settings.max_buffered_events)
        for _ in range(dropped):
            calls.popleft()
        self.framer.skip(dropped)
        self._warn_if(dropped, "the buffer was full")
        return len(calls)

    def _frame(self, counts: Mapping[EventName, int], promise_us: int) -> None:
        """The oldest calls of each kind as frames of at most `max_frame_events`.

        Only the very last frame carries the new promise: until then earlier rows are still to come.
        Frames are handed over together, as one delivery takes them.
        """
        most = self._settings.max_frame_events
        chunks = [
            (kind, min(most, count - done))
            for kind, count in counts.items()
            for done in range(0, count, most)
        ]
        frames: list[bytes] = []
        try:
            for place, (kind, count) in enumerate(chunks, 1):
                rows = self._build(kind, count)
                clock_us = promise_us if place == len(chunks) else self.framer.boot.promised_us
                frames.extend(self.framer.frames(kind, rows, clock_us))
                if sum(map(len, frames)) >= BODY_BYTES or len(frames) >= BODY_FRAMES:
                    self._put(frames)
                    frames = []
                self.counters.observe(kind, rows)
                time.sleep(_BREATH_S)
        finally:
            self._put(frames)

    def _build(self, kind: EventName, count: int) -> list[Row]:
        rows: list[Row] = []
        build, popleft = self._builder.build, self._calls[kind].popleft
        promised_us, scale = self.framer.boot.promised_us, self._us_per_tick
        bad = 0
        for place in range(count):
            called, fields = popleft()
            # A thread may have been interrupted between reading the clock and appending: its event
            # belongs behind the promise that was made meanwhile.
            ts = max(int(called * scale), promised_us)
            try:
                rows.append(build(kind, ts, fields))
            except _BAD_ROW as error:
                bad += 1
                self._warn_if(1, f"a {kind} event could not be read: {error!r}")
            if place % _ROWS_AT_ONCE == _ROWS_AT_ONCE - 1:
                time.sleep(_BREATH_S)
        self.framer.skip(bad)
        return rows

    def _beat(self, promise_us: int) -> None:
        """Heartbeat when nothing else was sent for a while and the server takes frames."""
        silent_s = time.monotonic() - self._last_frame_s
        due = silent_s >= self._settings.heartbeat_s - self._settings.flush_interval_s / 2
        if due and (self._outbox.empty or self.framer.has_gaps):
            self._put([self.framer.control(promise_us)])

    def _put(self, frames: list[bytes]) -> None:
        if frames:
            self._last_frame_s = time.monotonic()
            self._outbox.put(frames)

    def _warn_if(self, count: int, why: str) -> None:
        if count and not self._warned:
            self._warned = True
            _LOG.warning("%d events dropped and declared as a gap (said once): %s", count, why)
