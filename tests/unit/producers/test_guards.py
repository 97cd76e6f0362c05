from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from penstock import Emitter, EmitterSettings
from penstock.producers.failures import classify, describe
from penstock.tests.unit.producers.event_server import EventServer


@pytest.fixture
def emit(server: EventServer, settings: EmitterSettings) -> Iterator[Emitter]:
    with Emitter(url=server.url, settings=settings) as emitter:
        yield emitter


def only(emit: Emitter, server: EventServer, kind: str) -> dict[str, Any]:
    assert emit.flush()
    (row,) = server.rows(kind)
    return row


def test_a_request_is_timed_and_recorded(emit: Emitter, server: EventServer) -> None:
    with emit.track_request(route="/chat", trace_id="t") as r:
        r.first_token()
        r.set(output_tokens=11, input_tokens=3)
        time.sleep(0.005)
    row = only(emit, server, "request")
    assert (row["route"], row["status"], row["input_tokens"]) == ("/chat", "ok", 3)
    assert row["request_id"] == r.request_id
    assert row["latency_us"] >= 5000
    assert row["ttft_us"] < row["latency_us"]
    assert row["decode_us"] == pytest.approx(row["latency_us"] - row["ttft_us"], abs=2)
    assert row["tpot_us"] == pytest.approx(row["decode_us"] / 10, abs=1)
    assert "overdue" not in row


def test_what_was_set_by_hand_stays(emit: Emitter, server: EventServer) -> None:
    def fail() -> None:
        with emit.track_request(request_id="mine", latency_ms=1.0) as r:
            r.set(status="rejected", error_type="overload")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    row = only(emit, server, "request")
    assert (row["request_id"], row["status"], row["error_type"]) == (
        "mine",
        "rejected",
        "overload",
    )
    assert row["latency_us"] == 1000


def test_an_exception_goes_on_and_is_recorded_redacted(emit: Emitter, server: EventServer) -> None:
    with pytest.raises(ConnectionError, match="ann"), emit.track_request():
        raise ConnectionError("no answer for ann@example.com")
    row = only(emit, server, "request")
    assert (row["status"], row["error_type"]) == ("error", "upstream")
    assert row["error_message"] == "ConnectionError: no answer for [email]"


class CudaError(Exception):
    pass


class OutOfMemoryError(RuntimeError):
    """What torch calls it."""


class ReadTimeout(Exception):
    """What HTTP clients call it."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError(), ("timeout", "api_timeout")),
        (ReadTimeout(), ("timeout", "api_timeout")),
        (asyncio.CancelledError(), ("cancelled", None)),
        (KeyboardInterrupt(), ("cancelled", None)),
        (GeneratorExit(), ("cancelled", None)),
        (MemoryError(), ("error", "oom")),
        (OutOfMemoryError(), ("error", "oom")),
        (ConnectionResetError(), ("error", "upstream")),
        (ValueError(), ("error", "validation")),
        (UnicodeDecodeError("utf-8", b"", 0, 1, ""), ("error", "validation")),
        (ZeroDivisionError(), ("error", "internal")),
        (CudaError(), ("error", "hot_shard")),
    ],
)
def test_status_and_type_follow_from_the_exception(
    error: BaseException, expected: tuple[str, str | None]
) -> None:
    assert classify(error, {CudaError: "hot_shard"}) == expected


def test_an_exception_that_cannot_be_printed_is_described() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert "Broken" in describe(Broken())
    assert len(describe(ValueError("x" * 10_000))) == 500


def test_async_requests(emit: Emitter, server: EventServer) -> None:
    async def serve() -> None:
        async with emit.track_request(request_id="slow"):
            await asyncio.sleep(10)

    async def main() -> None:
        task = asyncio.create_task(serve())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    row = only(emit, server, "request")
    assert (row["request_id"], row["status"]) == ("slow", "cancelled")


def test_a_hanging_request_is_announced_once_and_ends_marked(
    server: EventServer, settings: EmitterSettings
) -> None:
    hurried = replace(settings, overdue_ms=50.0)
    with Emitter(url=server.url, settings=hurried, release="r1") as emit:
        with emit.track_request(request_id="quick"):
            pass
        with (
            emit.track_request(request_id="hang", route="/chat"),
            emit.track_request(request_id="hang2"),
        ):
            server.wait(lambda: len(server.rows("request")) == 3)
            time.sleep(0.1)
        assert emit.flush()
    rows = server.rows("request")
    announced = [r for r in rows if r.get("overdue") and r.get("status") is None]
    assert sorted(r["request_id"] for r in announced) == ["hang", "hang2"]
    assert all(r.get("latency_us") is None for r in announced)
    assert announced[0]["release"] == "r1"
    final = {r["request_id"]: r for r in rows if r.get("status")}
    assert {name: bool(r.get("overdue")) for name, r in final.items()} == {
        "quick": False,
        "hang": True,
        "hang2": True,
    }


def test_a_timed_function_is_a_step_per_call(emit: Emitter, server: EventServer) -> None:
    @emit.timed_step
    def double(x: int) -> int:
        """Twice x."""
        return 2 * x

    assert [double(2), double(3)] == [4, 6]
    assert double.__doc__ == "Twice x."
    assert emit.flush()
    assert [row["step"] for row in server.rows("step")] == [0, 1]


def test_a_timed_function_with_fields_that_raises(emit: Emitter, server: EventServer) -> None:
    @emit.timed_step(kind="train", backend="cuda")
    def fail() -> None:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fail()
    row = only(emit, server, "step")
    assert (row["kind"], row["backend"]) == ("train", "cuda")
    assert dict(row["attributes"]) == {"error": "ValueError"}


def test_a_timed_coroutine_is_timed_to_its_end(emit: Emitter, server: EventServer) -> None:
    @emit.timed_step
    async def work() -> str:
        await asyncio.sleep(0.01)
        return "done"

    assert asyncio.run(work()) == "done"
    assert only(emit, server, "step")["step_us"] >= 10_000


def test_a_timed_block(emit: Emitter, server: EventServer) -> None:
    with emit.timed_step(kind="eval") as s:
        s.set(loss=0.5, step=7)
    row = only(emit, server, "step")
    assert (row["kind"], row["loss"], row["step"]) == ("eval", 0.5, 7)


def test_a_timed_async_block(emit: Emitter, server: EventServer) -> None:
    async def main() -> None:
        async with emit.timed_step() as s:
            s.set(loss=1.0)

    asyncio.run(main())
    assert only(emit, server, "step")["loss"] == 1.0


def test_generators_are_refused(emit: Emitter) -> None:
    def numbers() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match="generator"):
        emit.timed_step(numbers)
