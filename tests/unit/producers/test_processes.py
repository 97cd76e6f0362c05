from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from penstock import Emitter, EmitterSettings
from penstock.tests.unit.producers.event_server import Answer, EventServer, event_server

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork"),
    # Forking with threads is what is tested here; Python warns of it from 3.12 on.
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
]


def in_child(work: Callable[[], None]) -> int:
    """Fork, run `work` in the child, leave it without any clean-up; returns its exit status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_is_a_boot_of_its_own(
    server: EventServer, settings: EmitterSettings
) -> None:
    with Emitter(url=server.url, settings=settings, model="m") as emit:
        step = emit.step  # bound before the fork, as user code does
        for i in range(100):
            step(step=i)
        parent = emit.boot_id

        def work() -> None:
            assert emit.boot_id != parent
            step(step=1000)
            emit.close()

        assert in_child(work) == 0
        step(step=100)
    boots = server.boots()
    assert len(boots) == 2
    child = next(boot for boot in boots if boot != parent)
    assert boots[parent].seqs == list(range(101))
    assert boots[child].seqs == [0]
    assert [boot.closed for boot in boots.values()] == [1, 1]
    steps = [row["step"] for row in server.rows("step")]
    assert sorted(steps) == [*range(101), 1000], "nothing is sent by both"


@pytest.mark.slow
def test_forks_amid_traffic_never_hang(server: EventServer, settings: EmitterSettings) -> None:
    stop = threading.Event()
    with Emitter(url=server.url, settings=settings) as emit:

        def traffic() -> None:
            while not stop.wait(0.0005):
                emit.step(step=1)

        threads = [threading.Thread(target=traffic) for _ in range(2)]
        for thread in threads:
            thread.start()

        def work() -> None:
            signal.alarm(30)  # a deadlock ends the child, and the test sees it
            emit.step(step=2)
            assert emit.flush(20.0)
            emit.close()

        try:
            assert [in_child(work) for _ in range(15)] == [0] * 15
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    boots = server.boots()
    assert len(boots) == 16
    assert all(boot.missing == set() and boot.closed == 1 for boot in boots.values())
    assert sum(row["step"] == 2 for row in server.rows("step")) == 15


def test_a_fork_while_the_server_is_away_leaves_the_parents_spool_alone(
    settings: EmitterSettings,
) -> None:
    with event_server() as first:
        port = first.port
    with Emitter(url=f"http://127.0.0.1:{port}", settings=settings) as emit:
        emit.step(step=1)
        assert not emit.flush(0.1)

        def work() -> None:
            emit.step(step=2)
            emit.close()

        assert in_child(work) == 0
        with event_server(port) as server:
            assert emit.flush(20.0)
            emit.close()
            assert len(server.boots()[emit.boot_id].seqs) == 1
            with Emitter(url=server.url, settings=settings) as later:
                later.step(step=3)
                server.wait(lambda: len(server.boots()) == 3)
            assert sorted(row["step"] for row in server.rows("step")) == [1, 2, 3]


def test_preload_the_emitter_is_made_before_the_workers(
    server: EventServer, settings: EmitterSettings
) -> None:
    """What gunicorn does with --preload: no thread in the master, one boot per worker."""
    emit = Emitter(url=server.url, settings=settings)

    def work() -> None:
        emit.step(step=os.getpid())
        emit.close()

    assert [in_child(work) for _ in range(3)] == [0, 0, 0]
    emit.close()
    assert len(server.boots()) == 3
    assert len({row["worker_id"] for row in server.rows("step")}) == 3


def child_of_multiprocessing(url: str, spool_dir: str, step: int) -> None:
    settings = EmitterSettings(spool_dir=spool_dir, flush_interval_s=60.0)
    emit = Emitter(url=url, settings=settings)
    emit.step(step=step)
    # No close: the end of the process does it.


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_of_multiprocessing_flush_at_their_end(
    server: EventServer, tmp_path: Path, method: Any
) -> None:
    context = multiprocessing.get_context(method)
    processes = [
        context.Process(target=child_of_multiprocessing, args=(server.url, str(tmp_path), i))
        for i in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert sorted(row["step"] for row in server.rows("step")) == [0, 1, 2]
    assert all(boot.closed == 1 for boot in server.boots().values())


def test_an_inherited_emitter_in_a_child_of_multiprocessing_flushes_too(
    server: EventServer, settings: EmitterSettings
) -> None:
    with Emitter(url=server.url, settings=settings) as emit:
        emit.step(step=0)
        process = multiprocessing.get_context("fork").Process(target=emit.step, kwargs={"step": 1})
        process.start()
        process.join(60)
        assert process.exitcode == 0
    assert sorted(row["step"] for row in server.rows("step")) == [0, 1]
    assert [boot.closed for boot in server.boots().values()] == [1, 1]


SCRIPT = """
import sys, time
from penstock import Emitter, EmitterSettings
settings = EmitterSettings(spool_dir=sys.argv[2], flush_interval_s=0.02, retry_cap_s=0.2)
emit = Emitter(url=sys.argv[1], settings=settings)
for i in range(int(sys.argv[3])):
    emit.step(step=i)
    if i % 20 == 0:
        # What was framed when nothing of it was left in memory: the server refuses, so it is on disk.
        with emit._session._flusher.lock:
            emit._session._flusher.cycle()
            framed, in_memory = emit._session.boot.next_seq, emit._session._outbox._memory
            if not in_memory:
                print(framed, flush=True)
        time.sleep(0.001)
