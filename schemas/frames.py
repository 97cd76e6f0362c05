"""Frames, writing side: rows of one kind from one boot as one compressed, checksummed record.

The format is specified in docs/frames.md, for writers in other languages too; the reading side is
streams/core/decode.py. Only numpy, msgpack and zstandard are needed here, because this runs inside
workers.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

import msgpack  # type: ignore[import-untyped]  # has no type information
import zstandard

from .columns import Spec
from .errors import InvalidFrame, TooLarge
from .events import SCHEMA_VERSION, EventName
from .rows import MAX_FRAME_BYTES, encode_oversized, encode_rows

MEDIA_TYPE = "application/vnd.penstock.frames"
MAX_FRAME_EVENTS = 5_000
MAX_HEADER_BYTES = 256 * 2**10
MAX_GAPS = 1_000

MAGIC = b"PSF1"
FLAG_ZSTD = 1
_PREFIX = struct.Struct("<4sBII")
_U32 = struct.Struct("<I")
PREFIX_BYTES = _PREFIX.size

FrameKind = EventName | Literal["control"]
_LOCAL = threading.local()


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameHeader:
    """What a frame says of itself and of its boot.

    Attributes:
        kind: kind of event of all rows; control carries none (heartbeat, gaps, closing).
        worker_id: the process that emits, as its operator names it.
        boot_id: random id of one start of the process.
        seq0: sequence number of the first row; row i is seq0 + i.
        count: rows, 0 for control.
        next_seq: one past the highest sequence number that the boot has given out so far.
        clock_us: the worker's clock when the frame was built, microseconds since 1970 UTC. No later
            frame of the boot holds an earlier ts, unless the caller set ts itself.
        closing: the boot ended in order with this frame.
        gaps: sequence numbers declared as lost, as [low, high).
        home: partition of the events topic that the boot has chosen for life; None where the sender
            knows of no partitions (HTTP), so that `topics.home_of` decides.
    """

    kind: FrameKind
    worker_id: str
    boot_id: str
    seq0: int
    count: int
    next_seq: int
    clock_us: int
    closing: bool = False
    gaps: tuple[tuple[int, int], ...] = ()
    home: int | None = None


@dataclass(frozen=True, slots=True)
class RawFrame:
    """A frame whose checksum holds; its body is still compressed.

    Attributes:
        header: the decoded header.
        body: columns, as `open_body` takes them.
        flags: 1 when the body is zstd.
        size_bytes: size of the whole record.
    """

    header: FrameHeader
    body: memoryview
    flags: int
    size_bytes: int


def encode_frame(
    header: FrameHeader, rows: Sequence[Mapping[str, Any]], *, level: int = 1
) -> bytes:
    """Encode rows (public field names, Python values; `ms` and `usd` as floats) as one frame.

    A row with a value that its field cannot hold travels as JSON beside the others, so that the
    server quarantines it with its reason; unknown fields go to `attributes`. `worker_id`, `boot_id`
    and `seq` of a row are ignored: the header has them.

    Args:
        header: its `count` must be `len(rows)`.
        rows: each with `ts`; at most MAX_FRAME_EVENTS. Fastest when all have the same keys.
        level: of zstd; 0 leaves the body as it is.

    Raises:
        ValueError: count does not match, or too many rows, or rows in a control frame, or a worker or
            boot without a name of 1 to 256 characters.
        TooLarge: the body is over MAX_FRAME_BYTES, or sets and maps have too many members; send
            fewer rows per frame, as `encode_frames` does.
    """
    _check(header, rows)
    buffers: list[bytes] = []
    directory: dict[str, Spec] = {}
    if rows and header.kind != "control":
        directory = encode_rows(header.kind, rows, header.clock_us, buffers)
    return _record(header, directory, buffers, level)


def encode_frames(
    header: FrameHeader, rows: Sequence[Mapping[str, Any]], *, level: int = 1
) -> list[bytes]:
    """As `encode_frame`, in as many frames as the limits ask for; most often one.

    A single row that is too large for a frame travels cut off, to be put into quarantine. Gaps and
    `closing` go with the last frame.

    Raises:
        ValueError: as `encode_frame`, but for the number of rows.
    """
    count = len(rows)
    if count <= MAX_FRAME_EVENTS:
        try:
            return [encode_frame(header, rows, level=level)]
        except TooLarge:
            if count == 1 and header.kind != "control":
                buffers: list[bytes] = []
                directory = encode_oversized(header.kind, rows[0], header.clock_us, buffers)
                return [_record(header, directory, buffers, level)]
    half = count // 2
    first = replace(header, count=half, closing=False, gaps=())
    second = replace(header, count=count - half, seq0=header.seq0 + half)
    left = encode_frames(first, rows[:half], level=level)
    return left + encode_frames(second, rows[half:], level=level)


def _check(header: FrameHeader, rows: Sequence[Mapping[str, Any]]) -> None:
    limit = 0 if header.kind == "control" else MAX_FRAME_EVENTS
    if header.count != len(rows) or len(rows) > limit:
        raise ValueError(f"header says {header.count} rows, got {len(rows)}, at most {limit} go in")
    if not _is_name(header.worker_id) or not _is_name(header.boot_id):
        raise ValueError("worker_id and boot_id are 1 to 256 characters each")
    if len(header.gaps) > MAX_GAPS:
        raise ValueError(f"{len(header.gaps)} gaps, at most {MAX_GAPS} go into a frame")


def split_frames(body: bytes) -> Iterator[bytes]:
    """The frames concatenated in `body`, in order; only their lengths are checked.

    Raises:
        InvalidFrame: at the first bytes that do not begin a whole frame.
    """
    position = 0
    while position < len(body):
        if len(body) - position < PREFIX_BYTES:
            raise InvalidFrame(f"{len(body) - position} stray bytes at {position}")
        magic, _, length, _ = _PREFIX.unpack_from(body, position)
        end = position + PREFIX_BYTES + length
        if magic != MAGIC or end > len(body):
            raise InvalidFrame(f"no whole frame at byte {position}")
        yield body[position:end]
        position = end


def open_frame(frame: bytes) -> RawFrame:
    """Check a frame's checksum and read its header, without decompressing it.

    Raises:
        InvalidFrame: no frame of ours, or a damaged one.
    """
    if len(frame) < PREFIX_BYTES + _U32.size:
        raise InvalidFrame("shorter than a frame can be")
    magic, flags, length, checksum = _PREFIX.unpack_from(frame)
    payload = memoryview(frame)[PREFIX_BYTES:]
    if magic != MAGIC or length != len(payload) or flags > FLAG_ZSTD:
        raise InvalidFrame("magic, flags or length of the frame are wrong")
    if zlib.crc32(payload) != checksum:
        raise InvalidFrame("the checksum does not match: the frame is damaged")
    (size,) = _U32.unpack_from(payload)
    if size > min(len(payload) - _U32.size, MAX_HEADER_BYTES):
        raise InvalidFrame("the header is cut off or too long")
    body = payload[_U32.size + size :]
    return RawFrame(_read_header(payload[_U32.size : _U32.size + size]), body, flags, len(frame))


def read_header(frame: bytes) -> FrameHeader:
    """The header of a frame; the checksum is verified.

    Raises:
        InvalidFrame: no frame of ours, or a damaged one.
    """
    return open_frame(frame).header


def unpack(data: bytes | memoryview) -> dict[str, Any]:
    """A msgpack map with string keys.

    Raises:
        InvalidFrame: anything else.
    """
    try:
        found = msgpack.unpackb(data, raw=False, strict_map_key=True, max_ext_len=0)
    except (ValueError, RecursionError) as error:  # msgpack's own errors are ValueErrors
        raise InvalidFrame(f"no msgpack: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise InvalidFrame("no msgpack map with string keys")
    return found


def _read_header(data: memoryview) -> FrameHeader:
    raw = unpack(data)
    version = _number(raw, "v")
    if version > SCHEMA_VERSION + 1:
        raise InvalidFrame(f"version {version} is newer than this reader ({SCHEMA_VERSION})")
    kind = raw.get("k")
    if kind != "control" and kind not in get_args(EventName):
        raise InvalidFrame(f"kind {kind!r} is unknown")
    gaps = raw.get("g", [])
    ok = isinstance(gaps, list) and all(
        isinstance(gap, list) and len(gap) == 2 and all(map(_is_count, gap)) and gap[0] < gap[1]
        for gap in gaps
    )
    names = [raw.get("w"), raw.get("b")]
    if not ok or not isinstance(raw.get("x", False), bool) or not all(map(_is_name, names)):
        raise InvalidFrame("worker, boot, gaps or closing of the header are wrong")
    header = FrameHeader(
        kind=cast(FrameKind, kind),
        worker_id=names[0] or "",
        boot_id=names[1] or "",
        seq0=_number(raw, "s"),
        count=_number(raw, "n"),
        next_seq=_number(raw, "h"),
        clock_us=_number(raw, "t"),
        closing=raw.get("x", False),
        gaps=tuple((low, high) for low, high in gaps),
        home=_number(raw, "p") if "p" in raw else None,
    )
    limit = 0 if kind == "control" else MAX_FRAME_EVENTS
    if header.count > limit or header.seq0 + header.count > 2**63:
        raise InvalidFrame(f"{header.count} rows from {header.seq0}: at most {limit} are read")
    return header


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 256


def _number(raw: Mapping[str, Any], key: str) -> int:
    value = raw.get(key)
    if not _is_count(value):
        raise InvalidFrame(f"header field {key} is {value!r}")
    return cast(int, value)


def _record(
    header: FrameHeader, directory: dict[str, Spec], buffers: list[bytes], level: int
) -> bytes:
    fields = {
        "v": SCHEMA_VERSION,
        "k": header.kind,
        "w": header.worker_id,
        "b": header.boot_id,
        "s": header.seq0,
        "n": header.count,
        "h": header.next_seq,
        "t": header.clock_us,
        "x": header.closing,
        "g": header.gaps,
    }
    if header.home is not None:
        fields["p"] = header.home
    head: bytes = msgpack.packb(fields)
    packed: bytes = msgpack.packb(directory)
    body = b"".join([_U32.pack(len(packed)), packed, *buffers])
    if len(body) > MAX_FRAME_BYTES:
        raise TooLarge(f"{header.count} rows take {len(body)} bytes; send fewer per frame")
    if level:
        body = _compressor(level).compress(body)
    payload = b"".join([_U32.pack(len(head)), head, body])
    flags = FLAG_ZSTD if level else 0
    return _PREFIX.pack(MAGIC, flags, len(payload), zlib.crc32(payload)) + payload


def _compressor(level: int) -> zstandard.ZstdCompressor:
    """One compressor per thread and level: making one costs more than compressing a frame."""
    known: dict[int, zstandard.ZstdCompressor] = _LOCAL.__dict__.setdefault("compressors", {})
    if level not in known:
        known[level] = zstandard.ZstdCompressor(level=level)
    return known[level]
