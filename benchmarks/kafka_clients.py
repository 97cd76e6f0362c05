"""Which Kafka client costs a worker less. `python benchmarks/kafka_clients.py [--quick] [--kafka HOST:PORT]`.

confluent-kafka (the emitter's own transport) and aiokafka (its loop in a thread of its own) send the
same frames of request events to the same broker, each from a process of its own, taking turns: idle
pace, busy pace, flat out. CPU is that of the worker's process with all its threads. Then the
producer's own settings: compression of frames that are compressed already, and lingering.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import multiprocessing
import os
import random
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import penstock.producers.emitter  # noqa: F401  a worker has it anyway
from penstock.producers.outbox import BODY_BYTES, BODY_FRAMES
from penstock.schemas.frames import FrameHeader, encode_frame, read_header
from penstock.schemas.kafka import parse_address

SIZES = (100, 500, 2000)
RATES: tuple[int | None, ...] = (1_000, 20_000, None)
TOPIC = "penstock.events"
PARTITIONS = 8
Connection = Any  # multiprocessing's, whose class differs between platforms


class Client(Protocol):
    """What both have in common: the transport of the emitter."""

    def send(self, frames: list[bytes]) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Trial:
    """One measurement; `rate` None is flat out, `settings` are librdkafka's."""

    size: int
    rate: int | None
    seconds: float
    settings: tuple[tuple[str, str | int], ...] = ()


@dataclass(frozen=True)
class Result:
    """What a trial cost."""

    cpu_us_per_event: float
    events_per_s: float
    ack_p50_ms: float
    ack_p99_ms: float
    wire_ratio: float
    rss_mib: float


class Aiokafka:
    """The rival, as a transport: acks=all, idempotent, the partition named, its loop in a thread."""

    def __init__(self, servers: str) -> None:
        from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]

        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

        async def start() -> Any:
            producer = AIOKafkaProducer(
                bootstrap_servers=servers,
                acks="all",
                enable_idempotence=True,
                linger_ms=1,
                max_batch_size=BODY_BYTES,
                max_request_size=64 << 20,
            )
            await producer.start()
            return producer

        self._producer = asyncio.run_coroutine_threadsafe(start(), self._loop).result()

    def send(self, frames: list[bytes]) -> None:
        asyncio.run_coroutine_threadsafe(self._send(frames), self._loop).result(30)

    async def _send(self, frames: list[bytes]) -> None:
        waiting = []
        for frame in frames:
            header = read_header(frame)
            home = header.home or 0
            key = header.boot_id.encode()
            waiting.append(await self._producer.send(TOPIC, frame, key=key, partition=home))
        await asyncio.gather(*waiting)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._producer.stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


class Confluent:
    """The emitter's transport, with settings to try and librdkafka's count of bytes sent."""

    def __init__(self, servers: str, settings: dict[str, Any]) -> None:
        from penstock.producers.kafka import KafkaTransport

        self.sent_bytes = 0
        self._transport = KafkaTransport(parse_address(servers))
        self._transport._config |= settings
        if settings:
            self._transport._config |= {"statistics.interval.ms": 100, "stats_cb": self._count}
        self.send = self._transport.send
        self.close = self._transport.close

    def _count(self, text: str) -> None:
        self.sent_bytes = sum(each["txbytes"] for each in json.loads(text)["brokers"].values())


def request_frames(size: int, count: int) -> list[bytes]:
    """Frames of a boot: request events of a dozen fields."""
    draw = random.Random(size)
    frames = []
    for number in range(count):
        rows = [_request(draw, number * size + row) for row in range(size)]
        header = FrameHeader(
            kind="request",
            worker_id="gpu-7",
            boot_id="0123456789abcdef" * 2,
            seq0=number * size,
            count=size,
            next_seq=(number + 1) * size,
            clock_us=1_790_000_000_000_000 + number,
            home=3,
        )
        frames.append(encode_frame(header, rows))
    return frames


def _request(draw: random.Random, number: int) -> dict[str, Any]:
    ttft_ms = draw.lognormvariate(5.0, 0.4)
    return {
        "ts": 1_790_000_000_000_000 + number * 50,
        "request_id": f"{draw.getrandbits(128):032x}",
        "model": "llama-3-8b",
        "release": draw.choice(("r41", "r42")),
        "variant": draw.choice(("control", "canary")),
        "route": draw.choice(("/chat", "/embed", "/complete")),
        "status": "ok",
        "latency_ms": ttft_ms * draw.uniform(4, 12),
        "ttft_ms": ttft_ms,
        "input_tokens": draw.randrange(4000),
        "output_tokens": draw.randrange(600),
        "cost_usd": draw.randrange(100_000) / 1e7,
    }


def serve_trials(pipe: Connection, name: str, servers: str) -> None:
    """A worker's process: runs the trials it is told to, until None comes."""
    frames = {size: request_frames(size, 16) for size in SIZES}
    before = _rss_mib()
    client = Aiokafka(servers) if name == "aiokafka" else Confluent(servers, {})
    client.send(frames[100][:1])
    while (trial := pipe.recv()) is not None:
        pipe.send(_run(client, frames[trial.size], trial, before))
    client.close()


