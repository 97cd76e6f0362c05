"""Frames on disk while the server is away: one folder per boot, a first-in first-out of records.

A record is a frame as it goes over the wire, which carries its own length and checksum. Records are
appended to numbered segment files; a small `head` file says what was delivered. A process that is
killed leaves its folder behind, and a later emitter with the same spool folder takes it over through
an exclusive lock on the file `lock`. Writes survive the end of the process at any moment; that of the
machine only where the spool is synced.

No method is thread-safe: the owner holds a lock around them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import sys
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from ..schemas.errors import InvalidFrame
from ..schemas.frames import MAGIC, read_header, split_frames
from .disk import SpoolBusy, lock_file, sync_folder
from .gaps import gap_frame

_LOG = logging.getLogger("penstock")
_HEAD = struct.Struct("<QQI")
_READ_BYTES = 4 << 20
_FOLDER_SUFFIX = ".boot"


class Spool:
    """The records of one boot.

    Args:
        folder: made if absent; taken over with its records if present.
        max_bytes: bound of all segments together; beyond it the oldest segment goes.
        synced: `sync` forces records to the medium.

    Raises:
        SpoolBusy: a live process owns the folder.
        OSError: the folder cannot be made or written.
    """

    def __init__(self, folder: Path, max_bytes: int, *, synced: bool = False) -> None:
        self.folder = folder
        self.lost_events = 0
        self._synced = synced
        self._max_bytes = max_bytes
        self._segment_bytes = max(4096, min(max_bytes // 8, 16 << 20))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock_fd = lock_file(folder / "lock")
        self._head_fd = os.open(folder / "head", os.O_RDWR | os.O_CREAT, 0o600)
        self._sizes = {int(path.stem): path.stat().st_size for path in sorted(folder.glob("*.seg"))}
        self._head = self._read_head()
        self._next = max(self._sizes, default=-1) + 1
        self._write_fd = -1
        self._in_flight: deque[tuple[int, int]] = (
            deque()
        )  # (segment, end) of the records read and not settled
        self._settle_head()
        if synced:
            sync_folder(folder.parent)

    @property
    def size_bytes(self) -> int:
        """Bytes of all segments on disk."""
        return sum(self._sizes.values())

    @property
    def empty(self) -> bool:
        """Whether every record was delivered."""
        return not self._sizes

    @property
    def in_flight(self) -> int:
        """How many records were read and not settled."""
        return len(self._in_flight)

    def append(self, frame: bytes, *, in_flight: bool = False) -> None:
        """Add a record, making room first; what goes is declared in a control frame.

        Args:
            frame: one frame.
            in_flight: it is being delivered already, so it cannot be what goes.

        Raises:
            OSError: the disk is full or the folder is gone; the record was not added.
        """
        while self.size_bytes + len(frame) > self._max_bytes and self._evict():
            pass
        try:
            self._write(frame)
        except OSError:
            if not self._evict():
                raise
            self._write(frame)
        if in_flight:
            self._in_flight.append((self._next - 1, self._sizes[self._next - 1]))

    def sync(self) -> None:
        """What was appended outlives the machine from now on, if the spool is `synced`.

        Raises:
            OSError: the medium does not take it.
        """
        if self._synced and self._write_fd >= 0:
            os.fsync(self._write_fd)

    def peek(self, max_bytes: int, max_frames: int = 1 << 30) -> list[bytes]:
        """The oldest records (at least one if there is any), which are in flight from now on.

        Raises:
            OSError: the segments cannot be read.
        """
        self._in_flight.clear()
        frames: list[bytes] = []
        total = 0
        for segment, end, frame in self._records():
            total += len(frame)
            if frames and (total > max_bytes or len(frames) >= max_frames):
                break
            frames.append(frame)
            self._in_flight.append((segment, end))
        if not frames:
            self._drop_up_to(self._next, 0)  # nothing but damage was left
        return frames

    def ack(self, count: int) -> None:
        """The first `count` records in flight are settled: delivered, or kept elsewhere."""
        for _ in range(count):
            segment, end = self._in_flight.popleft()
        if count:
            self._drop_up_to(segment, end)

    def fail(self) -> None:
        """Nothing is in flight any more."""
        self._in_flight.clear()

    def trim(self, max_bytes: int) -> int:
        """Let the oldest segments go until at most `max_bytes` are held; returns bytes held."""
        while self.size_bytes > max_bytes and self._evict():
            pass
        return self.size_bytes

    def close(self) -> None:
        """Let the folder go: removed when all was delivered, left for a later emitter if not."""
        if self._lock_fd < 0:
            return
        if self.empty:
            for name in ("head", "lock"):
                (self.folder / name).unlink(missing_ok=True)
            # Another process may have put something here meanwhile.
            with contextlib.suppress(OSError):
                self.folder.rmdir()
        self.abandon()

    def abandon(self) -> None:
        """Close file descriptors and nothing else (in a forked child, the parent goes on)."""
        for fd in (self._write_fd, self._head_fd, self._lock_fd):
            if fd >= 0:
                os.close(fd)
        self._write_fd = self._head_fd = self._lock_fd = -1

    def _write(self, frame: bytes) -> None:
        if self._write_fd < 0 or self._sizes[self._next - 1] >= self._segment_bytes:
            self._roll()
        segment = self._next - 1
        size = self._sizes[segment]
        try:
            written = os.write(self._write_fd, frame)
            while written < len(frame):
                written += os.write(self._write_fd, memoryview(frame)[written:])
        except OSError:
            os.ftruncate(self._write_fd, size)
            raise
        self._sizes[segment] = size + len(frame)

    def _roll(self) -> None:
        self.sync()
        fd = os.open(self._path(self._next), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        if self._write_fd >= 0:
            os.close(self._write_fd)
        self._write_fd = fd
        self._sizes[self._next] = 0
        self._next += 1
        if self._synced:
            sync_folder(self.folder)

    def _records(self) -> Iterator[tuple[int, int, bytes]]:
        """(segment, end, frame) of every undelivered record, skipping what is damaged."""
        for segment in sorted(self._sizes):
            if segment < self._head[0]:
                continue
            offset = self._head[1] if segment == self._head[0] else 0
            for end, frame in _read_segment(self._path(segment), offset):
                yield segment, end, frame

    def _evict(self) -> bool:
        """Let the oldest segment go that holds nothing in flight; False when there is none."""
        busy = self._in_flight[-1][0] if self._in_flight else -1
        victims = [segment for segment in sorted(self._sizes) if segment > busy]
        # The segment being written goes only if it is the last way to keep the bound.
        if not victims or (len(victims) == 1 and self._sizes[victims[0]] < self._segment_bytes):
            return False
        victim = victims[0]
        offset = self._head[1] if victim == self._head[0] else 0
        lost = [read_header(frame) for _, frame in _read_segment(self._path(victim), offset)]
        if victim == self._next - 1:
            self._roll()
        if lost:
            declaration = gap_frame(lost)
            self.lost_events += sum(header.count for header in lost)
            if declaration is not None:
                self._declare(declaration, victim)
        self._remove(victim)
        return True

    def _declare(self, declaration: bytes, victim: int) -> None:
        # Before it is gone: a crash in between may declare too much, never too little.
        try:
            self._write(declaration)
        except OSError:  # the disk is full, and what goes makes the room
            self._remove(victim)
            self._write(declaration)

    def _drop_up_to(self, segment: int, end: int) -> None:
        self._head = (segment, end)
        self._settle_head()
        body = struct.pack("<QQ", *self._head)
        os.lseek(self._head_fd, 0, os.SEEK_SET)
        os.write(self._head_fd, body + struct.pack("<I", zlib.crc32(body)))

    def _settle_head(self) -> None:
        """Remove what lies before the head."""
        for segment in sorted(self._sizes):
            delivered = self._sizes[segment] if segment < self._head[0] else self._head[1]
            if segment > self._head[0] or delivered < self._sizes[segment]:
                break
            self._remove(segment)

    def _remove(self, segment: int) -> None:
        if segment == self._next - 1 and self._write_fd >= 0:
            os.close(self._write_fd)
            self._write_fd = -1
        self._path(segment).unlink(missing_ok=True)
        self._sizes.pop(segment, None)

    def _read_head(self) -> tuple[int, int]:
        data = os.read(self._head_fd, _HEAD.size)
        if len(data) == _HEAD.size:
            segment, end, checksum = _HEAD.unpack(data)
            if zlib.crc32(data[:16]) == checksum:
                return segment, end
        return min(self._sizes, default=0), 0

    def _path(self, segment: int) -> Path:
        return self.folder / f"{segment:010d}.seg"


def adopt(spool_dir: Path, max_bytes: int) -> list[Spool]:
    """Take over what dead boots left in `spool_dir`, oldest boot first.

    All leftovers together are held to `max_bytes`: the oldest go first, declared by their own boot.

    Raises:
        OSError: the folder cannot be read.
    """
    found: list[tuple[float, Spool]] = []
    if sys.platform == "win32":  # no lock tells there whether a boot is dead
        return []
    for folder in sorted(spool_dir.glob(f"*{_FOLDER_SUFFIX}")):
        try:
            modified = folder.stat().st_mtime
            spool = Spool(folder, max_bytes)
        except (SpoolBusy, FileNotFoundError, PermissionError):
            continue  # its process lives, or somebody else has just finished with it
        if spool.empty:
            spool.close()
        else:
            found.append((modified, spool))
    found.sort(key=lambda item: item[0])
    spools = [spool for _, spool in found]
    held = sum(spool.size_bytes for spool in spools)
    for spool in spools:
        before = spool.size_bytes
        held += spool.trim(max(0, max_bytes - (held - before))) - before
    return spools


def boot_folder(spool_dir: Path, boot_id: str) -> Path:
    """Where a boot spools."""
    return spool_dir / f"{boot_id}{_FOLDER_SUFFIX}"


def _read_segment(path: Path, offset: int) -> Iterator[tuple[int, bytes]]:
    """(end, frame) of every sound record from `offset` on."""
    with path.open("rb") as file:
        file.seek(offset)
        data, position = file.read(_READ_BYTES), offset
        while data:
            used = 0
            for frame in _sound_frames(data):
                used += len(frame)
                yield position + used, frame
            more = file.read(max(_READ_BYTES, len(data)))
            if not used and not more:
                used = _next_magic(data)
                _LOG.warning("skipped %d damaged bytes in the spool, %s", used, path)
            data, position = data[used:] + more, position + used


def _sound_frames(data: bytes) -> Iterator[bytes]:
    """Whole frames from the start of `data`, up to the first that is cut off or damaged."""
    # Damaged or cut off: the caller decides, who knows whether more is to come.
    with contextlib.suppress(InvalidFrame):
        for frame in split_frames(data):
            read_header(frame)
            yield frame


def _next_magic(data: bytes) -> int:
    found = data.find(MAGIC, 1)
    return found if found > 0 else len(data)
