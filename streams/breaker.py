"""A circuit breaker: calls to what is away fail at once, until a single probe comes through.

Our own, because the library `purgatory` reads the wall clock (set back by an hour, it keeps the circuit
open for an hour) and lets every caller through while it probes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..schemas.errors import PenstockError


class CircuitOpen(PenstockError):
    """The call was not made: what it needs failed before and has not been seen to work since."""

    http_status = 503
    slug = "circuit-open"


class Breaker:
    """Closed while calls succeed, open after failures, half-open while one probe is under way.

    Safe to share between threads; never blocks.

    Args:
        threshold: failures without a success between them that open it.
        rest_s: how long it stays open before a probe.
        monotonic_s: clock in seconds.

    >>> breaker = Breaker(threshold=1, rest_s=60)
    >>> try:
    ...     with breaker.call(OSError):
    ...         raise OSError("refused")
    ... except OSError:
    ...     breaker.state
    'open'
    """

    def __init__(
        self, threshold: int, rest_s: float, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._threshold = threshold
        self._rest_s = rest_s
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._failures = 0
        self._open_since_s: float | None = None
        self._probing = False
        self.reason = ""  # the last failure while not closed

    @property
    def state(self) -> str:
        """Closed, open or half-open."""
        if self._open_since_s is None:
            return "closed"
        return "half-open" if self._probing else "open"

    @contextmanager
    def call(self, *failures: type[BaseException]) -> Iterator[None]:
        """Make a call within it.

        Args:
            failures: errors that say that what is called does not work. Others say nothing of it.

        Raises:
            CircuitOpen: the call must not be made.
        """
        probe = self._enter()
        try:
            yield
        except failures as error:
            self._failed(str(error))
            raise
        except BaseException:
            if probe:  # it came to no answer: let somebody else try
                self._probing = False
            raise
        self._succeeded()

    def trip(self, reason: str) -> None:
        """Open it, whatever calls say: something else saw that calls must fail."""
        with self._lock:
            self._open(reason)

    def close(self) -> None:
        """Close it: something else saw that calls work again."""
        self._succeeded()

    def _enter(self) -> bool:
        """Whether this call is the probe."""
        with self._lock:
            if self._open_since_s is None:
                return False
            resting = self._monotonic_s() - self._open_since_s < self._rest_s
            if resting or self._probing:
                raise CircuitOpen(self.reason)
            self._probing = True
            return True

    def _failed(self, reason: str) -> None:
        with self._lock:
            self._failures += 1
            if self._failures >= self._threshold or self._open_since_s is not None:
                self._open(reason)

    def _open(self, reason: str) -> None:
        self.reason = reason
        self._open_since_s = self._monotonic_s()
        self._probing = False

    def _succeeded(self) -> None:
        with self._lock:
            self._failures = 0
            self._open_since_s = None
            self._probing = False
            self.reason = ""
