"""What waiting for a verdict costs: CPU of the server without callers, with one and with 1,000 that wait.

    python benchmarks/gate_waiters.py [--waiters 1000] [--seconds 15]

A real `penstock up` in a process of its own. Its CPU is measured over the same time with nobody, with
one who waits (that is the cost of looking at the store twice a second), with all of them, and with
nobody again; then one order changes the gate, and it is told how long it took until the last was
answered.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from penstock.benchmarks._gate_load import Connection, cpu_s, quantile
from penstock.tests.support.ports import free_port

CONFIG = (
    "gates: [{id: g, filter: {variant: canary}, metrics: [{metric: error_rate, max_ratio: 0.01}]}]"
)
PATH = "/v1/gates/g/verdict?wait=60s"
ORDER = b'{"action": "hold", "who": "benchmark", "reason": "wake them", "duration_s": 60}'


def order(port: int) -> None:
    """Override the gate: every answer changes."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/gates/g/override", ORDER, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        answer.read()


@contextlib.contextmanager
def running(folder: Path) -> Iterator[tuple[int, int]]:
    """Port and process of a real `penstock up`."""
    (folder / "penstock.yaml").write_text(CONFIG)
    port = free_port()
    command = [sys.executable, "-m", "penstock", "up", "--data", str(folder), "--port", str(port)]
    command += ["--config", str(folder / "penstock.yaml")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        for _ in range(1200):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ready").close()
                break
            time.sleep(0.1)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(30)


async def cost(pid: int, seconds: float) -> float:
    """Share of one core that the server uses, in percent."""
    before, began = cpu_s(pid), time.perf_counter()
    await asyncio.sleep(seconds)
    return 100 * (cpu_s(pid) - before) / (time.perf_counter() - began)


async def measure(port: int, pid: int, waiters: int, seconds: float) -> None:
    connections = [Connection(port) for _ in range(waiters)]
    answered: list[float] = []

    async def wait(connection: Connection) -> None:
        status, told = await connection.get(PATH)
        assert (status, told["action"]) == (200, "hold"), told
        answered.append(time.perf_counter())

    before = await cost(pid, seconds)
    first = asyncio.create_task(wait(connections[0]))
    await asyncio.sleep(2)
    one = await cost(pid, seconds)
    others = [asyncio.create_task(wait(connection)) for connection in connections[1:]]
    await asyncio.sleep(5)  # until all of them wait
    all_of_them = await cost(pid, seconds)
    assert not answered, "somebody did not wait"
    began = time.perf_counter()
    await asyncio.to_thread(order, port)
    await asyncio.gather(first, *others)
    for connection in connections:
        connection.close()
    await asyncio.sleep(2)
    after = await cost(pid, seconds)
    woken = sorted(1000 * (at - began) for at in answered)
    print(f"CPU of the server in % of a core, {seconds:g} s each:")
    print(f"  nobody {before:.2f}, one waits {one:.2f}, {waiters} wait {all_of_them:.2f}, ", end="")
    print(f"nobody again {after:.2f}")
    print(f"  for each further waiter {(all_of_them - one) / (waiters - 1):.5f}")
    print(
        f"  answered after the change: median {quantile(woken, 0.5):.0f} ms, last {woken[-1]:.0f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waiters", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=15)
    asked = parser.parse_args()
    if asked.seconds > 20:
        parser.error("a wait ends after 60 s: at most 20")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as (port, pid):
        asyncio.run(measure(port, pid, asked.waiters, asked.seconds))


if __name__ == "__main__":
    main()
