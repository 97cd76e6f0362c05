"""The ways in which dead letters are sent again: to the API of a server, or to Kafka."""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
import urllib.error
import urllib.request
from typing import Any

from ...schemas.errors import InvalidConfiguration, InvalidFrame, Unauthorized
from ...schemas.frames import MEDIA_TYPE, read_header
from ...schemas.kafka import KafkaAddress
from ...schemas.ports import Receipt, Rejection
from ...schemas.topics import EVENTS, HEADER_BOOT, HEADER_FORM, HEADER_WORKER, home_of
from .redrive import WORKER, Form, NotSent


class HttpSender:
    """POSTs to the API of a server.

    Args:
        url: http:// or https:// address of the server.
        api_key: bearer key with the scope ingest, where the server asks for one.
        timeout_s: limit of each attempt.
        attempts: how often a server that is busy is asked.

    Raises:
        InvalidConfiguration: the URL is not one of HTTP.
    """

    def __init__(
        self, url: str, api_key: str | None = None, timeout_s: float = 30.0, attempts: int = 5
    ) -> None:
        if not re.match(r"https?://[^/]", url):
            raise InvalidConfiguration(f"--url is an http(s) address, not {url!r}")
        self._url = f"{url.rstrip('/')}/v1/events"
        self._headers = {"User-Agent": "penstock-redrive"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._timeout_s = timeout_s
        self._attempts = attempts
        # As the emitter: straight to the server, whatever proxies the environment names.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def send(self, body: bytes, form: Form, key: str | None) -> Receipt:
        """See `Sender.send`. The row says its boot itself, so that `key` is not needed."""
        media = MEDIA_TYPE if form == "frames" else "application/json"
        headers = {**self._headers, "Content-Type": media}
        request = urllib.request.Request(self._url, body, headers)
        for attempt in range(1, self._attempts + 1):
            try:
                with self._opener.open(request, timeout=self._timeout_s) as answer:
                    return _receipt(answer.read())
            except urllib.error.HTTPError as error:
                with error:
                    pause_s = _judge(error)
                if attempt < self._attempts:
                    time.sleep(pause_s)
            except (OSError, http.client.HTTPException) as error:
                raise NotSent(f"{self._url} did not answer: {error}") from error
        raise NotSent(f"{self._url} is busy; try again later")


def _receipt(answer: bytes) -> Receipt:
    try:
        told = json.loads(answer)
        accepted, duplicate, rejected = (
            int(told[name]) for name in ("accepted", "duplicate", "rejected")
        )
        rejections = tuple(
            Rejection(int(item["index"]), str(item["reason"]), str(item["detail"]))
            for item in told["rejections"]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise NotSent("the answer is not one of Penstock: is it the right --url?") from error
    return Receipt(accepted, duplicate, rejected, rejections)


def _judge(error: urllib.error.HTTPError) -> float:
    """Seconds to wait before the next attempt.

    Raises:
        PenstockError: another attempt would not help.
    """
    text = f"{error.code} {error.read(500).decode('utf-8', 'replace')}"
    if error.code in (401, 403):
        raise Unauthorized(f"{text}: give a key with the scope ingest, --api-key") from error
    if error.code not in (429, 503):
        raise InvalidFrame(f"refused: {text}") from error
    asked = error.headers.get("Retry-After", "")
    return min(float(asked), 5.0) if re.fullmatch(r"\d+(\.\d+)?", asked) else 1.0


class KafkaSender:
    """Writes to the events topic, each event to the partition that its boot is at home in.

    Args:
        address: of the cluster.
        home_partitions: over how many partitions boots are spread, as penstock.settings has it.
        timeout_s: limit until all in-sync replicas have a message.
    """

    def __init__(
        self, address: KafkaAddress, home_partitions: int, timeout_s: float = 30.0
    ) -> None:
        from confluent_kafka import Producer

        self._homes = home_partitions
        self._timeout_s = timeout_s
        self._producer = Producer(
            address.librdkafka()
            | {
                "acks": "all",
                "enable.idempotence": True,
                "message.max.bytes": 96 * 2**20,
                "message.timeout.ms": round(timeout_s * 1000),
                "log_level": 2,  # what goes wrong is told by the delivery
            }
        )

    def send(self, body: bytes, form: Form, key: str | None) -> None:
        """See `Sender.send`. What becomes of it is known when a processor has applied it."""
        from confluent_kafka import KafkaException

        home = None
        headers = {HEADER_FORM: b"json", HEADER_WORKER: WORKER.encode()}
        if form == "frames":
            header = read_header(body)
            key, home, headers = header.boot_id, header.home, {HEADER_FORM: b"frame"}
        assert key is not None, "a row has a boot"
        if form == "json":
            headers[HEADER_BOOT] = key.encode()
        done = threading.Event()
        problems: list[Any] = []

        def report(error: Any, _: object) -> None:
            problems.append(error)
            done.set()

        try:
            self._producer.produce(
                EVENTS,
                body,
                key=key.encode(),
                partition=home_of(key, self._homes) if home is None else home,
                headers=[*headers.items()],
                on_delivery=report,
            )
        except (BufferError, KafkaException) as error:
            raise NotSent(f"Kafka did not take it: {error}") from error
        until = time.monotonic() + self._timeout_s + 5
        while not done.is_set() and time.monotonic() < until:
            self._producer.poll(0.05)
        if not problems or problems[0] is not None:
            raise NotSent(f"Kafka did not confirm it: {problems[0] if problems else 'no answer'}")
