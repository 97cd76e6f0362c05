"""A Kafka behind a proxy, what arrived in it, and processes that emit into it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from confluent_kafka import Consumer, TopicPartition
from penstock import Emitter, EmitterSettings
from penstock.producers.kafka import KafkaTransport
from penstock.producers.transport import ServerAway
from penstock.schemas.frames import FrameHeader, encode_frame, read_header
from penstock.schemas.kafka import parse_address
from penstock.schemas.topics import EVENTS
from penstock.tests.support.kafka import Broker, KafkaMissing
from penstock.tests.support.kafka_messages import create_topic, settings_of
from penstock.tests.support.ports import free_port
from penstock.tests.support.proxy import Proxy

R = TypeVar("R")
PARTITIONS = 4
SCRIPT = """
import sys, time
from penstock import Emitter, EmitterSettings
settings = EmitterSettings(
    spool_dir=sys.argv[2], flush_interval_s=0.02, retry_cap_s=0.2, timeout_s=5, close_timeout_s=2
)
emit = Emitter(url=sys.argv[1], settings=settings)
for i in range(int(sys.argv[3])):
    emit.step(step=i)
    if i % 20 == 0:
        emit.flush(0.002)
        print(emit.boot_id, emit._session.boot.next_seq, flush=True)
"""

FORKING = """
import os, sys, time
from penstock import Emitter, EmitterSettings
settings = EmitterSettings(spool_dir=sys.argv[2], flush_interval_s=0.02, hash_key="k")
emit = Emitter(url=sys.argv[1], settings=settings)
step = emit.step
for i in range(100):
    step(step=i)
assert emit.flush(20)
child = os.fork()
for i in range(50):
    step(step=1000 + i)
print(emit.boot_id, child, flush=True)
if child:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
# Both leave by the interpreter's own end.
"""


@dataclass
class Arrived:
    """One boot's frames as Kafka has them, each partition in its order."""

    headers: list[FrameHeader] = field(default_factory=list)
    partitions: set[int] = field(default_factory=set)
    keys: set[bytes] = field(default_factory=set)

    @property
    def first_seqs(self) -> list[int]:
        """Sequence numbers in the order of their first arrival: what is left of duplicates."""
        numbers = (n for h in self.headers for n in range(h.seq0, h.seq0 + h.count))
        return list(dict.fromkeys(numbers))

    @property
    def gaps(self) -> set[int]:
        return {n for h in self.headers for low, high in h.gaps for n in range(low, high)}

    @property
    def closed(self) -> bool:
        return any(header.closing for header in self.headers)


class Kafka:
    """A broker behind a proxy: clients of the emitter go through it, the test goes round it."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.proxy = Proxy("127.0.0.1", port)
        self.broker = Broker(folder, port=port, advertised_port=self.proxy.port)
        self.url = f"kafka://{self.broker.bootstrap}"

    def __enter__(self) -> Kafka:
        self.broker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.broker.kill()
        self.proxy.close()

    def topic(self, name: str, partitions: int = PARTITIONS, **config: str) -> str:
        return create_topic(
            self.broker.direct, name, partitions, message_timestamp_type="LogAppendTime", **config
        )

    def transport(self, topic: str, timeout_s: float = 5.0) -> KafkaTransport:
        return KafkaTransport(parse_address(self.url), topic=topic, timeout_s=timeout_s)

    def boots(self, topic: str = EVENTS) -> dict[str, Arrived]:
        return arrived(settings_of(self.broker.direct), topic)

    def wait_closed(self, boot_id: str, topic: str = EVENTS) -> None:
        """Until the last frame of a boot is there."""
        wait_until(lambda: self.boots(topic).get(boot_id, Arrived()).closed)


def wait_until(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def arrived(settings: dict[str, Any], topic: str) -> dict[str, Arrived]:
    """Everything that is in a topic now, by boot."""
    quick = {"group.id": "test", "enable.auto.commit": False, "fetch.wait.max.ms": 10}
    consumer = Consumer({**quick, **settings})
    found: dict[str, Arrived] = defaultdict(Arrived)
    try:
        numbers = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        places = [TopicPartition(topic, number, 0) for number in numbers]
        left = sum(consumer.get_watermark_offsets(place, timeout=10)[1] for place in places)
        consumer.assign(places)
        while left > 0:
            messages = consumer.consume(min(left, 1000), timeout=10)
            assert messages, "the broker does not give what it has"
            left -= len(messages)
            for message in messages:
                assert message.error() is None
                header = read_header(message.value() or b"")
                boot = found[header.boot_id]
                boot.headers.append(header)
                boot.partitions.add(message.partition() or 0)
                boot.keys.add(message.key() or b"")
    finally:
        consumer.close()
    return dict(found)


@contextmanager
def or_skipped(make: Callable[[], AbstractContextManager[R]]) -> Iterator[R]:
    """What `make` makes, started; without Kafka tests are skipped, and fail where `CI=true`."""
    try:
        made = make()
    except KafkaMissing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing))
        pytest.skip(str(missing))
    with made as running:
        yield running


def send_until_taken(transport: KafkaTransport, frame: bytes) -> None:
    """As the sender does it."""

    def taken() -> bool:
        try:
            transport.send([frame])
        except ServerAway:
            return False
        return True

    wait_until(taken)


def control(boot_id: str, home: int | None = 0) -> bytes:
    header = FrameHeader(
        kind="control",
        worker_id="w",
        boot_id=boot_id,
        seq0=0,
        count=0,
        next_seq=0,
        clock_us=1,
        home=home,
    )
    return encode_frame(header, [])


def spooled_files(settings: EmitterSettings) -> list[Path]:
    assert settings.spool_dir is not None
    return list(Path(settings.spool_dir).glob("**/*.seg"))


def emit_steps(emit: Emitter, numbers: range) -> None:
    for i in numbers:
        emit.step(step=i)
        if i % 20 == 0:
            emit.flush(0.005)


def script(text: str, url: str, spool: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", text, url, str(spool), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def child_of_multiprocessing(url: str, spool_dir: str, step: int) -> None:
    emit = Emitter(url=url, settings=EmitterSettings(spool_dir=spool_dir, flush_interval_s=60.0))
    emit.step(step=step)
    # No close: the end of the process does it.
