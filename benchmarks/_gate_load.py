"""Asking a server about a gate over kept connections, for the benchmarks of gates."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any


class Connection:
    """One kept HTTP/1.1 connection, without a client library's cost."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON of an answer; a connection that the server let go idle is opened again."""
        if self._streams is not None:
            try:
                return await self._ask(path)
            except (asyncio.IncompleteReadError, ConnectionError):
                self.close()
        self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        return await self._ask(path)

    async def _ask(self, path: str) -> tuple[int, Any]:
        assert self._streams is not None
        reader, writer = self._streams
        writer.write(f"GET {path} HTTP/1.1\r\nHost: penstock\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length:")[1].split("\r\n")[0])
        body = await reader.readexactly(length)
        return int(head.split()[1]), json.loads(body)

    def close(self) -> None:
        """Let go."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def at_rate(port: int, path: str, per_s: float, seconds: float) -> list[float]:
    """Latencies in ms of questions sent at a fixed rate, whether or not the last was answered.

    Each is counted from the moment at which it was due, so that a stall is not left out.
    """
    idle = [Connection(port) for _ in range(8)]
    latencies: list[float] = []

    async def ask(due: float) -> None:
        connection = idle.pop() if idle else Connection(port)
        status, _ = await connection.get(path)
        if status != 200:
            raise RuntimeError(f"{path}: {status}")
        latencies.append((time.perf_counter() - due) * 1000)
        idle.append(connection)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(per_s * seconds)):
            due = began + number / per_s
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            tasks.create_task(ask(due))
    for connection in idle:
        connection.close()
    return sorted(latencies)


def quantile(ordered: list[float], share: float) -> float:
    """Of ascending values."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used."""
    parts = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(parts[11]) + int(parts[12])) / 100
