"""`penstock store` as a process: kill -9, SIGTERM, SIGSTOP, a second one, one beside another engine user."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from penstock.schemas.errors import StoreError
from penstock.streams.storage.store import Store
from penstock.tests.support.chstore import StoreServer
from penstock.tests.support.ports import free_port

# Each starts a server of its own.
pytestmark = pytest.mark.slow
TABLE = (
    "CREATE TABLE penstock.rows (n UInt64, s String) ENGINE = MergeTree ORDER BY n"
    " SETTINGS non_replicated_deduplication_window = 1000"
)
BATCH = 5_000
BATCHES = 40


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StoreServer]:
    server = StoreServer(tmp_path)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def post(server: StoreServer, sql: str, **query: str) -> httpx.Response:
    return httpx.post(
        server.http_url, params={"query": sql, **query}, auth=("writer", "pw"), timeout=60
    )


def _insert_until_stored(url: str, number: int, until_s: float) -> None:
    """One batch with its token, again and again, as the processors do it."""
    first = number * BATCH
    rows = pa.table(
        {"n": pa.array(range(first, first + BATCH), pa.uint64()), "s": ["x" * 50] * BATCH}
    )
    while True:
        store = Store(url)
        try:
            store.insert("rows", rows, f"batch-{number}")
            return
        except StoreError as error:
            if not error.retryable or time.monotonic() > until_s:
                raise
            time.sleep(0.05)
        finally:
            store.close()


def test_kill_9_during_inserts_stores_everything_once(server: StoreServer) -> None:
    store = Store(server.url)
    store.command(TABLE)
    store.close()
    until_s = time.monotonic() + 120
    done = threading.Event()
    failures: list[BaseException] = []

    def insert() -> None:
        try:
            for number in range(BATCHES):
                _insert_until_stored(server.url, number, until_s)
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            done.set()

    writer = threading.Thread(target=insert)
    writer.start()
    kills = 0
    while kills < 4 and not done.wait(0.35):
        server.kill()
        kills += 1
        server.start()
    writer.join()
    assert failures == []
    assert kills >= 2
    answer = post(server, "SELECT count(), uniqExact(n), min(n), max(n) FROM penstock.rows")
    rows = BATCH * BATCHES
    assert answer.text == f"{rows}\t{rows}\t0\t{rows - 1}\n"


def test_sigterm_waits_for_an_insert(server: StoreServer) -> None:
    post(server, "CREATE TABLE slow (n UInt64) ENGINE = MergeTree ORDER BY n")

    def body() -> Iterator[bytes]:
        for number in range(10):
            yield f"{number}\n".encode()
            time.sleep(0.2)

    answers: list[httpx.Response] = []
    insert = threading.Thread(
        target=lambda: answers.append(
            httpx.post(
                server.http_url,
                params={"query": "INSERT INTO slow FORMAT TSV"},
                content=body(),
                auth=("writer", "pw"),
                timeout=60,
            )
        )
    )
    insert.start()
    time.sleep(0.6)
    server.stop()
    insert.join()
    assert [answer.status_code for answer in answers] == [200]
    server.start()
    assert post(server, "SELECT count() FROM slow").text == "10\n"


def test_sigterm_ends_reads_at_once(server: StoreServer) -> None:
    outcome: list[object] = []

    def read() -> None:
        try:
            endless = "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1"
            outcome.append(post(server, endless).headers.get("x-clickhouse-exception-code"))
        except httpx.TransportError as error:
            outcome.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(0.7)
    began = time.monotonic()
    server.stop()
    reader.join()
    assert time.monotonic() - began < 10
    assert outcome == ["394"] or isinstance(outcome[0], httpx.TransportError)


def test_a_body_that_breaks_off_stores_nothing(server: StoreServer) -> None:
    post(server, "CREATE TABLE half (n UInt64) ENGINE = MergeTree ORDER BY n")

    def body() -> Iterator[bytes]:
        yield b"1\n2\n3\n"
        raise ConnectionError("the client died")

    with pytest.raises(ConnectionError):
        httpx.post(
            server.http_url,
            params={"query": "INSERT INTO half FORMAT TSV"},
            content=body(),
            auth=("writer", "pw"),
        )
    time.sleep(0.5)
    assert post(server, "SELECT count() FROM half").text == "0\n"


def test_a_paused_server_goes_on(server: StoreServer) -> None:
    server.pause()
    with pytest.raises(httpx.TimeoutException):
        httpx.get(f"{server.http_url}/ping", timeout=0.5)
    server.resume()
    assert post(server, "SELECT 1").text == "1\n"


def test_a_second_process_on_the_folder_is_told(server: StoreServer) -> None:
    command = [sys.executable, "-m", "penstock", "store", "--data", str(server.log.parent)]
    second = subprocess.run(
        [*command, "--port", str(free_port())], capture_output=True, text=True, timeout=60
    )
    assert second.returncode == 1
    assert "another process has it open" in second.stderr
    assert "Traceback" not in second.stderr
    assert post(server, "SELECT 1").text == "1\n"


def test_a_taken_port_and_an_open_address_are_told(server: StoreServer, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "penstock", "store", "--data", str(tmp_path / "other")]
    for flags, told in (
        (["--port", str(server.port)], "choose another --host or --port"),
        (["--host", "0.0.0.0"], "--users FILE"),
        (["--users", str(tmp_path / "nothing.yaml")], "cannot read the users file"),
    ):
        answer = subprocess.run([*command, *flags], capture_output=True, text=True, timeout=60)
        assert answer.returncode == 1
        assert told in answer.stderr
        assert "Traceback" not in answer.stderr


BESIDE = """
import sys, time
from pathlib import Path
import httpx
from penstock.schemas.errors import StoreError
from penstock.store.serve import serve_beside
from penstock.store.users import loopback_users
from penstock.streams.storage.migrate import migrate
from penstock.streams.storage.store import Store

folder = Path(sys.argv[1])
beside = serve_beside(folder, "127.0.0.1", 0, loopback_users())
store = Store(f"chdb://{folder}")
migrate(store)
store.ping()
url = f"http://127.0.0.1:{beside.port}/"
answer = httpx.get(url, params={"query": "SELECT count() FROM probe"})
assert answer.text == "1\\n", answer.text
assert httpx.post(url, content="INSERT INTO probe SELECT now64(6)").status_code == 200
assert store.query("SELECT count() AS n FROM penstock.probe") == [{"n": 2}]
beside.stop()
store.ping()
assert store.query("SELECT count() AS n FROM penstock.probe") == [{"n": 3}]
try:
    httpx.get(url, timeout=2)
    raise SystemExit("it still listens")
except httpx.TransportError:
    pass
store.close()

store = Store(f"chdb://{folder}")
store.ping()
try:
    serve_beside(folder, "127.0.0.1", 0, loopback_users())
    raise SystemExit("it must say that the folder was opened before")
except StoreError as error:
    assert "open the interface first" in str(error), error
store.close()
print("done")
"""


def test_beside_the_embedded_store_of_one_process(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", BESIDE, str(tmp_path / "store")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (answer.returncode, answer.stdout) == (0, "done\n"), answer.stderr


def test_sigint_ends_it_in_order(tmp_path: Path) -> None:
    server = StoreServer(tmp_path)
    server.start()
    process = server._process
    assert process is not None
    process.send_signal(signal.SIGINT)
    assert process.wait(30) in (0, 1, 130, -signal.SIGINT)
    assert "Traceback" not in server.log.read_text()
    server.kill()
    server.start()
    server.stop()
