"""A processor whose store is a SQLite file: the real Faust application, on a real broker, that records.

`python -m penstock.tests.support.faust_process BROKER GROUP FOLDER` runs one. Files in the folder change
what it does: `away` makes every call fail, `slow` (seconds) delays each flush, `lossy` (from the start on) has
Faust not deliver some messages the first time.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from faust.types import Message as FaustMessage
from penstock.api import openmetrics
from penstock.schemas.errors import StoreError
from penstock.schemas.kafka import parse_address
from penstock.schemas.topics import EVENTS, PANES
from penstock.streams.app.application import WorkerApp, build_app
from penstock.streams.app.http import Reading, Sources, WorkerHTTP
from penstock.streams.app.ports import Lease, WorkerSettings
from penstock.streams.app.runner import run
from penstock.streams.app.watchdog import Judge, Limits, Look, Watchdog
from penstock.streams.kafka.messages import Message, Outgoing
from penstock.streams.kafka.outlet import KafkaOutlet

SESSION_TIMEOUT_S = 6.0  # the least that a broker takes
SCHEMA = """
CREATE TABLE IF NOT EXISTS rows (partition INT, "offset" INT, value BLOB, pid INT, at REAL);
CREATE INDEX IF NOT EXISTS places ON rows (partition, "offset");
CREATE TABLE IF NOT EXISTS log (pid INT, at REAL, what TEXT, partition INT, detail TEXT);
"""


class Ledger:
    """The file that stands for the store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._db = sqlite3.connect(
            folder / "ledger.db", timeout=30, isolation_level=None, check_same_thread=False
        )
        self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;")
        self._db.executescript(SCHEMA)

    def check(self) -> None:
        if (self.folder / "away").exists():
            raise StoreError("away", retryable=True)

    def cut(self, partition: int) -> int:
        query = 'SELECT max("offset") FROM rows WHERE partition = ?'
        (found,) = self._db.execute(query, (partition,)).fetchone()
        return -1 if found is None else int(found)

    def note(self, what: str, partition: int = -1, detail: str = "") -> None:
        row = (os.getpid(), time.time(), what, partition, detail)
        self._db.execute("INSERT INTO log VALUES (?, ?, ?, ?, ?)", row)

    def close(self) -> None:
        self._db.close()

    def ask(self, sql: str, *parameters: object) -> list[tuple[object, ...]]:
        return self._db.execute(sql, parameters).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


class RecordingIngestor:
    """Keeps the rules of the real one, writes in a thread as it does, and notes every breach."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._cuts: dict[int, int] = {}
        self._writer = ThreadPoolExecutor(1)
        self._writing: Future[dict[int, int]] | None = None

    def assign(self, partition: int) -> int:
        self.settle()
        self._ledger.check()
        self._cuts[partition] = self._ledger.cut(partition)
        self._ledger.note("assign", partition, str(self._cuts[partition]))
        return self._cuts[partition]

    def release(self, partition: int) -> None:
        self.settle()
        self._ledger.note("release", partition)
        del self._cuts[partition]

    def reset(self) -> None:
        if self._writing is not None:
            wait([self._writing])
        self._writing = None
        self._ledger.note("reset")
        self._cuts.clear()

    def settle(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            self._cuts |= writing.result()

    def stage(self, messages: Sequence[Message]) -> None:
        self.settle()
        self._ledger.check()
        self._writing = self._writer.submit(self._write, messages, time.time())

    def _write(self, messages: Sequence[Message], started_s: float) -> dict[int, int]:
        slow = self._ledger.folder / "slow"
        if slow.exists():
            time.sleep(float(slow.read_text() or 0))
        self._ledger.check()
        self._ledger.note("flush", -1, f"[{started_s}, {len(messages)}]")
        cuts = dict(self._cuts)
        with self._ledger.transaction() as db:
            for message in messages:
                cut = cuts[message.partition]
                if message.offset <= cut:
                    continue
                if message.offset != cut + 1:
                    self._ledger.note("hole", message.partition, f"{cut} {message.offset}")
                place = (message.partition, message.offset)
                row = (*place, message.value, os.getpid(), time.time())
                db.execute("INSERT INTO rows VALUES (?, ?, ?, ?, ?)", row)
                cuts[message.partition] = message.offset
        return cuts

    def deltas(self, now_us: int, behind: Mapping[int, int], final: bool = False) -> list[Outgoing]:
        self._ledger.check()
        told = {"cuts": self._cuts, "behind": behind, "now_us": now_us}
        return [Outgoing(PANES, 0, b"", json.dumps(told).encode())]


class RecordingEvaluator:
    """Notes what it is told."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._held: set[int] = set()

    def assign(self, shard: int) -> None:
        self._ledger.check()
        self._held.add(shard)
        self._ledger.note("assign shard", shard)

    def release(self, shard: int) -> None:
        self._held.discard(shard)
        self._ledger.note("release shard", shard)

    def reset(self) -> None:
        self._held.clear()

    def apply(self, shard: int, message: bytes) -> None:
        if shard not in self._held:
            self._ledger.note("stray delta", shard)
        if message == b"poison":
            raise ValueError("poison")
        self._ledger.note("apply", shard, message.decode())

    def publish(self, now_us: int, final: bool = False) -> None:
        self._ledger.check()
        if final:
            self._ledger.note("final")


def main(broker: str, group: str, folder: Path) -> None:
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    address = parse_address(broker)
    settings = WorkerSettings(
        address,
        group=group,
        session_timeout_s=SESSION_TIMEOUT_S,
        heartbeat_s=SESSION_TIMEOUT_S / 4,
    )
    ingestor, evaluator = RecordingIngestor(Ledger(folder)), RecordingEvaluator(Ledger(folder))
    app = build_app(settings, ingestor, evaluator, KafkaOutlet(address))
    if (folder / "lossy").exists():
        _lose(app)
    http = WorkerHTTP(
        "127.0.0.1", 0, Sources(lambda: app.status), rendered, openmetrics.CONTENT_TYPE
    )
    http.start()
    (folder / "port").write_text(str(http.port))

    def look() -> Look:
        return Look(Lease.now_s(), app.status.turned_s, {}, connected=True)

    Watchdog(Judge(Limits(settings.session_timeout_s)), look, lambda: None).start()
    run(app)


def _lose(app: WorkerApp) -> None:
    """Some messages do not reach the desk of events the first time."""
    desk = app.desks[EVENTS]
    take = desk.take
    lost: set[tuple[int, int]] = set()

    def lossy(message: FaustMessage) -> None:
        place = message.partition, message.offset
        if message.offset % 17 == 3 and place not in lost:
            lost.add(place)
        else:
            take(message)

    desk.take = lossy  # type: ignore[method-assign]


def rendered(readings: Sequence[Reading]) -> str:
    return openmetrics.render(
        openmetrics.Sample(openmetrics.Metric(*reading.definition), reading.value, reading.labels)
        for reading in readings
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
