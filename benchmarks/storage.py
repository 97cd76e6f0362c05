"""Bytes on disk per request row: the replayed trace, a million rows, columns as users emit them.

    python benchmarks/storage.py            # 1,000,000 rows
    python benchmarks/storage.py --quick    # 100,000 rows

The rows are what the demo's workers emit for the bundled hour (sampled, redacted, encoded into
frames), repeated with other ids and later times until there are enough. Random ids (request_id,
trace_id, span ids, session ids, user hashes) cannot be compressed below their entropy, so they are
counted apart. Printed: both, and the largest columns.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
from penstock.producers.emitter import Emitter
from penstock.producers.fleet import WorkerPlan
from penstock.producers.replay import ReplayOptions
from penstock.producers.replay_worker import EventClock, Worker
from penstock.producers.settings import EmitterSettings
from penstock.schemas.config import parse
from penstock.schemas.frames import read_header, split_frames
from penstock.streams.core.decode import decode_frame
from penstock.streams.core.ingest import Arrival
from penstock.streams.ingest.ingestion import Ingestion
from penstock.streams.storage.migrate import migrate
from penstock.streams.storage.publish import event_rows
from penstock.streams.storage.store import Store

GOAL_BYTES = 60
RANDOM_IDS = ("request_id", "trace_id", "span_id", "parent_span_id", "session_id", "user_hash")
HEX_IDS = ("request_id", "trace_id")


class Collected:
    """A transport that keeps frames of requests instead of sending them."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def send(self, frames: list[bytes]) -> None:
        for body in frames:
            for frame in split_frames(body):
                if read_header(frame).kind == "request":
                    self.frames.append(bytes(frame))

    def close(self) -> None:
        """Nothing is open."""

    def abandon(self) -> None:
        """Nothing is open."""


def frames_of_the_hour(origin_us: int, spool: Path) -> list[bytes]:
    """Frames of every request of the bundled hour, as the demo's workers emit them."""
    fleet = ReplayOptions(canary="good").fleet()
    collected = Collected()
    end_us = fleet.traffic.trace.duration_us + 600_000_000

    def connect(plan: WorkerPlan, clock: EventClock) -> Emitter:
        return Emitter(
            worker_id=plan.worker_id,
            transport=collected,
            settings=replace(EmitterSettings(), spool_dir=spool),
            clock=clock,
            model="chat-70b",
            model_version=plan.arm.model_version,
            release=plan.arm.release,
            variant=plan.arm.variant,
        )

    for number in range(len(fleet.workers)):
        worker = Worker(fleet, number, origin_us, end_us, connect)
        for until_us in range(0, end_us, 120_000_000):
            worker.advance(until_us)
            worker.flush()
        worker.settle()
        worker.close()
    return collected.frames


def varied(table: pa.Table, draw: random.Random, later_us: int) -> pa.Table:
    """The same rows later, with other random ids."""
    ts = table["ts"].to_numpy() + later_us
    table = table.set_column(table.column_names.index("ts"), "ts", pa.array(ts))
    for name in HEX_IDS:
        if name in table.column_names:
            width = len(table[name][0].as_py().replace("-", "")) * 4
            ids = [f"{draw.getrandbits(width):0{width // 4}x}" for _ in range(table.num_rows)]
            table = table.set_column(table.column_names.index(name), name, pa.array(ids))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100,000 rows")
    wanted = 100_000 if parser.parse_args().quick else 1_000_000
    draw = random.Random(5)
    with tempfile.TemporaryDirectory() as folder:
        origin_us = time.time_ns() // 1000 - 2 * 86_400_000_000
        frames = frames_of_the_hour(origin_us, Path(folder) / "spool")
        store = Store(f"chdb://{folder}/store")
        migrate(store)
        flush = Ingestion(store, parse(""), 1, Counter()).begin()
        for offset, frame in enumerate(frames):
            arrival = Arrival(
                incarnation=1, partition=0, offset=offset, append_us=time.time_ns() // 1000
            )
            flush.admit(decode_frame(frame), arrival)
        table = flush.tables()["request"]
        copies = 0
        while copies * table.num_rows < wanted:
            later_us = copies * 1_800_000_000
            rows = event_rows(varied(table, draw, later_us))
            store.insert("requests_rows", rows, f"copy-{copies}")
            copies += 1
        store.command("OPTIMIZE TABLE penstock.requests_rows FINAL")
        report(store)
        store.close()


def report(store: Store) -> None:
    """Print bytes per row, random ids apart."""
    found = store.query(
        "SELECT column, sum(column_data_compressed_bytes) AS bytes FROM system.parts_columns"
        " WHERE active AND database = 'penstock' AND table = 'requests_rows'"
        " GROUP BY column ORDER BY bytes DESC"
    )
    rows = store.query("SELECT count() AS n FROM penstock.requests_rows")[0]["n"]
    total = sum(row["bytes"] for row in found)
    random_ids = sum(row["bytes"] for row in found if row["column"] in RANDOM_IDS)
    rest = (total - random_ids) / rows
    print(f"{rows:,} request rows: {total / rows:.1f} bytes a row on disk, columns only")
    print(
        f"  random ids {random_ids / rows:.1f}; the rest {rest:.1f} (goal {GOAL_BYTES}):", end=" "
    )
    print("ok" if rest <= GOAL_BYTES else "over")
    for row in found[:12]:
        print(f"  {row['column']:<16} {row['bytes'] / rows:6.2f}")


if __name__ == "__main__":
    main()
