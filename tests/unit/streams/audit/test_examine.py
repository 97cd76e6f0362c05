"""The audit: silent on a store where everything holds, and telling of each thing that was broken."""

from __future__ import annotations

import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from penstock.schemas.config import Configuration, parse
from penstock.schemas.errors import StoreError
from penstock.schemas.frames import FrameHeader, encode_frame
from penstock.schemas.topics import EVENTS
from penstock.streams.audit.examine import Report, audit, examine
from penstock.streams.dead_letters.seal import Sealer
from penstock.streams.evaluator import Evaluator
from penstock.streams.ingest.ingestor import Ingestor, IngestorSettings
from penstock.streams.ingest.parcels import Layout
from penstock.streams.kafka.messages import Message, Outgoing
from penstock.streams.storage.migrate import migrate
from penstock.streams.storage.store import Store

pytestmark = pytest.mark.slow

SECOND = 1_000_000
PARTITIONS, SHARDS = 2, 3
# Traffic crosses a whole hour, so that a pane of an hour closes.
HOUR_S = (int(time.time()) - 3600) // 3600 * 3600
BEGIN_S = HOUR_S - 60
GATES = parse(
    "gates: [{id: slow, filter: {model: m1}, metrics:"
    " [{metric: latency, field: ttft_ms, quantile: 0.95, max_ms: 300}]}]"
)


class Processors:
    """One processor of everything, over logs of its own, on a real store."""

    def __init__(self, store: Store) -> None:
        self.now_us = BEGIN_S * SECOND
        self.next = [0] * PARTITIONS
        self.waiting: list[Message] = []
        settings = IngestorSettings(1, Layout(PARTITIONS, PARTITIONS), SHARDS)
        self.ingestor = Ingestor(
            store, GATES, settings, self, Sealer(bytes(32)), Counter(), lambda: self.now_us
        )
        for partition in range(PARTITIONS):
            self.ingestor.assign(partition)
        self.evaluator = Evaluator(store, GATES, SHARDS, Counter(), lambda: self.now_us)
        for shard in range(SHARDS):
            self.evaluator.assign(shard)

    def deliver(self, messages: Sequence[Outgoing]) -> None:
        """As an outlet: what is forwarded goes back into the log, dead letters nowhere."""
        for message in messages:
            if message.topic == EVENTS and message.partition is not None:
                self.append(message.partition, message.value, dict(message.headers))

    def partitions(self, topic: str) -> int:
        return PARTITIONS

    def append(self, partition: int, value: bytes, headers: dict[str, bytes] | None = None) -> None:
        offset = self.next[partition]
        self.next[partition] += 1
        self.waiting.append(Message(partition, offset, self.now_us, value, headers or {}))

    def pump(self) -> None:
        while self.waiting:
            messages, self.waiting = self.waiting, []
            self.ingestor.flush(messages)

    def tick(self) -> None:
        self.pump()
        for message in self.ingestor.deltas(self.now_us, {}):
            assert message.partition is not None
            self.evaluator.apply(message.partition, message.value)
        self.evaluator.publish(self.now_us)


def frame(
    kind: Any, boot: str, seq: int, rows: list[dict[str, Any]], at_s: float, **more: Any
) -> bytes:
    header = FrameHeader(
        kind=kind, worker_id=f"w-{boot}", boot_id=boot, seq0=seq, count=len(rows),
        next_seq=more.pop("next_seq", seq + len(rows)), clock_us=int(at_s * SECOND), **more,
    )  # fmt: skip
    return encode_frame(header, rows)


def request(draw: random.Random, at_s: float) -> dict[str, Any]:
    return {
        "ts": int(at_s * SECOND), "model": draw.choice(("m1", "m2")), "route": "/chat",
        "request_id": f"{draw.getrandbits(40):x}", "status": draw.choice(("ok", "ok", "error")),
        "tenant": f"t{draw.randrange(3)}", "cost_usd": 0.001,
        "latency_ms": draw.lognormvariate(5, 1), "ttft_ms": draw.lognormvariate(5, 1),
    }  # fmt: skip


