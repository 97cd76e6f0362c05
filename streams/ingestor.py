"""What a processor does with messages of the events topic: home them, store them, tell of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from ..schemas.config import Configuration
from ..schemas.errors import InvalidFrame
from ..schemas.frames import MAGIC
from ..schemas.redaction import DEFAULT, Redaction
from ..schemas.topics import DEAD_LETTERS, EVENTS, HEADER_BOOT, HEADER_HOME, PANES
from .core.decode import Batch, decode_frame
from .core.delta import Delta
from .core.ingest import DAY_US, Arrival, Flush
from .core.json_events import JsonEvents, Rejected, read_json
from .core.shards import taker
from .dead_letters import dead_letter_message, seal_rows
from .ingestion import Ingestion
from .messages import Message, Outgoing, Outlet
from .parcels import HEADER_KEY, WORKER, Identity, Layout, pack_json
from .seal import Sealer
from .store import Store
from .wire import encode_delta

MAX_FLUSH_ROWS = 50_000  # one insert, which must become one part
MAX_DELTA_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class IngestorSettings:
    """What every processor of a stack shares.

    Attributes:
        incarnation: life of the events topic.
        layout: where boots are at home.
        shards: partitions of the panes topic.
        redaction: what is redacted before it is stored.
    """

    incarnation: int
    layout: Layout
    shards: int
    redaction: Redaction = DEFAULT


@dataclass(frozen=True, slots=True)
class _Here(Layout):
    """Homes as one message sees them: what has no identity of its own is at home where it is."""

    nameless: str = ""
    partition: int = 0

    def home(self, boot_id: str, stated: int | None = None) -> int:
        """As `Layout.home`."""
        return self.partition if boot_id == self.nameless else Layout.home(self, boot_id, stated)


class Ingestor:
    """Blocking; one call at a time. After an error `reset`, `assign` and `flush` the same again.

    Args:
        store: migrated.
        configuration: limits, times and gates.
        settings: of the stack.
        outlet: for what is forwarded, and for dead letters.
        sealer: of dead letters.
        totals: counters of the process, added to.
        clock: integer microseconds UTC.
    """

    def __init__(
        self,
        store: Store,
        configuration: Configuration,
        settings: IngestorSettings,
        outlet: Outlet,
        sealer: Sealer,
        totals: Counter[str],
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._configuration = configuration
        self._settings = settings
        self._outlet = outlet
        self._sealer = sealer
        self._totals = totals
        self._clock = clock
        self._ingestion: Ingestion | None = None
        self._read_us: dict[int, int] = {}  # partition -> append time of what was applied last
        self._takers = [
            taker(shard, settings.shards, configuration.gates) for shard in range(settings.shards)
        ]

    @property
    def watermark_us(self) -> int:
        """Event time up to which what was read is taken as complete."""
        return 0 if self._ingestion is None else self._ingestion.tracker.watermark_us

    def assign(self, partition: int) -> int:
        """Take a partition over; see `Ingestion.assign`."""
        now_us = self._clock()
        if self._ingestion is None:
            self._ingestion = Ingestion(
                self._store,
                self._configuration,
                self._settings.incarnation,
                self._totals,
                self._settings.redaction,
            )
        cut = self._ingestion.assign(partition, now_us)
        appended = [
            boot.append_us
            for boot in self._ingestion.tracker.boots.values()
            if boot.partition == partition
        ]
        self._read_us[partition] = max(appended, default=0)
        return cut

    def release(self, partition: int) -> None:
        """Let go of a partition."""
        if self._ingestion is not None:
            self._ingestion.release(partition)
        self._read_us.pop(partition, None)

    def reset(self) -> None:
        """Forget everything; the store knows."""
        self._ingestion = None
        self._read_us.clear()

    def flush(self, messages: Sequence[Message]) -> None:
        """Make messages durable; those at or below their partition's cut are passed over.

        Raises:
            StoreError: the outcome is unknown.
            BrokerAway: as StoreError.
        """
        if not messages:
            return
        ingestion = self._known()
        cuts = ingestion.cuts
        new = [m for m in messages if m.offset > cuts.get(ingestion.source(m.partition), -1)]
        # Tables are partitioned by day, and an insert must become one part.
        ordered = sorted(new, key=lambda message: message.append_us // DAY_US)
        for _, day in groupby(ordered, key=lambda message: message.append_us // DAY_US):
            for part in self._parts([*day]):
                self._flush(part)

    def _parts(self, messages: Sequence[Message]) -> Iterator[list[tuple[Message, Batch | None]]]:
        """Messages with their decoded frames, in runs that one insert takes."""
        part: list[tuple[Message, Batch | None]] = []
        rows = 0
        for message in messages:
            batch = _frame_of(message)
            size = 0 if batch is None else batch.header.count
            if part and rows + size > MAX_FLUSH_ROWS:
                yield part
                part, rows = [], 0
            part.append((message, batch))
            rows += size
        if part:
            yield part

    def _flush(self, messages: Sequence[tuple[Message, Batch | None]]) -> None:
        ingestion = self._known()
        flush = ingestion.begin()
        out: list[Outgoing] = []
        for message, batch in messages:
            self._admit(flush, message, batch, out)
            self._read_us[message.partition] = message.append_us
        letters = seal_rows(flush.quarantine(), self._sealer, EVENTS)
        out += [Outgoing(DEAD_LETTERS, None, *dead_letter_message(row)) for row in letters]
        if out:
            self._outlet.deliver(out)
        tables = ingestion.commit(flush, letters)
        ingestion.count(flush, tables)
        for name in ("stored", "duplicate", "rejected"):
            self._totals[name] += sum(getattr(entry, name) for entry in flush.entries)

    def _admit(
        self, flush: Flush, message: Message, batch: Batch | None, out: list[Outgoing]
    ) -> None:
        arrival = Arrival(
            incarnation=self._settings.incarnation,
            partition=message.partition,
            offset=message.offset,
            append_us=message.append_us,
            source="kafka",
        )
        if batch is not None:
            self._admit_frame(flush, message, batch, arrival, out)
        elif message.value[: len(MAGIC)] == MAGIC:
            self._refuse(flush, message, arrival, _damage(message.value))
        else:
            self._admit_json(flush, message, arrival, out)

    def _admit_frame(
        self, flush: Flush, message: Message, batch: Batch, arrival: Arrival, out: list[Outgoing]
    ) -> None:
        header = batch.header
        home = self._settings.layout.home(header.boot_id, header.home)
        if home != message.partition and HEADER_HOME not in message.headers:
            out.append(_forwarded(message, home, header.boot_id, message.value))
            flush.note(arrival, "forwarded", header.worker_id, header.boot_id)
            self._totals["forwarded"] += 1
            return
        flush.admit(batch, arrival)

    def _admit_json(
        self, flush: Flush, message: Message, arrival: Arrival, out: list[Outgoing]
    ) -> None:
        source = f"{arrival.incarnation}-{arrival.partition}-{arrival.offset}"
        stated = message.headers.get(HEADER_BOOT, b"").decode(errors="replace")
        key = message.headers.get(HEADER_KEY, b"")
        boot_id = stated or f"kafka-{source}"
        body = message.value
        try:
            if HEADER_HOME not in message.headers:
                body = self._kept(message, Identity(boot_id, key), "" if stated else boot_id, out)
                if not body:
                    flush.note(arrival, "forwarded", "", boot_id)
                    return
            found = read_json(body, default_boot_id=boot_id, default_worker_id=WORKER.decode())
        except InvalidFrame as error:
            self._refuse(flush, message, arrival, str(error))
            return
        hash_ = int(key) if key.isdigit() else 0
        known = flush.intake.tracker.boots.get(boot_id)
        if known is not None and known.body_hash != hash_:
            self._refuse(flush, message, arrival, "this Idempotency-Key came with another body")
            return
        self._admit_rows(flush, found, arrival, boot_id, hash_)

    def _admit_rows(
        self, flush: Flush, found: JsonEvents, arrival: Arrival, boot_id: str, body_hash: int
    ) -> None:
        """Batches and rejected rows of one message, numbered as its parts."""
        identified = bool(body_hash) or boot_id.startswith("redrive-")
        boots = flush.intake.tracker.boots
        # What was rejected before is not rejected again.
        repeated = {
            row.index
            for row in found.rejected
            if row.seq is not None
            and row.boot_id in boots
            and not boots[row.boot_id].seen.missing(row.seq, row.seq + 1)
        }
        parts = 0
        for batch, indices in zip(found.batches, found.indices, strict=True):
            own = batch.header.boot_id != boot_id
            header = replace(batch.header, closing=batch.header.closing or not own)
            placed = replace(
                arrival,
                part=parts,
                indices=np.asarray(indices, np.int64),
                identified=own or identified,
                body_hash=0 if own else body_hash,
            )
            flush.admit(replace(batch, header=header), placed)
            parts += 1
        for row in found.rejected:
            if row.index not in repeated:
                flush.refuse(row, replace(arrival, part=parts, identified=identified))
                parts += 1
        if parts == 0:
            flush.note(arrival, "duplicate", "", boot_id)

    def _kept(
        self, message: Message, identity: Identity, nameless: str, out: list[Outgoing]
    ) -> bytes:
        """What of a JSON message is at home here; the rest is forwarded."""
        layout = self._settings.layout
        here = _Here(layout.homes, layout.partitions, nameless, message.partition)
        parcel = pack_json(message.value, identity, here, 0)
        away = [part for part in parcel.messages if part.partition != message.partition]
        if not away:
            return message.value
        for part in away:
            headers = dict(part.headers) | {HEADER_HOME: b"1"}
            out.append(replace(part, headers=headers))
            self._totals["forwarded"] += 1
        kept = [part.value for part in parcel.messages if part.partition == message.partition]
        return b"[" + b",".join(value[1:-1] for value in kept) + b"]" if kept else b""

    def _refuse(self, flush: Flush, message: Message, arrival: Arrival, detail: str) -> None:
        """Bytes that hold no events: into quarantine as they are."""
        boot_id = f"kafka-{arrival.incarnation}-{arrival.partition}-{arrival.offset}"
        row = Rejected(0, "undecodable", detail, message.value, "", "", boot_id, None)
        flush.refuse(row, arrival)

    def deltas(self, now_us: int, behind: Mapping[int, int]) -> list[Outgoing]:
        """What evaluation is told since the last call, a message for every shard.

        Raises:
            StoreError: memory must be rebuilt.
        """
        if self._ingestion is None:
            return []
        behind = {p: read_us or self._read_us.get(p, 0) or now_us for p, read_us in behind.items()}
        delta = self._ingestion.take(now_us, behind)
        return [
            Outgoing(PANES, shard, b"", self._encoded(delta.restricted(takes)))
            for shard, takes in enumerate(self._takers)
        ]

    def _encoded(self, delta: Delta) -> bytes:
        value = encode_delta(delta)
        if len(value) > MAX_DELTA_BYTES:
            value = encode_delta(delta.emptied())
        return value

    def _known(self) -> Ingestion:
        if self._ingestion is None:
            raise RuntimeError("no partition is assigned")
        return self._ingestion


def _frame_of(message: Message) -> Batch | None:
    """The decoded frame of a message, None where it is damaged or JSON."""
    if message.value[: len(MAGIC)] != MAGIC:
        return None
    try:
        return decode_frame(message.value)
    except InvalidFrame:
        return None


def _damage(frame: bytes) -> str:
    try:
        decode_frame(frame)
    except InvalidFrame as error:
        return str(error)
    raise AssertionError("a frame that can be read")


def _forwarded(message: Message, home: int, boot_id: str, value: bytes) -> Outgoing:
    headers = dict(message.headers) | {HEADER_HOME: b"1"}
    return Outgoing(EVENTS, home, boot_id.encode(), value, headers)
