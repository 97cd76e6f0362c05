"""`penstock doctor`, of Kafka: brokers, topics, and the group of the workers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import TopicPartition
from confluent_kafka._model import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from ...schemas.kafka import KafkaAddress
from ...schemas.topics import EVENTS, PANES
from ..kafka.brokers import TopicAdmin
from ..kafka.topics import DEFAULT_RETENTION_HOURS, TOPICS, home_partitions, settings_of, shards
from ..storage.store import Store
from .examine import CLOCK_WARN_S, TIMEOUT_S, Line, State, clock_line, tried

GROUP = "penstock"  # as app_ports.WorkerSettings has it
LONG_LAG = 100_000  # messages


def check_kafka(address: KafkaAddress, store: Store | None) -> list[Line]:
    """The brokers, our topics, whether the store agrees with them, and the processors' group."""
    admin = TopicAdmin(address, TIMEOUT_S)
    client = AdminClient({**address.librdkafka(), "log_level": 0})
    away = "does it run there, and do tls, user and password fit?"
    lines = tried("kafka", away, lambda: _brokers(admin, client))
    if lines[0].state == "fail":
        return lines
    topics = "run penstock topics"
    lines += tried("topics", topics, lambda: _topics(admin, client))
    if store is None:
        lines.append(Line("skip", "topics and store", "no --store was given", "give it"))
    else:
        lines += tried("topics and store", topics, lambda: _agreement(admin, store))
    lines += tried("workers", "look at the log of the broker", lambda: _group(admin, client))
    return lines


def _brokers(admin: TopicAdmin, client: AdminClient) -> list[Line]:
    admin.ping()
    cluster = client.describe_cluster(request_timeout=TIMEOUT_S).result(TIMEOUT_S + 5)
    nodes = ", ".join(f"{node.host}:{node.port}" for node in cluster.nodes)
    return [Line("ok", "kafka", f"{len(cluster.nodes)} brokers answer ({nodes})")]


def _topics(admin: TopicAdmin, client: AdminClient) -> list[Line]:
    state = admin.describe(TOPICS)
    listed = client.list_topics(timeout=TIMEOUT_S)
    lines = []
    for topic in TOPICS:
        if topic not in state.partitions:
            lines.append(Line("fail", topic, "does not exist", "run penstock topics"))
            continue
        present = admin.settings(topic)
        lines.append(_replicas(topic, listed.topics[topic].partitions.values(), present))
        lines += _settings(topic, present, state.replication[topic])
        if state.replication[topic] < 2 <= len(listed.brokers):
            todo = "kafka-reassign-partitions.sh adds copies; new topics: penstock topics --replication"
            lines.append(Line("warn", topic, "one copy: a lost broker loses it", todo))
    return lines


def _replicas(topic: str, partitions: Iterable[Any], settings: Mapping[str, str]) -> Line:
    parts = [*partitions]
    wanted = int(settings.get("min.insync.replicas", "1"))
    todo = "start the brokers that are missing"
    if headless := [part.id for part in parts if part.leader < 0]:
        return Line("fail", topic, f"partitions {headless} have no leader", todo)
    if few := [part.id for part in parts if len(part.isrs) < wanted]:
        found = f"partitions {few} have fewer than {wanted} copies in sync: nothing can be written"
        return Line("fail", topic, found, todo)
    if behind := [part.id for part in parts if len(part.isrs) < len(part.replicas)]:
        return Line("warn", topic, f"copies of partitions {behind} are behind", todo)
    hours = int(settings.get("retention.ms", "-1")) / 3_600_000
    kept = "for ever" if hours < 0 else f"{hours:g} h"
    return Line("ok", topic, f"{len(parts)} partitions, in sync, kept {kept}")


def _settings(topic: str, present: Mapping[str, str], replication: int) -> list[Line]:
    wanted = settings_of(topic, replication, DEFAULT_RETENTION_HOURS)
    if topic == EVENTS:  # as somebody set it
        del wanted["retention.ms"], wanted["segment.ms"]
    lines = []
    for name, value in wanted.items():
        if present.get(name) != value:
            # With producers' clocks, a message may be deleted at once or hold windows back.
            state: State = "fail" if name == "message.timestamp.type" else "warn"
            found = f"{name} is {present.get(name)}, not {value}"
            lines.append(Line(state, topic, found, "penstock topics --alter mends it"))
    return lines


