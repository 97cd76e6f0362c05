"""Sessions: connections that outlive a request, with their settings and temporary tables."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .engine import Engine
from .errors import QueryFailed
from .request import Request
from .users import User

_TIMEOUT_S = 60
_LONGEST_S = 3600
_MOST = 1000


@dataclass(slots=True)
class _Session:
    connection: Any
    timeout_s: int
    until_s: float
    lock: threading.Lock = field(default_factory=threading.Lock)


class Sessions:
    """The sessions of all users, by user and `session_id`."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[tuple[str, str], _Session] = {}

    @contextmanager
    def connection(self, user: User, request: Request) -> Iterator[Any]:
        """The connection of the request's session, or a new one where it names none.

        Raises:
            QueryFailed: 373: another request uses the session; 372: it must exist and does not;
                374: its timeout makes no sense.
        """
        name = request.reserved.get("session_id", "")
        if not name:
            with self._engine.connection(user.role) as connection:
                yield connection
            return
        key = (user.name, name)
        session = self._take(key, user, request)
        try:
            yield session.connection
        finally:
            session.until_s = self._clock() + session.timeout_s
            if request.flag("close_session"):
                with self._lock:
                    self._open.pop(key, None)
                session.connection.close()
            session.lock.release()

    def _take(self, key: tuple[str, str], user: User, request: Request) -> _Session:
        timeout_s = _timeout_s(request)
        with self._lock:
            self._drop_old()
            session = self._open.get(key)
            if session is None:
                if request.flag("session_check"):
                    raise QueryFailed(372, f"Session {key[1]} not found")
                if len(self._open) >= _MOST:
                    raise QueryFailed(202, f"Too many sessions. Maximum: {_MOST}")
                session = _Session(self._engine.connect(user.role), timeout_s, 0.0)
                self._open[key] = session
            if not session.lock.acquire(blocking=False):
                raise QueryFailed(373, f"Session {key[1]} is locked by a concurrent client")
            session.timeout_s = timeout_s
            return session

    def _drop_old(self) -> None:
        now_s = self._clock()
        old = [
            key
            for key, session in self._open.items()
            if session.until_s < now_s and not session.lock.locked()
        ]
        for key in old:
            self._open.pop(key).connection.close()

    def close(self) -> None:
        """Close all sessions; none may be in use."""
        with self._lock:
            for session in self._open.values():
                session.connection.close()
            self._open.clear()


def _timeout_s(request: Request) -> int:
    text = request.reserved.get("session_timeout", "")
    if not text:
        return _TIMEOUT_S
    if not text.isdigit() or not 0 < int(text) <= _LONGEST_S:
        raise QueryFailed(374, f"Invalid session timeout: '{text}', at most {_LONGEST_S} s")
    return int(text)
