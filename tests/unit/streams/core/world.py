"""A processor in a small world: workers that send, a clock, crashes, and the truth beside it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from penstock.schemas.config import Configuration
from penstock.schemas.frames import FrameHeader, encode_frame
from penstock.streams.core.boots import ANONYMOUS, LedgerEntry
from penstock.streams.core.decode import decode_frame
from penstock.streams.core.gate_history import differing
from penstock.streams.core.gates.canonical import spec_hash
from penstock.streams.core.ingest import Arrival
from penstock.streams.core.pipeline import Pipeline
from penstock.streams.core.slices import GROUPINGS
from penstock.streams.core.windows import WINDOWS, tick_s
from penstock.streams.evaluator import Evaluator
from penstock.streams.gates.inputs import stored_blocks
from penstock.streams.ingest.ingestion import Ingestion
from penstock.streams.storage.recovery import remove_unacknowledged
from penstock.tests.unit.streams.core.bruteforce import FLEET, Row, SliceKey, Truth, slices_of
from penstock.tests.unit.streams.core.memory import Crash

SECOND = 1_000_000
GATED = {
    "gates": [
        {
            "id": "limits", "filter": {"model": "m1"}, "min_units": 5, "min_bake_s": 0,
            "metrics": [
                {"metric": "error_rate", "max_ratio": 0.9},
                {"metric": "latency", "field": "latency_ms", "quantile": 0.5, "max_ms": 9000},
            ],
        }
    ]
}  # fmt: skip
"""Configuration of a gate whose verdicts `World.check` computes again."""
# Which boots were alive, or silent, is stored as it was known when the row was written; what would
# be written now is compared instead.
KNOWN_THEN = ("workers", "coverage_state")


@dataclass(frozen=True)
class Sent:
    """One frame as a worker built it."""

    kind: Any
    worker_id: str
    boot_id: str
    seq0: int
    rows: Sequence[Row]
    clock_us: int
    next_seq: int = 0
    closing: bool = False
    gaps: tuple[tuple[int, int], ...] = ()
    identified: bool = True

    def encoded(self) -> bytes:
        """Its bytes."""
        header = FrameHeader(
            kind=self.kind,
            worker_id=self.worker_id,
            boot_id=self.boot_id,
            seq0=self.seq0,
            count=len(self.rows),
            next_seq=max(self.next_seq, self.seq0 + len(self.rows)),
            clock_us=self.clock_us,
            closing=self.closing,
            gaps=self.gaps,
        )
        plain = [{k: v for k, v in row.items() if not k.startswith("_")} for row in self.rows]
        return encode_frame(header, plain)


class World:
    """Processor and truth side by side.

    Args:
        store: a MemoryStore that is installed, or one that reads and writes ClickHouse and has
            `raw`, `keyed` and `crash_before` too.
        configuration: limits and times.
    """

    def __init__(self, store: Any, configuration: Configuration | None = None) -> None:
        self.store = store
        self.configuration = configuration or Configuration()
        self.truth = Truth()
        self.now_us = 0
        self.restart()

    def restart(self) -> None:
        """Forget everything but the store."""
        self.store.expire(self.now_us)
        store = self.store
        self.next_offset = remove_unacknowledged(store, 0)
        self.ingestion = Ingestion(store, self.configuration, 1, Counter())
        self.ingestion.assign(0, self.now_us)
        self.evaluator = Evaluator(store, self.configuration, 1, Counter(), lambda: self.now_us)
        self.evaluator.assign(0)

    @property
    def pipeline(self) -> Pipeline:
        """Of the only shard."""
        return self.evaluator.shards[0].pipeline

    def deliver(self, frames: Sequence[Sent], now_us: int, crash: str | None = None) -> None:
        """One flush; `crash` names the insert before which the process dies, or `count`."""
        self.now_us = now_us
        flush = self.ingestion.begin()
        for sent in frames:
            arrival = Arrival(
                incarnation=1,
                partition=0,
                offset=self.next_offset,
                append_us=now_us,
                identified=sent.identified,
            )
            self.next_offset += 1
            flush.admit(decode_frame(sent.encoded()), arrival)
        self.store.crash_before = "frames_rows" if crash == "ledger" else None
        try:
            staged = self.ingestion.stage(flush, ())
            self.ingestion.write(staged)
            self.ingestion.written(staged)
        except Crash:
            self.restart()  # the sender sends again, later
            return
        for sent, entry in zip(frames, flush.entries, strict=True):
            self.tell(sent, entry)
        if crash == "count":
            self.restart()
            return
        self.ingestion.count(staged)

    def tell(self, sent: Sent, entry: LedgerEntry) -> None:
        """The truth of one applied frame."""
        counts = self.truth.deliver(
            sent.kind, sent.worker_id, sent.boot_id, sent.seq0, sent.rows,
            append_us=entry.append_us, clock_us=sent.clock_us, closing=sent.closing, gaps=sent.gaps,
            next_seq=max(sent.next_seq, sent.seq0 + len(sent.rows)),
            identified=sent.identified,
        )  # fmt: skip
        assert counts == (entry.stored, entry.duplicate, entry.rejected)
        self.truth.late(sent.clock_us, entry.append_us, entry.late)

    def tick(self, now_us: int, crash: str | None = None) -> None:
        """Publish; `crash` names the insert before which the process dies."""
        self.now_us = now_us
        self.store.crash_before = crash
        try:
            self.evaluator.add(0, self.ingestion.take(now_us))
            self.evaluator.publish(now_us)
        except Crash:
            self.restart()
        self.store.crash_before = None

    def settle(self) -> None:
        """Let every boot fall silent, so that everything closes."""
        self.tick(self.now_us + 3600 * SECOND)
        self.tick(self.now_us + 11 * SECOND)

    def check(self, horizon_s: int) -> int:
        """Every stored window within the horizon, and the newest of each length, equals the truth.

        Returns:
            How many rows were compared.
        """
        self._tell_overflow()
        closed_s = self.pipeline.closed_pane_s
        assert closed_s is not None
        stored: dict[tuple[int, int], dict[SliceKey, Row]] = {}
        for row in self.store.keyed["windows_rows"].values():
            key = row["window_s"], int(row["end"].timestamp())
            dims = tuple(row[name] for name in GROUPINGS[row["grouping"]])
            stored.setdefault(key, {})[row["grouping"], dims] = row
        compared = 0
        for length_s in WINDOWS.values():
            tick = tick_s(length_s)
            newest = closed_s // tick * tick
            ends = {newest, *range(newest, max(newest - horizon_s, 0), -tick)}
            for end_s in sorted(ends):
                if (length_s, end_s) not in stored and end_s != newest:
                    continue  # before the first event, or skipped by a jump
                compared += self._compare(stored[length_s, end_s], end_s, length_s)
        self._check_cells()
        self._check_boots()
        self._check_verdicts()
        return compared

    def _compare(self, rows: dict[SliceKey, Row], end_s: int, length_s: int) -> int:
        timeout_us = int(self.configuration.time.boot_timeout_s * SECOND)
        truth = self.truth.windows(end_s, length_s, self.now_us, timeout_us)
        assert rows.keys() == truth.keys(), (length_s, end_s, rows.keys() ^ truth.keys())
        for key, wanted in truth.items():
            got = rows[key]
            for name, value in wanted.items():
                if name in KNOWN_THEN:
                    continue
                if not same(got[name], value, name):
                    message = f"{length_s} s to {end_s}, {key}, {name}: {got[name]!r} != {value!r}"
                    raise AssertionError(message)
        fresh = self.pipeline.window(length_s, end_s)
        for name in KNOWN_THEN:
            assert fresh.columns[name][0] == truth[FLEET][name], (length_s, end_s, name)
        return len(truth)

    def _tell_overflow(self) -> None:
        """What ingestion decided about full grouping sets is a fact of the stored rows."""
        for mine, name in (
            (self.truth.requests, "requests_rows"),
            (self.truth.steps, "steps_rows"),
        ):
            stored = {(r["boot_id"], r["seq"]): r for r in self.store.raw.get(name, [])}
            assert len(stored) == len(self.store.raw.get(name, [])), "stored twice"
            assert stored.keys() == {(row["boot_id"], row["seq"]) for row in mine}
            for row in mine:
                bits = stored[row["boot_id"], row["seq"]]["overflow"]
                row["_overflow"] = {g for at, g in enumerate(GROUPINGS) if bits >> at & 1}

    def _check_cells(self) -> None:
        """Every request is in one cell, whatever came late and whatever crashed."""
        counted: Counter[SliceKey] = Counter()
        for row in self.store.keyed["panes_rows"].values():
            if row["pane_s"] == 1:
                dims = tuple(row[name] for name in GROUPINGS[row["grouping"]])
                pairs = dict(zip(row["keys"], row["counts"], strict=True))
                counted[row["grouping"], dims] += pairs.get(1 << 16, 0)
        wanted: Counter[SliceKey] = Counter({FLEET: 0})
        for row in self.truth.requests:
            if row.get("status") is not None:
                wanted.update(k for k in slices_of(row) if k[0] in ("fleet", "model", "release"))
        assert +counted == +wanted, (+(counted - wanted), +(wanted - counted))

    def _check_verdicts(self) -> None:
        """Each is, to the last byte, what its gate gives for what is stored of what it counted."""
        told: dict[int, str] = {}
        for row in self.store.keyed["verdicts_rows"].values():
            at = row["as_of"]
            at_us = int(at.timestamp()) * SECOND + at.microsecond
            told[at_us] = hashlib.sha256(row["evidence"].encode()).hexdigest()
        for spec in self.configuration.live_gates:
            blocks = stored_blocks(self.store, spec.id, 0, spec_hash(spec))
            assert told
            assert differing(spec, 0, blocks, None, told) == {}

    def _check_boots(self) -> None:
        """The table of coverage says of each boot what was sent and what arrived."""
        stored = {row["boot_id"]: row for row in self.store.keyed["coverage_rows"].values()}
        for boot_id, boot in self.truth.boots.items():
            if not boot.identified:
                continue
            row = stored.pop(boot_id)
            absent = [seq for seq, _ in boot.absent()]
            gap = sum(seq in boot.dropped for seq in absent)
            received = len(boot.clock_of)
            assert (row["received"], row["gap"]) == (received, gap)
            assert (row["missing"], row["expected"]) == (len(absent) - gap, received + len(absent))
            assert row["closed"] == boot.closed
        assert stored.keys() <= {ANONYMOUS}


def same(got: Any, wanted: Any, name: str) -> bool:
    """Equal, not close; the store says NULL for NaN."""
    if isinstance(wanted, float) and wanted != wanted:
        return got is None or got != got
    if name == "errors_by_type":
        return bool(dict(got) == wanted)
    return bool(got == wanted)
