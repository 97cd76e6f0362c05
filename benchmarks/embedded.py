"""The embedded server under load: how many request events a second it takes, how soon they are seen.

    python benchmarks/embedded.py            # as in the documentation, about a quarter of an hour
    python benchmarks/embedded.py --quick    # about a minute

The server is a real `penstock up` in a process of its own; frames are built before the clock starts,
because encoding is the workers' cost (benchmarks/codec.py). Beside it, in the same run, a bare Arrow
insert of the same rows into the same engine is the limit.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock.schemas.frames import FrameHeader, encode_frame

FRAME_EVENTS = 2000
FRAMES_PER_POST = 5  # what an emitter sends at once when it has that much
MODELS = [("llama-70b", "3.1"), ("qwen-32b", "2.5"), ("embed", "1")]


def request_row(rng: random.Random, ts_us: int) -> dict[str, object]:
    """A request event with 25 fields set, two random ids among them."""
    model, version = MODELS[rng.randrange(3)]
    ttft = rng.lognormvariate(5.3, 0.5)
    decode = rng.lognormvariate(7.5, 0.6)
    status = "ok" if rng.random() > 0.005 else "error"
    return {
        "ts": ts_us,
        "request_id": f"{rng.getrandbits(128):032x}",
        "trace_id": f"{rng.getrandbits(128):032x}",
        "model": model,
        "model_version": version,
        "route": f"/v1/route{rng.randrange(4)}",
        "release": "r1",
        "variant": "canary" if rng.random() < 0.1 else "control",
        "tenant": f"t{rng.randrange(20)}",
        "region": "eu",
        "status": status,
        "finish_reason": "stop",
        "input_tokens": rng.randrange(2000),
        "output_tokens": rng.randrange(500),
        "cached_tokens": 0,
        "latency_ms": ttft + decode,
        "queue_ms": rng.lognormvariate(2, 1),
        "prefill_ms": ttft * 0.9,
        "ttft_ms": ttft,
        "tpot_ms": rng.lognormvariate(3, 0.2),
        "decode_ms": decode,
        "tokenize_ms": rng.lognormvariate(0, 0.2),
        "detokenize_ms": rng.lognormvariate(0, 0.2),
        "cache_hit": rng.random() < 0.3,
        "cost_usd": rng.lognormvariate(-6, 0.5),
    }


class Boot:
    """Frames of one pretended worker; rows are drawn from a pool, because building them is slow."""

    def __init__(self, name: str, pool: list[dict[str, object]]) -> None:
        self._name = name
        self._boot = f"{name}-{time.time_ns():x}"
        self._pool = pool
        self.seq = 0

    def frame(self, ts_us: int, events: int = FRAME_EVENTS) -> bytes:
        """A frame whose events ended within the last 50 ms before `ts_us`."""
        step = 50_000 // events or 1
        rows = [
            {**self._pool[(self.seq + i) % len(self._pool)], "ts": ts_us - (events - i) * step}
            for i in range(events)
        ]
        header = FrameHeader(
            kind="request",
            worker_id=self._name,
            boot_id=self._boot,
            seq0=self.seq,
            count=events,
            next_seq=self.seq + events,
            clock_us=ts_us,
        )
        self.seq += events
        return encode_frame(header, rows)


@contextmanager
def server(folder: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A real `penstock up`."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "penstock", "up", "--data", str(folder), "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                get(port, "/ready")
                break
            except OSError:
                time.sleep(0.1)
        yield port, process
    finally:
        process.terminate()
        process.wait(30)


def get(port: int, path: str) -> dict[str, object]:
    """GET JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != 200:
        raise OSError(f"{path}: {answer.status}")
    return dict(json.loads(body)) if body.startswith(b"{") else {}


class Sender:
    """Sends frames over one kept connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def send(self, body: bytes) -> int:
        """Accepted events; waits and repeats on 429."""
        while True:
            self._connection.request(
                "POST", "/v1/events", body, {"Content-Type": "application/vnd.penstock.frames"}
            )
            answer = self._connection.getresponse()
            text = answer.read()
            if answer.status == 429:
                time.sleep(float(answer.headers["Retry-After"]))
                continue
            if answer.status != 202:
                raise RuntimeError(f"{answer.status}: {text[:200]!r}")
            return int(json.loads(text)["accepted"])


def now_us() -> int:
    """Integer microseconds since 1970."""
    return time.time_ns() // 1000


def rss_mib(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used."""
    parts = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(parts[11]) + int(parts[12])) / 100


