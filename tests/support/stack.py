"""The distributed form in real processes: a store, workers that are killed and paused, and their logs."""

from __future__ import annotations

import base64
import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import clickhouse_connect
import httpx
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from penstock.schemas.kafka import parse_address
from penstock.schemas.topics import ALERTS, DEAD_LETTERS, EVENTS, PANES
from penstock.streams.migrate import migrate
from penstock.streams.store import Store
from penstock.streams.topics import Topics, ensure_topics
from penstock.tests.support.chstore import StoreServer
from penstock.tests.support.openmetrics import families
from penstock.tests.support.ports import unused_ports
from penstock.tests.support.proxy import Proxy
from penstock.tests.support.recount import coverage, recount, stored
from penstock.tests.support.senders import Habits, Sender

START_AGAIN, STUCK = 75, 70  # exit codes after which a supervisor starts a worker again
KEY = base64.b64encode(b"k" * 32).decode()
_BROKEN = ("Traceback", "CRITICAL")


class AnyBroker(Protocol):
    """One node or several."""

    @property
    def bootstrap(self) -> str:
        """`host:port`, by commas."""
        ...


class Worker:
    """`penstock worker`, started again when it ends by itself with 75 or 70, as a supervisor does.

    Args:
        name: of its log.
        command: what is run.
        environment: of the process.
        folder: where it runs and its log is.

    Attributes:
        endings: exit codes of ends that nobody asked for.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: dict[str, str], folder: Path
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.endings: list[int] = []
        self._folder = folder
        self._environment = environment
        (self.port,) = unused_ports(1)
        self._command = [*command, "--metrics-port", str(self.port)]
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._tended = False

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._process is not None and self._process.poll() is None

    def start(self, **environment: str) -> None:
        """Start; does not wait. `environment` is for this one life."""
        with self._lock:
            assert self._process is None, "it runs already"
            self._launch(environment)
            self._tended = True

    def _launch(self, environment: dict[str, str]) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env=self._environment | environment,
            )

    def tend(self) -> None:
        """Start it again where it ended by itself."""
        with self._lock:
            if not self._tended or self._process is None or self._process.poll() is None:
                return
            self.endings.append(self._process.returncode)
            self._launch({})

    def kill(self) -> None:
        """kill -9, where it runs."""
        with self._lock:
            self._tended = False
            if self._process is not None:
                self._process.kill()
                self._process.wait()
                self._process = None

    def stop(self, within_s: float = 30.0) -> None:
        """SIGTERM; it must end in order."""
        with self._lock:
            self._tended = False
            assert self._process is not None
            self._process.send_signal(signal.SIGTERM)
            code = self._process.wait(within_s)
            self._process = None
        assert code == 0, f"{self.name} ended with {code}:\n{self.tail()}"

    def pause(self) -> None:
        """SIGSTOP."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def is_ready(self) -> bool:
        """Whether it works on all that is its own."""
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz", timeout=2).status_code == 200
        return False

    def metrics(self) -> dict[str, float]:
        """By name without prefix and suffix, the sum over the labels."""
        text = httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=5).text
        found: dict[str, float] = {}
        for family in families(text):
            for sample in family.samples:
                name = sample.name.removeprefix("penstock_worker_").removesuffix("_total")
                found[name] = found.get(name, 0.0) + sample.value
        return found

    def tail(self, characters: int = 3000) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""


class Watcher(threading.Thread):
    """Asks the reader all the time whether each row is there once, and whether rows vanish.

    Attributes:
        doubled: counts that differed from the unique identities, at any moment.
        vanished: counts that went down.
        looks: answers that there were.
    """

    def __init__(self, url: str) -> None:
        super().__init__(name="watcher", daemon=True)
        self.doubled: list[tuple[int, int]] = []
        self.vanished: list[tuple[int, int]] = []
        self.looks = 0
        self.ending = threading.Event()
        self._url = url

    def run(self) -> None:
        """Ask."""
        highest = 0
        while not self.ending.wait(0.3):
            with contextlib.suppress(ClickHouseError, OSError):
                count, unique = ask(
                    self._url, "SELECT count(), uniqExact(boot_id, seq) FROM penstock.requests"
                )[0]
                self.looks += 1
                if count != unique:
                    self.doubled.append((count, unique))
                if count < highest:
                    self.vanished.append((highest, count))
                highest = max(highest, count)


