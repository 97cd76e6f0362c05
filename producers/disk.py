"""What the spool asks of the file system: one owner of a folder, and what outlives the machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.platform != "win32":
    import fcntl


class SpoolBusy(OSError):
    """Another live process owns the folder."""


def lock_file(path: Path) -> int:
    """Lock a file for as long as the descriptor that is returned stays open.

    Raises:
        SpoolBusy: a live process holds it, or has just removed it.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    if sys.platform != "win32":
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            current = path.stat().st_ino == os.fstat(fd).st_ino
        except OSError as error:
            os.close(fd)
            raise SpoolBusy(str(path)) from error
        if not current:  # the former owner has just removed the folder
            os.close(fd)
            raise SpoolBusy(str(path))
    return fd


def sync_folder(folder: Path) -> None:
    """Files made in it so far are still there after a crash of the machine."""
    if sys.platform != "win32":
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
