"""A POST as messages of the events topic, and what can be told of it before they are applied.

Deterministic: the same body gives the same messages in the same partitions with the same identities,
whichever process makes them. No I/O, no clock.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import orjson

from ...schemas.errors import InvalidFrame, TooLarge
from ...schemas.frames import MAX_FRAME_EVENTS, split_frames
from ...schemas.ports import Receipt, Rejection
from ...schemas.topics import (
    EVENTS,
    HEADER_BOOT,
    HEADER_FORM,
    HEADER_KEY,
    HEADER_WORKER,
    home_of,
)
from ..core.columns import integers
from ..core.decode import Batch, decode_frame
from ..core.defaults import with_status
from ..core.json_events import JsonEvents, read_json
from ..core.validate import validate
from ..kafka.messages import Outgoing
from ..kafka.topics import MAX_MESSAGE_BYTES

WORKER = b"http"
# What a processor decodes at once; a body beyond is cut into several messages.
MAX_JSON_BYTES = 4 * 2**20
MAX_JSON_ROWS = MAX_FRAME_EVENTS
_OVERHEAD_BYTES = 64 * 2**10  # of headers, and of what Kafka writes around a message


@dataclass(frozen=True, slots=True)
class Layout:
    """Where boots are at home.

    Attributes:
        homes: over how many partitions boots without a stated home are spread; never changes.
        partitions: how many there are.
    """

    homes: int
    partitions: int

    def home(self, boot_id: str, stated: int | None = None) -> int:
        """Partition of a boot, `stated` by its frames or not.

        >>> Layout(homes=8, partitions=12).home("boot-1"), Layout(8, 12).home("boot-1", 11)
        (2, 11)
        """
        found = home_of(boot_id, self.homes) if stated is None else stated
        return found % self.partitions


@dataclass(frozen=True, slots=True)
class Identity:
    """What the rows of a JSON POST are known by that state no boot.

    Attributes:
        boot_id: named by the Idempotency-Key, else random.
        key: hash of the body as decimal digits; empty without an Idempotency-Key.
    """

    boot_id: str
    key: bytes = b""


def identity_of(body: bytes, idempotency_key: str | None) -> Identity:
    """The same key gives the same boot, embedded and in every API process."""
    if idempotency_key is None:
        return Identity(f"post-{uuid.uuid4().hex}")
    name = hashlib.sha256(idempotency_key.encode()).hexdigest()[:32]
    digest = hashlib.blake2b(body, digest_size=7).digest()
    return Identity(f"key-{name}", str(int.from_bytes(digest, "big")).encode())


@dataclass(frozen=True, slots=True)
class Parcel:
    """What to send, and what to answer once it is there.

    Attributes:
        messages: in this order.
        events: rows, rejected ones included.
        receipt: duplicates are known only when the messages are applied, so it counts none.
        highest_home: that a frame states; -1 where none does.
    """

    messages: Sequence[Outgoing]
    events: int
    receipt: Receipt
    highest_home: int = -1


def pack_frames(body: bytes, layout: Layout, oldest_us: int) -> Parcel:
    """Frames, each as it came, one message each.

    Args:
        body: frames, one after another.
        layout: of the events topic.
        oldest_us: rows with an earlier ts are rejected.

    Raises:
        InvalidFrame: the body is damaged; nothing may be sent.
        TooLarge: a frame is over what the topic takes.
    """
    messages: list[Outgoing] = []
    rejections: list[Rejection] = []
    events, highest = 0, -1
    for frame in split_frames(body):
        batch = decode_frame(frame)
        header = batch.header
        for row, reason, detail in faults(batch, oldest_us):
            rejections.append(Rejection(events + row, reason, detail))
        events += header.count
        highest = max(highest, -1 if header.home is None else header.home)
        home = layout.home(header.boot_id, header.home)
        messages.append(_message(home, header.boot_id, frame, {HEADER_FORM: b"frame"}))
    return replace(_parcel(messages, events, rejections), highest_home=highest)


def pack_json(body: bytes, identity: Identity, layout: Layout, oldest_us: int) -> Parcel:
    """JSON events, in one message as they came where all boots share a home, else one per home.

    Args:
        body: an object, an array, or one object per line.
        identity: of the POST.
        layout: of the events topic.
        oldest_us: rows with an earlier ts are rejected.

    Raises:
        InvalidFrame: the body is no JSON; nothing may be sent.
        TooLarge: a row is over what the topic takes.
    """
    default = WORKER.decode()
    found = read_json(body, default_boot_id=identity.boot_id, default_worker_id=default)
    rejections = [Rejection(row.index, row.reason, row.detail) for row in found.rejected]
    for batch, indices in zip(found.batches, found.indices, strict=True):
        for row, reason, detail in faults(batch, oldest_us):
            rejections.append(Rejection(indices[row], reason, detail))
    if not found.count:
        return _parcel([], 0, [])
    placed = _placed(found)
    homes = {boot_id: layout.home(boot_id) for boot_id, _ in placed}
    small = len(body) <= MAX_JSON_BYTES and found.count <= MAX_JSON_ROWS
    if small and len(set(homes.values())) == 1:
        (home,) = set(homes.values())
        messages = [_json_message(home, [*homes], body, identity)]
    else:
        messages = [*_split(body, identity, placed, homes)]
    return _parcel(messages, found.count, rejections)


def faults(batch: Batch, oldest_us: int) -> list[tuple[int, str, str]]:
    """The rows that will be rejected when the batch is applied: (row, reason, detail).

    Args:
        batch: of a frame or of JSON.
        oldest_us: rows with an earlier ts are too late.
    """
    kind, table = batch.header.kind, batch.table
    if kind == "control" or not table.num_rows:
        return []
    if kind == "request":
        table = with_status(table)
    found: dict[int, tuple[int, str, str]] = {
        row: (row, reason, detail) for row, reason, detail in validate(kind, table, bad=batch.bad)
    }
    for row in np.flatnonzero(integers(table, "ts")[0] < oldest_us).tolist():
        found.setdefault(row, (row, "too_late", "ts is older than raw rows are kept"))
    return [found[row] for row in sorted(found)]


_Placed = Sequence[tuple[str, int | None]]


def _placed(found: JsonEvents) -> _Placed:
    """(boot, sequence number) of each row of a body, by position."""
    placed: list[tuple[str, int | None]] = [("", None)] * found.count
    for batch, indices in zip(found.batches, found.indices, strict=True):
        for index, seq in zip(indices, integers(batch.table, "seq")[0].tolist(), strict=True):
            placed[index] = batch.header.boot_id, seq
    for row in found.rejected:
        placed[row.index] = row.boot_id, row.seq
    return placed


def _split(
    body: bytes, identity: Identity, placed: _Placed, homes: Mapping[str, int]
) -> Iterator[Outgoing]:
    """Messages of bounded size, each with rows of one home; rows keep the body's order."""
    parts: dict[int, list[tuple[str, bytes]]] = {}
    for index, source in enumerate(_sources(body)):
        boot_id, seq = placed[index]
        if isinstance(source, dict) and (boot_id, seq) == (identity.boot_id, index):
            # It was numbered by its position, which is another one in a part of the body.
            source = source | {"boot_id": boot_id, "seq": index}
        parts.setdefault(homes[boot_id], []).append((boot_id, _text(source)))
    for home in sorted(parts):
        for rows in _bounded(parts[home]):
            boots = [*dict.fromkeys(boot_id for boot_id, _ in rows)]
            value = b"[" + b",".join(text for _, text in rows) + b"]"
            yield _json_message(home, boots, value, identity)


