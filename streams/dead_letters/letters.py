"""Dead letters: what was rejected, sealed for the store and for a topic, and found again.

Sending them again is in redrive.py.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from ...schemas.errors import InvalidConfiguration, InvalidQuery, NotFound
from ..core.preview import redact_detail, redact_preview
from ..storage.publish import timestamps
from ..storage.store import Store
from .seal import Sealer

_ID = re.compile(r"(\d{1,10})-(\d{1,10})-(\d{1,19})-(\d{1,10})")
_KEY = ("incarnation", "partition", "offset", "row_index")
_KEY_SQL = ", ".join(f"`{name}`" for name in _KEY)
_NEWEST = f"ORDER BY append_ts DESC, {', '.join(f'`{name}` DESC' for name in _KEY)}"
_SHOWN = "topic, kind, worker_id, boot_id, seq, reason, detail, source, sealed, preview"
_PREVIEWED_BYTES = 16 * 2**10  # of a body that was stored without a preview


@dataclass(frozen=True, slots=True, order=True)
class LetterId:
    """Where a dead letter arrived; no other has the same.

    >>> LetterId.parse("1-0-17-3").boot_id
    'redrive-1-0-17-3'
    """

    incarnation: int
    partition: int
    offset: int
    row_index: int

    def __str__(self) -> str:
        return f"{self.incarnation}-{self.partition}-{self.offset}-{self.row_index}"

    @classmethod
    def parse(cls, text: str) -> LetterId:
        """Read an id.

        Raises:
            InvalidQuery: it is none.
        """
        found = _ID.fullmatch(text.strip())
        if found is None:
            raise InvalidQuery(
                "the id of a dead letter is incarnation-partition-offset-row, such as 1-0-17-3"
            )
        return cls(*map(int, found.groups()))

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> LetterId:
        """The id of a row of the quarantine."""
        return cls(*(int(row[name]) for name in _KEY))

    @property
    def boot_id(self) -> str:
        """The boot that its event belongs to when it is sent again."""
        return f"redrive-{self}"

    def about(self, topic: str) -> bytes:
        """What its sealed bytes are bound to.

        Args:
            topic: that it came by; empty when embedded.
        """
        place = f"{self.incarnation}/{self.partition}/{self.offset}/{self.row_index}"
        return f"{topic}/{place}".encode()


def seal_rows(
    rows: Sequence[Mapping[str, Any]], sealer: Sealer, topic: str
) -> list[dict[str, Any]]:
    """Rows of `Flush.quarantine()` as they are stored: body sealed, preview and detail redacted.

    Args:
        rows: rejected rows; what is sealed already stays as it is.
        sealer: with the key of this deployment.
        topic: that they came by; empty when embedded.
    """
    return [dict(row) if row.get("sealed") else _sealed(row, sealer, topic) for row in rows]


def _sealed(row: Mapping[str, Any], sealer: Sealer, topic: str) -> dict[str, Any]:
    body = bytes(row["body"])
    return {
        **row,
        "body": sealer.seal(body, LetterId.of(row).about(topic)),
        "preview": redact_preview(body),
        "detail": redact_detail(str(row["detail"])),
        "topic": topic,
        "sealed": True,
    }


def dead_letter_message(row: Mapping[str, Any]) -> tuple[bytes, bytes, dict[str, bytes]]:
    """A row of `seal_rows` as a message of the topic of dead letters.

    Returns:
        Key (the boot, else the id), value (the sealed bytes) and headers. The headers `topic`,
        `incarnation`, `partition`, `offset` and `row_index` are what the value is bound to.

    Raises:
        ValueError: the row is not sealed.
    """
    if not row.get("sealed"):
        raise ValueError("a dead letter is sealed before it leaves")
    boot = str(row["boot_id"])
    headers = {name: str(row[name]).encode() for name in ("reason", "detail", "topic", *_KEY)}
    headers |= {"worker": str(row["worker_id"]).encode(), "boot": boot.encode()}
    return boot.encode() or str(LetterId.of(row)).encode(), bytes(row["body"]), headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which dead letters.

    Attributes:
        reason: exactly this one.
        topic: exactly this one; "" is what came over HTTP to an embedded server.
        partition: of the topic.
        since_us: taken at or after, integer microseconds since 1970 UTC.
        waiting: only those that were not sent again yet.
    """

    reason: str | None = None
    topic: str | None = None
    partition: int | None = None
    since_us: int | None = None
    waiting: bool = False

    def where(self) -> tuple[str, dict[str, Any]]:
        """SQL of the conditions, and its parameters."""
        parts = ["1"]
        parameters: dict[str, Any] = {}
        kinds = {"reason": "String", "topic": "String", "partition": "UInt32"}
        for name, kind in kinds.items():
            value = getattr(self, name)
            if value is not None:
                parts.append(f"`{name}` = {{{name}:{kind}}}")
                parameters[name] = value
        if self.since_us is not None:
            parts.append("append_ts >= fromUnixTimestamp64Micro({since:Int64}, 'UTC')")
            parameters["since"] = self.since_us
        if self.waiting:
            parts.append(f"({_KEY_SQL}) NOT IN (SELECT {_KEY_SQL} FROM penstock.redrives)")
        return " AND ".join(parts), parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One rejected row, or one message that could not be decoded, without its bytes.

    What its sender wrote is here as it was written: see `preview.escape` before it is shown.

    Attributes:
        id: where it arrived.
        taken_us: when, integer microseconds since 1970 UTC.
        topic: that it came by; empty when embedded.
        kind: of event, empty where it could not be told.
        worker_id: as the row says.
        boot_id: as the row says.
        seq: as the row says, 0 where it could not be told.
        reason: from a closed list.
        detail: which field, which value; redacted.
        source: http or kafka.
        sealed: whether its bytes are encrypted.
        preview: what a person may see of them.
        size_bytes: of its bytes as stored.
        redriven_us: when it was last sent again, None if never.
        rejected_as: the dead letter that it became when it was rejected again, if it was: its number
            is used up, and that one must be sent instead.
    """

    id: LetterId
    taken_us: int
    topic: str
    kind: str
    worker_id: str
    boot_id: str
    seq: int
    reason: str
    detail: str
    source: str
    sealed: bool
    preview: str
    size_bytes: int
    redriven_us: int | None = None
    rejected_as: LetterId | None = None


class DeadLetters:
    """The quarantine of a store; safe to share between threads.

    Args:
        store: migrated. Every method raises StoreError when it is away.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def count(self, filters: Filters) -> int:
        """How many match."""
        where, parameters = filters.where()
        sql = f"SELECT count() AS n FROM penstock.quarantine WHERE {where}"
        return int(self._store.query(sql, parameters)[0]["n"])

    def find(self, filters: Filters, limit: int) -> list[DeadLetter]:
        """Those that match, newest first."""
        where, parameters = filters.where()
        return self._read(f"{where} {_NEWEST} LIMIT {int(limit)}", parameters)

    def get(self, letter_id: LetterId) -> DeadLetter:
        """One of them.

        Raises:
            NotFound: there is none of that id, or it is no longer kept.
        """
        found = self._read(f"{_is(letter_id)} {_NEWEST} LIMIT 1", {})
        if not found:
            raise NotFound(f"there is no dead letter {letter_id}: `penstock dead-letters list`")
        return found[0]

    def body(self, letter: DeadLetter, sealer: Sealer | None) -> bytes:
        """Its bytes as they came.

        Args:
            letter: of this store.
            sealer: with the key; not needed where the bytes are not sealed.

        Raises:
            InvalidConfiguration: they are sealed, and there is no key.
            SealError: the key is another one, or the bytes are damaged.
            NotFound: it is no longer kept.
        """
        # As base64: a string that is no UTF-8 would come back as something else.
        rows = self._store.query(
            f"SELECT base64Encode(body) AS held FROM penstock.quarantine WHERE {_is(letter.id)}"
            f" {_NEWEST} LIMIT 1"
        )
        if not rows:
            raise NotFound(f"dead letter {letter.id} is no longer kept")
        held = base64.b64decode(rows[0]["held"])
        if not letter.sealed:
            return held
        if sealer is None:
            raise InvalidConfiguration(
                f"dead letter {letter.id} is sealed: --sealing-key FILE, or PENSTOCK_SEALING_KEY"
            )
        return sealer.open(held, letter.id.about(letter.topic))

    def mark(self, ids: Sequence[LetterId], at_us: int) -> None:
        """Remember that these were sent again.

        Args:
            ids: any number.
            at_us: when, integer microseconds since 1970 UTC.
        """
        if not ids:
            return
        kinds = (np.uint32, np.uint32, np.uint64, np.uint32)
        columns: dict[str, Any] = {
            name: pa.array(np.array([getattr(one, name) for one in ids], kind))
            for name, kind in zip(_KEY, kinds, strict=True)
        }
        table = pa.table(columns | {"at": timestamps([at_us] * len(ids))})
        self._store.insert("redrives", table, f"{at_us}-{ids[0]}-{len(ids)}")

    def kept_days(self) -> int | None:
        """Days for which rows are kept; older ones are not taken. None where it is not known."""
        rows = self._store.query(
            "SELECT value FROM penstock.settings FINAL WHERE name = 'ttl of requests'"
        )
        found = re.search(r"INTERVAL (\d+) DAY", str(rows[0]["value"])) if rows else None
        return int(found[1]) if found else None

    def _read(self, conditions: str, parameters: Mapping[str, Any]) -> list[DeadLetter]:
        rows = self._store.query(
            f"SELECT toUnixTimestamp64Micro(append_ts) AS taken_us, {_KEY_SQL}, {_SHOWN},"
            " length(body) AS size_bytes, if(sealed OR preview != '', '',"
            f" base64Encode(substring(body, 1, {_PREVIEWED_BYTES}))) AS start"
            f" FROM penstock.quarantine WHERE {conditions}",
            parameters,
        )
        ids = [LetterId.of(row) for row in rows]
        redriven, rejected = self._redriven(ids), self._rejected(ids)
        return [
            replace(
                _letter(row),
                redriven_us=redriven.get(letter_id),
                rejected_as=rejected.get(letter_id.boot_id),
            )
            for letter_id, row in zip(ids, rows, strict=True)
        ]

    def _rejected(self, ids: Sequence[LetterId]) -> dict[str, LetterId]:
        """What became of those that were rejected again, by their boot."""
        rows = self._store.query(
            f"SELECT boot_id, {_KEY_SQL} FROM penstock.quarantine"
            " WHERE boot_id IN {boots:Array(String)}",
            {"boots": [one.boot_id for one in ids]},
        )
        return {str(row["boot_id"]): LetterId.of(row) for row in rows}

    def _redriven(self, ids: Sequence[LetterId]) -> dict[LetterId, int]:
        """When each was last sent again, for those that were."""
        if not ids:
            return {}
        listed = ", ".join(str(tuple(getattr(one, name) for name in _KEY)) for one in ids)
        rows = self._store.query(
            f"SELECT {_KEY_SQL}, toUnixTimestamp64Micro(max(at)) AS at_us FROM penstock.redrives"
            f" WHERE ({_KEY_SQL}) IN ({listed}) GROUP BY {_KEY_SQL}"
        )
        return {LetterId.of(row): int(row["at_us"]) for row in rows}


def _is(letter_id: LetterId) -> str:
    return " AND ".join(f"`{name}` = {getattr(letter_id, name)}" for name in _KEY)


def _letter(row: Mapping[str, Any]) -> DeadLetter:
    sealed = bool(row["sealed"])
    preview, detail = str(row["preview"]), str(row["detail"])
    if not sealed:  # it was stored before there were keys
        detail = redact_detail(detail)
        preview = preview or redact_preview(base64.b64decode(row["start"]))
    names = ("topic", "kind", "worker_id", "boot_id", "reason", "source")
    texts: dict[str, Any] = {name: str(row[name]) for name in names}
    return DeadLetter(
        id=LetterId.of(row),
        taken_us=int(row["taken_us"]),
        seq=int(row["seq"]),
        detail=detail,
        sealed=sealed,
        preview=preview,
        size_bytes=int(row["size_bytes"]),
        **texts,
    )
