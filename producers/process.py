"""What forks and the end of the process mean for emitters: the only state of the whole process."""

from __future__ import annotations

import atexit
import functools
import os
import sys
import weakref
from typing import Protocol


class Watched(Protocol):
    """Takes part in forks and in the end of the process."""

    def before_fork(self) -> None:
        """Bring everything into a state that a copy of the process can go on from."""
        ...

    def after_fork_in_parent(self) -> None:
        """Go on."""
        ...

    def after_fork_in_child(self) -> None:
        """Become somebody else; no thread but the caller exists, and no lock can be trusted."""
        ...

    def close(self) -> None:
        """The process ends."""
        ...


# Who is started is kept until it is closed: one that goes out of scope may still hold events.
_LIVE: weakref.WeakSet[Watched] = weakref.WeakSet()
_STARTED: set[Watched] = set()
_FORKING: list[Watched] = []


def watch(watched: Watched) -> None:
    """Tell it of forks from now on."""
    _hook()
    _LIVE.add(watched)


def started(watched: Watched) -> None:
    """It has threads now: close it at the end of the process."""
    _STARTED.add(watched)
    # Children of multiprocessing leave without atexit; they run finalisers of their own instead.
    util, process = map(sys.modules.get, ("multiprocessing.util", "multiprocessing.process"))
    if util is not None and process is not None and process.parent_process() is not None:
        util.Finalize(None, watched.close, exitpriority=10)


def closed(watched: Watched) -> None:
    """It is done."""
    _LIVE.discard(watched)
    _STARTED.discard(watched)


@functools.cache
def _hook() -> None:
    """Once per process."""
    atexit.register(_close_all)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=_before_fork,
            after_in_parent=_after_fork_in_parent,
            after_in_child=_after_fork_in_child,
        )


def _before_fork() -> None:
    # In one order, so that two threads that fork do not wait for each other.
    for watched in sorted(_LIVE, key=id):
        watched.before_fork()
        _FORKING.append(watched)


def _after_fork_in_parent() -> None:
    while _FORKING:
        _FORKING.pop().after_fork_in_parent()


def _after_fork_in_child() -> None:
    _STARTED.clear()
    while _FORKING:
        _FORKING.pop().after_fork_in_child()


def _close_all() -> None:
    for watched in list(_STARTED):
        watched.close()