def feed(processors: Processors) -> None:
    """Requests and steps of two boots; late, repeated, missing, dropped, bad, nameless and judged."""
    draw = random.Random(4)
    seq, first = {"d": 0, "b": 0}, ""
    for turn in range(7):
        at_s = BEGIN_S + 20 * turn
        processors.now_us = (at_s + 20) * SECOND + 1000
        for boot, partition in (("d", 0), ("b", 1)):
            rows = [request(draw, at_s + draw.random() * 20) for _ in range(12)]
            first = first or rows[0]["request_id"]
            if turn == 4:
                rows[0]["ts"] -= 50 * SECOND  # late
                rows[1]["latency_ms"] = -1.0  # refused
            more: dict[str, Any] = {"gaps": ((36, 39),)} if turn == 3 and boot == "b" else {}
            seq[boot] += 3 if turn == 3 else 0  # of d they are missing, of b they are dropped
            value = frame("request", boot, seq[boot], rows, at_s + 20, **more)
            processors.append(partition if turn != 2 else 1 - partition, value)
            seq[boot] += 12
            if turn == 5:
                processors.append(partition, value)
        steps = [{"ts": (at_s + i) * SECOND, "model": "m1", "step_ms": 3.5 + i} for i in range(4)]
        processors.append(0, frame("step", "d", seq["d"], steps, at_s + 20))
        seq["d"] += 4
        if turn == 5:
            several = [{"event": "request", **request(draw, at_s)} for _ in range(3)]
            several += [
                {"event": "feedback", "ts": at_s * SECOND, "request_id": first, "accepted": True}
            ]
            several += [{"event": "request", "ts": "when?"}]
            processors.append(1, orjson.dumps(several))
            processors.append(1, b"PSF1 damaged")
        processors.tick()
    for boot, partition in (("d", 0), ("b", 1)):
        processors.append(partition, frame("control", boot, seq[boot], [], at_s + 21, closing=True))
    processors.tick()
    for _ in range(2):
        processors.now_us += 90 * SECOND
        processors.tick()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store where everything holds."""
    folder = tmp_path_factory.mktemp("sound") / "db"
    store = Store(f"chdb://{folder}")
    try:
        migrate(store)
        store.command(f"INSERT INTO penstock.settings VALUES ('shards', '{SHARDS}', now64(6))")
        store.command(f"INSERT INTO penstock.incarnations VALUES ('{EVENTS}', 'id', 1, now64(6))")
        feed(Processors(store))
    finally:
        store.close()
    return folder


@pytest.fixture
def store(sound: Path, tmp_path: Path) -> Iterator[Store]:
    """A copy of it, to be broken."""
    shutil.copytree(sound, tmp_path / "db", symlinks=True)
    opened = Store(f"chdb://{tmp_path / 'db'}")
    try:
        yield opened
    finally:
        opened.close()


def looked(store: Store, **more: Any) -> Report:
    return examine(store, GATES, **more)


def test_where_everything_holds_nothing_is_found(store: Store) -> None:
    report = looked(store)
    assert report.findings == []
    assert report.checked["requests"] == 7 * 24 - 2 + 3
    assert report.checked["steps"] == 28
    assert report.checked["rows counted"] == report.checked["requests"] + report.checked["steps"]
    assert report.checked["boots"] == 3  # two, and all that state none
    assert report.checked["checkpoints"] == report.checked["cells"] == SHARDS
    assert report.checked["panes"] > 50
    assert report.checked["windows"] > 20
    assert "coverage tells of 3 events missing and 3 dropped" in report.notes
    kinds = store.query("SELECT uniqExact(kind) AS n FROM penstock.frames")
    assert kinds == [{"n": 5}], "request, step, feedback, control and forwarded"
    hours = store.query("SELECT count() AS n FROM penstock.panes WHERE pane_s = 3600")
    assert hours[0]["n"] > 5


def _again(table: str, change: str, where: str) -> str:
    """A row written again, with something changed."""
    return (
        f"INSERT INTO penstock.{table} SELECT * REPLACE ({change}) FROM penstock.{table} FINAL"
        f" WHERE {where} LIMIT 1"
    )


_MORE = "arrayMap((c, i) -> c + (i = 1), counts, arrayEnumerate(counts)) AS counts"
_BUSY = "(SELECT max(end) FROM penstock.windows WHERE window_s = 60 AND requests > 0)"
_LAST = "(SELECT max(end) FROM penstock.windows WHERE window_s = 300)"
_EARLY = "(SELECT min(pane_start) FROM penstock.panes WHERE pane_s = 1 AND grouping = 'model')"
# What is done to the store together, and for each thing the check and the words that tell of it.
BREAKS: dict[str, list[tuple[str, str, str]]] = {
    "tiles": [
        (
            _again("panes_rows", _MORE, "pane_s = 10 AND grouping = 'fleet'"),
            "panes",
            "10 s.*, fleet",
        ),
        (
            _again("panes_rows", _MORE, "pane_s = 60 AND grouping = 'model'"),
            "panes",
            "60 s.*, model ",
        ),
        (
            _again("panes_rows", _MORE, "pane_s = 3600 AND grouping = 'tenant'"),
            "panes",
            "3600 s.*, tenant ",
        ),
        (
            _again("panes_rows", _MORE, "pane_s = 10 AND grouping = 'coverage' AND notEmpty(keys)"),
            "panes",
            "10 s.*, coverage",
        ),
        (
            _again(
                "panes_rows",
                "arrayMap((k, c) -> c + (k >= 2147483648), keys, counts) AS counts",
                "pane_s = 10 AND grouping = 'release' AND arrayExists(k -> k >= 2147483648, keys)",
            ),
            "panes",
            "10 s.*, release.*gate counter",
        ),
        (
            "DELETE FROM penstock.panes_rows WHERE pane_s = 60 AND grouping = 'route'",
            "panes",
            "60 s.*, route .*no row",
        ),
        (
            _again(
                "panes_rows",
                f"(partition + 1) % {SHARDS} AS partition",
                "pane_s = 10 AND grouping = 'model_route'",
            ),
            "panes",
            "10 s.*, model_route",
        ),
        (
            f"DELETE FROM penstock.panes_rows WHERE pane_s = 1 AND grouping = 'model'"
            f" AND pane_start = {_EARLY}",
            "cells",
            "sum of all 1 s cells, model",
        ),
        (
            _again(
                "windows_rows",
                "requests + 1 AS requests",
                f"window_s = 60 AND grouping = 'fleet' AND end = {_BUSY}",
            ),
            "windows",
            "60 s window.*fleet: requests",
        ),
        (
            "DELETE FROM penstock.windows_rows"
            f" WHERE window_s = 300 AND grouping = 'model' AND end = {_LAST}",
            "windows",
            "300 s window.*model .*none",
        ),
    ],
    "rows": [
        (
            "DELETE FROM penstock.requests_rows WHERE boot_id = 'b' AND seq < 5",
            "rows",
            "partition 1, offset 0: request.*12 rows.*found 7",
        ),
        (
            "DELETE FROM penstock.quarantine_rows WHERE boot_id = 'd'",
            "rows",
            "partition 0, .*: rejected",
        ),
        (
            _again("requests_rows", "ts + toIntervalSecond(1) AS ts", "boot_id = 'd' AND seq = 2"),
            "identity",
            "requests: boot d seq 2: expected 1 row, found 2",
        ),
    ],
    "a hole in the ledger": [
        (
            "DELETE FROM penstock.frames_rows WHERE partition = 0 AND offset = 3",
            "offsets",
            "incarnation 1, partition 0: expected offset 3 after 2, found 4",
        ),
        ("SELECT 1", "rows", "partition 0, offset 3: .*found"),
        ("SELECT 1", "coverage", "boot d: received"),
        ("SELECT 1", "coverage", "boot d: seen"),
    ],
    "the end of the ledger": [
        (
            "DELETE FROM penstock.frames_rows WHERE partition = 1 AND offset > 5",
            "checkpoints",
            "shard 0: incarnation 1, partition 1",
        ),
        ("SELECT 1", "coverage", "incarnation 1, partition 1: expected told up to at most 5"),
    ],
    "entries": [
        (
            _again(
                "frames_rows",
                "offset - 1 AS offset, 7 AS part",
                "boot_id = 'd' AND stored > 0 AND offset > 1",
            ),
            "ranges",
            "boot d: .*once",
        ),
        ("SELECT 1", "parts", "parts 0 to 1, found up to 7"),
        (
            _again("frames_rows", "rejected + 1 AS rejected", "boot_id = 'b' AND stored > 0"),
            "entries",
            "partition 1",
        ),
    ],
    "coverage": [
        (
            _again("coverage_rows", "0 AS missing, 'closed' AS state", "boot_id = 'd'"),
            "coverage",
            "boot d: missing: expected 3, by the ledger, found 0",
        ),
        ("SELECT 1", "coverage", "boot d: state"),
        (
            _again("coverage_rows", "0 AS gap, arrayPopBack(seen) AS seen", "boot_id = 'b'"),
            "coverage",
            "boot b: gap: expected 3",
        ),
        ("SELECT 1", "coverage", "boot b: seen"),
        ("SELECT 1", "losses", "boot b"),
        (
            _again("coverage_rows", "stored + 1 AS stored", "NOT identified"),
            "coverage",
            "anonymous.*stored",
        ),
    ],
    "no coverage": [
        (
            "DELETE FROM penstock.coverage_rows WHERE boot_id = 'd'",
            "coverage",
            "boot d: expected told up to .*nothing",
        ),
        (
            _again(
                "checkpoints_rows",
                "arrayMap(c -> (c.1, c.2, c.3 + 1), cuts) AS cuts",
                "partition = 1",
            ),
            "checkpoints",
            "shard 1: incarnation 1, partition 0",
        ),
    ],
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_was_broken_is_found(store: Store, name: str) -> None:
    for sql, _, _ in BREAKS[name]:
        store.command(sql)
    found = audit(store, GATES)
    texts = [f"{one.check}: {one}" for one in found]
    for _, check, words in BREAKS[name]:
        assert any(re.search(f"^{check}: .*{words}", text) for text in texts), (words, texts)


def test_what_was_before_is_not_looked_at(store: Store) -> None:
    store.command("DELETE FROM penstock.frames_rows WHERE partition = 0 AND offset = 3")
    store.command("DELETE FROM penstock.requests_rows WHERE boot_id = 'b' AND seq < 5")
    found = {one.check for one in audit(store, GATES, since_us=(HOUR_S + 50) * SECOND)}
    assert not found & {"offsets", "rows", "identity"}, found


def test_rows_above_the_ledger_are_not_counted_yet(store: Store) -> None:
    store.command(
        "INSERT INTO penstock.requests_rows SELECT * REPLACE (1000 AS offset, 900 AS seq)"
        " FROM penstock.requests_rows LIMIT 1"
    )
    report = looked(store)
    assert report.findings == []
    assert any("not committed yet" in note for note in report.notes)


def test_without_the_configuration_counters_of_gates_are_told(store: Store) -> None:
    report = examine(store, Configuration())
    assert report.findings == []
    assert any("counters of gates" in note for note in report.notes)


def test_a_store_that_is_not_migrated_cannot_be_looked_at(tmp_path: Path) -> None:
    opened = Store(f"chdb://{tmp_path / 'empty'}")
    try:
        with pytest.raises(StoreError, match="run penstock migrate"):
            audit(opened, Configuration())
        migrate(opened)
        assert audit(opened, Configuration()) == []
    finally:
        opened.close()
