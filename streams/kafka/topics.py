"""The topics of Kafka: made once with stated settings, grown, and numbered by their lives.

What depends on the number of partitions is remembered in the store, because it must outlive them: where
boots are at home, and how many shards the slices are spread over.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from ...schemas.errors import InvalidConfiguration, StoreError
from ...schemas.kafka import KafkaAddress
from ...schemas.rows import MAX_FRAME_BYTES
from ...schemas.topics import (
    ALERTS,
    DEAD_LETTERS,
    DEFAULT_PARTITIONS,
    DEFAULT_SHARDS,
    EVENTS,
    PANES,
)
from ..storage.migrate import MISSING_TABLE
from ..storage.store import Store
from .brokers import TIMEOUT_S, BrokerError, TopicAdmin, TopicState

TOPICS = (EVENTS, PANES, ALERTS, DEAD_LETTERS)
HOME_PARTITIONS, SHARDS = "home_partitions", "shards"  # rows of the table `settings`
# A frame's header, the message's key and headers, and what Kafka adds, on top of the largest body.
MAX_MESSAGE_BYTES = MAX_FRAME_BYTES + 2**20
# A dead letter holds a message as text; a broker reads requests of 100 MiB (socket.request.max.bytes).
MAX_DEAD_LETTER_BYTES = 96 * 2**20
DEFAULT_RETENTION_HOURS = 168.0
PANES_RETENTION_HOURS = 6.0
KEPT_RETENTION_HOURS = 30 * 24.0  # alerts and dead letters
DEFAULT_REPLICATION = 1
_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """What is wanted. None asks for nothing: the default where a topic is made, else what is there.

    Attributes:
        partitions: of the events topic.
        shards: partitions of the panes topic.
        replication: copies of each partition.
        retention_hours: how long events stay in Kafka.
        alter: whether settings that differ are mended; else they are only told.

    Raises:
        InvalidConfiguration: a number that is not positive.
    """

    partitions: int | None = None
    shards: int | None = None
    replication: int | None = None
    retention_hours: float | None = None
    alter: bool = False

    def __post_init__(self) -> None:
        for name in ("partitions", "shards", "replication", "retention_hours"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InvalidConfiguration(f"{name} must be more than 0, not {value}")


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was done, or that differs from what is wanted and was left.

    Attributes:
        topic: of what.
        what: `topic` (made), `partitions`, `replication` or the name of a setting.
        before: empty where there was nothing.
        after: what it is now, or what is wanted.
        done: False where it was left as it is; `note` says what would change it.
    """

    topic: str
    what: str
    before: str
    after: str
    done: bool = True
    note: str = ""

    def __str__(self) -> str:
        if self.what == "topic":
            return f"{self.topic}: made with {self.after}"
        if self.done:
            return f"{self.topic}: {self.what} {self.before} -> {self.after}"
        return f"{self.topic}: {self.what} is {self.before}, not {self.after}: {self.note}"


def settings_of(topic: str, replication: int, retention_hours: float) -> dict[str, str]:
    """The settings that a topic of ours is made with.

    Args:
        topic: one of TOPICS.
        replication: copies of each partition.
        retention_hours: of the events topic; the others have their own.
    """
    hours = {EVENTS: retention_hours, PANES: PANES_RETENTION_HOURS}.get(topic, KEPT_RETENTION_HOURS)
    size = {ALERTS: 2**20, DEAD_LETTERS: MAX_DEAD_LETTER_BYTES}.get(topic, MAX_MESSAGE_BYTES)
    return {
        "cleanup.policy": "delete",
        "compression.type": "producer",
        "max.message.bytes": str(size),
        # The broker's clock: by a producer's, a message could be deleted at once or kept for ever.
        "message.timestamp.type": "LogAppendTime",
        "min.insync.replicas": str(min(2, replication)),
        "retention.bytes": "-1",
        "retention.ms": str(round(hours * _HOUR_MS)),
        # Kafka deletes whole segments: so a sixth more than the retention is kept at most.
        "segment.ms": str(max(round(hours * _HOUR_MS / 6), 60_000)),
        "unclean.leader.election.enable": "false",
    }


