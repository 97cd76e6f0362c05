"""From decoded frames to rows: de-duplicate, validate, clamp, and say what was done with each row.

One `Flush` takes the frames that will be made durable together. Nothing in it touches a store: it
yields the tables to insert and, once they are durable, what the rows add to the tiles.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from ...schemas.events import EventName
from ...schemas.ports import Receipt, Rejection
from ...schemas.redaction import DEFAULT, Redaction
from .boots import LedgerEntry
from .checking import Faults, checked
from .columns import integers
from .counting import dimensions_of, groupings_of
from .decode import Batch
from .intake import Intake
from .intervals import Range
from .json_events import Rejected
from .redact import redact_table
from .slices import combinations
from .tiles import SECOND_US

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

DAY_US = 86_400 * SECOND_US
TABLES: dict[EventName, str] = {
    "request": "requests",
    "step": "steps",
    "feedback": "feedback",
    "release": "releases",
    "span": "spans",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """Where and when a batch arrived.

    Attributes:
        identified: the events carry an identity of their sender's.
        indices: position of each row in the request it came in, shape (n,); None when contiguous
            from `first_index`.
        rejected: rows that could not even be decoded.
    """

    incarnation: int
    partition: int
    offset: int
    append_us: int
    part: int = 0
    source: str = "http"
    identified: bool = True
    body_hash: int = 0
    first_index: int = 0
    indices: Ints | None = None
    rejected: Sequence[Rejected] = ()


@dataclass(frozen=True, slots=True)
class _Part:
    """The good rows of one frame."""

    table: pa.Table
    arrival: Arrival
    row_index: Ints
    ahead_us: Ints
    late: Mask


@dataclass(slots=True)
class Flush:
    """Frames that become durable together.

    Args:
        intake: whose tracker de-duplicates; it is changed at once, so that a flush that fails
            must be followed by a rebuild from the store.
        retention_us: rows older than this are rejected.
        redaction: what is taken out of rows before they are stored; of rejected ones, which are
            sealed, nothing.

    Attributes:
        redacted: values changed by it, once `tables` was called.
    """

    intake: Intake
    retention_us: int
    redaction: Redaction = DEFAULT
    redacted: int = 0
    entries: list[LedgerEntry] = field(default_factory=list)
    _parts: dict[EventName, list[_Part]] = field(default_factory=lambda: defaultdict(list))
    _quarantine: list[dict[str, Any]] = field(default_factory=list)

    def admit(self, batch: Batch, arrival: Arrival, found: Faults | None = None) -> Receipt:
        """Take one frame in; every row is accepted, a duplicate, or rejected with its reason.

        Args:
            batch: decoded.
            arrival: where and when.
            found: what `checked` said of the batch that it returned; None to have it checked here.
        """
        if found is None:
            batch, found = checked(batch)
        header, table = batch.header, batch.table
        rows = table.num_rows
        rejected = list(arrival.rejected)
        if header.kind == "control" or rows == 0:
            self._enter(batch, arrival, [], Counter(rejected=len(rejected)))
            return Receipt(0)
        seqs = integers(table, "seq")[0]
        new, ranges = self._unseen(header.boot_id, seqs)
        faults = dict(found)
        raw = {row.index: row.body for row in batch.bad}
        ts = integers(table, "ts")[0]
        for row in np.flatnonzero(ts < arrival.append_us - self.retention_us).tolist():
            faults.setdefault(row, ("too_late", "ts is older than raw rows are kept"))
        index = arrival.indices
        if index is None:
            index = np.arange(arrival.first_index, arrival.first_index + rows)
        rejections = []
        for row, (reason, detail) in faults.items():
            if new[row]:
                rejections.append(Rejection(int(index[row]), reason, detail))
                body = raw.get(row) or orjson.dumps(table.slice(row, 1).to_pylist()[0], default=str)
                self._reject(batch, arrival, int(index[row]), int(seqs[row]), reason, detail, body)
                new[row] = False
        part = self._part(table, arrival, ts, index, new)
        self._parts[header.kind].append(part)
        counts = Counter(
            stored=int(new.sum()),
            rejected=len(rejections),
            duplicate=rows - int(new.sum()) - len(rejections),
            late=int(part.late.sum()),
        )
        self._enter(batch, arrival, ranges, counts)
        return Receipt(counts["stored"], counts["duplicate"], counts["rejected"], rejections)

    def refuse(self, rejected: Rejected, arrival: Arrival) -> Rejection:
        """Put a row that could not be decoded into quarantine, and into the ledger as rejected."""
        boot = self.intake.tracker.boots.get(rejected.boot_id)
        ranges: list[Range] = []
        if boot is not None and rejected.seq is not None:
            ranges = boot.seen.missing(rejected.seq, rejected.seq + 1)
        entry = LedgerEntry(
            incarnation=arrival.incarnation,
            partition=arrival.partition,
            offset=arrival.offset,
            kind=rejected.kind or "control",
            worker_id=rejected.worker_id,
            boot_id=rejected.boot_id,
            ranges=ranges,
            gaps=[],
            next_seq=0,
            clock_us=arrival.append_us if boot is None else boot.clock_us,
            closing=False,
            # A boot that nothing else is known of must not hold windows back.
            identified=boot is not None and boot.identified,
            stored=0,
            duplicate=0,
            rejected=1,
            late=0,
            append_us=arrival.append_us,
            part=arrival.part,
        )
        self.entries.append(entry)
        self.intake.tracker.apply(entry)
        self._quarantine.append(
            _quarantined(
                arrival, rejected.index, rejected.kind, rejected.worker_id, rejected.boot_id,
                rejected.seq or 0, rejected.reason, rejected.detail, rejected.body,
            )
        )  # fmt: skip
        return Rejection(rejected.index, rejected.reason, rejected.detail)

    def _unseen(self, boot_id: str, seqs: Ints) -> tuple[Mask, list[Range]]:
        """Which rows are new, shape (n,), and the ranges of numbers that they fill."""
        tracker = self.intake.tracker
        low, high = int(seqs[0]), int(seqs[-1]) + 1
        if high - low == len(seqs) and bool((np.diff(seqs) == 1).all()):
            ranges = tracker.unseen(boot_id, low, high)
            new = np.zeros(len(seqs), bool)
            for part_low, part_high in ranges:
                new[part_low - low : part_high - low] = True
            return new, ranges
        numbers, first = np.unique(seqs, return_index=True)
        breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
        ranges = []
        for run in np.split(numbers, breaks):
            ranges += tracker.unseen(boot_id, int(run[0]), int(run[-1]) + 1)
        fresh = np.zeros(len(numbers), bool)
        for part_low, part_high in ranges:
            fresh[np.searchsorted(numbers, part_low) : np.searchsorted(numbers, part_high)] = True
        new = np.zeros(len(seqs), bool)
        new[first[fresh]] = True
        return new, ranges

    def _part(self, table: pa.Table, arrival: Arrival, ts: Ints, index: Ints, keep: Mask) -> _Part:
        # An event from the future counts now: a wrong clock must not reach ahead of its neighbours.
        ahead = np.maximum(ts - arrival.append_us, 0)
        if ahead.any():
            ts = ts - ahead
            table = table.set_column(table.column_names.index("ts"), "ts", pa.array(ts))
        if not keep.all():
            table = table.filter(pa.array(keep))
            ts, index, ahead = ts[keep], index[keep], ahead[keep]
        return _Part(table, arrival, index, ahead, self.intake.is_late(ts))

    def _enter(
        self, batch: Batch, arrival: Arrival, ranges: Sequence[Range], counts: Counter[str]
    ) -> None:
        header = batch.header
        entry = LedgerEntry(
            incarnation=arrival.incarnation,
            partition=arrival.partition,
            offset=arrival.offset,
            kind=header.kind,
            worker_id=header.worker_id,
            boot_id=header.boot_id,
            ranges=ranges,
            gaps=header.gaps,
            next_seq=header.next_seq,
            clock_us=self._clock(header.clock_us, arrival.append_us),
            closing=header.closing,
            identified=arrival.identified,
            stored=counts["stored"],
            duplicate=counts["duplicate"],
            rejected=counts["rejected"],
            late=counts["late"],
            append_us=arrival.append_us,
            body_hash=arrival.body_hash,
            part=arrival.part,
        )
        self.entries.append(entry)
        self.intake.tracker.apply(entry)

    def _clock(self, clock_us: int, append_us: int) -> int:
        """The sender's clock, or the arrival's where that makes no sense."""
        return clock_us if append_us - self.retention_us <= clock_us <= append_us else append_us

    def _reject(
        self,
        batch: Batch,
        arrival: Arrival,
        index: int,
        seq: int,
        reason: str,
        detail: str,
        body: bytes,
    ) -> None:
        header = batch.header
        self._quarantine.append(
            _quarantined(
                arrival, index, header.kind, header.worker_id, header.boot_id, seq, reason, detail, body
            )
        )  # fmt: skip

    def note(self, arrival: Arrival, kind: str, worker_id: str, boot_id: str) -> None:
        """Account for the offset of a message that added nothing; `kind` is one of tracker.NOTES."""
        entry = LedgerEntry(
            incarnation=arrival.incarnation,
            partition=arrival.partition,
            offset=arrival.offset,
            kind=kind,
            worker_id=worker_id,
            boot_id=boot_id,
            ranges=[],
            gaps=[],
            next_seq=0,
            clock_us=arrival.append_us,
            closing=False,
            identified=False,
            stored=0,
            duplicate=0,
            rejected=0,
            late=0,
            append_us=arrival.append_us,
            part=arrival.part,
        )
        self.entries.append(entry)

    def tables(self) -> dict[EventName, pa.Table]:
        """Good rows of each kind with their arrival columns, ready for `TABLES[kind]_rows`."""
        return {
            kind: self._table(kind, parts)
            for kind, parts in self._parts.items()
            if any(part.table.num_rows for part in parts)
        }

    def _table(self, kind: EventName, parts: Sequence[_Part]) -> pa.Table:
        parts = [part for part in parts if part.table.num_rows]
        table = pa.concat_tables([part.table for part in parts], promote_options="default")
        table = table.unify_dictionaries().combine_chunks()
        table, changed = redact_table(kind, table, self.redaction)
        self.redacted += changed
        sizes = [part.table.num_rows for part in parts]

        def repeated(values: Sequence[int], dtype: Any) -> Any:
            return pa.array(np.repeat(np.array(values, dtype), sizes))

        arrivals = [part.arrival for part in parts]
        added: dict[str, Any] = {
            "append_ts": repeated([a.append_us for a in arrivals], np.int64),
            "incarnation": repeated([a.incarnation for a in arrivals], np.uint32),
            "partition": repeated([a.partition for a in arrivals], np.uint32),
            "offset": repeated([a.offset for a in arrivals], np.uint64),
            "row_index": pa.array(np.concatenate([part.row_index for part in parts]), pa.uint32()),
            "clock_ahead_us": pa.array(np.concatenate([part.ahead_us for part in parts])),
            "late": pa.array(np.concatenate([part.late for part in parts])),
        }
        if kind in ("request", "step"):
            groupings = groupings_of(kind)
            found = combinations(dimensions_of(table), table.num_rows)
            added["overflow"] = pa.array(self.intake.combos.decide(found, groupings), pa.uint16())
        for name, column in added.items():
            table = table.append_column(name, column)
        return table

    def quarantine(self) -> list[dict[str, Any]]:
        """Rejected rows for the table `quarantine_rows`."""
        return self._quarantine


def _quarantined(
    arrival: Arrival, index: int, kind: str, worker_id: str, boot_id: str,
    seq: int, reason: str, detail: str, body: bytes,
) -> dict[str, Any]:  # fmt: skip
    return {
        "append_ts": arrival.append_us,
        "incarnation": arrival.incarnation,
        "partition": arrival.partition,
        "offset": arrival.offset,
        "row_index": index,
        "kind": kind,
        "worker_id": worker_id,
        "boot_id": boot_id,
        "seq": seq,
        "reason": reason,
        "detail": detail,
        "body": body,
        "source": arrival.source,
    }
