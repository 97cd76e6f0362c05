"""Rolling spend of users or tenants against a limit.

Tiles keep no users. A shell asks the raw rows for sums by key and minute (docs/costs.md) and adds those
that are new to a ledger. What a look finds is a function of the rows in the ledger, in any order, and of
the keys that the look before told of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ....schemas.costs.budgets import SpendLimit
from ..gates.canonical import sha256
from ..windows import Ints

NEAR = 2  # keys are told of from one half of their limit on,
MOST_KEYS = 100  # and no more than so many of one limit


def limit_hash(spec: SpendLimit) -> str:
    """Hash of what the numbers of a limit follow from."""
    return sha256(spec.model_dump(mode="json", exclude={"id"}))[:16]


class SpendLedger:
    """What each key spent in each minute.

    Example:
        >>> ledger = SpendLedger()
        >>> ledger.add(["ann", "bob"], np.array([0, 60]), np.array([5, 7]))
        >>> ledger.add(["ann"], np.array([60]), np.array([1]))
        >>> dict(zip(ledger.names, ledger.spent(0, 120).tolist()))
        {'ann': 6, 'bob': 7}
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._codes, self._minutes_s, self._nanousd = (np.zeros(0, np.int64) for _ in range(3))

    def add(self, keys: Sequence[str], minutes_s: Ints, nanousd: Ints) -> None:
        """Add rows, in any order; a minute of a key may come in parts.

        Args:
            keys: who, length n.
            minutes_s: start of the minute, seconds since 1970 UTC, shape (n,).
            nanousd: what it cost, at least 0, shape (n,).
        """
        codes = np.array([self._numbered(key) for key in keys], np.int64)
        self._codes = np.concatenate([self._codes, codes])
        self._minutes_s = np.concatenate([self._minutes_s, minutes_s])
        self._nanousd = np.concatenate([self._nanousd, nanousd])

    def spent(self, start_s: int, end_s: int) -> Ints:
        """Sums over [start_s, end_s) in the order of `names`, nano-dollars; whole minutes."""
        inside = (self._minutes_s >= start_s) & (self._minutes_s < end_s)
        sums = np.zeros(len(self.names), np.int64)
        np.add.at(sums, self._codes[inside], self._nanousd[inside])
        return sums

    def forget_before(self, start_s: int) -> None:
        """Drop earlier minutes, and keys that have no other."""
        kept = self._minutes_s >= start_s
        used, self._codes = np.unique(self._codes[kept], return_inverse=True)
        self._minutes_s, self._nanousd = self._minutes_s[kept], self._nanousd[kept]
        self.names = [self.names[code] for code in used.tolist()]
        self._numbers = {name: at for at, name in enumerate(self.names)}

    def number(self, key: str) -> int | None:
        """Position of a key in `names`; None for one that is not there."""
        return self._numbers.get(key)

    def _numbered(self, key: str) -> int:
        number = self._numbers.setdefault(key, len(self.names))
        if number == len(self.names):
            self.names.append(key)
        return number


@dataclass(frozen=True, slots=True)
class KeySpend:
    """What a key spent in the window, in nano-dollars.

    `since_s` is the first look of those in a row that found it above its limit; None where it is not.
    """

    key: str
    spent: int
    since_s: int | None = None


@dataclass(frozen=True, slots=True)
class LimitLook:
    """A limit at a full minute.

    Attributes:
        spec: the limit.
        at_s: end of the window, seconds.
        above: how many keys are above it, told or not.
        keys: those told of: above the limit first, then those that the look before told of, the
            largest spender first among equals.
        left: those that the look before told of and this one does not; none is above the limit.
    """

    spec: SpendLimit
    at_s: int
    above: int
    keys: tuple[KeySpend, ...]
    left: tuple[KeySpend, ...] = ()


class LimitWatch:
    """One limit, look after look.

    A key is told of once it has spent half of the limit, and on until it has spent nothing in the
    window, so that a rule with a limit of its own sees it come down.

    Args:
        spec: the limit.
        told: keys of the look before, with their `since_s`; empty to begin.
    """

    def __init__(self, spec: SpendLimit, told: Mapping[str, int | None]) -> None:
        self._spec = spec
        self._told = dict(told)

    def look(self, ledger: SpendLedger, now_s: int) -> LimitLook:
        """Look at the window that ends at `now_s`, a full minute; looks come in ascending order."""
        spec, told = self._spec, self._told
        spent = ledger.spent(now_s - spec.window_s, now_s)
        above = spent > spec.nanousd
        known = np.zeros(len(spent), bool)
        known[[at for name in told if (at := ledger.number(name)) is not None]] = True
        near = (spent >= -(-spec.nanousd // NEAR)) | (known & (spent > 0))
        order = sorted(
            np.flatnonzero(near).tolist(),
            key=lambda at: (not above[at], not known[at], -spent[at], ledger.names[at]),
        )
        keys = tuple(self._key(ledger.names[at], int(spent[at]), now_s) for at in order[:MOST_KEYS])
        self._told = {item.key: item.since_s for item in keys}
        gone = ((key, ledger.number(key)) for key in sorted(told.keys() - self._told.keys()))
        left = tuple(KeySpend(key, 0 if at is None else int(spent[at])) for key, at in gone)
        return LimitLook(spec, now_s, int(above.sum()), keys, left)

    def _key(self, key: str, spent: int, now_s: int) -> KeySpend:
        if spent <= self._spec.nanousd:
            return KeySpend(key, spent)
        before_s = self._told.get(key)
        return KeySpend(key, spent, now_s if before_s is None else before_s)
