"""The store is there and refuses: its disk is full, it has too many parts."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from penstock.streams.storage.store import Store
from penstock.tests.faults.compare import compare
from penstock.tests.faults.conftest import MakeStack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DISK_MIB = 1000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 and "CI" not in os.environ:
        pytest.skip("only root can mount a small disk")
    options = f"size={DISK_MIB}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.fault(60)
def test_disk_full(small_disk: Path, make_stack: MakeStack) -> None:
    """Inserts fail for want of space; with space again, everything is there."""
    stack = make_stack(store_folder=small_disk / "store")
    stack.add_workers(2)
    stack.add_senders(2)
    stack.await_rows()
    ballast = small_disk / "ballast"
    for _ in range(2):
        before = stack.metric("retries")
        _fill(small_disk, ballast)
        until_s = time.monotonic() + 60
        while stack.metric("retries") < before + 3:
            assert time.monotonic() < until_s, "the store did not refuse"
            _fill(small_disk, small_disk / "more")  # what merges gave back
            time.sleep(0.2)
        time.sleep(stack.random.uniform(0.0, 4.0))
        ballast.unlink()
        (small_disk / "more").unlink()
        stack.await_rows()
    stack.end_load()
    stack.settle()
    compare(stack)


def _fill(disk: Path, ballast: Path) -> None:
    """Leave nothing."""
    free_bytes = shutil.disk_usage(disk).free
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for _ in range(free_bytes // 2**16 + 16):
            file.write(bytes(2**16))


@pytest.mark.fault(60)
def test_too_many_parts(make_stack: MakeStack) -> None:
    """The store refuses inserts into one table after the other, and takes them again."""
    stack = make_stack()
    stack.add_workers(2)
    stack.add_senders(2)
    stack.await_rows()
    tables = ["requests_rows", "frames_rows", "panes_rows", "checkpoints_rows"]
    stack.random.shuffle(tables)
    store = Store(stack.store.url)
    try:
        for table in tables[:3]:
            before = stack.metric("retries")
            limits = "parts_to_delay_insert = 1, parts_to_throw_insert = 1"
            store.command(f"ALTER TABLE penstock.{table} MODIFY SETTING {limits}")
            stack.await_(lambda: stack.metric("retries") > before + 1, 40, table)  # noqa: B023
            limits = "parts_to_delay_insert, parts_to_throw_insert"
            store.command(f"ALTER TABLE penstock.{table} RESET SETTING {limits}")
            stack.await_rows()
    finally:
        store.close()
    stack.end_load()
    stack.settle()
    compare(stack)
