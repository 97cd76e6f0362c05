"""The rivals of benchmarks/distributed.py, each in a process of its own, which that script starts.

Both read requests as JSON, one event a message: Faust as its documentation shows it, and ClickHouse's
own Kafka table engine (chdb-core in an environment made below .build/, because it needs an older
engine). The latter runs there without any other package, so what is imported at the top is Python's own.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
ENVIRONMENT = ROOT / ".build" / "rival-clickhouse"
# chdb-core imports the other two without naming them as needed.
PACKAGES = ("chdb-core==26.1.0", "pyarrow==23.0.0", "pandas==2.3.3")
WAIT_S = 60.0
TAKE = 5000
COLUMNS = """
    ts Int64, request_id String, trace_id String, model LowCardinality(String),
    model_version LowCardinality(String), route LowCardinality(String),
    release LowCardinality(String), variant LowCardinality(String), tenant LowCardinality(String),
    region LowCardinality(String), status LowCardinality(String),
    finish_reason LowCardinality(String), input_tokens UInt32, output_tokens UInt32,
    cached_tokens UInt32, latency_ms Float64, queue_ms Float64, prefill_ms Float64, ttft_ms Float64,
    tpot_ms Float64, decode_ms Float64, tokenize_ms Float64, detokenize_ms Float64, cache_hit Bool,
    cost_usd Float64
"""
TABLE = f"({COLUMNS}) ENGINE = MergeTree ORDER BY (model, ts)"


def faust_worker(bootstrap: str, store: str, topic: str) -> None:
    """`take` and insert, until it is ended."""
    import faust
    import pyarrow as pa
    from penstock.streams.storage.store import Store

    names = [part.split()[0] for part in COLUMNS.split(",")]
    opened = Store(store)
    app = faust.App(
        "rival-faust",
        broker=f"kafka://{bootstrap}",
        value_serializer="json",
        consumer_auto_offset_reset="earliest",
        topic_disable_leader=True,
        web_enabled=False,
        datadir=tempfile.mkdtemp(prefix="rival-faust-"),
    )
    events = app.topic(topic, value_serializer="json")
    inserted = 0

    @app.agent(events)
    async def store_events(stream: Any) -> None:
        nonlocal inserted
        async for rows in stream.take(TAKE, within=1):
            inserted += 1
            table = pa.Table.from_pylist(rows).select(names)
            opened.insert("rival_faust", table, str(inserted))

    worker = faust.Worker(app, loglevel="warn")
    worker.execute_from_commandline()


def clickhouse_reader(bootstrap: str, topic: str, expected: int) -> None:
    """Prints a line of JSON: rows, and seconds from the first to the last stored one."""
    sessions: Any = importlib.import_module("chdb.session")
    with tempfile.TemporaryDirectory() as folder:
        opened = sessions.Session(folder)
        opened.query("CREATE DATABASE rival ENGINE = Atomic")
        opened.query(f"CREATE TABLE rival.requests {TABLE}")
        opened.query(
            f"CREATE TABLE rival.queue ({COLUMNS}) ENGINE = Kafka SETTINGS"
            f" kafka_broker_list = '{bootstrap}', kafka_topic_list = '{topic}',"
            " kafka_group_name = 'rival-clickhouse', kafka_format = 'JSONEachRow',"
            " kafka_num_consumers = 2, kafka_thread_per_consumer = 1,"
            # Of a default block, 65,536, all messages would be there at once: nothing to divide by.
            " kafka_max_block_size = 5000, kafka_flush_interval_ms = 500,"
            " input_format_skip_unknown_fields = 1"
        )
        opened.query(
            "CREATE MATERIALIZED VIEW rival.flow TO rival.requests AS SELECT * FROM rival.queue"
        )

        def count() -> int:
            return int(str(opened.query("SELECT count() FROM rival.requests", "TSV")).strip())

        print(json.dumps(span(count, expected)), flush=True)
        os._exit(0)  # its own end may hang while it consumes


def span(count: Any, expected: int) -> dict[str, float]:
    """Poll until `expected` rows are there: how many came after the first ones, in what time."""
    until_s = time.monotonic() + WAIT_S
    first, first_s = 0, 0.0
    while True:
        now, now_s = count(), time.monotonic()
        if now and not first:
            first, first_s = now, now_s
        if now >= expected or now_s > until_s:
            # Where everything came at once there is no later moment to divide by.
            return {"rows": now - first, "seconds": now_s - first_s, "missing": expected - now}
        time.sleep(0.05)


def environment() -> Path:
    """Python of the rival's environment, made where it is absent.

    Raises:
        RuntimeError: it cannot be made, and why.
    """
    python = ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / "complete").exists():
        steps = (
            [sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)],
            [str(python), "-m", "pip", "install", "--quiet", "--only-binary=:all:", *PACKAGES],
            [str(python), "-c", "from chdb import session"],
        )
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True)
            if done.returncode:
                last = (done.stderr or done.stdout).strip().splitlines()[-1:]
                raise RuntimeError(f"no environment for {PACKAGES[0]}: {''.join(last)[:200]}")
        (ENVIRONMENT / "complete").touch()
    return python


def run_clickhouse(bootstrap: str, topic: str, expected: int) -> dict[str, float]:
    """Rows and seconds of the Kafka table engine.

    Raises:
        RuntimeError: it cannot be run, and why.
    """
    command = [str(environment()), __file__, "clickhouse", bootstrap, topic, str(expected)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S + 30)
    if done.returncode:
        raise RuntimeError(f"the Kafka table engine failed: {done.stderr.strip()[-300:]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


@contextmanager
def running_faust(bootstrap: str, store: str, topic: str, log: Path) -> Iterator[None]:
    """The Faust rival while the block runs."""
    command = [sys.executable, __file__, "faust", bootstrap, store, topic]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def main(arguments: list[str]) -> None:
    """What benchmarks/distributed.py starts."""
    if arguments[:1] == ["faust"]:
        _, bootstrap, store, topic = arguments
        sys.argv[1:] = ["worker"]  # Faust reads them
        faust_worker(bootstrap, store, topic)
    elif arguments[:1] == ["clickhouse"]:
        clickhouse_reader(arguments[1], arguments[2], int(arguments[3]))
    else:
        print("run by benchmarks/distributed.py")


if __name__ == "__main__":
    main(sys.argv[1:])
