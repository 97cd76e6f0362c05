"""Processors of tests/support/faust_process.py on a broker: started, loaded, and asked what they did."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from penstock.schemas.topics import EVENTS, PANES
from penstock.tests.support.faust_process import Ledger
from penstock.tests.support.kafka import Broker, unique

PARTITIONS = 8
SHARDS = 4


class Stack:
    """Topics made anew, an empty ledger, and the processors that were started."""

    def __init__(self, folder: Path, broker: Broker) -> None:
        self.folder = folder
        self.broker = broker
        self.group = unique("group")
        self.ledger = Ledger(folder)
        self.sent: Counter[int] = Counter()
        self.processors: list[subprocess.Popen[bytes]] = []
        self._client: dict[str, str | int | float | bool] = {
            "bootstrap.servers": broker.direct,
            "log_level": 0,
        }
        self.make_topics()
        self._producer = Producer({**self._client, "linger.ms": 1, "acks": "all"})

    def make_topics(self) -> None:
        """Delete and make both."""
        admin = AdminClient(self._client)
        for future in admin.delete_topics([EVENTS, PANES]).values():
            with contextlib.suppress(KafkaException):  # there were none
                future.result(20)
        eventually(lambda: EVENTS not in admin.list_topics(timeout=5).topics, 10)
        config = {"message.timestamp.type": "LogAppendTime"}
        topics = [
            NewTopic(EVENTS, PARTITIONS, 1, config=config),
            NewTopic(PANES, SHARDS, 1, config=config),
        ]
        for future in admin.create_topics(topics).values():
            future.result(20)

    def start(self) -> subprocess.Popen[bytes]:
        """A processor."""
        module = "penstock.tests.support.faust_process"
        command = [
            sys.executable,
            "-m",
            module,
            self.broker.address,
            self.group,
            str(self.folder),
        ]
        with (self.folder / f"processor-{len(self.processors)}.log").open("wb") as output:
            self.processors.append(subprocess.Popen(command, stdout=output, stderr=output))
        return self.processors[-1]

    def send(self, partition: int, count: int = 1, value: bytes | None = None) -> None:
        """Numbered messages, or some with this value."""
        for _ in range(count):
            body = b"%d-%d" % (partition, self.sent[partition]) if value is None else value
            self._producer.produce(EVENTS, body, partition=partition)
            self.sent[partition] += 1
        assert self._producer.flush(30) == 0

    def send_everywhere(self, count: int) -> None:
        """Numbered messages to each partition."""
        for partition in range(PARTITIONS):
            self.send(partition, count)

    def tell(self, topic: str, value: bytes | None, partition: int = 0) -> None:
        """A message that is not counted."""
        self._producer.produce(topic, value, partition=partition, headers={"name": b"value"})
        assert self._producer.flush(30) == 0

    @contextlib.contextmanager
    def load(self, per_s: int = 300) -> Iterator[None]:
        """Send to random partitions meanwhile."""
        stopped = threading.Event()

        def run() -> None:
            while not stopped.wait(0.05):
                for _ in range(per_s // 20):
                    partition = random.randrange(PARTITIONS)
                    body = b"%d-%d" % (partition, self.sent[partition])
                    self._producer.produce(EVENTS, body, partition=partition)
                    self.sent[partition] += 1
                self._producer.flush(30)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()

    def stored(self) -> int:
        """Rows in the ledger."""
        count = self.ledger.ask("SELECT count(*) FROM rows")[0][0]
        assert isinstance(count, int)
        return count

    def logged(self, what: str, since: float = 0.0) -> list[tuple[Any, ...]]:
        """Process, time, partition and detail of what was noted."""
        sql = "SELECT pid, at, partition, detail FROM log WHERE what = ? AND at >= ? ORDER BY rowid"
        return self.ledger.ask(sql, what, since)

    def first_rows(self, since: float) -> dict[int, float]:
        """By partition, when its first row after a moment was stored."""
        sql = "SELECT partition, min(at) FROM rows WHERE at > ? GROUP BY 1"
        return dict(self.ledger.ask(sql, since))  # type: ignore[arg-type]

    def await_(self, look: Callable[[], Any], within_s: float = 20.0) -> None:
        """Wait until it is true."""
        eventually(look, within_s, self.state)

    def await_all(self, within_s: float = 30.0) -> None:
        """Wait until everything that was sent is stored."""
        self.await_(lambda: self.stored() >= self.sent.total(), within_s)

    def state(self) -> str:
        """For messages of failures."""
        logs = sorted(self.folder.glob("processor-*.log"))
        tails = [f"{log.name}:\n{log.read_text()[-3000:]}" for log in logs]
        return f"{self.stored()} of {self.sent.total()} are stored\n" + "\n".join(tails)

    def check_exactly_once(self) -> None:
        """Every message once, in order, with the bytes that were sent."""
        rows = self.ledger.ask('SELECT partition, "offset", value FROM rows ORDER BY rowid')
        found: dict[int, list[bytes]] = {}
        for row in rows:
            partition, offset, value = row
            assert isinstance(partition, int)
            assert isinstance(value, bytes)
            of_partition = found.setdefault(partition, [])
            assert offset == len(of_partition), f"partition {partition}: {offset} out of order"
            of_partition.append(value)
        assert found == {p: [b"%d-%d" % (p, i) for i in range(n)] for p, n in self.sent.items()}
        assert self.logged("hole") == []

    def lag(self) -> dict[int, int]:
        """What is not committed, by partition; those without any are left out."""
        with self._consumer() as client:
            places = [TopicPartition(EVENTS, p) for p in range(PARTITIONS)]
            committed = client.committed(places, timeout=10)
        lags = {p.partition: self.sent[p.partition] - max(p.offset, 0) for p in committed}
        return {partition: lag for partition, lag in lags.items() if lag}

    def commit(self, offsets: dict[int, int]) -> None:
        """Commit for the group, which has no members."""
        with self._consumer() as client:
            places = [TopicPartition(EVENTS, p, offset) for p, offset in offsets.items()]
            client.commit(offsets=places, asynchronous=False)

    def delete_before(self, partition: int, offset: int) -> None:
        """What retention does."""
        admin = AdminClient(self._client)
        for future in admin.delete_records([TopicPartition(EVENTS, partition, offset)]).values():
            future.result(20)

    def close(self) -> None:
        """Kill what runs."""
        for process in self.processors:
            if process.poll() is None:
                process.kill()
                process.wait()
        self.ledger.close()

    @contextlib.contextmanager
    def _consumer(self) -> Iterator[Consumer]:
        client = Consumer({**self._client, "group.id": self.group})
        try:
            yield client
        finally:
            client.close()


def eventually(
    look: Callable[[], Any], within_s: float, state: Callable[[], str] = lambda: ""
) -> None:
    """Wait until it is true; `state` tells what is, where it does not become so."""
    until = time.monotonic() + within_s
    while not look():
        assert time.monotonic() < until, f"not within {within_s} s: {state()}"
        time.sleep(0.05)
