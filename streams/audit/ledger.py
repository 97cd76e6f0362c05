"""Audit of rows and ledger, in SQL of its own: it shares nothing with what it checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..storage.store import Store
from .report import MOST, Report, Scope

_KINDS = {
    "request": "requests",
    "step": "steps",
    "feedback": "feedback",
    "release": "releases",
    "span": "spans",
}
_AT_ONCE = 20_000_000  # identities compared by one query
DAY_S = 86_400  # after a day an Idempotency-Key may be used anew
LIMIT = 2 * MOST


def check_ledger(store: Store, scope: Scope, report: Report) -> None:
    """Identity of rows, offsets, and rows against the ledger.

    Raises:
        StoreError: the store is away or refuses.
    """
    for view in _KINDS.values():
        _check_identity(store, scope, report, view)
        report.say(f"identities of {view}: {report.checked[view]}")
    _check_offsets(store, scope, report)
    _check_entries(store, scope, report)
    _check_presence(store, scope, report)
    report.say("ledger and rows compared")


def _check_identity(store: Store, scope: Scope, report: Report, view: str) -> None:
    """A plain count() equals the number of identities."""
    where = scope.low_sql() if scope.since else "1"
    (row,) = store.query(f"SELECT count() AS n FROM penstock.{view} WHERE {where}")
    buckets = int(row["n"]) // _AT_ONCE + 1
    for bucket in range(buckets):
        mine = f"{where} AND cityHash64(boot_id) % {buckets} = {bucket}"
        (row,) = store.query(
            f"SELECT count() AS n, uniqExact((boot_id, seq)) AS ids FROM penstock.{view} WHERE {mine}"
        )
        report.checked[view] += int(row["n"])
        if int(row["n"]) != int(row["ids"]):
            _tell_repeated(store, report, view, mine)


def _tell_repeated(store: Store, report: Report, view: str, where: str) -> None:
    rows = store.query(
        "SELECT boot_id, seq, count() AS n, groupArray(3)((incarnation, partition, offset)) AS places,"
        " dateDiff('second', min(append_ts), max(append_ts)) AS apart_s"
        f" FROM penstock.{view} WHERE {where} GROUP BY boot_id, seq HAVING n > 1 LIMIT {LIMIT}"
    )
    keyed = _keyed(store, {str(row["boot_id"]) for row in rows})
    for row in rows:
        if row["boot_id"] in keyed and row["apart_s"] >= DAY_S:
            report.note(f"{view}: an Idempotency-Key was used again after a day: {row['boot_id']}")
            continue
        report.add(
            "identity", f"{view}: boot {row['boot_id']} seq {row['seq']}", "1 row",
            f"{row['n']} rows", f"(incarnation, partition, offset): {row['places']}",
        )  # fmt: skip


def _keyed(store: Store, boots: set[str]) -> set[str]:
    rows = store.query(
        "SELECT boot_id FROM penstock.coverage WHERE body_hash != 0 AND boot_id IN {ids:Array(String)}",
        {"ids": sorted(boots)},
    )
    return {str(row["boot_id"]) for row in rows}


def _check_offsets(store: Store, scope: Scope, report: Report) -> None:
    """Offsets of each source follow each other, and parts of a message too."""
    rows = store.query(
        "SELECT incarnation, partition, uniqExact(offset) AS n, min(offset) AS low,"
        f" max(offset) AS high FROM penstock.frames WHERE {scope.low_sql()} AND {scope.applied_sql()}"
        " GROUP BY incarnation, partition ORDER BY incarnation, partition"
    )
    for row in rows:
        report.checked["offsets"] += int(row["n"])
        name = f"incarnation {row['incarnation']}, partition {row['partition']}"
        if int(row["low"]) and not scope.since:
            report.note(
                f"the ledger of {name} begins at offset {row['low']}: what was before is gone"
            )
        if int(row["high"]) - int(row["low"]) + 1 != int(row["n"]):
            _tell_holes(store, scope, report, row, name)
    for row in store.query(
        "SELECT incarnation, partition, offset, count() AS n, max(part) AS last FROM penstock.frames"
        f" WHERE {scope.low_sql()} GROUP BY incarnation, partition, offset"
        f" HAVING last + 1 != n LIMIT {LIMIT}"
    ):
        report.add("parts", _place(row), f"parts 0 to {int(row['n']) - 1}", f"up to {row['last']}")


def _tell_holes(
    store: Store, scope: Scope, report: Report, source: Mapping[str, Any], name: str
) -> None:
    holes = store.query(
        "SELECT offset, before FROM (SELECT offset, any(offset) OVER (ORDER BY offset"
        " ROWS BETWEEN 1 PRECEDING AND 1 PRECEDING) AS before, row_number() OVER (ORDER BY offset)"
        " AS nth FROM (SELECT DISTINCT offset FROM penstock.frames"
        f" WHERE incarnation = {source['incarnation']} AND partition = {source['partition']}"
        f" AND {scope.low_sql()} AND {scope.applied_sql()}))"
        f" WHERE nth > 1 AND offset != before + 1 ORDER BY offset LIMIT {LIMIT}"
    )
    if int(source["incarnation"]) not in scope.topics:
        places = ", ".join(str(row["offset"]) for row in holes[:5])
        report.note(f"{name}: offsets given out by Penstock itself skip some before {places}")
        return
    for row in holes:
        low, high = int(row["before"]) + 1, int(row["offset"]) - 1
        report.add(
            "offsets", name, f"offset {low} after {low - 1}", f"{row['offset']}",
            f"{high - low + 1} messages were never applied, or a producer used transactions",
        )  # fmt: skip


def _check_entries(store: Store, scope: Scope, report: Report) -> None:
    """What a message brought was stored or rejected, each number once."""
    rows = store.query(
        "SELECT incarnation, partition, offset, part, stored, rejected,"
        " arraySum(arrayMap(r -> r.2 - r.1, ranges)) AS received FROM penstock.frames"
        f" WHERE {scope.low_sql()} AND received != stored + rejected"
        f" AND NOT (stored = 0 AND received = 0) LIMIT {LIMIT}"
    )
    for row in rows:
        report.add(
            "entries", f"{_place(row)} part {row['part']}",
            f"{row['received']} received = stored + rejected",
            f"{row['stored']} + {row['rejected']}",
        )  # fmt: skip


def _check_presence(store: Store, scope: Scope, report: Report) -> None:
    """For every message the tables hold as many rows as the ledger says."""
    where = f"{scope.low_sql()} AND {scope.applied_sql()}"
    columns = "incarnation, partition, offset"
    parts = [
        f"SELECT {columns}, {what} AS what, toInt64({said}) AS said, toInt64(0) AS there, clock_ts"
        f" FROM penstock.frames WHERE {where} AND {said} > 0"
        for what, said in (("toString(kind)", "stored"), ("'rejected'", "rejected"))
    ]
    parts += [
        f"SELECT {columns}, '{what}', toInt64(0), toInt64(count()), min(append_ts)"
        f" FROM penstock.{view} WHERE {where} GROUP BY {columns}"
        for what, view in (*_KINDS.items(), ("rejected", "quarantine"))
    ]
    rows = store.query(
        f"SELECT {columns}, what, sum(said) AS stored, sum(there) AS present,"
        " toUnixTimestamp64Micro(min(clock_ts)) AS clock_us"
        f" FROM ({' UNION ALL '.join(parts)}) GROUP BY {columns}, what"
        f" HAVING stored != present ORDER BY {columns} LIMIT {LIMIT}"
    )
    for row in rows:
        lacks = int(row["present"]) < int(row["stored"])
        if lacks and int(row["clock_us"]) < scope.edge_us:
            report.note("some rows were older than they are kept when they came")
            continue
        report.add(
            "rows", f"{_place(row)}: {row['what']}", f"{row['stored']} rows, as the ledger says",
            f"{row['present']}", "acknowledged rows are gone" if lacks else "the ledger lacks an entry",
        )  # fmt: skip
    _note_uncommitted(store, scope, report)


def _note_uncommitted(store: Store, scope: Scope, report: Report) -> None:
    for view in _KINDS.values():
        (row,) = store.query(
            f"SELECT count() AS n FROM penstock.{view}"
            f" WHERE {scope.low_sql()} AND NOT ({scope.applied_sql()})"
        )
        if int(row["n"]):
            report.note(f"{view}: {row['n']} rows above the ledger's cuts are not committed yet")


def _place(row: Mapping[str, Any]) -> str:
    return f"incarnation {row['incarnation']}, partition {row['partition']}, offset {row['offset']}"
