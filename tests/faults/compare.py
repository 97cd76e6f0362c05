"""The end of every scenario: what was sent beside what the store shows, holds and computed."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable

from penstock.tests.support.recount import coverage, recount, stored
from penstock.tests.support.stack import Stack
from penstock.tests.support.worker import START_AGAIN

AUDIT_S = 180.0
# A desk that met a bug, and a thread that ended by one; what aiokafka says of its tasks is no bug.
_BROKEN = re.compile(r" ERROR penstock: .*failed$|^Exception in thread")
Wanted = Callable[[int, int], bool]


def compare(
    stack: Stack,
    vanishing: bool = False,
    wanted: Wanted = lambda *_: True,
    more_requests: int = 0,
    endings: frozenset[int] = frozenset({START_AGAIN}),
) -> None:
    """Compare everything; load and workers have been stopped.

    Args:
        stack: of the scenario.
        vanishing: whether rows may have gone and come again.
        wanted: which windows are compared, by length and end in seconds.
        more_requests: stored requests that no sender sent.
        endings: exit codes with which workers may have ended by themselves.
    """
    watcher = stack.watcher
    watcher.ending.set()
    watcher.join(30)
    assert watcher.looks > 3
    assert watcher.doubled == [], "a plain count saw rows twice"
    assert vanishing or watcher.vanished == [], "rows vanished"
    _compare_rows(stack, more_requests)
    _compare_coverage(stack)
    found = recount(stack.store.url, wanted)
    assert found.windows > 40
    assert not found.wrong, f"{len(found.wrong)} numbers of windows: {found.wrong[:12]}"
    _look_at_logs(stack, endings)
    _audit(stack)


def _compare_rows(stack: Stack, more_requests: int) -> None:
    """Every row that was sent is there once, with its content, and no other."""
    expected = stack.wanted()
    names = tuple(f"{sender.name}-" for sender in stack.senders)
    held = stored(stack.store.reader_url)
    found = {key: counts for key, counts in held.items() if key[1].startswith(names)}
    differing = {
        key: (expected.get(key), found.get(key))
        for key in expected.keys() | found.keys()
        if expected.get(key) != found.get(key)
    }
    assert not differing, f"sent, stored (rows, unique, numbers, content): {differing}"
    sent = sum(sums[0] for (kind, _), sums in expected.items() if kind == "request")
    assert stack.count() == sent + more_requests


def _compare_coverage(stack: Stack) -> None:
    """Every boot is closed, and nothing of it is missing."""
    found = coverage(stack.store.url)
    for sender in stack.senders:
        for boot_id, events in sender.boots().items():
            row = found[boot_id]
            numbers = [row[name] for name in ("expected", "received", "stored")]
            assert numbers == [events] * 3, f"{events} sent: {row}"
            assert [row[name] for name in ("missing", "gap", "rejected")] == [0, 0, 0], row
            assert row["state"] == "closed", row


def _look_at_logs(stack: Stack, endings: frozenset[int]) -> None:
    """No worker met an error that it did not foresee, or was stuck."""
    for worker in stack.workers:
        for line in worker.log.read_text(errors="replace").splitlines():
            assert not _BROKEN.search(line), f"{worker.name}: {line}\n{worker.tail(6000)}"
        assert set(worker.endings) <= endings, f"{worker.name}: {worker.endings}\n{worker.tail()}"


def _audit(stack: Stack) -> None:
    """`penstock audit` agrees."""
    command = [sys.executable, "-m", "penstock", "audit", "--store", stack.store.url]
    done = subprocess.run(
        command, cwd=stack.folder, capture_output=True, text=True, timeout=AUDIT_S, check=False
    )
    assert done.returncode == 0, f"penstock audit:\n{done.stdout[-4000:]}{done.stderr[-2000:]}"
