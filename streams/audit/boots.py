"""Audit of coverage: what is said of each boot is what the ledger says. SQL of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..storage.store import Store
from .ledger import DAY_S, LIMIT
from .report import Report, Scope

_NOTES = "f.kind NOT IN ('forwarded', 'duplicate')"  # entries that only account for an offset
_POSITION = "bitOr(bitShiftLeft(toUInt64(f.incarnation), 40), f.offset)"  # as coverage's version

_OVERDUE_US = 60_000_000


def check_boots(store: Store, scope: Scope, report: Report) -> None:
    """Numbers taken once, and coverage as the ledger has it.

    Raises:
        StoreError: the store is away or refuses.
    """
    _check_disjoint(store, scope, report)
    _check_identified(store, scope, report)
    _check_anonymous(store, scope, report)
    _check_covered(store, scope, report)
    report.say(f"coverage of {report.checked['boots']} boots compared with the ledger")


# Sorted ranges r as arrays, the end of the one before each, and the beginning of the next.
_MERGED = (
    "arraySort(groupArrayArray(f.ranges)) AS r, arrayMap(x -> x.1, r) AS lows,"
    " arrayMap(x -> x.2, r) AS highs,"
    " arrayPopBack(arrayPushFront(highs, toUInt64(18446744073709551615))) AS before,"
    " arrayPopFront(arrayPushBack(lows, toUInt64(18446744073709551615))) AS after,"
    " arrayFilter((l, b) -> l != b, lows, before) AS starts,"
    " arrayFilter((h, a) -> h != a, highs, after) AS ends"
)


def _check_disjoint(store: Store, scope: Scope, report: Report) -> None:
    """No number of a boot was taken twice."""
    rows = store.query(
        f"SELECT f.boot_id AS boot_id, {_MERGED}, max(f.body_hash) AS keyed,"
        " dateDiff('second', min(f.append_ts), max(f.append_ts)) AS apart_s,"
        " arrayFilter((l, b, i) -> i > 1 AND l < b, lows, before, arrayEnumerate(lows)) AS twice"
        f" FROM penstock.frames AS f WHERE f.identified AND {_NOTES} AND f.boot_id IN"
        f" (SELECT boot_id FROM penstock.frames WHERE {scope.low_sql()})"
        f" GROUP BY f.boot_id HAVING notEmpty(twice) LIMIT {LIMIT}"
    )
    for row in rows:
        if row["keyed"] and row["apart_s"] >= DAY_S:
            continue
        report.add(
            "ranges", f"boot {row['boot_id']}", "each sequence number taken once",
            f"taken again from {row['twice'][:3]}",
        )  # fmt: skip


_TOTALS = ("received", "stored", "duplicate", "rejected", "late")
_SUMS = ", ".join(
    f"sum({'arraySum(arrayMap(x -> x.2 - x.1, f.ranges))' if name == 'received' else f'f.{name}'})"
    f" AS l_{name}"
    for name in _TOTALS
)


def _check_identified(store: Store, scope: Scope, report: Report) -> None:
    """Coverage says of each boot what the ledger says, up to the version of its row."""
    ledger = (
        f"SELECT f.boot_id AS boot_id, {_MERGED}, {_SUMS}, groupArrayArray(f.gaps) AS gaps,"
        " greatest(max(f.next_seq), arrayMax(arrayMap(g -> g.2, gaps))) AS l_next,"
        " dateDiff('second', min(f.append_ts), max(f.append_ts)) AS apart_s"
        " FROM penstock.frames AS f INNER JOIN penstock.coverage AS c ON c.boot_id = f.boot_id"
        f" WHERE f.identified AND {_NOTES} AND {_POSITION} <= c.version GROUP BY f.boot_id"
    )
    differs = " OR ".join(f"c.{name} != l.l_{name}" for name in (*_TOTALS,))
    rows = store.query(
        "SELECT c.boot_id AS boot_id, c.next_seq AS next_seq, c.missing AS missing, c.gap AS gap,"
        " c.expected AS expected, c.state AS state, l.starts AS starts, l.ends AS ends,"
        " l.gaps AS gaps, l.l_next AS l_next, arrayMap(x -> x.1, c.seen) = l.starts"
        " AND arrayMap(x -> x.2, c.seen) = l.ends AS same_seen, c.seen AS seen,"
        f" {', '.join(f'c.{n} AS {n}, l.l_{n} AS l_{n}' for n in _TOTALS)}"
        f" FROM penstock.coverage AS c LEFT JOIN ({ledger}) AS l ON l.boot_id = c.boot_id"
        f" WHERE c.identified AND {scope.low_sql('c.last_append_ts')}"
        f" AND {_known_sql(scope)} AND c.first_ts >= fromUnixTimestamp64Micro({scope.edge_us})"
        f" AND NOT (c.body_hash != 0 AND l.apart_s >= {DAY_S})"
        f" AND (NOT same_seen OR {differs} OR c.next_seq != l.l_next OR notEmpty(l.gaps)"
        " OR c.gap != 0 OR c.missing != greatest(l.l_next, arrayMax(l.ends)) - l.l_received"
        " OR c.expected != c.received + c.missing OR (c.missing > 0) != (c.state = 'partial'))"
    )
    for row in rows:
        _compare_boot(report, row)
    (row,) = store.query(
        f"SELECT count() AS n, sum(missing) AS missing, sum(gap) AS gap FROM penstock.coverage"
        f" WHERE {scope.low_sql('last_append_ts')}"
    )
    report.checked["boots"] += int(row["n"])
    if int(row["missing"]) or int(row["gap"]):
        report.note(f"coverage tells of {row['missing']} events missing and {row['gap']} dropped")


def _known_sql(scope: Scope) -> str:
    """SQL condition: the coverage row is not newer than the cuts that were read."""
    keys = [incarnation << 16 | partition for incarnation, partition in scope.cuts]
    positions = [incarnation << 40 | cut for (incarnation, _), cut in scope.cuts.items()]
    if not keys:
        return "1"
    return (
        "c.version <= transform(bitShiftRight(c.version, 40) * 65536 + c.partition,"
        f" {keys}::Array(UInt64), {positions}::Array(UInt64), toUInt64(18446744073709551615))"
    )


def _compare_boot(report: Report, row: Mapping[str, Any]) -> None:
    seen = list(zip(row["starts"], row["ends"], strict=True))
    gap = _size(_without(_union(row["gaps"]), seen))
    received, top = _size(seen), max([int(row["l_next"]), *map(int, row["ends"])])
    missing = top - received - gap
    wanted = {name: int(row[f"l_{name}"]) for name in _TOTALS} | {
        "next_seq": int(row["l_next"]),
        "gap": gap,
        "missing": missing,
        "expected": received + missing + gap,
    }
    name = f"boot {row['boot_id']}"
    for column, value in wanted.items():
        if int(row[column]) != value:
            report.add("coverage", f"{name}: {column}", f"{value}, by the ledger", row[column])
    if not row["same_seen"]:
        told = [(low, high) for low, high, _ in row["seen"]]
        report.add("coverage", f"{name}: seen", f"{seen[:5]}, by the ledger", told[:5])
    if (missing or gap) and row["state"] != "partial":
        report.add("coverage", f"{name}: state", "partial, as something is missing", row["state"])


def _union(ranges: list[Any]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for low, high in sorted((int(low), int(high)) for low, high in ranges):
        if merged and low <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], high)
        else:
            merged.append((low, high))
    return merged


def _without(ranges: list[tuple[int, int]], seen: list[Any]) -> list[tuple[int, int]]:
    left = []
    for low, high in ranges:
        for start, end in seen:
            if end > low and start < high:
                left.append((low, max(low, start)))
                low = max(low, end)
        left.append((low, max(low, high)))
    return left


def _size(ranges: list[Any]) -> int:
    return sum(int(high) - int(low) for low, high in ranges)


def _check_anonymous(store: Store, scope: Scope, report: Report) -> None:
    """Senders without identity are one boot of their partition."""
    rows = store.query(
        f"SELECT c.boot_id AS name, {', '.join(f'any(c.{n}) AS c_{n}' for n in _TOTALS)}, {_SUMS}"
        " FROM penstock.coverage AS c INNER JOIN penstock.frames AS f ON f.partition = c.partition"
        f" WHERE NOT c.identified AND NOT f.identified AND {_NOTES} AND {_known_sql(scope)}"
        f" AND {_POSITION} <= c.version AND {scope.low_sql('c.last_append_ts')}"
        f" AND c.first_ts >= fromUnixTimestamp64Micro({scope.edge_us}) GROUP BY c.boot_id"
    )
    for row in rows:
        for name in _TOTALS:
            if int(row[f"c_{name}"]) != int(row[f"l_{name}"]):
                report.add(
                    "coverage", f"boot {row['name']}: {name}", f"{row[f'l_{name}']}, by the ledger",
                    row[f"c_{name}"],
                )  # fmt: skip


def _check_covered(store: Store, scope: Scope, report: Report) -> None:
    """Each publication writes all boots that changed: nothing below the newest version is left out."""
    frontier = "SELECT partition, max(version) AS newest FROM penstock.coverage GROUP BY partition"
    named = (
        "if(f.identified, f.boot_id, if(f.partition = 0, '(anonymous)',"
        " concat('(anonymous) ', toString(f.partition))))"
    )
    rows = store.query(
        "SELECT e.boot_id AS boot_id, e.last AS last, c.version AS version FROM"
        f" (SELECT {named} AS boot_id, max({_POSITION}) AS last FROM penstock.frames AS f"
        f" LEFT JOIN ({frontier}) AS p ON p.partition = f.partition"
        f" WHERE {_NOTES} AND {scope.low_sql('f.append_ts')} AND ({_POSITION} <= p.newest"
        # Of a partition of which nothing was told, everything is overdue after a minute.
        f" OR p.newest = 0 AND f.append_ts < fromUnixTimestamp64Micro({scope.now_us - _OVERDUE_US}))"
        " GROUP BY boot_id) AS e LEFT JOIN (SELECT boot_id, max(version) AS version"
        " FROM penstock.coverage GROUP BY boot_id) AS c ON c.boot_id = e.boot_id"
        f" WHERE e.last > c.version LIMIT {LIMIT}"
    )
    for row in rows:
        report.add(
            "coverage", f"boot {row['boot_id']}",
            f"told up to offset {int(row['last']) & (1 << 40) - 1}",
            f"offset {int(row['version']) & (1 << 40) - 1}" if row["version"] else "nothing",
        )  # fmt: skip
