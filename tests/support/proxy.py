"""A TCP proxy on 127.0.0.1 that breaks on demand: between our processes and the store or the broker.

It runs in a thread of its own. Its methods may be called from any other, and what they ask for is so
when they return.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from penstock.tests.support.ports import free_port

_CHUNK_BYTES = 65_536
_STEPS_PER_S = 20  # of a slowed connection
_CALL_S = 10.0


@dataclass(slots=True, eq=False)
class _Connection:
    """A client's connection and ours to the target.

    `asking` is true from the first bytes of a request to the first of its answer: so a request's
    start is known without reading it. `kept` is an answer that the client will not get.
    """

    client: asyncio.StreamWriter
    target: asyncio.StreamWriter | None = None
    asking: bool = False
    kept: bytearray | None = None


class Proxy:
    """Forwards a port of its own to a target, until told otherwise.

    Args:
        target_host: where to.
        target_port: where to. Nobody needs to listen there yet.

    Attributes:
        port: where clients connect, on 127.0.0.1.
        dropped: how many answers `drop_responses` has dropped.
    """

    def __init__(self, target_host: str, target_port: int) -> None:
        self._target = (target_host, target_port)
        self.port = free_port()
        self.dropped = 0
        self._to_drop = 0
        self._rate_bytes_per_s = 0.0
        self._connections: dict[asyncio.Task[Any], _Connection] = {}
        self._listener: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self.heal()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def cut(self) -> None:
        """Reset all connections and refuse new ones."""
        self._call(self._cut())

    def blackhole(self) -> None:
        """Forward nothing more. Connections stay open, new ones are accepted and hear nothing.

        What was sent meanwhile arrives after `heal`, as after a short outage of a network.
        """
        self._call(self._block())

    def drop_responses(self, count: int) -> None:
        """Forward the next HTTP requests, wait for their whole answers, and reset instead of answering.

        Args:
            count: how many requests; those under way are not among them.
        """
        self._to_drop = count

    def slow(self, bytes_per_s: float) -> None:
        """Forward each direction of each connection at this pace."""
        self._rate_bytes_per_s = bytes_per_s

    def heal(self) -> None:
        """Forward everything again."""
        self._to_drop = 0
        self._rate_bytes_per_s = 0.0
        self._call(self._unblock())

    def close(self) -> None:
        """Reset all connections and end the thread."""
        if not self._loop.is_closed():
            self._call(self._cut())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_CALL_S)
            self._loop.close()

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_CALL_S)

    async def _block(self) -> None:
        self._flowing.clear()

    async def _unblock(self) -> None:
        self._flowing.set()
        if self._listener is None:
            self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _cut(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        tasks = list(self._connections)
        for task in tasks:
            _reset(self._connections[task])
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, requests: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connection = self._connections[task] = _Connection(client)
        if self._listener is None:  # accepted while `cut` closed the listener
            _reset(connection)
        try:
            await self._flowing.wait()
            answers, connection.target = await asyncio.open_connection(*self._target)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._ask(connection, requests, connection.target))
                both.create_task(self._answer(connection, answers))
        except* OSError:
            _reset(connection)  # what happened on one side happens on the other
        finally:
            del self._connections[task]
            client.close()
            if connection.target is not None:
                connection.target.close()

    async def _ask(
        self,
        connection: _Connection,
        requests: asyncio.StreamReader,
        target: asyncio.StreamWriter,
    ) -> None:
        def started(chunk: bytes) -> bytes:
            if not connection.asking and self._to_drop:
                self._to_drop -= 1
                connection.kept = bytearray()
            connection.asking = True
            return chunk

        await self._forward(requests, target, started)
        target.write_eof()

    async def _answer(self, connection: _Connection, answers: asyncio.StreamReader) -> None:
        def filtered(chunk: bytes) -> bytes:
            if chunk.startswith(b"HTTP/1.1 100 "):  # go on asking
                return chunk
            connection.asking = False
            if connection.kept is None:
                return chunk
            connection.kept += chunk
            if _is_whole(connection.kept):
                self._drop(connection)
            return b""

        await self._forward(answers, connection.client, filtered)
        if connection.kept is not None:  # an answer that ends with its connection
            self._drop(connection)
        connection.client.write_eof()

    def _drop(self, connection: _Connection) -> None:
        self.dropped += 1
        connection.kept = None
        _reset(connection)
        raise ConnectionResetError("dropped on purpose")

    async def _forward(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        seen: Callable[[bytes], bytes],
    ) -> None:
        while True:
            rate = self._rate_bytes_per_s
            chunk = await source.read(max(1, int(rate / _STEPS_PER_S)) if rate else _CHUNK_BYTES)
            if rate:
                await asyncio.sleep(len(chunk) / rate)
            await self._flowing.wait()
            if not chunk:
                return
            sink.write(seen(chunk))
            await sink.drain()


def _is_whole(answer: bytearray) -> bool:
    """Whether this is a whole HTTP answer; one without a length ends with its connection."""
    head, blank, body = bytes(answer).partition(b"\r\n\r\n")
    if not blank:
        return False
    if re.match(rb"HTTP/1\.1 (204|304)", head):
        return True
    if re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
        return body == b"0\r\n\r\n" or body.endswith(b"\r\n0\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return length is not None and len(body) >= int(length[1])


def _reset(connection: _Connection) -> None:
    """RST instead of FIN: nobody may take this for the end of an answer."""
    for writer in (connection.client, connection.target):
        if writer is not None and not writer.is_closing():
            peer: socket.socket = writer.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
