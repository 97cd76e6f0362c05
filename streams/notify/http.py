"""GET /healthz, /readyz and /metrics of a notifier that has a process of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence

from ..app.http import STUCK_S, Definition, Reading, Sources, WorkerHTTP
from ..app.status import WorkerStatus
from .notifier import Notifier
from .topic import AlertsTopic

WORKS = Definition("penstock_notify_up", "gauge", "", "1 while it tells people of alerts, else 0.")
WAITING = Definition(
    "penstock_notify_waiting_messages",
    "gauge",
    "",
    "Messages in the outbox that are not delivered.",
)
SENT = Definition(
    "penstock_notify_topic_messages",
    "counter",
    "",
    "Messages that Kafka took for penstock.alerts.",
)
FIRING = Definition("penstock_notify_firing_alerts", "gauge", "", "Alerts that fire, quiet or not.")
COUNTERS = {
    "alert_changes": "Changes of alerts taken in; of open alerts once more after a start.",
    "notifications": "Notifications planned.",
    "deliveries": "Messages that receivers took.",
    "deliveries_retried": "Attempts that failed and are made again.",
    "deliveries_dead": "Messages that were given up.",
}
COUNTS = {
    name: Definition(f"penstock_notify_{name}", "counter", "", text)
    for name, text in COUNTERS.items()
}


def readings(notifier: Notifier | None, topic: AlertsTopic | None = None) -> Iterator[Reading]:
    """Every metric of the closed list; of no notifier, that it does not work."""
    yield Reading(WORKS, float(notifier is not None and not notifier.failure), {})
    if topic is not None:
        yield Reading(SENT, topic.totals["topic_messages"], {})
    if notifier is None:
        return
    firing = sum(alert.state == "firing" for alert in notifier.log.alerts())
    yield Reading(FIRING, firing, {})
    yield Reading(WAITING, notifier.waiting, {})
    for name, definition in COUNTS.items():
        yield Reading(definition, notifier.totals[name], {})


class NotifierHTTP(WorkerHTTP):
    """The server.

    Args:
        host: address to listen on.
        port: 0 picks a free one.
        notifier: tells which one is asked; None where there are no receivers, which is well.
        topic: sends to the topic of alerts; None where nothing is sent.
        render: makes the text of /metrics.
        content_type: of that text.

    Raises:
        InvalidConfiguration: nothing can listen there.
    """

    def __init__(
        self,
        host: str,
        port: int,
        notifier: Callable[[], Notifier | None],
        topic: AlertsTopic | None,
        render: Callable[[Sequence[Reading]], str],
        content_type: str,
    ) -> None:
        super().__init__(host, port, Sources(lambda: WorkerStatus("")), render, content_type)
        self._notifier = notifier
        self._topic = topic

    def answer(self, path: str) -> tuple[int, str, str]:
        """Status, content type and body of a path."""
        notifier = self._notifier()
        if path == "/metrics":
            return 200, self._content_type, self._render([*readings(notifier, self._topic)])
        if path == "/readyz":
            failures = [item.failure for item in (notifier, self._topic) if item is not None]
            failure = "; ".join(filter(None, failures))
            return _json(503 if failure else 200, failure or "ready")
        if path == "/healthz":
            stuck_s = 0.0 if notifier is None else time.monotonic() - notifier.turned_s
            if stuck_s > STUCK_S:
                return _json(503, f"it did not look at the store for {stuck_s:.0f} s")
            return _json(200, "ok")
        return _json(404, "there are /healthz, /readyz and /metrics")


def _json(status: int, text: str) -> tuple[int, str, str]:
    return status, "application/json", json.dumps({"status": text})