def _sources(body: bytes) -> list[Any]:
    """The rows of a body that `read_json` has read; a line that is no JSON as its text."""
    text = body.removeprefix(b"\xef\xbb\xbf").strip()
    try:
        whole = orjson.loads(text)
    except orjson.JSONDecodeError:
        return [_line(line) for line in map(bytes.strip, text.split(b"\n")) if line]
    return whole if isinstance(whole, list) else [whole]


def _line(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return line.decode(errors="backslashreplace")


def _text(source: Any) -> bytes:
    try:
        return orjson.dumps(source)
    except orjson.JSONEncodeError:  # it reads deeper than it writes
        pass
    try:
        return json.dumps(source, ensure_ascii=False).encode()
    except RecursionError as error:
        raise InvalidFrame("a row is nested too deeply; send it in a POST of its own") from error


def _bounded(rows: Sequence[tuple[str, bytes]]) -> Iterator[Sequence[tuple[str, bytes]]]:
    """Runs of rows, each within the bounds of a message or a single row."""
    first = size = 0
    for position, (_, text) in enumerate(rows):
        size += len(text) + 1
        if position > first and (size > MAX_JSON_BYTES or position - first == MAX_JSON_ROWS):
            yield rows[first:position]
            first, size = position, len(text) + 1
    yield rows[first:]


def _json_message(home: int, boots: Sequence[str], value: bytes, identity: Identity) -> Outgoing:
    headers = {
        HEADER_FORM: b"json",
        HEADER_BOOT: identity.boot_id.encode(),
        HEADER_WORKER: WORKER,
    }
    if identity.key:
        headers[HEADER_KEY] = identity.key
    return _message(home, boots[0] if len(boots) == 1 else "", value, headers)


def _message(home: int, boot_id: str, value: bytes, headers: Mapping[str, bytes]) -> Outgoing:
    key = boot_id.encode()
    if len(value) + len(key) > MAX_MESSAGE_BYTES - _OVERHEAD_BYTES:
        raise TooLarge(
            f"a message of {len(value)} bytes is over the {MAX_MESSAGE_BYTES} of {EVENTS}; "
            "send smaller rows or frames"
        )
    return Outgoing(EVENTS, home, key, value, headers)


def _parcel(messages: Sequence[Outgoing], events: int, rejections: Sequence[Rejection]) -> Parcel:
    ordered = sorted(rejections, key=lambda item: item.index)
    receipt = Receipt(events - len(ordered), rejected=len(ordered), rejections=ordered)
    return Parcel(messages, events, receipt)