def throughput(port: int, pid: int, pool: list[dict[str, object]], seconds: float) -> float:
    """Events per second acknowledged as durable, sent as fast as they are taken."""
    posts = int(150_000 * seconds) // (FRAME_EVENTS * FRAMES_PER_POST)
    boots = [Boot(f"load-{i}", pool) for i in range(6)]
    print(f"  building {posts * FRAME_EVENTS * FRAMES_PER_POST:,} events ...", flush=True)
    # Frames are built beforehand, so their events lie in the past of the moment they are sent.
    bodies: list[list[bytes]] = [[] for _ in boots]
    began_us = now_us()
    for at in range(posts):
        boot = boots[at % len(boots)]
        ts = began_us - 120_000_000 + at * 50_000
        bodies[at % len(boots)].append(
            b"".join(boot.frame(ts + i * 10_000) for i in range(FRAMES_PER_POST))
        )
    accepted = [0] * len(boots)

    def run(which: int) -> None:
        sender = Sender(port)
        for body in bodies[which]:
            accepted[which] += sender.send(body)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(boots))]
    cpu = cpu_s(pid)
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    used = cpu_s(pid) - cpu
    rate = sum(accepted) / took
    print(f"  {sum(accepted):,} events in {took:.1f} s: {rate:,.0f}/s", end="; ")
    print(f"server CPU {used / sum(accepted) * 1e6:.1f} us/event, RSS {rss_mib(pid):.0f} MiB")
    return rate


def visibility(port: int, pool: list[dict[str, object]], seconds: float, rate: int) -> list[float]:
    """Seconds from an event's end to its row being answered by the API, at a steady rate."""
    boot = Boot("steady", pool)
    sender = Sender(port)
    seen: list[float] = []
    pending: list[tuple[str, float]] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set() or pending:
            if not pending:
                time.sleep(0.005)
                continue
            request_id, at = pending[0]
            try:
                get(port, f"/v1/requests/{request_id}")
            except OSError:
                time.sleep(0.01)
                continue
            seen.append(time.time() - at)
            pending.pop(0)

    watcher = threading.Thread(target=look)
    watcher.start()
    events = rate // 20
    until = time.monotonic() + seconds
    beat = time.monotonic()
    marker = 0
    while time.monotonic() < until:
        ts = now_us()
        marker += 1
        request_id = f"probe{marker}-{ts}"
        if marker % 10 == 0:
            boot._pool[(boot.seq + events - 1) % len(pool)]["request_id"] = request_id
        body = boot.frame(ts, events)
        if marker % 10 == 0:
            pending.append((request_id, ts / 1e6))
        sender.send(body)
        beat += 0.05
        time.sleep(max(beat - time.monotonic(), 0))
    stop.set()
    watcher.join(30)
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes")
    options = parser.parse_args()
    rng = random.Random(7)
    pool = [request_row(rng, 0) for _ in range(20_000)]
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as (port, process):
        print("sustained ingest through HTTP frames, windows on (goal 100,000/s)")
        rate = throughput(port, process.pid, pool, 15 if options.quick else 60)
        print(f"  {rate / 100_000:.2f} of the goal")
        print("event to row visible in the API at 20,000/s (goal p99 <= 1 s)")
        seen = sorted(visibility(port, pool, 15 if options.quick else 60, 20_000))
        p99 = seen[int(len(seen) * 0.99) - 1]
        print(f"  {len(seen)} probes: p50 {statistics.median(seen):.3f} s, p99 {p99:.3f} s")
        print("memory at 20,000/s (goal: flat over ten minutes)")
        steady = Boot("memory", pool)
        sender = Sender(port)
        minutes = 1 if options.quick else 10
        for minute in range(minutes):
            until = time.monotonic() + 60
            beat = time.monotonic()
            while time.monotonic() < until:
                sender.send(steady.frame(now_us(), 2000))
                beat += 0.1
                time.sleep(max(beat - time.monotonic(), 0))
            print(f"  minute {minute + 1}: RSS {rss_mib(process.pid):.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
