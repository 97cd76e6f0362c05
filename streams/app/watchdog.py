"""Ends a processor that is stuck, or that slept through the loss of its partitions.

The decision is pure; the thread around it only looks and acts. Exit codes are those of sysexits.h: 70
for a fault in the process, 75 for one that a new start heals.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as LateError
from dataclasses import dataclass

from ...schemas.errors import PenstockError

log = logging.getLogger("penstock")

STUCK, START_AGAIN = 70, 75
LOOK_S = 0.25
NAP_S = 2.0  # a gap between two looks from which on the process did not run
PROBE_S = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """After how many seconds a process is ended.

    Attributes:
        pause_s: without running at all; the session timeout.
        loop_s: without a turn of the event loop.
        progress_s: without progress on a topic, although there is a lag and the store answers.
    """

    pause_s: float
    loop_s: float = 60.0
    progress_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Look:
    """What is seen at one moment; times as `Lease.now_s` gives them.

    Attributes:
        now_s: this moment.
        turned_s: when the event loop last turned.
        work: by topic, what grows with every message that is done with, and how many are not.
        connected: whether the broker answers heartbeats.
    """

    now_s: float
    turned_s: float
    work: Mapping[str, tuple[int, int]]
    connected: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do; code 0 says to go on.

    Attributes:
        code: of the exit.
        reason: for the log.
        unless_store_away: ask the store first, and go on where it does not answer.
    """

    code: int = 0
    reason: str = ""
    unless_store_away: bool = False


class Judge:
    """Decides from one look to the next.

    >>> judge = Judge(Limits(pause_s=8.0))
    >>> judge.see(Look(0.0, 0.0, {"events": (5, 3)}, connected=True)).code
    0
    >>> judge.see(Look(9.0, 0.0, {"events": (5, 3)}, connected=True)).reason
    'the process did not run for 9.0 s'
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._last_s: float | None = None
        self._awake_s = 0.0  # the loop and the flushes get their time again after a nap
        self._moved: dict[str, tuple[int, float]] = {}  # progress of a topic, and when it was made

    def see(self, look: Look) -> Verdict:
        """What a look means, after those before it."""
        gap_s = 0.0 if self._last_s is None else look.now_s - self._last_s
        if self._last_s is None or gap_s > NAP_S:
            self._awake_s = look.now_s
        self._last_s = look.now_s
        if gap_s > self._limits.pause_s:
            return Verdict(START_AGAIN, f"the process did not run for {gap_s:.1f} s")
        stuck_s = look.now_s - max(look.turned_s, self._awake_s)
        if stuck_s > self._limits.loop_s:
            return Verdict(STUCK, f"the event loop did not turn for {stuck_s:.0f} s")
        for topic, (progress, lag) in look.work.items():
            idle_s = self._idle_s(look, topic, progress, lag)
            if idle_s > self._limits.progress_s:
                reason = f"{topic}: no progress for {idle_s:.0f} s with a lag of {lag} messages"
                return Verdict(STUCK, reason, unless_store_away=True)
        return Verdict()

    def _idle_s(self, look: Look, topic: str, progress: int, lag: int) -> float:
        before, moved_s = self._moved.get(topic, (-1, look.now_s))
        if progress != before or not lag or not look.connected:
            moved_s = look.now_s
        self._moved[topic] = progress, moved_s
        return look.now_s - max(moved_s, self._awake_s)

    def excuse(self) -> None:
        """There can be no progress while the store is away: count from now."""
        if self._last_s is not None:
            self._moved = {topic: (done, self._last_s) for topic, (done, _) in self._moved.items()}


class Watchdog:
    """Looks from a thread of its own and ends the process where the judge says so.

    Args:
        judge: decides.
        look: what there is to see, all but the time.
        ping: asks the store; raises where it does not answer.
        end: ends the process, for tests.
    """

    def __init__(
        self,
        judge: Judge,
        look: Callable[[], Look],
        ping: Callable[[], None],
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self._judge = judge
        self._look = look
        self._ping = ping
        self._end = end
        self._stopped = threading.Event()
        self._probe = ThreadPoolExecutor(1, thread_name_prefix="watchdog-probe")
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(LOOK_S):
            verdict = self._judge.see(self._look())
            if not verdict.code:
                continue
            if verdict.unless_store_away and not self._store_answers():
                self._judge.excuse()
                continue
            if self._stopped.is_set():
                return
            self._act(verdict)

    def _store_answers(self) -> bool:
        try:
            self._probe.submit(self._ping).result(PROBE_S)
        except (PenstockError, LateError, OSError):
            return False
        return True

    def _act(self, verdict: Verdict) -> None:
        log.critical("%s: ending with code %d", verdict.reason, verdict.code)
        if verdict.code == STUCK:
            faulthandler.dump_traceback(sys.stderr, all_threads=True)
        for handler in logging.getLogger().handlers:
            handler.flush()
        sys.stderr.flush()
        self._end(verdict.code)
