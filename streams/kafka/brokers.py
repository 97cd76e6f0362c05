"""Kafka as an administrator sees it: topics described, made, grown and altered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its types name no exports
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from ...schemas.errors import StoreError
from ...schemas.kafka import KafkaAddress

TIMEOUT_S = 30.0
_PING_S = 1.0


# A broker says so while another is chosen to do what was asked.
_PASSING = frozenset(
    {
        KafkaError.NOT_CONTROLLER,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
    }
)


class BrokerError(StoreError):
    """What was asked of Kafka was not done; where it is `retryable`, no broker answered in time."""

    slug = "broker"


class BrokerRefused(BrokerError):
    """Kafka answered, and will not do what was asked; `code` is librdkafka's."""


@dataclass(frozen=True, slots=True)
class TopicState:
    """Topics that exist, by name.

    Attributes:
        partitions: how many there are.
        ids: what the broker named each when it was made; made anew, it has another.
        replication: copies of each partition.
    """

    partitions: Mapping[str, int] = field(default_factory=dict)
    ids: Mapping[str, str] = field(default_factory=dict)
    replication: Mapping[str, int] = field(default_factory=dict)


class TopicAdmin:
    """Asks for topics and changes them, over connections that stay open; callable from any thread.

    Every method raises BrokerError where no broker answers in time, and BrokerRefused where one does
    not do as it is asked.

    Args:
        address: of the cluster.
        timeout_s: limit of each call.
    """

    def __init__(self, address: KafkaAddress, timeout_s: float = TIMEOUT_S) -> None:
        self._servers = address.servers
        self._timeout_s = timeout_s
        # Its log would repeat every attempt to connect; what failed is in the error of the call.
        settings: dict[str, str | int | float | bool] = {
            **address.librdkafka(),
            "log_level": 0,
            "client.id": "penstock-topics",
            "reconnect.backoff.max.ms": 1000,
        }
        self._client = AdminClient(settings)

    def describe(self, names: Sequence[str]) -> TopicState:
        """Those of the topics that exist; none is made by asking."""
        found: dict[str, Any] = {}
        asked = TopicCollection([*names])
        futures = self._client.describe_topics(asked, request_timeout=self._timeout_s)
        for name, future in futures.items():
            try:
                found[name] = self._result(future)
            except BrokerRefused as error:
                if error.code != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
        return TopicState(
            partitions={name: len(topic.partitions) for name, topic in found.items()},
            ids={name: str(topic.topic_id) for name, topic in found.items()},
            replication={
                name: min(len(part.replicas) for part in topic.partitions)
                for name, topic in found.items()
            },
        )

    def ping(self) -> None:
        """See that any broker answers; `describe` asks a certain one, which may just have died."""
        try:
            self._client.list_topics(timeout=min(_PING_S, self._timeout_s))
        except KafkaException as error:
            raise _failure(self._servers, error.args[0]) from error

    def create(
        self, name: str, partitions: int, replication: int, settings: Mapping[str, str]
    ) -> bool:
        """Make a topic; False where somebody else made it meanwhile."""
        topic = NewTopic(
            name, num_partitions=partitions, replication_factor=replication, config=dict(settings)
        )
        limits = {"operation_timeout": self._timeout_s, "request_timeout": self._timeout_s}
        (future,) = self._client.create_topics([topic], **limits).values()
        try:
            self._result(future)
        except BrokerRefused as error:
            if error.code != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
            return False
        return True

    def grow(self, name: str, partitions: int) -> None:
        """Add partitions up to a number."""
        wanted = [NewPartitions(name, partitions)]
        limits = {"operation_timeout": self._timeout_s, "request_timeout": self._timeout_s}
        (future,) = self._client.create_partitions(wanted, **limits).values()
        self._result(future)

    def settings(self, name: str) -> dict[str, str]:
        """Settings of a topic as they are in force."""
        asked = [ConfigResource(ResourceType.TOPIC, name)]
        (future,) = self._client.describe_configs(asked, request_timeout=self._timeout_s).values()
        return {key: entry.value or "" for key, entry in self._result(future).items()}

    def alter(self, name: str, settings: Mapping[str, str]) -> None:
        """Set settings of a topic and leave its others."""
        entries = [
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
            for key, value in settings.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
        limit = {"request_timeout": self._timeout_s}
        (future,) = self._client.incremental_alter_configs([resource], **limit).values()
        self._result(future)

    def _result(self, future: Future[Any]) -> Any:
        try:
            return future.result(self._timeout_s + 5)
        except KafkaException as error:
            raise _failure(self._servers, error.args[0]) from error
        except TimeoutError as error:
            raise BrokerError(
                f"Kafka at {self._servers} does not answer", retryable=True
            ) from error


def _failure(servers: str, error: KafkaError) -> BrokerError:
    text = f"Kafka at {servers}: {error.str() or error.name()}"
    if error.code() < 0:  # made by the client: nothing came from a broker
        text += "; does it run there, and do tls, user and password fit?"
    elif error.code() not in _PASSING:
        return BrokerRefused(text, error.code())
    return BrokerError(text, retryable=True)
