"""What comes by Kafka is poison, doubled, out of order, late, or told by a wrong clock."""

from __future__ import annotations

import json
import struct
import time
import zlib
from collections import Counter
from dataclasses import replace

import msgpack  # type: ignore[import-untyped]  # has no type information
import pytest
from confluent_kafka import KafkaError, Message, Producer
from penstock.schemas.frames import MAGIC, FrameHeader, encode_frame, open_frame
from penstock.schemas.topics import DEAD_LETTERS, EVENTS, home_of
from penstock.tests.faults.compare import compare
from penstock.tests.faults.conftest import MakeStack
from penstock.tests.support.kafka_messages import read_all
from penstock.tests.support.recount import ask
from penstock.tests.support.senders import Habits
from penstock.tests.support.stack import Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Kinds = dict[str, tuple[bytes | None, int, int]]
BAD, GOOD = {"latency_ms": -1.0}, {"latency_ms": 1.0}


def _frame(boot_id: str, *rows: dict[str, float]) -> bytes:
    now_us = time.time_ns() // 1000
    header = FrameHeader(
        kind="request", worker_id="p", boot_id=boot_id, seq0=0, count=len(rows), next_seq=len(rows),
        clock_us=now_us, closing=True,
    )  # fmt: skip
    return encode_frame(
        header, [{"ts": now_us, "model": "p", "status": "ok", **row} for row in rows]
    )


def _resealed(frame: bytes, **changes: object) -> bytes:
    """The frame with another header, its checksum right."""
    raw = open_frame(frame)
    (size,) = struct.unpack_from("<I", frame, 13)
    header = msgpack.unpackb(frame[17 : 17 + size]) | changes
    packed: bytes = msgpack.packb(header)
    payload = struct.pack("<I", len(packed)) + packed + bytes(raw.body)
    return struct.pack("<4sBII", MAGIC, raw.flags, len(payload), zlib.crc32(payload)) + payload


def _event(**fields: object) -> dict[str, object]:
    ts = time.time_ns() // 1000
    return {"event": "request", "ts": ts, "model": "p", "status": "ok", **fields}


def poison(boot_id: str) -> Kinds:
    """By kind: the message, how many dead letters it makes, how many rows of it are good."""
    frame = _frame(boot_id, GOOD)
    damaged = frame[:-3] + bytes((frame[-3] ^ 0xFF,)) + frame[-2:]
    boots = {"worker_id": "p", "boot_id": boot_id}
    rows = [
        _event(seq=number, latency_ms="long" if number == 4 else 1.0, **boots)
        for number in (3, 4, 5)
    ]
    odd = {"event": "nonsense", "ts": time.time_ns() // 1000}
    return {
        "damaged": (damaged, 1, 0),
        "wrong magic": (b"PSF9" + frame[4:], 1, 0),
        "truncated": (frame[: len(frame) // 2], 1, 0),
        "huge header": (_resealed(frame, w="w", z="x" * 300_000), 1, 0),
        "newer version": (_resealed(frame, v=99), 1, 0),
        "JSON garbage": (b'{"event": "request", "ts": ', 1, 0),
        "JSON with a bad row": (json.dumps(rows).encode(), 1, 2),
        "unknown event": (json.dumps(odd).encode(), 1, 0),
        "invalid values": (_frame(boot_id, GOOD, BAD, GOOD), 1, 2),
        "empty": (None, 1, 0),
    }


def _put(stack: Stack, kinds: Kinds, boot_id: str) -> Counter[tuple[int, int]]:
    """Send each to a random partition; returns how many dead letters there must be, by place."""
    letters: Counter[tuple[int, int]] = Counter()
    producer = Producer(
        {"bootstrap.servers": stack.broker.bootstrap, "acks": "all", "log_level": 0}
    )
    for value, bad, good in kinds.values():

        def told(error: KafkaError | None, message: Message, bad: int = bad) -> None:
            assert error is None
            letters[message.partition() or 0, message.offset() or 0] += bad

        partition = stack.random.randrange(stack.partitions)
        if good:  # it has a boot, and would be forwarded to its home
            partition = home_of(boot_id, stack.partitions)
        producer.produce(EVENTS, value, partition=partition, on_delivery=told)
    assert producer.flush(20) == 0
    return letters


@pytest.mark.fault(45)
def test_poison(make_stack: MakeStack) -> None:
    """Ten kinds among good frames: neighbours are stored, dead letters are counted where they came."""
    stack = make_stack()
    workers = stack.add_workers(2)
    stack.add_senders(2)
    letters: Counter[tuple[int, int]] = Counter()
    good = 0
    for number in range(3):
        stack.await_rows(100)
        boot_id = f"poison-{number}"
        kinds = poison(boot_id)
        letters += _put(stack, kinds, boot_id)
        good += sum(rows for _, _, rows in kinds.values())
        if number == 1:
            workers[0].kill()
            workers[0].start()
    stack.end_load()
    stack.settle()
    compare(stack, more_requests=good)
    rows = ask(
        stack.store.url,
        "SELECT partition, offset, count(), min(sealed), any(topic), any(source)"
        " FROM penstock.quarantine GROUP BY partition, offset",
    )
    assert {(partition, offset): n for partition, offset, n, *_ in rows} == dict(letters)
    assert {tuple(row[3:]) for row in rows} == {(1, EVENTS, "kafka")}
    told = read_all(stack.broker.bootstrap, DEAD_LETTERS, letters.total())
    assert len(told) >= letters.total(), "the topic has every dead letter at least once"


@pytest.mark.fault(45)
def test_doubled_out_of_order_and_late(make_stack: MakeStack) -> None:
    """Half of all frames come twice, half later than others, a fifth of the rows half a minute late."""
    stack = make_stack()
    workers = stack.add_workers(2)
    habits = Habits(repeated=0.5, held=0.5, late=0.2, frames_per_s=15, boot_s=3.0)
    stack.add_senders(2, habits)
    stack.add_senders(1, replace(habits, stated=True))
    time.sleep(stack.random.uniform(3.0, 6.0))
    workers[0].kill()
    workers[0].start()
    time.sleep(stack.random.uniform(3.0, 6.0))
    stack.end_load()
    stack.settle()
    compare(stack)
    duplicates = ask(stack.store.url, "SELECT sum(duplicate), sum(late) FROM penstock.frames")
    assert min(duplicates[0]) > 0


@pytest.mark.fault(45)
def test_clocks_step(make_stack: MakeStack) -> None:
    """The clock of a boot is set an hour forward, another's an hour back: neighbours are not moved."""
    stack = make_stack()
    stack.add_workers(1)
    begun_s = int(time.time())
    stack.add_senders(1)
    stack.add_senders(1, Habits(step_s=3600.0, late=0.0, frames_per_s=10))
    stack.add_senders(1, Habits(step_s=-3600.0, late=0.0, frames_per_s=10))
    time.sleep(15)
    stack.end_load()
    stack.settle()
    ahead = "SELECT count(), max(clock_ahead_us) FROM penstock.requests WHERE clock_ahead_us > 0"
    ((count, most_us),) = ask(stack.store.url, ahead)
    assert count > 0
    assert 3_590e6 < most_us < 3_610e6
    newest = "SELECT max(toUnixTimestamp(ts)) FROM penstock.requests"
    assert ask(stack.store.url, newest)[0][0] <= time.time()
    # Rows of an hour ago amend what covers them, but not windows that ended long ago.
    compare(stack, wanted=lambda length_s, end_s: end_s >= begun_s)