def _run(client: Client, frames: Sequence[bytes], trial: Trial, before_mib: float) -> Result:
    body = 1
    if trial.rate is None:
        body = max(1, min(BODY_FRAMES, BODY_BYTES // len(frames[0])))
    pause_s = trial.size / trial.rate if trial.rate else 0.0
    bodies = [[frames[(i + k) % len(frames)] for k in range(body)] for i in range(len(frames))]
    acks_ms: list[float] = []
    sent_before = getattr(client, "sent_bytes", 0)
    cpu_s, begin = _cpu_s(), time.perf_counter()
    while not acks_ms or time.perf_counter() - begin < trial.seconds:
        sent_at = time.perf_counter()
        client.send(bodies[len(acks_ms) % len(bodies)])
        acks_ms.append((time.perf_counter() - sent_at) * 1e3)
        time.sleep(max(0.0, begin + len(acks_ms) * pause_s - time.perf_counter()))
    events = len(acks_ms) * body * trial.size
    used_s, took_s = _cpu_s() - cpu_s, time.perf_counter() - begin
    ours = len(acks_ms) * sum(map(len, bodies[0]))
    if trial.settings:
        time.sleep(0.15)
        client.send(list(frames[:1]))  # takes the newest count along
    return Result(
        used_s / events * 1e6,
        events / took_s,
        statistics.median(acks_ms),
        sorted(acks_ms)[math.ceil(0.99 * len(acks_ms)) - 1],
        (getattr(client, "sent_bytes", 0) - sent_before) / ours,
        _rss_mib() - before_mib,
    )


def try_settings(pipe: Connection, servers: str) -> None:
    """As `serve_trials`, with a producer of its own for each trial and no frame twice in a body."""
    frames = request_frames(500, BODY_FRAMES)
    while (trial := pipe.recv()) is not None:
        client = Confluent(servers, dict(trial.settings))
        client.send(frames[:1])
        time.sleep(0.15)
        client.send(frames[:1])
        pipe.send(_run(client, frames, trial, 0.0))
        client.close()


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def make_topic(servers: str) -> None:
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    admin = AdminClient({"bootstrap.servers": servers})
    if TOPIC in admin.list_topics(timeout=10).topics:
        return
    config = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(4 << 20)}
    made = admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1, config=config)])
    made[TOPIC].result(20)


class Process:
    """One process that runs trials when asked."""

    def __init__(self, target: Callable[..., None], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=target, args=(theirs, *arguments))
        self._process.start()

    def run(self, trial: Trial) -> Result:
        self._pipe.send(trial)
        if not self._pipe.poll(60):
            raise SystemExit("a client did not finish in time")
        found: Result = self._pipe.recv()
        return found

    def end(self) -> None:
        self._pipe.send(None)
        self._process.join(20)


def compare(servers: str, seconds: float) -> None:
    clients = {name: Process(serve_trials, name, servers) for name in ("confluent", "aiokafka")}
    print(f"{'':<22}{'CPU us/event':^26}{'ack ms p50 (p99)':^34}{'events/s':^24}")
    print(
        f"{'frame':>6} {'events/s':>9}      confluent aiokafka ratio    confluent       aiokafka"
        "          confluent   aiokafka"
    )
    rss = {}
    for rate in RATES:
        for size in SIZES:
            pause_s = size / rate if rate else 0.0
            if pause_s > 4 * seconds:
                continue
            trial = Trial(size, rate, max(pause_s, seconds if rate else seconds / 2))
            one, two = (clients[name].run(trial) for name in clients)
            rss = {"confluent": one.rss_mib, "aiokafka": two.rss_mib}
            print(
                f"{size:>6} {rate or 'flat out':>9}"
                f"{one.cpu_us_per_event:>13.2f}{two.cpu_us_per_event:>9.2f}"
                f"{two.cpu_us_per_event / one.cpu_us_per_event:>6.1f}x"
                f"{one.ack_p50_ms:>8.1f} ({one.ack_p99_ms:>5.1f})"
                f"{two.ack_p50_ms:>9.1f} ({two.ack_p99_ms:>5.1f})"
                f"{one.events_per_s:>15,.0f}{two.events_per_s:>11,.0f}"
            )
    print(
        f"RSS above a worker without a client, at the end: confluent {rss['confluent']:.0f} MiB, "
        f"aiokafka {rss['aiokafka']:.0f} MiB ({rss['aiokafka'] / rss['confluent']:.1f}x)"
    )
    for client in clients.values():
        client.end()


def compare_settings(servers: str, seconds: float) -> None:
    process = Process(try_settings, servers)
    print("\nSettings of the producer, frames of 500 (zstd already)")
    print(f"{'':<24}{'CPU us/event':>13}{'bytes sent / frames':>22}{'ack ms p50':>12}")
    tried: list[tuple[str, str | int, int | None]] = [
        *(("compression.type", kind, None) for kind in ("none", "lz4", "zstd")),
        *(("linger.ms", linger, rate) for rate in (None, 20_000) for linger in (0, 1, 5)),
    ]
    for name, value, rate in tried:
        found = process.run(Trial(500, rate, seconds / 2, ((name, value),)))
        pace = "flat out" if rate is None else f"{rate:,}/s"
        print(
            f"{f'{name}={value}':<24}{found.cpu_us_per_event:>13.3f}{found.wire_ratio:>22.3f}"
            f"{found.ack_p50_ms:>12.1f}  {pace}"
        )
    process.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter trials")
    parser.add_argument("--kafka", help="host:port of a broker; without, one is started")
    arguments = parser.parse_args()
    seconds = 0.4 if arguments.quick else 3.0
    with ExitStack() as stack:
        servers = arguments.kafka
        if servers is None:
            from penstock.tests.support.kafka import Broker

            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-bench-"))
            servers = stack.enter_context(Broker(Path(folder))).bootstrap
        make_topic(servers)
        compare(servers, seconds)
        compare_settings(servers, seconds)


if __name__ == "__main__":
    main()