def _agreement(admin: TopicAdmin, store: Store) -> list[Line]:
    state = admin.describe((EVENTS, PANES))
    homes, known = home_partitions(store), shards(store)
    events, panes = state.partitions.get(EVENTS, 0), state.partitions.get(PANES, 0)
    lines = []
    if homes > events:
        found = f"boots are at home in {homes} partitions, and {EVENTS} has {events}"
        lines.append(Line("fail", "homes", found, f"run penstock topics --partitions {homes}"))
    if known != panes:
        found = f"the store has {known} shards, and {PANES} has {panes} partitions"
        todo = f"stop the workers, delete {PANES}, run penstock topics"
        lines.append(Line("fail", "shards", found, todo))
    return lines or [Line("ok", "topics and store", f"{homes} home partitions, {known} shards")]


def _group(admin: TopicAdmin, client: AdminClient) -> list[Line]:
    group = GROUP
    limit = {"request_timeout": TIMEOUT_S}
    (told,) = client.describe_consumer_groups([group], **limit).values()
    members = len(told.result(TIMEOUT_S + 5).members)
    start = "start penstock worker, and look at its log"
    lines = [
        Line("ok", "workers", f"{members} members of the group {group}")
        if members
        else Line("fail", "workers", f"the group {group} has no members: nothing is stored", start)
    ]
    count = admin.describe([EVENTS]).partitions.get(EVENTS, 0)
    places = [TopicPartition(EVENTS, partition) for partition in range(count)]
    asked = ConsumerGroupTopicPartitions(group, places)
    (found,) = client.list_consumer_group_offsets([asked], **limit).values()
    committed = {
        p.partition: max(p.offset, 0) for p in found.result(TIMEOUT_S + 5).topic_partitions
    }
    first, last = (_bounds(client, places, _spec(name)) for name in ("earliest", "latest"))
    lost = {p: first[p][0] - at for p, at in committed.items() if at < first[p][0]}
    if any(committed.values()) and lost:
        text = f"{sum(lost.values())} messages of partitions {sorted(lost)} are gone, never read"
        lines.append(
            Line("fail", "lag", text, "keep events longer: penstock topics --retention-hours")
        )
    lag = sum(last[p][0] - max(at, first[p][0]) for p, at in committed.items())
    state: State = "warn" if lag > LONG_LAG else "ok"
    text = f"{lag} messages are not stored yet"
    lines.append(
        Line(state, "lag", text, "add workers, or look at the store" if lag > LONG_LAG else "")
    )
    return [*lines, *_broker_clock(client, places)]


def _broker_clock(client: AdminClient, places: list[TopicPartition]) -> list[Line]:
    """Append times are the broker's clock; one that is ahead of ours shows."""
    newest = _bounds(client, places, _spec("max_timestamp"))
    stamps = [stamp_ms for _, stamp_ms in newest.values() if stamp_ms > 0]
    if not stamps:
        return [
            Line("skip", "kafka clock", "no message tells it", "look again when some were sent")
        ]
    ahead_s = max(stamps) / 1000 - time.time()
    if ahead_s < CLOCK_WARN_S:
        return [Line("ok", "kafka clock", "not ahead of this machine's")]
    return [clock_line("kafka clock", ahead_s)]


def _bounds(
    client: AdminClient, places: list[TopicPartition], spec: Any
) -> dict[int, tuple[int, int]]:
    """Offset and time in ms of each partition."""
    if not places:
        return {}
    futures = client.list_offsets(dict.fromkeys(places, spec), request_timeout=TIMEOUT_S)
    told = {place.partition: future.result(TIMEOUT_S + 5) for place, future in futures.items()}
    return {partition: (one.offset, one.timestamp) for partition, one in told.items()}


def _spec(name: str) -> Any:
    return getattr(OffsetSpec, name)()
