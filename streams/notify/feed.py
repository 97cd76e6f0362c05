"""Changes of alerts as the store has them, and what people said about alerts.

The audit log gives every change of a shard a position, without a hole: so what is new is read by
position, each change once, whatever the clocks of the evaluators say. Where replicas of the store hold
different rows for a while, a change that is not there yet is waited for.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from ...schemas.alerts.quiet import Silence
from ..core.alerts.transition import Transition
from ..storage.store import Store

_AT_ONCE = 10_000  # changes read by one question
_ASKED = 1000  # ids in one question, which travel in the address of a request
_STATES = (
    "SELECT alert_id, argMaxIf(kind, sequence, kind != 'amended') AS state,"
    " max(recorded_at) AS newest FROM penstock.alert_transitions GROUP BY alert_id"
)
_CHANGES = (
    "SELECT id, alert_id, sequence, kind, reason, rule_id, rule_hash, toUnixTimestamp(at) AS at_s,"
    " toUnixTimestamp(started) AS started_s, labels, value, limit_value, n, text, annotations, runbook"
    " FROM penstock.alert_transitions WHERE alert_id IN {ids:Array(String)}"
    " ORDER BY alert_id, kind = 'amended', sequence, recorded_at, id"
)


class AlertFeed:
    """Reads on from where it is. Not for several threads at once.

    Args:
        store: migrated.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._next: dict[str, int] = {}

    def start(self, wanted: Collection[str], newest: int) -> list[Transition]:
        """The changes of alerts that are open, and of some others; `news` goes on after them.

        Args:
            wanted: ids of alerts that are told of in any case.
            newest: how many of those that changed last are told of too.

        Raises:
            StoreError: the store is away or not migrated.
        """
        # Read first: changes are stored before their entries of the log, so nothing lies between.
        self._next = self._positions()
        ids = {*wanted, *self._ids(f"({_STATES}) WHERE state IN ('pending', 'firing')")}
        if newest:
            ids |= {*self._ids(f"({_STATES}) ORDER BY newest DESC, alert_id LIMIT {newest:d}")}
        return self.history(ids)

    @property
    def positions(self) -> dict[str, int]:
        """Chain of the audit log -> the position that is read next."""
        return dict(self._next)

    def resume(self, positions: Mapping[str, int]) -> None:
        """Read on from these; chains that are not among them from their first entry.

        Raises:
            StoreError: the store is away or not migrated.
        """
        self._next = dict.fromkeys(self._positions(), 0) | dict(positions)

    def news(self) -> list[Transition]:
        """Changes since the last call, in the order of their shard.

        Raises:
            StoreError: the store is away.
        """
        found = []
        for row in self._entries():
            chain = row["chain"]
            if row["seq"] != self._next[chain]:
                continue  # behind one that is not there yet
            self._next[chain] += 1
            if row["kind"] == "alert":
                found.append(Transition.from_json(row["body"]))
        return found

    def history(self, ids: Collection[str]) -> list[Transition]:
        """Every change of some alerts in its order, of amendments the newest.

        Raises:
            StoreError: the store is away.
        """
        found: dict[tuple[str, int], Transition] = {}
        for part in _parts(sorted(ids)):
            for row in self._store.query(_CHANGES, {"ids": part}):
                item = _transition(row)
                place = -1 if item.kind == "amended" else item.sequence
                found[item.alert_id, place] = item
        return [*found.values()]

    def silences(self, now_s: int) -> list[Silence]:
        """Those that people set and that have not ended.

        Raises:
            StoreError: the store is away.
        """
        rows = self._store.query(
            "SELECT id, matchers, reason, author, starts_at, ends_at FROM penstock.silences"
            " WHERE ends_at > {now:DateTime('UTC')} ORDER BY id",
            {"now": datetime.fromtimestamp(now_s, UTC)},
        )
        return [_silence(row) for row in rows]

    def acknowledged(self, ids: Collection[str], now_s: int) -> set[str]:
        """Which of the alerts somebody has taken.

        Raises:
            StoreError: the store is away.
        """
        return {
            row["alert_id"]
            for part in _parts(sorted(ids))
            for row in self._store.query(
                "SELECT alert_id FROM penstock.acknowledgements WHERE alert_id IN {ids:Array(String)}"
                " AND (until IS NULL OR until > {now:DateTime('UTC')})",
                {"ids": part, "now": datetime.fromtimestamp(now_s, UTC)},
            )
        }

    def explanations(self, ids: Collection[str]) -> dict[str, str]:
        """What is known of why the alerts fired, in one line each, by their id.

        Raises:
            StoreError: the store is away.
        """
        return {
            row["alert_id"]: row["text"]
            for part in _parts(sorted(ids))
            for row in self._store.query(
                "SELECT alert_id, text FROM penstock.alert_explanations"
                " WHERE alert_id IN {ids:Array(String)}",
                {"ids": part},
            )
        }

    def _positions(self) -> dict[str, int]:
        """The next position of every shard's chain."""
        known = self._store.query(
            "SELECT value FROM penstock.settings FINAL WHERE name = 'shards' LIMIT 1"
        )
        positions = {
            f"shard-{number}": 0 for number in range(int(known[0]["value"]) if known else 0)
        }
        rows = self._store.query(
            "SELECT chain, max(seq) + 1 AS next FROM penstock.audit_log"
            " WHERE startsWith(chain, 'shard-') GROUP BY chain"
        )
        return positions | {row["chain"]: int(row["next"]) for row in rows}

    def _entries(self) -> list[dict[str, Any]]:
        parameters: dict[str, Any] = {}
        conditions = []
        for number, (chain, position) in enumerate(self._next.items()):
            parameters |= {f"chain{number}": chain, f"seq{number}": position}
            conditions.append(
                f"(chain = {{chain{number}:String}} AND seq >= {{seq{number}:UInt64}})"
            )
        if not conditions:
            return []
        return self._store.query(
            "SELECT chain, seq, kind, body FROM penstock.audit_log"
            f" WHERE {' OR '.join(conditions)} ORDER BY chain, seq LIMIT {_AT_ONCE}",
            parameters,
        )

    def _ids(self, query: str) -> Iterator[str]:
        for row in self._store.query(f"SELECT alert_id FROM {query}"):
            yield row["alert_id"]


def _parts(ids: list[str]) -> Iterator[list[str]]:
    for at in range(0, len(ids), _ASKED):
        yield ids[at : at + _ASKED]


def _transition(row: Mapping[str, Any]) -> Transition:
    fields = {**row, "runbook": row["runbook"] or None, "limit": row["limit_value"]}
    del fields["limit_value"]
    for name in ("labels", "annotations"):
        fields[name] = dict(row[name])
    return Transition(**fields)


def _silence(row: Mapping[str, Any]) -> Silence:
    times = {name: row[name].replace(tzinfo=UTC) for name in ("starts_at", "ends_at")}
    return Silence.model_validate({**row, **times, "matchers": json.loads(row["matchers"])})
