"""POSTs to a real broker: what is acknowledged is there, at home, and as it would be embedded."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from penstock.schemas.config import Configuration
from penstock.schemas.errors import (
    BrokerAway,
    InvalidConfiguration,
    InvalidFrame,
    TooLarge,
)
from penstock.schemas.kafka import KafkaAddress, parse_address
from penstock.schemas.topics import EVENTS, HEADER_BOOT, HEADER_FORM, home_of
from penstock.streams.core.json_events import read_json
from penstock.streams.ingest.parcels import faults
from penstock.streams.kafka.brokers import TopicAdmin
from penstock.streams.kafka.messages import Outgoing
from penstock.streams.kafka.produce import KafkaIngest
from penstock.streams.kafka.sender import Sender
from penstock.streams.kafka.topics import Topics, describe, ensure_topics
from penstock.streams.storage.store import Store
from penstock.tests.support.kafka import Broker
from penstock.tests.support.kafka_events import ends, eventually, frame, request, since
from penstock.tests.support.kafka_ingest import PARTITIONS, QUICK, post, started
from penstock.tests.support.rows import T0, at
from penstock.tests.support.store import insert, unique

pytestmark = pytest.mark.slow  # a broker starts once for all of them


@pytest.fixture
def ingest(kafka: KafkaAddress, store: Store) -> Iterator[KafkaIngest]:
    with started(kafka, store) as found:
        yield found


def test_frames_and_json_are_there_when_they_are_answered(
    ingest: KafkaIngest, kafka: KafkaAddress
) -> None:
    boots = [unique("boot") for _ in range(6)]
    before = ends(kafka)
    frames = [frame(boot) for boot in boots] + [frame("chosen", home=3), frame("bad", status="x")]
    receipt = post(ingest, b"".join(frames))
    assert (receipt.accepted, receipt.duplicate, receipt.rejected) == (7, 0, 1)
    assert [(item.index, item.reason) for item in receipt.rejections] == [(7, "unknown_value")]
    got = since(kafka, before)
    assert {message.value for message in got} == {*frames}
    for message in got:
        assert message.headers == {HEADER_FORM: b"frame"}
        boot = (message.key or b"").decode()
        assert message.partition == (3 if boot == "chosen" else home_of(boot, PARTITIONS))

    before = ends(kafka)
    rows = [request(boot_id=boot, seq=1) for boot in boots] + [request(latency_ms=-1), request()]
    receipt = post(ingest, rows, "key-1")
    assert (receipt.accepted, receipt.rejected) == (7, 1)
    got = since(kafka, before)
    default = got[0].headers[HEADER_BOOT].decode()
    for message in got:
        for row in orjson.loads(message.value):
            assert message.partition == home_of(row["boot_id"], PARTITIONS)
    numbered = [r for m in got for r in orjson.loads(m.value) if r["boot_id"] == default]
    assert [row["seq"] for row in numbered] == [6, 7]
    totals = ingest.status().totals
    assert (totals["accepted"], totals["rejected"]) == (14, 2)
    assert totals["messages"] == len(frames) + len(got)
    assert ingest.status().ingest_s[0.99] > 0
    assert ingest.status().pending_events == 0


def test_the_example_of_the_documentation(kafka: KafkaAddress) -> None:
    text = (Path(__file__).parents[4] / "docs" / "kafka.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    code = code.replace("localhost:9092", kafka.servers)
    code = code.replace("HOME_PARTITIONS = 8", f"HOME_PARTITIONS = {PARTITIONS}")
    before = ends(kafka)
    names: dict[str, Any] = {}
    exec(compile(code, "docs/kafka.md", "exec"), names)
    (message,) = since(kafka, before)
    assert message.partition == home_of(names["boot_id"], PARTITIONS)
    found = read_json(message.value, default_boot_id="post", default_worker_id="w")
    (batch,) = found.batches
    assert (batch.header.boot_id, batch.header.count) == (names["boot_id"], 100)
    assert not faults(batch, 0)


def test_damaged_bodies_send_nothing(ingest: KafkaIngest, kafka: KafkaAddress) -> None:
    before = ends(kafka)
    with pytest.raises(InvalidFrame):
        post(ingest, frame("boot")[:-1])
    with pytest.raises(InvalidFrame):
        post(ingest, frame("boot") + b"junk")
    with pytest.raises(InvalidFrame):
        asyncio.run(ingest.post(b"<html>", "json", None))
    assert post(ingest, []).accepted == 0
    assert ends(kafka) == before


def test_a_retry_through_another_process_is_the_same(
    ingest: KafkaIngest, kafka: KafkaAddress, store: Store
) -> None:
    rows = [request(boot_id=f"boot-{i % 5}", seq=i) if i % 3 else request() for i in range(30)]
    key = unique("key")
    before = ends(kafka)
    post(ingest, rows, key)
    first = since(kafka, before)
    before = ends(kafka)
    with started(kafka, store) as other:
        post(other, rows, key)
    second = since(kafka, before)
    assert len(first) > 1
    assert [(m.partition, m.key, m.value, m.headers) for m in second] == [
        (m.partition, m.key, m.value, m.headers) for m in first
    ]


def test_homes_stay_when_partitions_are_added(kafka: KafkaAddress, store: Store) -> None:
    boots = [unique("boot") for _ in range(8)]
    with started(kafka, store) as ingest:
        before = ends(kafka)
        post(ingest, b"".join(frame(boot) for boot in boots))
        homes = {message.key: message.partition for message in since(kafka, before)}
        count = describe(kafka).partitions[EVENTS] + 2
        ensure_topics(kafka, store, Topics(partitions=count))
        before = ends(kafka)
        # A worker that already knows the new ones; this process may not have looked yet.
        post(ingest, frame("new", home=count - 1))
        post(ingest, b"".join(frame(boot) for boot in boots))
        after = {message.key: message.partition for message in since(kafka, before)}
        assert after.pop(b"new") == count - 1
        assert after == homes


def test_the_loop_is_never_blocked(broker: Broker, kafka: KafkaAddress, store: Store) -> None:
    rows = [request(boot_id=f"b{i % 7}", seq=i, route="/r") for i in range(20_000)]
    body = orjson.dumps(rows)

    async def measure(ingest: KafkaIngest) -> float:
        posting = asyncio.create_task(ingest.post(body, "json", None))
        longest_s, last_s = 0.0, time.monotonic()
        while not posting.done():
            await asyncio.sleep(0.001)
            now_s = time.monotonic()
            longest_s, last_s = max(longest_s, now_s - last_s), now_s
        assert (await posting).accepted == len(rows)
        return longest_s

    with started(kafka, store) as ingest:
        began_s = time.monotonic()
        longest_s = asyncio.run(measure(ingest))
        # On the loop it would be all of the time; beside it, other processes may take half of it.
        assert longest_s < max(0.1, (time.monotonic() - began_s) * 0.8)


def test_more_messages_than_librdkafka_queues_by_default(kafka: KafkaAddress) -> None:
    sender = Sender(kafka, replace(QUICK.sender, delivery_timeout_s=20))
    sender.start()
    message = Outgoing(EVENTS, 0, b"", b"[]")

    async def run_it() -> None:
        await sender.send([message] * 150_000, asyncio.get_running_loop())

    asyncio.run(run_it())
    sender.stop()


def test_a_secure_cluster(tmp_path: Path, store: Store) -> None:
    with Broker(tmp_path, secure=True) as broker:
        address = parse_address(broker.address)
        assert address.protocol == "SASL_SSL"
        ensure_topics(address, store, Topics())
        with started(address, store) as ingest:
            assert post(ingest, frame("boot")).accepted == 1
        stranger = replace(address, password="wrong")
        with started(stranger, store) as ingest:
            assert "user and password fit" in ingest.broker_failure()
            with pytest.raises(BrokerAway, match="nothing was sent"):
                post(ingest, frame("boot"))


def test_what_the_topic_does_not_take_is_told(
    kafka: KafkaAddress, store: Store, ingest: KafkaIngest
) -> None:
    admin = TopicAdmin(kafka)
    admin.alter(EVENTS, {"max.message.bytes": "2000"})
    try:
        with pytest.raises(TooLarge, match=r"max\.message\.bytes"):
            post(ingest, [request(payload=secrets.token_hex(5000))])
        assert post(ingest, frame("small")).accepted == 1
    finally:
        ensure_topics(kafka, store, Topics(alter=True))


def test_progress_is_what_the_store_tells(ingest: KafkaIngest, store: Store) -> None:
    end_s = int(T0.timestamp())
    rows = [{"partition": shard, "closed_ts": end_s + shard, "version": 1} for shard in (0, 1)]
    insert(store, "checkpoints_rows", rows)
    boot = {"worker_id": "w", "version": 1, "last_ts": at(30), "identified": True}
    fresh = {**boot, "last_append_ts": at(0).fromtimestamp(time.time())}
    insert(
        store,
        "coverage_rows",
        [
            {**boot, "boot_id": "silent", "last_append_ts": at(30)},
            {**fresh, "boot_id": "active", "last_append_ts": time.strftime("%F %T", time.gmtime())},
        ],
    )
    eventually(lambda: ingest.status().watermark_us)
    status = ingest.status()
    assert status.watermark_us == end_s * 1_000_000
    assert status.newest_event_us == (end_s + 30) * 1_000_000
    assert (status.lag_s, status.active_boots, status.failure) == (30.0, 1, "")


def test_without_topics_it_does_not_start(kafka: KafkaAddress, store: Store) -> None:
    kept = store.query("SELECT value FROM penstock.settings FINAL WHERE name = 'home_partitions'")
    store.command("ALTER TABLE penstock.settings DELETE WHERE name = 'home_partitions'"
                  " SETTINGS mutations_sync = 1")  # fmt: skip
    try:
        ingest = KafkaIngest(kafka, store, Configuration(), QUICK)
        with pytest.raises(InvalidConfiguration, match="run penstock topics"):
            ingest.start()
        ingest.stop()
    finally:
        value = kept[0]["value"]
        store.command(
            f"INSERT INTO penstock.settings VALUES ('home_partitions', '{value}', now64(6))"
        )
