"""Guards and decorators around requests and steps. They time, record and never swallow."""

from __future__ import annotations

import functools
import inspect
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator
from time import perf_counter
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, cast

from .failures import ErrorTypes, classify, describe

F = TypeVar("F", bound=Callable[..., Any])


class Recorder(Protocol):
    """Records one event and returns at once; the keywords are the event's fields.

    `ts` (integer microseconds UTC) may be among them; without it the emitter's clock is read.
    Values are kept by reference until the flusher has read them: do not change a mapping after
    giving it away.
    """

    def __call__(self, **fields: Any) -> None:
        """Record one event."""
        ...


class Guard(Protocol):
    """What `with` and `async with` take, for requests and steps, enabled or not."""

    def set(self, **fields: Any) -> None:
        """Add fields of the event."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...


class RequestGuard(Guard, Protocol):
    """A request in progress; see `TrackedRequest`."""

    @property
    def request_id(self) -> str:
        """Id of the request; empty when the emitter is disabled."""
        ...

    def first_token(self) -> None:
        """The first token is out."""
        ...


class StepGuard(Guard, Protocol):
    """A step in progress, or a decorator; see `TimedStep`."""

    def __call__(self, function: F, /) -> F:
        """Decorate a function."""
        ...


class Tracker:
    """Tracked requests in the order they began; shared with the flusher, without a lock.

    A request is announced as overdue or it ends, whichever claims it first; claiming is one atomic
    dictionary operation, so both threads agree.
    """

    def __init__(self, overdue_ms: float) -> None:
        self._overdue_s = overdue_ms / 1000.0
        self._begun: deque[TrackedRequest] = deque()
        self.steps = itertools.count()

    def begin(self, request: TrackedRequest) -> None:
        """A request has begun."""
        self._begun.append(request)

    def clear(self) -> None:
        """Forget everything (in a forked child, where the other threads' requests are not)."""
        self._begun.clear()
        self.steps = itertools.count()

    def overdue(self) -> Iterator[dict[str, Any]]:
        """Fields of requests that have become overdue, each once. One thread at a time."""
        while self._begun:
            request = self._begun[0]
            if not request.ended:
                if perf_counter() - request.began < self._overdue_s:
                    return
                fields = request.claim_overdue()
                if fields is not None:
                    yield fields
            self._begun.popleft()


class TrackedRequest:
    """A request in progress: `with emit.track_request(route="/chat") as r:`, also `async with`.

    At the end one request event is recorded with latency, status and error type. What was set by
    hand is not overwritten.
    """

    __slots__ = ("_claim", "_emit", "_error_types", "_fields", "_tracker", "began", "ended")

    def __init__(
        self, emit: Recorder, tracker: Tracker, error_types: ErrorTypes, fields: dict[str, Any]
    ) -> None:
        self._emit = emit
        self._tracker = tracker
        self._error_types = error_types
        self._fields = fields
        self._claim: dict[str, str] = {}
        self.began = 0.0
        self.ended = False

    @property
    def request_id(self) -> str:
        """Id of the request: as given, else a random one; feedback joins by it."""
        return str(self._fields["request_id"])

    def set(self, **fields: Any) -> None:
        """Add fields of the request event."""
        self._fields.update(fields)

    def first_token(self) -> None:
        """The first token is out: sets ttft_ms. Later calls change nothing."""
        if "ttft_ms" not in self._fields:
            self._fields["ttft_ms"] = (perf_counter() - self.began) * 1000.0

    def claim_overdue(self) -> dict[str, Any] | None:
        """Fields of the announcement, unless the request has ended meanwhile."""
        if self._claim.setdefault("by", "overdue") != "overdue":
            return None
        known = dict(self._fields)
        known.pop("status", None)
        known.pop("ts", None)
        known["overdue"] = True
        return known

    def __enter__(self) -> Self:
        if not self._fields.get("request_id"):
            self._fields["request_id"] = os.urandom(16).hex()
        self.began = perf_counter()
        self._tracker.begin(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        latency_ms = (perf_counter() - self.began) * 1000.0
        self.ended = True
        fields, self._fields = self._fields, {"request_id": self.request_id}
        if self._claim.setdefault("by", "end") == "overdue":
            fields["overdue"] = True
        fields.setdefault("latency_ms", latency_ms)
        _complete(fields)
        if error is not None:
            status, error_type = classify(error, self._error_types)
            fields.setdefault("status", status)
            if error_type is not None:
                fields.setdefault("error_type", error_type)
                fields.setdefault("error_message", describe(error))
        fields.setdefault("status", "ok")
        self._emit(**fields)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)


def _complete(fields: dict[str, Any]) -> None:
    """decode_ms and tpot_ms follow from the first token, the latency and the tokens."""
    ttft_ms = fields.get("ttft_ms")
    if ttft_ms is None:
        return
    decode_ms = max(0.0, fields["latency_ms"] - ttft_ms)
    fields.setdefault("decode_ms", decode_ms)
    tokens = fields.get("output_tokens")
    if isinstance(tokens, int) and tokens > 1:
        fields.setdefault("tpot_ms", decode_ms / (tokens - 1))


class TimedStep:
    """A step in progress, or a decorator that makes each call of a function a step.

    `with emit.timed_step(kind="train") as s: s.set(loss=...)`, also `async with`; or
    `@emit.timed_step(kind="train")`, for plain and for coroutine functions. A step that raises is
    recorded too, with the exception's class in `attributes["error"]`.
    """

    __slots__ = ("_began", "_emit", "_fields", "_tracker")

    def __init__(self, emit: Recorder, tracker: Tracker, fields: dict[str, Any]) -> None:
        self._emit = emit
        self._tracker = tracker
        self._fields = fields
        self._began = 0.0

    def set(self, **fields: Any) -> None:
        """Add fields of the step event."""
        self._fields.update(fields)

    def __enter__(self) -> Self:
        self._began = perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        fields = {
            "step_ms": (perf_counter() - self._began) * 1000.0,
            "step": next(self._tracker.steps),
            **self._fields,
        }
        if error is not None:
            fields["attributes"] = {
                **fields.get("attributes", {}),
                "error": type(error).__name__,
            }
        self._emit(**fields)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: F) -> F:
        """Decorate a function: each call is one step.

        Raises:
            TypeError: a generator, whose call does not do its work.
        """
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError("a generator cannot be timed as a step; use `with emit.timed_step()`")
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def timed_async(*args: Any, **kwargs: Any) -> Any:
                with self._copy():
                    return await function(*args, **kwargs)

            return cast(F, timed_async)

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self._copy():
                return function(*args, **kwargs)

        return cast(F, timed)

    def _copy(self) -> TimedStep:
        return TimedStep(self._emit, self._tracker, dict(self._fields))


class NullGuard:
    """What a disabled emitter gives for every guard: does nothing, shared by all."""

    __slots__ = ()

    @property
    def request_id(self) -> str:
        """Empty."""
        return ""

    def set(self, **fields: Any) -> None:
        """Does nothing."""

    def first_token(self) -> None:
        """Does nothing."""

    def __call__(self, function: F) -> F:
        """The function itself."""
        return function

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        return None


NULL_GUARD = NullGuard()
