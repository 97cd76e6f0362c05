"""`penstock topics`, `api` and `notify --kafka` as processes, beside a real broker and a real store."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from penstock.schemas.kafka import KafkaAddress, parse_address
from penstock.schemas.topics import ALERTS, HEADER_BOOT, home_of
from penstock.streams.core.gates.verdict import Verdict, VerdictName
from penstock.streams.storage.migrate import migrate
from penstock.streams.storage.store import Store
from penstock.tests.integration.test_notifier import change
from penstock.tests.support.api_process import Api, penstock
from penstock.tests.support.chstore import StoreServer
from penstock.tests.support.kafka import Broker
from penstock.tests.support.kafka_events import ends, eventually, frame, request, since
from penstock.tests.support.kafka_messages import read_all
from penstock.tests.support.openmetrics import families
from penstock.tests.support.rows import at, iso, window
from penstock.tests.support.store import insert, unique
from penstock.tests.unit.streams.core.alerts.alerts_world import item

pytestmark = pytest.mark.slow

PARTITIONS = 4


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("kafka")) as started:
        yield started


@pytest.fixture(scope="module")
def store_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreServer]:
    server = StoreServer(tmp_path_factory.mktemp("store"))
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="module")
def store(store_server: StoreServer) -> Iterator[Store]:
    opened = Store(store_server.url)
    migrate(opened)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def made(broker: Broker, store_server: StoreServer, store: Store) -> list[str]:
    """The topics, made by the command; its output."""
    done = penstock(
        "topics", "--kafka", broker.bootstrap, "--store", store_server.url,
        "--partitions", str(PARTITIONS), "--shards", "2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def api(
    tmp_path_factory: pytest.TempPathFactory,
    broker: Broker,
    store_server: StoreServer,
    made: list[str],
) -> Iterator[Api]:
    found = Api(tmp_path_factory.mktemp("api"), broker.bootstrap, store_server.api_url)
    found.start()
    try:
        eventually(lambda: found.get("/readyz").status_code == 200)
        yield found
    finally:
        found.kill()


def cluster(broker: Broker) -> KafkaAddress:
    return parse_address(broker.bootstrap)


def test_topics_are_made_and_told(
    broker: Broker, store_server: StoreServer, made: list[str]
) -> None:
    assert made[0].startswith(f"penstock.events: made with partitions={PARTITIONS}, ")
    assert made[-1] == f"boots are at home in {PARTITIONS} partitions, 2 shards"
    where = ("--kafka", broker.bootstrap, "--store", store_server.url)
    assert penstock("topics", *where).stdout.splitlines()[0] == "the topics are as they should be"
    told = json.loads(penstock("topics", *where, "--json", "--replication", "2").stdout)
    assert (told["home_partitions"], told["shards"]) == (PARTITIONS, 2)
    assert {change["what"] for change in told["changes"]} == {"replication"}
    for flags, text in [
        (("--partitions", "1"), "cannot have 1"),
        (("--shards", "3"), "keeps them"),
        (("--partitions", "0"), "0 is not in the range"),
    ]:
        refused = penstock("topics", *where, *flags)
        assert refused.returncode != 0
        assert text in refused.stderr
        assert "Traceback" not in refused.stderr


def test_events_go_to_kafka_and_answers_come_from_the_store(
    api: Api, broker: Broker, store: Store
) -> None:
    before = ends(cluster(broker))
    frames = [frame(unique("boot")) for _ in range(5)]
    answer = api.post(b"".join(frames))
    assert answer.status_code == 202, answer.text
    assert answer.json() == {"accepted": 5, "duplicate": 0, "rejected": 0, "rejections": []}
    assert {message.value for message in since(cluster(broker), before)} == {*frames}

    before = ends(cluster(broker))
    rows = [request(boot_id=unique("boot"), seq=i) for i in range(6)]
    answer = api.post([*rows, request(latency_ms="fast"), 7])
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert (told["accepted"], told["duplicate"], told["rejected"]) == (6, 0, 2)
    assert [(r["index"], r["reason"]) for r in told["rejections"]] == [
        (6, "bad_value"),
        (7, "malformed"),
    ]
    sent = since(cluster(broker), before)
    by_home: dict[int, list[Any]] = {got.partition: json.loads(got.value) for got in sent}
    for row in rows:
        assert row in by_home[home_of(row["boot_id"], PARTITIONS)]
    assert sum(map(len, by_home.values())) == 8

    damaged = api.post(frames[0][:-1])
    assert damaged.status_code == 400
    assert damaged.json()["type"].endswith("invalid-frame")

    insert(store, "windows_rows", [window(3600, requests=7)])
    insert(store, "checkpoints_rows", [{"partition": 0, "closed_ts": at(3600), "version": 1}])
    (series,) = api.get("/v1/windows", metric="requests").json()["series"]
    assert series["points"][0]["values"] == {"requests": 7}
    eventually(lambda: "penstock_watermark_timestamp_seconds" in api.get("/metrics").text)
    text = api.get("/metrics").text
    samples = {
        (sample.name, sample.labels.get("outcome") or sample.labels.get("kind")): sample.value
        for family in families(text)
        for sample in family.samples
    }
    assert samples["penstock_ingest_events_total", "accepted"] == 11
    assert samples["penstock_ingest_events_total", "rejected"] == 2
    assert samples["penstock_pipeline_work_total", "messages"] == 5 + len(sent)
    assert samples["penstock_pipeline_up", None] == 1
    assert samples["penstock_watermark_timestamp_seconds", None] == at(3600).timestamp()
    parts = api.get("/health/detailed").json()["components"]
    assert {name: part["status"] for name, part in parts.items()} == dict.fromkeys(
        ("store", "pipeline", "ingest", "broker"), "ok"
    )


def test_a_retry_through_another_process(
    api: Api, broker: Broker, store_server: StoreServer, tmp_path: Path
) -> None:
    rows = [request(boot_id=f"b{i % 5}", seq=i) if i % 2 else request() for i in range(20)]
    other = Api(tmp_path, broker.bootstrap, store_server.api_url)
    other.start()
    try:
        sent = []
        for process in (api, other):
            before = ends(cluster(broker))
            answer = process.post(rows, **{"Idempotency-Key": "job-7"})
            assert answer.json()["accepted"] == 20
            sent.append(since(cluster(broker), before))
        first, second = ([replace(got, offset=0) for got in found] for found in sent)
        assert first == second
        assert len(sent[0]) > 1
        assert len({message.headers[HEADER_BOOT] for message in sent[0]}) == 1
        assert other.terminate() == 0
    finally:
        other.kill()


def test_a_broker_that_dies_is_told_fast_and_comes_back(api: Api, broker: Broker) -> None:
    broker.kill()
    try:
        eventually(lambda: api.get("/readyz").status_code == 503)
        began_s = time.monotonic()
        refused = api.post([request()])
        assert time.monotonic() - began_s < 1
        assert refused.status_code == 503
        assert refused.headers["Retry-After"] == "1"
        assert refused.json()["type"] == "urn:penstock:problem:broker-away"
        detail = api.get("/readyz").json()["detail"]
        assert detail.startswith("broker: Kafka at")
        assert detail.endswith("; store: ok")
        assert api.get("/healthz").status_code == 200
        assert api.get("/v1/windows", metric="requests").status_code == 200
        assert api.get("/health/detailed").json()["components"]["broker"]["status"] == "failed"
    finally:
        broker.start()
    eventually(lambda: api.get("/readyz").status_code == 200)
    assert api.post([request()]).status_code == 202


def test_a_store_that_dies_does_not_stop_events(api: Api, store_server: StoreServer) -> None:
    store_server.kill()
    try:
        refused = api.get("/readyz")
        assert refused.status_code == 503
        assert refused.json()["detail"].startswith("broker: ok; store: does not answer")
        assert api.post([request()]).status_code == 202
        assert api.get("/v1/windows", metric="requests").status_code == 503
    finally:
        store_server.start()
    eventually(lambda: api.get("/readyz").status_code == 200)
    eventually(lambda: api.get("/health/detailed").status_code == 200)


def test_a_post_under_way_is_finished_when_the_process_is_told_to_end(
    broker: Broker, store_server: StoreServer, made: list[str], tmp_path: Path
) -> None:
    process = Api(tmp_path, broker.bootstrap, store_server.api_url)
    process.start()
    answers: list[httpx.Response] = []
    codes: list[int] = []
    boot = unique("boot")
    before = ends(cluster(broker))
    try:
        assert process.post(frame(unique("boot"))).status_code == 202
        broker.pause()
        posting = threading.Thread(target=lambda: answers.append(process.post(frame(boot))))
        posting.start()
        time.sleep(0.5)
        ending = threading.Thread(target=lambda: codes.append(process.terminate()))
        ending.start()
        time.sleep(0.5)
        broker.resume()
        posting.join(20)
        ending.join(40)
    finally:
        broker.resume()
        process.kill()
    assert [answer.status_code for answer in answers] == [202]
    assert codes == [0]
    assert boot.encode() in {message.key for message in since(cluster(broker), before)}
    assert "Traceback" not in process.log.read_text()


def test_what_is_missing_is_told_at_the_start(
    broker: Broker, store_server: StoreServer, made: list[str], store: Store, tmp_path: Path
) -> None:
    (value,) = store.query("SELECT value FROM penstock.settings WHERE name = 'home_partitions'")
    store.command(
        "ALTER TABLE penstock.settings DELETE WHERE name = 'home_partitions'"
        " SETTINGS mutations_sync = 1"
    )
    try:
        done = penstock("api", "--kafka", broker.bootstrap, "--store", store_server.api_url)
        assert done.returncode == 1
        assert "run penstock topics" in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
    finally:
        store.command(
            "INSERT INTO penstock.settings VALUES "
            f"('home_partitions', '{value['value']}', now64(6))"
        )
    empty = StoreServer(tmp_path / "empty")
    empty.start()
    try:
        for command in ("api", "topics"):
            done = penstock(command, "--kafka", broker.bootstrap, "--store", empty.url)
            assert done.returncode == 1
            assert "run penstock migrate first" in done.stderr
    finally:
        empty.kill()
    refused = penstock("api", "--kafka", "nonsense", "--store", store_server.api_url)
    assert refused.returncode == 1
    assert "a Kafka address looks like" in refused.stderr


def test_keys_are_asked_for(
    broker: Broker, store_server: StoreServer, made: list[str], tmp_path: Path
) -> None:
    made_key = penstock(
        "keys", "create", "--data", str(tmp_path), "--name", "w", "--scope", "ingest"
    )
    process = Api(tmp_path, broker.bootstrap, store_server.api_url)
    process.start("--keys", "--keys-file", str(tmp_path / "keys.json"))
    try:
        assert process.post([request()]).status_code == 401
        bearer = {"Authorization": f"Bearer {made_key.stdout.strip()}"}
        assert process.post([request()], **bearer).status_code == 202
        assert process.get("/readyz").status_code == 200
        assert process.get("/metrics").status_code == 401
    finally:
        assert process.terminate() == 0


def test_changes_go_to_the_topic_of_alerts(
    broker: Broker, store_server: StoreServer, store: Store, made: list[str]
) -> None:
    def send() -> str:
        done = penstock(
            "notify", "--once", "--kafka", broker.bootstrap, "--store", store_server.url
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[0]

    def judged(second: int, verdict: VerdictName) -> dict[str, Any]:
        said = Verdict(
            verdict, "hold", (), (), 9, None, None, second, second, 0, "s", "gates-2", "d", 1000,
            f"{verdict}: told",
        )  # fmt: skip
        row = {"gate_id": "limits", "epoch": 0, "as_of": at(second), "verdict": verdict}
        row |= {"version": 1, "kind": "absolute", "spec_hash": "s"}
        return row | {"evidence": json.dumps(said.to_dict())}

    now_s = int(time.time())
    last = change(store, 0, None, item("a", "firing", now_s))
    insert(store, "verdicts_rows", [judged(10, "UNDECIDED"), judged(20, "UNDECIDED")])
    assert send() == "2 messages sent to penstock.alerts"
    change(store, 0, last, item("a", "resolved", now_s + 5, 1))
    change(store, 1, None, item("b", "firing", now_s))
    insert(store, "verdicts_rows", [judged(30, "FAIL"), judged(40, "FAIL")])
    assert send() == "3 messages sent to penstock.alerts"
    assert send() == "0 messages sent to penstock.alerts"
    # An end before it was noted how far it came: all comes once more, and is known by its ids.
    store.command("DELETE FROM penstock.signal_states_rows WHERE kind = 'topic'")
    assert send() == "5 messages sent to penstock.alerts"
    values = read_all(broker.bootstrap, ALERTS, 10)
    assert len(values) == 10
    once = dict.fromkeys(values)
    bodies = [json.loads(value) for value in once]
    assert len({body["id"] for body in bodies}) == len(once) == 5
    told = [(b.get("alert_id") or b["gate"], b.get("status") or b["verdict"]) for b in bodies]
    assert sorted(told) == [
        ("a", "firing"), ("a", "resolved"), ("b", "firing"), ("limits", "FAIL"),
        ("limits", "UNDECIDED"),
    ]  # fmt: skip
    assert told.index(("a", "firing")) < told.index(("a", "resolved"))
    (failed,) = (body for body in bodies if body.get("verdict") == "FAIL")
    assert (failed["before"], failed["text"], failed["as_of"]) == (
        "UNDECIDED",
        "FAIL: told",
        iso(30),
    )
