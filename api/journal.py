"""Entries of the audit log that API processes make: one chain for all of them, without a lock.

ClickHouse has no compare-and-set, but it drops an insert whose token it has seen. The token of an entry
names nothing but its place in the chain: of two processes that want the same place, the second insert
does nothing, both read whose entry is there, and the loser takes the next place.
docs/decisions/0012-one-audit-log-many-writers.md argues it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any, Protocol

import pyarrow as pa

from ..schemas.errors import Conflict, StoreError
from ..schemas.ports import StoreReader
from ..streams.core.alerts.audit import Entry, append, entry_rows
from .queries import BOUNDED

CHAIN = "api"
ATTEMPTS = 20
_COLUMNS = "seq, at, kind, who, body, previous, hash"


class SignalStore(StoreReader, Protocol):
    """A store that takes in what people say."""

    def insert(self, name: str, rows: pa.Table, token: str) -> None:
        """Insert rows; again with the same token, it changes nothing.

        Raises:
            StoreError: the outcome is unknown.
        """
        ...


class Journal:
    """One chain of the audit log that several processes write. Safe to share between threads.

    Write what somebody is about to do before doing it: then nothing is done that is not in the log.

    Args:
        store: takes the entries in.
        wall_us: the clock, integer microseconds since 1970.
        chain: name of the chain.
    """

    def __init__(self, store: SignalStore, wall_us: Callable[[], int], chain: str = CHAIN) -> None:
        self._store = store
        self._wall_us = wall_us
        self._chain = chain

    def write(self, kind: str, who: str, body: Mapping[str, Any]) -> Entry:
        """Add an entry at the end of the chain.

        Args:
            kind: what happened: `silence`, `acknowledge`, `override`, ...
            who: who did it: the name of a key.
            body: what it was; anything that JSON can hold.

        Raises:
            StoreError: the outcome is unknown; the entry may be there although nothing was done.
        """
        for _ in range(ATTEMPTS):
            entry = self._next(self.newest(), kind, who, body)
            if self._claim(entry):
                return entry
        raise StoreError(
            f"{ATTEMPTS} others wrote to the audit log at the same time: try again", retryable=True
        )

    def write_at(self, place: int, kind: str, who: str, body: Mapping[str, Any]) -> Entry:
        """Add an entry at one place of the chain, or none.

        Raises:
            Conflict: the chain has grown meanwhile; nothing was written.
            StoreError: the outcome is unknown.
        """
        last = self.newest()
        length = 0 if last is None else last.index + 1
        entry = self._next(last, kind, who, body)
        if length != place or not self._claim(entry):
            raise Conflict(f"somebody else wrote to {self._chain} meanwhile: look again")
        return entry

    def newest(self) -> Entry | None:
        """The last entry; None where there is none yet."""
        found = self._read("1", "DESC", 1, {})
        return found[0] if found else None

    def at(self, place: int) -> Entry | None:
        """The entry at a place."""
        found = self._read("seq = {seq:UInt64}", "DESC", 1, {"seq": place})
        return found[0] if found else None

    def latest(self, limit: int) -> list[Entry]:
        """The last entries, the newest first."""
        return self._read("1", "DESC", limit, {})

    def _next(self, last: Entry | None, kind: str, who: str, body: Mapping[str, Any]) -> Entry:
        # Two entries that say the same in the same second must not be taken for one.
        marked = {**body, "nonce": secrets.token_hex(8)}
        return append(last, self._wall_us() // 1_000_000, kind, who, marked)

    def _claim(self, entry: Entry) -> bool:
        """Insert an entry; whether the place is its own."""
        rows = entry_rows([entry], self._chain)
        self._store.insert("audit_log_rows", rows, f"audit-{self._chain}-{entry.index}")
        found = self.at(entry.index)
        if found is None:
            raise StoreError(
                "a replica of the store lags: whether it is in the audit log is unknown", 0, True
            )
        return found.hash == entry.hash

    def _read(
        self, condition: str, order: str, limit: int, parameters: Mapping[str, Any]
    ) -> list[Entry]:
        rows = self._store.query(
            f"SELECT {_COLUMNS} FROM penstock.audit_log WHERE chain = {{chain:String}} "
            f"AND {condition} ORDER BY seq {order} LIMIT {{limit:UInt32}} {BOUNDED}",
            {"chain": self._chain, "limit": limit, **parameters},
        )
        return [_entry(row) for row in rows]


def _entry(row: Mapping[str, Any]) -> Entry:
    return Entry(
        int(row["seq"]),
        int(row["at"].replace(tzinfo=UTC).timestamp()),
        row["kind"],
        row["who"],
        json.loads(row["body"]),
        row["previous"],
        row["hash"],
    )
