"""Bodies of inserts as files that the engine can read: in memory, and on disk where they are long."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

IN_MEMORY_BYTES = 64 * 2**20


@contextmanager
def held(data: Iterator[bytes]) -> Iterator[str]:
    """The path of a file that holds the data, as long as the context lasts."""
    file = _in_memory() or _on_disk()
    in_memory, total = not hasattr(file, "name") or isinstance(file.name, int), 0
    try:
        for piece in data:
            total += len(piece)
            if in_memory and total > IN_MEMORY_BYTES:
                disk = _on_disk()
                file.seek(0)
                shutil.copyfileobj(file, disk)
                file.close()
                file, in_memory = disk, False
            file.write(piece)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}" if in_memory else str(file.name)
    finally:
        file.close()


def _in_memory() -> BinaryIO | None:
    """None where the system has no such files."""
    if not hasattr(os, "memfd_create"):
        return None
    return os.fdopen(os.memfd_create("penstock-insert"), "w+b")


def _on_disk() -> BinaryIO:
    return cast(BinaryIO, tempfile.NamedTemporaryFile(prefix="penstock-insert-"))