def ensure_topics(address: KafkaAddress, store: Store, wanted: Topics) -> list[Change]:
    """Make the topics that are missing and remember what depends on them; repeatable.

    Returns:
        What was done, and what differs from what is wanted.

    Raises:
        InvalidConfiguration: what is wanted cannot be had; nothing was changed.
        BrokerError: no broker answers.
        BrokerRefused: Kafka does not make them so; as many copies as there are brokers is the most.
        StoreError: the store is away or not migrated.
    """
    admin = TopicAdmin(address)
    before = admin.describe(TOPICS)
    homes, known_shards = _remembered(store, HOME_PARTITIONS), _remembered(store, SHARDS)
    _refuse(before, homes, known_shards, wanted)
    sizes = dict.fromkeys(TOPICS, 1) | {
        EVENTS: wanted.partitions or max(DEFAULT_PARTITIONS, homes or 0),
        PANES: known_shards or wanted.shards or DEFAULT_SHARDS,
    }
    missing = [topic for topic in TOPICS if topic not in before.partitions]
    changes = [change for topic in missing for change in _make(admin, topic, sizes[topic], wanted)]
    now = _visible(admin)
    # Before partitions are added: boots without a stated home keep the one they have.
    _remember(store, HOME_PARTITIONS, now.partitions[EVENTS])
    _remember(store, SHARDS, now.partitions[PANES])
    was = now.partitions[EVENTS]
    if wanted.partitions is not None and wanted.partitions > was:
        admin.grow(EVENTS, wanted.partitions)
        _visible(admin, wanted.partitions)
        changes.append(Change(EVENTS, "partitions", str(was), str(wanted.partitions)))
    for topic in before.partitions:
        changes += _mend(admin, topic, now.replication[topic], wanted)
    return changes


def _refuse(state: TopicState, homes: int | None, known_shards: int | None, wanted: Topics) -> None:
    events, panes = state.partitions.get(EVENTS), state.partitions.get(PANES)
    least = events or homes
    if wanted.partitions and least and wanted.partitions < least:
        raise InvalidConfiguration(
            f"{EVENTS} has {least} partitions and cannot have {wanted.partitions}: Kafka takes none "
            "away, and boots are at home in them"
        )
    if known_shards and panes and known_shards != panes:
        raise InvalidConfiguration(
            f"{PANES} has {panes} partitions, but the store was written with {known_shards} shards: "
            f"stop the workers, delete {PANES} and repeat this; what was in it is read from the store"
        )
    kept = known_shards or panes
    if wanted.shards and kept and wanted.shards != kept:
        raise InvalidConfiguration(
            f"{PANES} has {kept} partitions and keeps them: each slice belongs to one of them, and "
            "its windows go on from the panes that are stored under that number"
        )


def _make(admin: TopicAdmin, topic: str, partitions: int, wanted: Topics) -> list[Change]:
    replication = wanted.replication or DEFAULT_REPLICATION
    settings = settings_of(topic, replication, wanted.retention_hours or DEFAULT_RETENTION_HOURS)
    if not admin.create(topic, partitions, replication, settings):
        return []
    numbers = {"partitions": str(partitions), "replication": str(replication)}
    made = ", ".join(f"{name}={value}" for name, value in (numbers | settings).items())
    return [Change(topic, "topic", "", made)]


def _visible(admin: TopicAdmin, least: int = 1) -> TopicState:
    """The topics once the broker that is asked knows them all, and so many partitions of events."""
    until = time.monotonic() + TIMEOUT_S
    while True:
        state = admin.describe(TOPICS)
        missing = [topic for topic in TOPICS if topic not in state.partitions]
        if not missing and state.partitions[EVENTS] >= least:
            return state
        if time.monotonic() > until:
            names = ", ".join(missing) or f"partitions of {EVENTS}"
            raise BrokerError(f"{names}: made, but not to be seen", retryable=True)
        time.sleep(0.05)


def _mend(admin: TopicAdmin, topic: str, replication: int, wanted: Topics) -> list[Change]:
    """What differs at a topic that was there before."""
    changes = []
    if wanted.replication and wanted.replication != replication:
        note = "kafka-reassign-partitions.sh moves replicas"
        pair = str(replication), str(wanted.replication)
        changes.append(Change(topic, "replication", *pair, done=False, note=note))
    hours = wanted.retention_hours or DEFAULT_RETENTION_HOURS
    settings = settings_of(topic, replication, hours)
    if topic == EVENTS and wanted.retention_hours is None:  # not asked for: as somebody set it
        del settings["retention.ms"], settings["segment.ms"]
    present = admin.settings(topic)
    differing = {name: value for name, value in settings.items() if present.get(name) != value}
    if differing and wanted.alter:
        admin.alter(topic, differing)
    note = "" if wanted.alter else "--alter mends it"
    return changes + [
        Change(topic, name, present.get(name, ""), value, wanted.alter, note)
        for name, value in differing.items()
    ]


