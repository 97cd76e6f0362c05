"""The ASGI application: a coroutine takes each request, a thread runs it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .answer import Answer, Message, Send
from .engine import Engine
from .errors import ClientGone, QueryFailed
from .execute import Executor, Job
from .request import Request, read_request
from .users import User, Users

Receive = Callable[[], Awaitable[Message]]
_log = logging.getLogger("penstock.store")
# Threads for refusals, so that these are told while every query thread works.
_SPARE_THREADS = 4
_WAIT_S = 0.5
_HEALTH = ("/ping", "/replicas_status")


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the server.

    Attributes:
        max_queries: statements at once; one more is refused with code 202. Who is no writer gets at
            most three quarters of them, so that dashboards do not stop ingestion.
        max_body_bytes: length of a body, after decompression.
    """

    max_queries: int = 32
    max_body_bytes: int = 4 << 30


class StoreApp:
    """ClickHouse's HTTP interface over an engine, for any ASGI server."""

    def __init__(self, engine: Engine, users: Users, limits: Limits) -> None:
        self._engine = engine
        self._users = users
        self._limits = limits
        self._executor = Executor(engine)
        self._slots = threading.BoundedSemaphore(limits.max_queries)
        self._readers = threading.BoundedSemaphore(max(1, limits.max_queries * 3 // 4))
        self._pool = ThreadPoolExecutor(limits.max_queries + _SPARE_THREADS, "store-query")
        self._lock = threading.Lock()
        self._running: dict[str, tuple[Job, Answer]] = {}

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        headers = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
        request = read_request(scope["method"], scope["path"], scope["query_string"], headers)
        if plain := _without_engine(request):
            await _send_plain(send, *plain)
            return
        answer = Answer(request, self._engine.version, self._engine.timezone, send)
        body = _Body(receive, answer)
        running = asyncio.get_running_loop().run_in_executor(
            self._pool, self._run, request, answer, body
        )
        watcher = asyncio.ensure_future(self._watch(receive, answer, body))
        try:
            await asyncio.shield(running)
        finally:
            # Also where the server gives up on the connection: the thread must not wait for it.
            answer.gone.set()
            watcher.cancel()

    def _run(self, request: Request, answer: Answer, body: _Body) -> None:
        try:
            self._answer(request, answer, body)
        except ClientGone:
            return
        finally:
            answer.close()

    def _answer(self, request: Request, answer: Answer, body: _Body) -> None:
        most = self._limits.max_body_bytes
        try:
            user = _authenticate(self._users, request)
            with self._slot(user):
                job = Job(user, request, body.pieces(), answer, most, answer.summary)
                self._execute(job, answer)
                answer.finish()
        except QueryFailed as error:
            answer.fail(error)

    @contextmanager
    def _slot(self, user: User) -> Iterator[None]:
        """One of the places of queries that run."""
        wanted = [self._slots] if user.role == "writer" else [self._readers, self._slots]
        taken = []
        try:
            for slots in wanted:
                if not slots.acquire(blocking=False):
                    most = self._limits.max_queries
                    raise QueryFailed(202, f"Too many simultaneous queries. Maximum: {most}")
                taken.append(slots)
            yield
        finally:
            for slots in taken:
                slots.release()

    def _execute(self, job: Job, answer: Answer) -> None:
        key = answer.query_id
        with self._lock:
            if key in self._running:
                raise QueryFailed(216, f"Query with id = {key} is already running.")
            self._running[key] = job, answer
        try:
            self._executor.execute(job)
        finally:
            with self._lock:
                del self._running[key]

    async def _watch(self, receive: Receive, answer: Answer, body: _Body) -> None:
        """End what only reads when its client goes away."""
        await body.taken.wait()
        while (await receive())["type"] != "http.disconnect":
            pass
        answer.gone.set()
        # Again and again until this task is cancelled: it may not have reached the engine yet.
        while True:
            with self._lock:
                found = self._running.get(answer.query_id)
            if found and found[1] is answer and found[0].reads:
                await asyncio.get_running_loop().run_in_executor(None, self._kill, found[0])
            await asyncio.sleep(_WAIT_S)

    def _kill(self, job: Job) -> None:
        try:
            self._engine.kill(job.tag)
        except QueryFailed as error:
            _log.warning("a query whose client went away could not be ended: %s", error)

    def end_reads(self) -> None:
        """End what only reads, as the server is about to stop; inserts are waited for."""
        with self._lock:
            jobs = [job for job, _ in self._running.values() if job.reads]
        for job in jobs:
            self._kill(job)

    def close(self) -> None:
        """End what the server did not wait for and close the sessions; the engine stays open."""
        with self._lock:
            left = list(self._running.values())
        for job, answer in left:
            answer.gone.set()
            self._kill(job)
        self._pool.shutdown(wait=True)
        self._executor.sessions.close()


class _Body:
    """The body of a request, for the thread that runs it."""

    def __init__(self, receive: Receive, answer: Answer) -> None:
        self._receive = receive
        self._answer = answer
        self._loop = asyncio.get_running_loop()
        self.taken = asyncio.Event()

    def pieces(self) -> Iterator[bytes]:
        more = True
        while more:
            message = self._next()
            if message["type"] != "http.request":
                raise ClientGone
            more = message.get("more_body", False)
            if not more:
                self._loop.call_soon_threadsafe(self.taken.set)
            yield message.get("body", b"")

    def _next(self) -> Message:
        async def run() -> Message:
            return await self._receive()

        coming = asyncio.run_coroutine_threadsafe(run(), self._loop)
        while True:
            try:
                return coming.result(_WAIT_S)
            except NotYet:
                if self._answer.gone.is_set():
                    coming.cancel()
                    raise ClientGone from None


def build_app(engine: Engine, users: Users, limits: Limits | None = None) -> StoreApp:
    """The interface over an engine; `close` it when the server has stopped."""
    return StoreApp(engine, users, limits or Limits())


def _authenticate(users: Users, request: Request) -> User:
    name, password = request.credentials()
    try:
        return users.authenticate(name, password)
    except QueryFailed:
        if request.has_credentials:
            raise
        raise QueryFailed(
            194, "Authentication failed: a user and a password are required"
        ) from None


def _without_engine(request: Request) -> tuple[int, bytes] | None:
    """Status and body of what needs neither user nor engine."""
    if request.method == "OPTIONS":
        return 204, b""
    if request.path in _HEALTH and request.method in ("GET", "HEAD"):
        return 200, b"Ok.\n"
    if request.path != "/":
        return (
            404,
            f"There is no handle {request.path}\n\nUse / for queries, /ping for health.\n".encode(),
        )
    if request.method not in ("GET", "HEAD", "POST"):
        return 501, b"Use GET or POST.\n"
    if request.method != "POST" and "query" not in request.reserved:
        return 200, b"Ok.\n"
    return None


async def _send_plain(send: Send, status: int, body: bytes) -> None:
    headers = [
        (b"content-type", b"text/html; charset=UTF-8" if status == 200 else b"text/plain"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
