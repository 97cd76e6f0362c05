"""From a message to rows: is it at home here, does it hold events, and whose are they."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from ...schemas.errors import InvalidFrame
from ...schemas.frames import MAGIC
from ...schemas.topics import EVENTS, HEADER_BOOT, HEADER_HOME, HEADER_KEY
from ..core.checking import Faults, checked
from ..core.decode import Batch, decode_frame
from ..core.ingest import Arrival, Flush
from ..core.json_events import JsonEvents, Rejected, read_json
from ..kafka.messages import Message, Outgoing
from .parcels import WORKER, Identity, Layout, pack_json

Frame = tuple[Batch, Faults] | None
"""The decoded and checked frame of a message; None where it is damaged, or JSON."""


@dataclass(frozen=True, slots=True)
class _Here(Layout):
    """Homes as one message sees them: what has no identity of its own is at home where it is."""

    nameless: str = ""
    partition: int = 0

    def home(self, boot_id: str, stated: int | None = None) -> int:
        """As `Layout.home`."""
        return self.partition if boot_id == self.nameless else Layout.home(self, boot_id, stated)


class Admission:
    """Admits messages to a flush, or forwards them home.

    Args:
        incarnation: life of the topic.
        layout: where boots are at home.
        totals: counters of the process, added to.
    """

    def __init__(self, incarnation: int, layout: Layout, totals: Counter[str]) -> None:
        self._incarnation = incarnation
        self._layout = layout
        self._totals = totals

    def admit(self, flush: Flush, message: Message, frame: Frame, out: list[Outgoing]) -> None:
        """Take one message in.

        Args:
            flush: takes what is at home here.
            message: of the events topic.
            frame: what `frame_of` says of it.
            out: takes what is forwarded.
        """
        arrival = Arrival(
            incarnation=self._incarnation,
            partition=message.partition,
            offset=message.offset,
            append_us=message.append_us,
            source="kafka",
        )
        if frame is not None:
            self._admit_frame(flush, message, frame, arrival, out)
        elif message.value[: len(MAGIC)] == MAGIC:
            self._refuse(flush, message, arrival, _damage(message.value))
        else:
            self._admit_json(flush, message, arrival, out)

    def _admit_frame(
        self,
        flush: Flush,
        message: Message,
        frame: tuple[Batch, Faults],
        arrival: Arrival,
        out: list[Outgoing],
    ) -> None:
        batch, faults = frame
        header = batch.header
        home = self._layout.home(header.boot_id, header.home)
        if home != message.partition and HEADER_HOME not in message.headers:
            out.append(_forwarded(message, home, header.boot_id, message.value))
            flush.note(arrival, "forwarded", header.worker_id, header.boot_id)
            self._totals["forwarded"] += 1
            return
        flush.admit(batch, arrival, faults)

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
        layout = self._layout
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


def frame_of(message: Message) -> Frame:
    """The decoded and checked frame of a message, None where it is damaged or JSON."""
    if message.value[: len(MAGIC)] != MAGIC:
        return None
    try:
        return checked(decode_frame(message.value))
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
