"""The distributed form in real processes: a store, workers that are killed and paused, and their logs."""

from __future__ import annotations

import base64
import contextlib
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import httpx
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from penstock.schemas.kafka import parse_address
from penstock.schemas.topics import ALERTS, DEAD_LETTERS, EVENTS, PANES
from penstock.streams.kafka.topics import Topics, ensure_topics
from penstock.streams.storage.migrate import migrate
from penstock.streams.storage.store import Store
from penstock.tests.support.chstore import StoreServer
from penstock.tests.support.proxy import Proxy
from penstock.tests.support.recount import Watcher, ask
from penstock.tests.support.senders import Habits, Sender
from penstock.tests.support.worker import Worker

KEY = base64.b64encode(b"k" * 32).decode()


class AnyBroker(Protocol):
    """One node or several."""

    @property
    def bootstrap(self) -> str:
        """`host:port`, by commas."""
        ...


class Stack:
    """A store, topics, workers, senders; and the comparison of what was sent with what is there.

    Args:
        folder: of its own.
        broker: that runs; its topics of ours are made anew.
        partitions: of the events topic.
        shards: of the panes topic.
        replication: copies of each partition.
        proxied: whether workers reach the store through `proxy`.
        seed: of everything random.
        store_folder: of the store, where not below `folder`.
    """

    def __init__(
        self,
        folder: Path,
        broker: AnyBroker,
        partitions: int = 8,
        shards: int = 4,
        replication: int = 1,
        proxied: bool = False,
        seed: int = 0,
        store_folder: Path | None = None,
    ) -> None:
        self.folder = folder
        self.broker = broker
        self.partitions = partitions
        self.seed = seed
        self.random = random.Random(seed)
        self.senders: list[Sender] = []
        self.workers: list[Worker] = []
        self.config = folder / "penstock.yaml"
        folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text("")
        self.store_folder = store_folder or folder / "store"
        self.store = StoreServer(self.store_folder)
        self.proxy = Proxy("127.0.0.1", self.store.port) if proxied else None
        self.watcher = Watcher(self.store.reader_url)
        self._tending = threading.Thread(target=self._tend, name="tending", daemon=True)
        self._closing = threading.Event()
        self._topics = Topics(partitions=partitions, shards=shards, replication=replication)

    def __enter__(self) -> Stack:
        try:
            self.store.start()
            self.delete_topics()
            self.prepare()
        except BaseException:
            self.close()
            raise
        self._tending.start()
        self.watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(self.state())
        self.close()

    # -- what it consists of

    @property
    def worker_store_url(self) -> str:
        """The store as workers reach it."""
        if self.proxy is None:
            return self.store.url
        return self.store.url.replace(f":{self.store.port}/", f":{self.proxy.port}/")

    def prepare(self) -> None:
        """Migrate the store and make the topics."""
        opened = Store(self.store.url)
        try:
            migrate(opened)
            ensure_topics(parse_address(self.broker.bootstrap), opened, self._topics)
        finally:
            opened.close()

    def delete_topics(self, *names: str) -> None:
        """Delete some topics of ours, or all."""
        wanted = names or (EVENTS, PANES, ALERTS, DEAD_LETTERS)
        admin = AdminClient({"bootstrap.servers": self.broker.bootstrap, "log_level": 0})
        present = [name for name in wanted if name in admin.list_topics(timeout=20).topics]
        for future in admin.delete_topics(present).values() if present else ():
            with contextlib.suppress(KafkaException):
                future.result(20)
        self.await_(lambda: not set(present) & set(admin.list_topics(timeout=20).topics), 20)

    def add_worker(self, *flags: str, module: str = "penstock", start: bool = True) -> Worker:
        """One more worker.

        Args:
            flags: further flags of the command.
            module: what is run in place of `penstock`, with the same arguments.
            start: whether it is started.
        """
        environment = os.environ | {
            "PENSTOCK_KAFKA": self.broker.bootstrap,
            "PENSTOCK_STORE": self.worker_store_url,
            "PENSTOCK_CONFIG": str(self.config),
            "PENSTOCK_SEALING_KEY": KEY,
        }
        command = [sys.executable, "-m", module, "worker", *flags]
        worker = Worker(f"worker-{len(self.workers)}", command, environment, self.folder)
        self.workers.append(worker)
        if start:
            worker.start()
        return worker

    def add_workers(self, count: int) -> list[Worker]:
        """Some workers, once all of them work."""
        found = [self.add_worker() for _ in range(count)]
        self.await_ready(found)
        return found

    def add_senders(self, count: int, habits: Habits | None = None) -> list[Sender]:
        """Some senders, at once under way."""
        found = []
        for _ in range(count):
            number = len(self.senders)
            bootstrap, name = self.broker.bootstrap, f"w{number}"
            sender = Sender(bootstrap, name, self.seed * 100 + number, self.partitions, habits)
            self.senders.append(sender)
            sender.start()
            found.append(sender)
        return found

    # -- waiting

    def await_(self, look: Callable[[], Any], within_s: float = 30.0, what: str = "") -> None:
        """Wait until it is true; errors of a store that is away are no answer."""
        until = time.monotonic() + within_s
        while True:
            with contextlib.suppress(ClickHouseError, httpx.HTTPError):
                if look():
                    return
            assert time.monotonic() < until, f"not within {within_s} s: {what}\n{self.state()}"
            time.sleep(0.1)

    def await_ready(self, workers: Sequence[Worker] | None = None, within_s: float = 90.0) -> None:
        """Wait until workers work, all that run where none are named."""
        chosen = [w for w in self.workers if w.running] if workers is None else workers
        self.await_(lambda: all(worker.is_ready() for worker in chosen), within_s, "ready")

    def count(self) -> int:
        """A plain count of requests, as Grafana's reader makes it."""
        return int(ask(self.store.reader_url, "SELECT count() FROM penstock.requests")[0][0])

    def await_rows(self, more: int = 200, within_s: float = 90.0) -> None:
        """Wait until some more rows are stored."""
        self.await_(lambda: True, 1)
        before = [self.count()]
        self.await_(lambda: self.count() >= before[0] + more, within_s, f"{more} more rows")

    def metric(self, name: str) -> float:
        """The sum over the workers that run."""
        return sum(worker.metrics()[name] for worker in self.workers if worker.running)

    # -- the end of a scenario

    def end_load(self) -> None:
        """Have the senders end; everything of theirs is acknowledged then."""
        for sender in self.senders:
            sender.ending.set()
        for sender in self.senders:
            sender.join(150)
            assert not sender.is_alive()
            assert sender.unsent == 0, f"{sender.name} could not send {sender.unsent} frames"

    def wanted(self) -> dict[tuple[str, str], tuple[int, ...]]:
        """What must be stored, as recount.stored tells it."""
        return {key: sums for sender in self.senders for key, sums in sender.wanted().items()}

    def settle(self, within_s: float = 150.0) -> None:
        """Wait until everything that was sent is stored and in closed windows; stop the workers."""
        rows = sum(sums[0] for (kind, _), sums in self.wanted().items() if kind == "request")
        self.await_(lambda: self.count() >= rows, within_s, f"{rows} requests stored")
        newest = "(SELECT max(toUnixTimestamp(ts)) FROM penstock.requests)"
        closed = "SELECT min(toUnixTimestamp(closed_ts)) FROM penstock.checkpoints"
        sql = f"SELECT ({closed}) >= (intDiv({newest}, 10) + 1) * 10"
        self.await_(lambda: ask(self.store.url, sql)[0][0], within_s, "windows closed")
        self.stop_workers()
        if not self._is_rewritten():  # a stop that was cut short leaves that to whoever comes next
            (worker,) = self.add_workers(1)
            self.await_(self._is_rewritten, within_s, "windows rewritten")
            worker.stop()

    def _is_rewritten(self) -> bool:
        """Whether no window still waits for what late rows changed in it."""
        sql = "SELECT countIf(notEmpty(stale_s)) FROM penstock.checkpoints"
        return bool(ask(self.store.url, sql)[0][0] == 0)

    def stop_workers(self) -> None:
        """SIGTERM one after the other, the last one with everything in its hands."""
        running = [worker for worker in self.workers if worker.running]
        while running:
            self.await_ready(running)
            first = running.pop(0)
            before = [worker.metrics()["rebalances"] for worker in running]
            first.stop()
            self.await_(
                lambda: all(
                    worker.metrics()["rebalances"] > count
                    for worker, count in zip(running, before, strict=True)  # noqa: B023
                ),
                what="the others take over",
            )

    def state(self) -> str:
        """For messages of failures."""
        lines = [f"seed {self.seed}"]
        for sender in self.senders:
            rows = sum(frame.rows for frame in sender.frames)
            lines.append(f"{sender.name}: {rows} rows made, {sender.acknowledged} acknowledged")
        with contextlib.suppress(ClickHouseError, OSError):
            lines.append(f"{self.count()} requests stored")
        for worker in self.workers:
            lines.append(f"{worker.name}, ended by itself {worker.endings}:\n{worker.tail()}")
        return "\n".join(lines)

    def close(self) -> None:
        """End everything."""
        self._closing.set()
        self.watcher.ending.set()
        for sender in self.senders:
            sender.ending.set()
        if self._tending.is_alive():
            self._tending.join(10)
        for worker in self.workers:
            if worker.running:
                worker.resume()
            worker.kill()
        self.store.kill()
        if self.proxy is not None:
            self.proxy.close()
        for sender in self.senders:
            sender.join(1)

    def _tend(self) -> None:
        while not self._closing.wait(0.2):
            for worker in self.workers:
                worker.tend()
