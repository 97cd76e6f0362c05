"""From the keywords of a call to the row that may leave the process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import index
from typing import Any

from ..schemas.events import EVENT_TYPES, EventName, field_kinds
from ..schemas.redaction import Redactor
from .redact import KeyedHash
from .sampling import Sampler

Row = dict[str, Any]

# Raw identities that callers may give, and the field that their hash goes to.
HASHED = {"user_id": "user_hash", "client_ip": "client_ip_hash"}
_IDENTITY = frozenset({"worker_id", "boot_id", "seq"})
# Fields whose value must be looked at before it may leave.
_CAREFUL = frozenset({"ts", "attributes", "error_message", "features", "categories", "payload"})
_TRANSPORT = "transport_ms"


@dataclass(frozen=True)
class _Plan:
    """What is known of one kind of event before its rows come."""

    kind: EventName
    defaults: Mapping[str, Any]
    transport_timing: bool

    @cached_property
    def known(self) -> frozenset[str]:
        return frozenset(field_kinds(self.kind))

    @cached_property
    def plain(self) -> frozenset[str]:
        """Fields that pass as they are."""
        dropped = frozenset() if self.transport_timing else frozenset({_TRANSPORT})
        return self.known - _CAREFUL - _IDENTITY - dropped


class RowBuilder:
    """Merges defaults, samples, hashes and redacts; runs on the flusher thread.

    Args:
        defaults: fields of the constructor, merged into every kind of event that has them.
        sampler: decides about features, categories and payload.
        redactor: cleans texts.
        hasher: of user ids and addresses.
        transport_timing: when off, `transport_ms` is dropped.
    """

    def __init__(
        self,
        defaults: Mapping[str, Any],
        sampler: Sampler,
        redactor: Redactor,
        hasher: KeyedHash,
        *,
        transport_timing: bool = True,
    ) -> None:
        self._sampler = sampler
        self._redactor = redactor
        self._hasher = hasher
        self._plans = {}
        for kind in EVENT_TYPES:
            known = field_kinds(kind)
            mine = {key: item for key, item in defaults.items() if key in known}
            self._plans[kind] = _Plan(kind, mine, transport_timing)

    def build(self, kind: EventName, ts: int, fields: Mapping[str, Any]) -> Row:
        """One row.

        Args:
            kind: of the event.
            ts: when the call was made, microseconds UTC; a `ts` among the fields wins.
            fields: the keywords of the call; not changed.
        """
        plan = self._plans[kind]
        row = {"ts": ts, **plan.defaults, **fields}
        if not plan.plain.issuperset(fields):
            self._clean(plan, row)
        return row

    def _clean(self, plan: _Plan, row: Row) -> None:
        if row["ts"] is None:
            raise TypeError("ts is None")
        if type(row["ts"]) is not int:
            row["ts"] = index(row["ts"])
        for name in _IDENTITY:
            row.pop(name, None)
        if not plan.transport_timing:
            row.pop(_TRANSPORT, None)
        for raw, hashed in HASHED.items():
            value = row.pop(raw, None)
            if value is not None and row.get(hashed) is None:
                row[hashed] = self._hasher(value)
        if plan.kind == "request":
            self._sampler.apply(row)
            self._redact_request(row)
        self._gather_attributes(plan, row)

    def _redact_request(self, row: Row) -> None:
        if row.get("payload") is not None:
            row["payload"] = self._redactor.payload(row["payload"])
        if row.get("categories"):
            row["categories"] = self._redactor.texts(row["categories"])
        if row.get("error_message"):
            row["error_message"] = self._redactor.text(str(row["error_message"]))

    def _gather_attributes(self, plan: _Plan, row: Row) -> None:
        """Unknown fields become attributes, as they would on the way; then all are redacted."""
        attributes = dict(row.pop("attributes", None) or {})
        for name in row.keys() - plan.known:
            attributes[name] = row.pop(name)
        if attributes:
            row["attributes"] = self._redactor.texts(attributes)
