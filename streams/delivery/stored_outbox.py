"""The outbox in ClickHouse: a row per change of a delivery, of which the one with the highest version counts.

What waits is also held in memory, so that looking for due deliveries costs the store nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from ...schemas.errors import StoreError
from ..core.gates.canonical import sha256
from ..storage.store import Store
from .message import Delivery, Message
from .outbox import MemoryOutbox

log = logging.getLogger("penstock")

TABLE = "deliveries_rows"
_FINAL = 1 << 32  # delivered stays delivered, whatever a process that woke up late may write
_COLUMNS = (
    "key, queue, receiver, lanes, body, position, state, attempts, reason,"
    " toUnixTimestamp64Micro(created) AS created_us, toUnixTimestamp64Micro(next_try) AS next_us"
)
_MICROS = pa.timestamp("us", "UTC")
_SCHEMA = pa.schema(
    {
        "key": pa.string(),
        "queue": pa.string(),
        "receiver": pa.string(),
        "lanes": pa.list_(pa.string()),
        "body": pa.string(),
        "created": _MICROS,
        "position": pa.uint32(),
        "state": pa.string(),
        "attempts": pa.uint32(),
        "next_try": _MICROS,
        "reason": pa.string(),
        "changed": _MICROS,
        "version": pa.uint64(),
    }
)


class StoredOutbox:
    """An outbox that the next life of the process goes on with; safe to call from any thread.

    Args:
        store: that has the table.
        queue: its name. Two processes that work on one queue at a time send messages twice.
        table: within `penstock`.

    Raises:
        StoreError: what waits cannot be read.
    """

    def __init__(self, store: Store, queue: str, table: str = TABLE) -> None:
        self._store = store
        self._queue = queue
        self._table = table
        self._lock = threading.Lock()
        self._unsaved: dict[str, dict[str, Any]] = {}
        rows = store.query(
            f"SELECT {_COLUMNS} FROM penstock.{table} FINAL"
            " WHERE state = 'waiting' AND queue = {queue:String}",
            {"queue": queue},
        )
        self._memory = MemoryOutbox(map(_delivery, rows))

    def put(self, messages: Sequence[Message], now_us: int) -> int:
        """Take messages in; see `Outbox`."""
        if not messages:
            return 0
        rows = self._store.query(
            f"SELECT {_COLUMNS} FROM penstock.{self._table} FINAL WHERE key IN {{keys:Array(String)}}",
            {"keys": [message.key for message in messages]},
        )
        known = {row["key"] for row in rows}
        new = self._memory.deliveries((m for m in messages if m.key not in known), now_us)
        self._insert([self._row(delivery, now_us) for delivery in new])
        # An earlier put may have failed after its rows were stored.
        ours = (r for r in rows if r["state"] == "waiting" and r["queue"] == self._queue)
        self._memory.adopt(map(_delivery, ours))
        return self._memory.adopt(new)

    def due(self, now_us: int) -> list[Delivery]:
        """Deliveries that may be tried now; see `Outbox`."""
        self._save()
        return self._memory.due(now_us)

    def waiting(self) -> list[Delivery]:
        """All that wait, in order."""
        return self._memory.waiting()

    def mark_delivered(self, key: str, now_us: int) -> None:
        """A message was taken; see `Outbox`."""
        self._marked(self._memory.mark(key, "", None, delivered=True), now_us)

    def mark_failed(self, key: str, reason: str, now_us: int, next_us: int | None) -> None:
        """An attempt failed; see `Outbox`."""
        self._marked(self._memory.mark(key, reason, next_us, delivered=False), now_us)

    def _marked(self, after: Delivery | None, now_us: int) -> None:
        if after is not None:
            with self._lock:
                self._unsaved[after.key] = self._row(after, now_us)
            self._save()

    def _save(self) -> None:
        """Store what changed; what is not stored when the process ends is sent again by the next."""
        with self._lock:
            if not self._unsaved:
                return
            rows = list(self._unsaved.values())
            try:
                self._insert(rows)
            except StoreError as error:
                log.warning("%d changes of deliveries are not stored yet: %s", len(rows), error)
            else:
                self._unsaved.clear()

    def _insert(self, rows: list[dict[str, Any]]) -> None:
        token = sha256([[row["key"], row["version"], row["changed"]] for row in rows])
        self._store.insert(self._table, pa.Table.from_pylist(rows, _SCHEMA), token)

    def _row(self, delivery: Delivery, now_us: int) -> dict[str, Any]:
        message = delivery.message
        finished = delivery.state != "waiting"
        return {
            "key": message.key,
            "queue": self._queue,
            "receiver": message.receiver,
            "lanes": list(message.lanes),
            "body": message.body,
            "created": delivery.created_us,
            "position": delivery.position,
            "state": delivery.state,
            "attempts": delivery.attempts,
            "next_try": delivery.next_us,
            "reason": delivery.reason,
            "changed": now_us,
            "version": delivery.attempts + _FINAL * finished,
        }


def _delivery(row: dict[str, Any]) -> Delivery:
    message = Message(row["key"], row["receiver"], tuple(row["lanes"]), row["body"])
    return Delivery(
        message,
        row["created_us"],
        row["position"],
        row["state"],
        row["attempts"],
        row["next_us"],
        row["reason"],
    )
