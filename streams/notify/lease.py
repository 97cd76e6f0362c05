"""A lease in the store: one process at a time may do what only one may.

ClickHouse has no compare-and-set, but it drops an insert whose token it has seen. Who wants the next
term inserts it with a token that names nothing but the term: of two that want it at once, the second
insert does nothing, and both read who has it.

No clocks are compared. A term that somebody else has holds until it has been seen unchanged for
`ttl_s`, which begins after the holder wrote it, and so ends after the holder should have renewed it.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from ...schemas.errors import PenstockError, StoreError
from ..core.gates.canonical import sha256
from ..storage.store import Store

TTL_S = 15.0


class LeaseLost(PenstockError):
    """Somebody else has it."""


def holder_of_this_process() -> str:
    """A name for this life of this process, told apart from every other."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


class StoreLease:
    """Not for several threads at once.

    Args:
        store: migrated.
        name: of what is done.
        holder: this life of this process, told apart from every other.
        ttl_s: how long a holder may be silent; it renews three times as often.
        alone: nobody else can have the store open, so whoever had the lease has ended.
        monotonic_s: a clock that is never set.
        clock: integer microseconds UTC, for people who read the table.

    Attributes:
        term: of the lease while it is held; it grows with each renewal, so that what is written with
            a lower one can be told from what its successor wrote.
        held: whether this process has it, as far as it knows.
        other: who has it instead; empty where nobody is known to.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        holder: str,
        *,
        ttl_s: float = TTL_S,
        alone: bool = False,
        monotonic_s: Callable[[], float] = time.monotonic,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._store = store
        self._name = name
        self._holder = holder
        self._ttl_s = ttl_s
        self._alone = alone
        self._monotonic_s = monotonic_s
        self._clock = clock
        self._seen: tuple[int, float] | None = None
        self._renewed_s = 0.0
        self.term = 0
        self.held = False
        self.other = ""

    def take(self) -> bool:
        """Take it where it is free, given back, or its holder has fallen silent.

        Returns:
            Whether it is held now.

        Raises:
            StoreError: the outcome is unknown; try again.
        """
        term, holder = self._read()
        if holder in ("", self._holder) or self._alone or self._is_silent(term):
            return self._claim(term + 1)
        self.other = holder
        return False

    def wait(self, pause_s: float) -> None:
        """Take it, as soon as a holder that was killed has been silent for long enough.

        Args:
            pause_s: between two attempts.

        Raises:
            LeaseLost: its holder works.
            StoreError: the outcome is unknown; try again.
        """
        until_s = self._monotonic_s() + self._ttl_s + 2.0
        while not self.take():
            if self._monotonic_s() > until_s:
                raise LeaseLost(f"{self._name}: {self.other} works already")
            time.sleep(pause_s)

    def keep(self) -> None:
        """Renew it where that is due.

        Raises:
            LeaseLost: somebody else has it.
            StoreError: the outcome is unknown; try again.
        """
        if self._monotonic_s() - self._renewed_s >= self._ttl_s / 3:
            self.renew()

    def renew(self) -> None:
        """Renew it now; what was written before is seen by whoever takes it later.

        Raises:
            LeaseLost: somebody else has it.
            StoreError: the outcome is unknown; try again.
        """
        if not self._claim(self.term + 1):
            raise LeaseLost(f"{self._name}: {self.other} has the lease now")

    def give_back(self) -> None:
        """Let somebody else have it at once.

        Raises:
            StoreError: nobody is told; it ends by itself.
        """
        if self.held:
            self.held = False
            self._insert(self.term + 1, "")

    def _is_silent(self, term: int) -> bool:
        now_s = self._monotonic_s()
        if self._seen is None or self._seen[0] != term:
            self._seen = term, now_s
        return now_s - self._seen[1] > self._ttl_s

    def _claim(self, term: int) -> bool:
        asked_s = self._monotonic_s()
        self._insert(term, self._holder)
        found, holder = self._read()
        if found < term:
            raise StoreError("a replica of the store lags: who has the lease is unknown", 0, True)
        if holder == self._holder:
            # A renewal whose outcome was unknown may have taken a later term than this one.
            self.term, self.held, self.other, self._renewed_s = found, True, "", asked_s
        else:
            self.held, self.other = False, holder
        return self.held

    def _read(self) -> tuple[int, str]:
        rows = self._store.query(
            "SELECT term, holder FROM penstock.leases WHERE name = {name:String}",
            {"name": self._name},
        )
        return (int(rows[0]["term"]), str(rows[0]["holder"])) if rows else (0, "")

    def _insert(self, term: int, holder: str) -> None:
        row: dict[str, Any] = {
            "name": pa.array([self._name]),
            "term": pa.array([term], pa.uint64()),
            "holder": pa.array([holder]),
            "at": pa.array([self._clock()], pa.timestamp("us", "UTC")),
        }
        self._store.insert("leases_rows", pa.table(row), sha256(["lease", self._name, term]))