"""


def run(url: str, spool_dir: Path, steps: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, url, str(spool_dir), str(steps)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_the_end_of_a_process_flushes(server: EventServer, tmp_path: Path) -> None:
    process = run(server.url, tmp_path, 50)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert [row["step"] for row in server.rows("step")] == list(range(50))
    (boot,) = server.boots().values()
    assert boot.closed == 1


def test_an_emitter_that_went_out_of_scope_is_flushed_at_the_end(
    server: EventServer, tmp_path: Path
) -> None:
    script = (
        "import sys\n"
        "from penstock import Emitter, EmitterSettings\n"
        "def main():\n"
        "    settings = EmitterSettings(spool_dir=sys.argv[2], flush_interval_s=60.0)\n"
        "    Emitter(url=sys.argv[1], settings=settings).step(step=1)\n"
        "main()\n"
    )
    command = [sys.executable, "-c", script, server.url, str(tmp_path)]
    subprocess.run(command, check=True, timeout=60)
    assert [row["step"] for row in server.rows("step")] == [1]
    assert server.headers()[-1].closing


@pytest.mark.parametrize("lines", [3, 10, 40])
def test_kill_while_spooling_loses_nothing_that_was_framed(tmp_path: Path, lines: int) -> None:
    """kill -9 in the middle of writing; another process with the same folder delivers."""
    spool = tmp_path / "spool"
    with event_server() as refusing:
        refusing.always = Answer(503)
        process = run(refusing.url, spool, 1_000_000)
        assert process.stdout is not None
        refusing.wait(lambda: bool(refusing.arrivals))
        # From the first failure on, frames go to disk as soon as they are made.
        framed = [int(process.stdout.readline()) for _ in range(lines)][-1]
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        process.stdout.close()
    with event_server() as server:
        second = run(server.url, spool, 1)
        second.communicate(timeout=60)
        dead = [row for row in server.rows("step") if row["boot_id"] != newest(server)]
        seqs = [row["seq"] for row in dead]
        assert seqs == list(range(len(seqs))), "in order, none missing, none twice"
        assert len(seqs) >= framed
        assert [row["step"] for row in dead] == seqs
    assert not list(spool.glob("*.boot/*.seg"))


def newest(server: EventServer) -> str:
    return server.headers()[-1].boot_id


def test_kill_amid_delivery_repeats_only_what_was_not_acknowledged(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    with event_server() as server:
        # Delivered, refused, delivered ...: the spool fills and drains while the process is killed.
        server.answers = [Answer(503) if i % 3 else Answer(202) for i in range(400)]
        process = run(server.url, spool, 1_000_000)
        assert process.stdout is not None
        framed = [int(process.stdout.readline()) for _ in range(60)][-1]
        server.wait(lambda: len(server.arrivals) > 5)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        process.stdout.close()
        server.answers = []
        before = {row["seq"] for row in server.rows("step")}
        second = run(server.url, spool, 1)
        second.communicate(timeout=60)
        rows = [row for row in server.rows("step") if row["boot_id"] != newest(server)]
        seqs = [row["seq"] for row in rows]
        repeated = len(seqs) - len(set(seqs))
        assert set(seqs) == set(range(max(seqs) + 1))
        assert before <= set(seqs)
        # At most the one body that was in flight comes again, and the frames of a torn head.
        assert repeated <= 20 * 64
        assert max(seqs) + 1 >= framed - 20 * 64
