"""What people say about alerts: silences and acknowledgements, read and written."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..schemas.alerts.base import Id, Matchers, Moment, unix_s
from ..schemas.alerts.quiet import Silence
from ..schemas.errors import InvalidQuery, NotFound
from .journal import Journal, SignalStore
from .queries import BOUNDED
from .signal_models import Body

LONGEST = timedelta(days=366)
MAX_SILENCES = 1000
_SECONDS = pa.timestamp("s", "UTC")
State = Literal["pending", "active", "expired"]


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SilenceBody(_Said):
    """A silence to be set; give `ends_at` or `duration_s`."""

    id: Id | None = Field(
        None, description="One of your own makes the POST repeatable; the last one counts."
    )
    matchers: Matchers = Field(
        min_length=1,
        max_length=20,
        description="All must match the labels of an alert.",
        examples=[[{"label": "model", "op": "=", "value": "chat-8b"}]],
    )
    reason: str = Field(min_length=1, max_length=1000, examples=["moving to new GPUs"])
    author: str = Field(min_length=1, max_length=200, examples=["ann"])
    starts_at: Moment | None = Field(None, description="Without it, now.")
    ends_at: Moment | None = Field(None, examples=["2026-01-05T12:00:00Z"])
    duration_s: int | None = Field(None, ge=1, le=366 * 86_400, examples=[7200])


class AcknowledgeBody(_Said):
    """Somebody takes an alert: it is neither repeated nor escalated."""

    who: str = Field(min_length=1, max_length=200, examples=["ann"])
    reason: str = Field("", max_length=1000, examples=["rolling back r42"])
    until: Moment | None = Field(None, description="Without it, as long as the alert is open.")


class Said:
    """Silences and acknowledgements of the store; each is in the audit log before it is in force.

    Args:
        store: takes them in.
        configured: silences of penstock.yaml, which the API shows and does not change.
        wall_us: the clock, integer microseconds since 1970.
    """

    def __init__(
        self, store: SignalStore, configured: Sequence[Silence], wall_us: Callable[[], int]
    ) -> None:
        self._store = store
        self._configured = {silence.id: silence for silence in configured}
        self._wall_us = wall_us
        self._journal = Journal(store, wall_us)

    @property
    def now(self) -> datetime:
        """The time, in whole seconds."""
        return datetime.fromtimestamp(self._wall_us() // 1_000_000, UTC)

    def silences(self) -> list[Silence]:
        """Those of the configuration, and those of the store that have not ended."""
        return [*self._configured.values(), *self._stored("ends_at > {now:DateTime('UTC')}")]

    def listed(self, state: State | None) -> list[Body]:
        """Every silence (or those in a state), the one that ends last first; without a state, none
        that has ended."""
        now = self.now
        condition = "1" if state == "expired" else "ends_at > {now:DateTime('UTC')}"
        found = [
            *(self._shown(item, "configuration", now) for item in self._configured.values()),
            *(self._shown(item, "api", now) for item in self._stored(condition)),
        ]
        wanted = ("pending", "active") if state is None else (state,)
        found = [item for item in found if item["state"] in wanted]
        return sorted(found, key=lambda item: item["ends_at"], reverse=True)

    def silence(self, body: SilenceBody, who: str) -> Body:
        """Set a silence.

        Args:
            body: what is to be quiet.
            who: makes it, for the audit log.

        Raises:
            InvalidQuery: its times make no sense, or its id is taken by the configuration.
            StoreError: the outcome is unknown; with an id of one's own it may be repeated.
        """
        now = self.now
        if (body.ends_at is None) == (body.duration_s is None):
            raise InvalidQuery("give either ends_at or duration_s")
        starts_at = body.starts_at or now
        ends_at = body.ends_at or starts_at + timedelta(seconds=body.duration_s or 0)
        if ends_at <= now:
            raise InvalidQuery(f"ends_at is over: it is {now:%Y-%m-%dT%H:%M:%SZ} now")
        if ends_at - max(starts_at, now) > LONGEST:
            raise InvalidQuery("a silence lasts 366 days at most: change the rule instead")
        if body.id in self._configured:
            raise InvalidQuery(
                f"{body.id} is in penstock.yaml: change it there, or take another id"
            )
        given = body.model_dump(include={"matchers", "reason", "author"})
        try:
            silence = Silence(
                id=body.id or f"s-{secrets.token_hex(4)}",
                starts_at=starts_at,
                ends_at=ends_at,
                **given,
            )
        except ValidationError as error:
            raise InvalidQuery("; ".join(item["msg"] for item in error.errors())) from error
        self._write(silence, "silence", who)
        return self._shown(silence, "api", now)

    def end(self, silence_id: str, who: str) -> Body:
        """End a silence now; one that has ended stays as it is.

        Raises:
            NotFound: there is none of that id.
            InvalidQuery: it is in the configuration.
        """
        if silence_id in self._configured:
            raise InvalidQuery(f"{silence_id} is in penstock.yaml: remove it there")
        found = self._stored("id = {id:String}", id=silence_id)
        if not found:
            raise NotFound(f"there is no silence {silence_id!r}; GET /v1/silences lists them")
        silence, now = found[0], self.now
        if silence.ends_at > now:
            # One that has not begun must still end after it begins.
            starts_at = min(silence.starts_at, now - timedelta(seconds=1))
            silence = silence.model_copy(update={"starts_at": starts_at, "ends_at": now})
            self._write(silence, "silence_ended", who)
        return self._shown(silence, "api", now)

    def acknowledgements(self, alerts: Sequence[str]) -> dict[str, Body]:
        """Who has taken which of the alerts, by their id."""
        rows = self._store.query(
            "SELECT alert_id, who, at, until, reason FROM penstock.acknowledgements "
            "WHERE alert_id IN {ids:Array(String)} "
            f"AND (until IS NULL OR until > {{now:DateTime('UTC')}}) {BOUNDED}",
            {"ids": list(alerts), "now": self.now},
        )
        return {row.pop("alert_id"): row for row in rows}

    def acknowledge(self, alert_id: str, body: AcknowledgeBody, who: str) -> Body:
        """Take an alert; the last one who does counts."""
        now = self.now
        if body.until is not None and body.until <= now:
            raise InvalidQuery(f"until is over: it is {now:%Y-%m-%dT%H:%M:%SZ} now")
        row = {"alert_id": alert_id, **body.model_dump(), "at": now}
        told = {"alert_id": alert_id, **body.model_dump(mode="json")}
        self._journal.write("acknowledge", who, told)
        self._insert("acknowledgements_rows", row)
        return {name: row[name] for name in ("who", "at", "until", "reason")}

    def _stored(self, condition: str, **parameters: Any) -> list[Silence]:
        rows = self._store.query(
            "SELECT id, matchers, reason, author, starts_at, ends_at FROM penstock.silences "
            f"WHERE {condition} ORDER BY ends_at DESC, id LIMIT {MAX_SILENCES} {BOUNDED}",
            {"now": self.now, **parameters},
        )
        return [_silence(row) for row in rows]

    def _shown(self, silence: Silence, source: str, now: datetime) -> Body:
        state: State = "active" if silence.active(unix_s(now)) else "pending"
        if silence.ends_at <= now:
            state = "expired"
        return silence.model_dump() | {"state": state, "source": source}

    def _write(self, silence: Silence, kind: str, who: str) -> None:
        self._journal.write(kind, who, silence.model_dump(mode="json"))
        matchers = json.dumps([matcher.model_dump() for matcher in silence.matchers])
        self._insert("silences_rows", silence.model_dump() | {"matchers": matchers})

    def _insert(self, table: str, row: Mapping[str, Any]) -> None:
        columns: dict[str, Any] = {
            name: pa.array(
                [value],
                _SECONDS if name in ("starts_at", "ends_at", "at", "until") else pa.string(),
            )
            for name, value in row.items()
        }
        columns["version"] = pa.array([self._wall_us()], pa.uint64())
        self._store.insert(table, pa.table(columns), secrets.token_hex(16))


def _silence(row: Mapping[str, Any]) -> Silence:
    times = {name: row[name].replace(tzinfo=UTC) for name in ("starts_at", "ends_at")}
    return Silence.model_validate({**row, **times, "matchers": json.loads(row["matchers"])})
