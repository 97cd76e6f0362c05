"""The audit log: each entry holds the hash of the one before, so that a change anywhere shows.

>>> first = append(None, 5, "alert", "penstock", {"kind": "firing"})
>>> second = append(first, 9, "silence", "ann", {"id": "s1"})
>>> verify([first, second])
>>> verify([first, replace(second, actor="bob")])
Broken(index=1, reason='hash')
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow as pa

from ..gates.canonical import canonical_json, sha256

GENESIS = "0" * 64
"""What the first entry holds for the hash of the one before."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry, never changed once it is written.

    Attributes:
        index: position, from 0.
        at_s: when, seconds since 1970 UTC.
        kind: what happened: `alert`, `silence`, `acknowledge`, `configuration`, ...
        actor: who did it: a person, a key, or `penstock`.
        body: what it was; anything that canonical JSON can hold.
        previous: hash of the entry before, `GENESIS` for the first.
        hash: SHA-256 of the canonical JSON of all of the above, as hexadecimal digits.
    """

    index: int
    at_s: int
    kind: str
    actor: str
    body: Mapping[str, Any]
    previous: str
    hash: str


@dataclass(frozen=True, slots=True)
class Broken:
    """The first entry that is not as it was written.

    Attributes:
        index: where it stands; the length of the log where its end is missing.
        reason: `index` one is missing, added or out of place; `previous` it does not follow the
            one before; `hash` it was changed; `head` the log does not end where it ended.
    """

    index: int
    reason: Literal["index", "previous", "hash", "head"]


def append(last: Entry | None, at_s: int, kind: str, actor: str, body: Mapping[str, Any]) -> Entry:
    """The next entry of a log that ends with `last`; None begins one.

    Raises:
        ValueError: the body holds a NaN or an infinity.
        TypeError: the body holds what JSON has no name for.
    """
    index, previous = (0, GENESIS) if last is None else (last.index + 1, last.hash)
    unsigned = Entry(index, at_s, kind, actor, dict(body), previous, "")
    return replace(unsigned, hash=_hash(unsigned))


def verify(entries: Iterable[Entry], head: str | None = None) -> Broken | None:
    """The first broken entry, None where the log is whole.

    Args:
        entries: all, from the first.
        head: hash of the last one, from elsewhere; without it a log that was cut off at its end
            looks whole.
    """
    previous, length = GENESIS, 0
    for position, entry in enumerate(entries):
        if entry.index != position:
            return Broken(position, "index")
        if entry.previous != previous:
            return Broken(position, "previous")
        if entry.hash != _hash(entry):
            return Broken(position, "hash")
        previous, length = entry.hash, position + 1
    return Broken(length, "head") if head is not None and head != previous else None


def entry_rows(entries: Sequence[Entry], chain: str) -> pa.Table:
    """Entries of one chain for `audit_log_rows`."""
    return pa.table(
        {
            "chain": [chain] * len(entries),
            "seq": pa.array([entry.index for entry in entries], pa.uint64()),
            "at": pa.array([entry.at_s for entry in entries], pa.timestamp("s", "UTC")),
            "kind": [entry.kind for entry in entries],
            "who": [entry.actor for entry in entries],
            "body": [canonical_json(dict(entry.body)) for entry in entries],
            "previous": [entry.previous for entry in entries],
            "hash": [entry.hash for entry in entries],
        }
    )


def _hash(entry: Entry) -> str:
    return sha256(
        [entry.index, entry.at_s, entry.kind, entry.actor, dict(entry.body), entry.previous]
    )
