"""Where callers put their events: all that happens on their threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from ..schemas.events import EVENT_TYPES, EventName
from .guards import Recorder

# When the call was made (in the clock's own unit), and its keywords.
Call = tuple[float, dict[str, Any]]
Append = Callable[[Call], None]


class Intake:
    """One buffer and one recorder per kind of event.

    A recorder reads the clock and appends; where to is switched from here, so that recorders which
    user code has bound to names of its own follow through starts, forks and the end.

    Args:
        clock: read once per event, on the caller's thread.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.calls: dict[EventName, deque[Call]] = {kind: deque() for kind in EVENT_TYPES}
        self.recorders: dict[str, Recorder] = {}
        self._switches: dict[EventName, Callable[[Append], None]] = {}
        for kind, calls in self.calls.items():
            self.recorders[kind], self._switches[kind] = _recorder(clock, calls.append)

    def collect(self) -> None:
        """From now on events are buffered. A deque's append is atomic: no lock is needed."""
        for kind, switch in self._switches.items():
            switch(self.calls[kind].append)

    def divert(self, handle: Callable[[EventName, Call], None]) -> None:
        """From now on `handle` gets every event, on the caller's thread."""
        for kind, switch in self._switches.items():
            switch(partial(handle, kind))

    def clear(self) -> None:
        """Forget what is buffered."""
        for calls in self.calls.values():
            calls.clear()


def _recorder(
    clock: Callable[[], float], append: Append
) -> tuple[Recorder, Callable[[Append], None]]:
    # Every name here is a cell of the closure and nothing else is touched: after a millisecond of
    # other work each further cache line that a call needs costs as much as the call's own code.
    def record(**fields: Any) -> None:
        append((clock(), fields))

    def switch(to: Append) -> None:
        nonlocal append
        append = to

    return record, switch