def describe(address: KafkaAddress) -> TopicState:
    """Our topics, those that exist.

    Raises:
        BrokerError: no broker answers.
    """
    return TopicAdmin(address).describe(TOPICS)


def home_partitions(store: Store) -> int:
    """Over how many partitions boots without a stated home are spread (`topics.home_of`).

    Raises:
        InvalidConfiguration: the topics were never made.
        StoreError: the store is away or not migrated.
    """
    return _known(store, HOME_PARTITIONS)


def shards(store: Store) -> int:
    """Over how many evaluators the slices are spread.

    Raises:
        InvalidConfiguration: the topics were never made.
        StoreError: the store is away or not migrated.
    """
    return _known(store, SHARDS)


def incarnation_of(address: KafkaAddress, store: Store, topic: str = EVENTS) -> int:
    """Which life of a topic this is, from 1; a topic made anew starts its offsets at 0.

    Raises:
        InvalidConfiguration: the topic does not exist.
        BrokerError: no broker answers.
        StoreError: the store is away or not migrated.
    """
    topic_id = TopicAdmin(address).describe([topic]).ids.get(topic)
    if topic_id is None:
        raise InvalidConfiguration(f"Kafka has no topic {topic}: run penstock topics")
    return incarnation(store, topic, topic_id)


def incarnation(store: Store, topic: str, topic_id: str) -> int:
    """The number of a life, given out when it is first asked for.

    Two processes that ask at once get the same one: both read the same highest number, and the rows
    that they write are equal.

    Raises:
        StoreError: the store is away or not migrated, or two lives have the same number.
    """
    known = f"FROM penstock.incarnations WHERE topic = '{topic}'"
    highest = f"(SELECT max(incarnation) {known})"
    if topic == EVENTS:  # a store that was embedded before has rows of a life without a topic
        highest = f"greatest({highest}, (SELECT max(incarnation) FROM penstock.frames_rows))"
    _command(
        store,
        f"INSERT INTO penstock.incarnations SELECT '{topic}', '{topic_id}', {highest} + 1, now64(6)"
        f" WHERE (SELECT count() {known} AND topic_id = '{topic_id}') = 0",
    )
    rows = store.query(f"SELECT topic_id, min(incarnation) AS number {known} GROUP BY topic_id")
    numbers = {str(row["topic_id"]): int(row["number"]) for row in rows}
    own = numbers.pop(topic_id)
    if own in numbers.values():
        raise StoreError(
            f"two lives of {topic} have the number {own}: of penstock.incarnations, delete the row "
            f"of the id that is gone ({topic_id} is the present one)"
        )
    return own


def _known(store: Store, name: str) -> int:
    value = _remembered(store, name)
    if value is None:
        raise InvalidConfiguration(f"the store knows no {name}: run penstock topics")
    return value


def _remembered(store: Store, name: str) -> int | None:
    try:
        rows = store.query(
            "SELECT value FROM penstock.settings FINAL WHERE name = {name:String}", {"name": name}
        )
    except StoreError as error:
        raise _migrated(error) from error
    return int(rows[0]["value"]) if rows else None


def _remember(store: Store, name: str, value: int) -> None:
    """Write a setting unless it is there."""
    _command(
        store,
        f"INSERT INTO penstock.settings SELECT '{name}', '{value}', now64(6)"
        f" WHERE (SELECT count() FROM penstock.settings WHERE name = '{name}') = 0",
    )


def _command(store: Store, sql: str) -> None:
    try:
        store.command(sql)
    except StoreError as error:
        raise _migrated(error) from error


def _migrated(error: StoreError) -> StoreError:
    """The same error; of a store that lacks a table, with what to do about it."""
    if error.code not in MISSING_TABLE:
        return error
    return StoreError(f"{error}: run penstock migrate first", error.code)