def ask(url: str, sql: str, timeout_s: int = 10) -> list[tuple[Any, ...]]:
    """Rows of one query, by a client of its own."""
    client = clickhouse_connect.get_client(
        dsn=url,
        autogenerate_session_id=False,
        connect_timeout=timeout_s,
        send_receive_timeout=timeout_s,
        query_retries=0,
    )
    try:
        return [tuple(row) for row in client.query(sql).result_rows]
    finally:
        client.close()


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
        self.store = StoreServer(store_folder or folder / "store")
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

    def await_ready(self, workers: Sequence[Worker] | None = None, within_s: float = 60.0) -> None:
        """Wait until workers work, all that run where none are named."""
        chosen = [w for w in self.workers if w.running] if workers is None else workers
        self.await_(lambda: all(worker.is_ready() for worker in chosen), within_s, "ready")

    def count(self) -> int:
        """A plain count of requests, as Grafana's reader makes it."""
        return int(ask(self.store.reader_url, "SELECT count() FROM penstock.requests")[0][0])

    def await_rows(self, more: int = 200, within_s: float = 60.0) -> None:
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

    def settle(self, within_s: float = 60.0) -> None:
        """Wait until everything that was sent is stored and in closed windows; stop the workers."""
        rows = sum(sums[0] for (kind, _), sums in self.wanted().items() if kind == "request")
        self.await_(lambda: self.count() >= rows, within_s, f"{rows} requests stored")
        newest = "(SELECT max(toUnixTimestamp(ts)) FROM penstock.requests)"
        closed = "SELECT min(toUnixTimestamp(closed_ts)) FROM penstock.checkpoints"
        sql = f"SELECT ({closed}) >= (intDiv({newest}, 10) + 1) * 10"
        self.await_(lambda: ask(self.store.url, sql)[0][0], within_s, "windows closed")
        self.stop_workers()

    def stop_workers(self) -> None:
        """SIGTERM one after the other, the last one with everything in its hands."""
        running = [worker for worker in self.workers if worker.running]
        while running:
            self.await_ready(running)
            running.pop(0).stop()

    def check(
        self, vanishing: bool = False, wanted: Callable[[int, int], bool] = lambda *_: True
    ) -> None:
        """Compare everything; the workers have been stopped.

        Args:
            vanishing: whether rows may have gone and come again.
            wanted: which windows are compared, by length and end in seconds.
        """
        self.watcher.ending.set()
        self.watcher.join(30)
        assert self.watcher.looks > 3
        assert self.watcher.doubled == [], "a plain count saw rows twice"
        assert vanishing or self.watcher.vanished == [], "rows vanished"
        self.check_rows()
        self.check_coverage()
        found = recount(self.store.url, wanted)
        assert found.windows > 100
        assert not found.wrong, f"{len(found.wrong)} numbers of windows: {found.wrong[:12]}"
        self.check_logs()
        self.check_audit()

    def check_rows(self) -> None:
        """Every row that was sent is there once, with its content, and no other."""
        expected = self.wanted()
        found = {
            key: counts for key, counts in stored(self.store.reader_url).items() if self._is_ours(key)
        }
        differing = {
            key: (expected.get(key), found.get(key))
            for key in expected.keys() | found.keys()
            if expected.get(key) != found.get(key)
        }
        assert not differing, f"sent, stored: {differing}"
        rows = sum(sums[0] for (kind, _), sums in stored(self.store.reader_url).items() if kind == "request")
        assert self.count() == rows

    def _is_ours(self, key: tuple[str, str]) -> bool:
        """Whether a boot belongs to a sender; scenarios look after others themselves."""
        return any(key[1].startswith(f"{sender.name}-") for sender in self.senders)

    def check_coverage(self) -> None:
        """Every boot is closed, and nothing of it is missing."""
        found = coverage(self.store.url)
        for sender in self.senders:
            for boot_id, events in sender.boots().items():
                row = found[boot_id]
                numbers = [row[n] for n in ("expected", "received", "stored")]
                assert numbers == [events] * 3, f"{events} sent: {row}"
                assert [row[n] for n in ("missing", "gap", "rejected")] == [0, 0, 0], row
                assert row["state"] == "closed", row

    def check_logs(self) -> None:
        """No worker met an error that it did not foresee."""
        for worker in self.workers:
            text = worker.log.read_text(errors="replace")
            for line in text.splitlines():
                assert not line.startswith(_BROKEN[0]), f"{worker.name}:\n{text[-6000:]}"
            assert STUCK not in worker.endings, f"{worker.name}:\n{worker.tail()}"
            assert set(worker.endings) <= {START_AGAIN}, f"{worker.name}: {worker.endings}"

    def check_audit(self) -> None:
        """`penstock audit` agrees."""
        command = [sys.executable, "-m", "penstock", "audit", "--store", self.store.url]
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, timeout=120, check=False
        )
        if "No such command" in done.stderr:
            return
        assert done.returncode == 0, f"penstock audit:\n{done.stdout[-4000:]}{done.stderr[-2000:]}"

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
