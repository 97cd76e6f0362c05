"""The queries of a live gate: raw rows become requests and units, summed per block, arm, stratum, worker.

What is asked for is told by `Wanted` (interface.py). A block is the same whichever
blocks are asked for with it: what decides about a row lies within `mature_s` of it, or, where units
are sessions or users, within the epoch.

A row counts if it came to its end before its own block was closed; an overdue announcement and what the
request completed as are one request. A unit is opened by a request without a predecessor of the same
key: none that started within `mature_s` before it, or none of the epoch for sessions and users. It
holds the requests that started within `mature_s` after that one and ended before its block was closed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from ....schemas.gates.metrics import BIN_SHARE
from ..sketch import INFINITE_BIN, LOG_GAMMA
from .blocks import Key, Row
from .interface import ARM_NAMES, CONTROL, FINE_OFFSET, PPM, TREATMENT, Wanted, WantedMetric
from .split import Split

LOOK_BACK_US = 86_400_000_000
"""How far back the first request of a session or user is looked for, at most."""

_KEYS = {
    "request": "multiIf(trace_id != '', trace_id, request_id != '', request_id,"
    " concat(boot_id, ':', toString(seq)))",
    "session": "if(session_id != '', session_id, concat(boot_id, ':', toString(seq)))",
    "user": "if(user_hash != '', user_hash, concat(boot_id, ':', toString(seq)))",
}
_STRATA = {
    "prompt_length": "if(isNull(input_tokens), '', toString(floor(log2(input_tokens + 1))))",
    "tenant": "tenant",
    "route": "route",
    "region": "region",
    "hour": "toString(toHour(fromUnixTimestamp64Micro(row_started, 'UTC')))",
}
# Of a unit's request: (whether it is bad, whether it carries the metric).
_FLAGS = {
    "error": ("failed", "1"),
    "timeout": ("timed_out", "1"),
    "safety": ("unsafe", "1"),
    "unaccepted": ("ifNull(refused, 0)", "answered"),
}
_MOMENTS = ("a", "b", "aa", "ab", "bb", "top_a", "top_b")
_FIRST_FLAG = 9  # where the flags begin in the tuple of a unit's request
_FEEDBACK = """
    LEFT JOIN (
        SELECT request_id,
            groupArray((toUnixTimestamp64Micro(ts), accepted = 0, quality)) AS told
        FROM penstock.feedback_rows FINAL
        WHERE ts >= fromUnixTimestamp64Micro({since:Int64}, 'UTC')
            AND ts < fromUnixTimestamp64Micro({end:Int64} + {mature:Int64}, 'UTC')
            AND {applied}
        GROUP BY request_id
    ) AS f ON r.request_id = f.request_id"""
# Feedback on a request that came before its block was closed: any refusal, and the last score.
_TOLD = (
    ", max(arrayMax(arrayMap(t -> t.2, arrayFilter("
    "t -> t.1 < row_closes AND isNotNull(t.2), told)))) AS refused"
    ", max(notEmpty(arrayFilter(t -> t.1 < row_closes AND isNotNull(t.2), told))) AS answered"
    ", argMax(tupleElement(arrayReverseSort(arrayFilter("
    "t -> t.1 < row_closes AND isNotNull(t.3), told))[1], 3), row_done) AS judged"
)


def parameters_of(wanted: Wanted, first_us: int, end_us: int, epoch_us: int) -> dict[str, Any]:
    """What the queries are asked with.

    Args:
        wanted: what the gate needs.
        first_us: start of the first block.
        end_us: end of the last block.
        epoch_us: start of the gate's epoch.
    """
    mature_us = wanted.mature_s * 1_000_000
    if wanted.unit == "request":
        since_us, gap_us = first_us - mature_us, mature_us
    else:
        since_us, gap_us = first_us - LOOK_BACK_US, 2 * LOOK_BACK_US
    dimensions = {
        f"{arm}_{name}": value
        for arm, given in zip(ARM_NAMES, wanted.arms, strict=True)
        for name, value in given.items()
    }
    return {
        "since": max(since_us, epoch_us),
        "first": first_us,
        "end": end_us,
        "gap": gap_us,
        "mature": mature_us,
        "block": wanted.block_s * 1_000_000,
        **dimensions,
    }


def per_unit(wanted: Wanted) -> list[WantedMetric]:
    """Metrics that `units_sql` answers, numbered as its columns."""
    return [metric for metric in wanted.metrics if metric.per == "unit"]


def per_request(wanted: Wanted) -> list[WantedMetric]:
    """Metrics that `requests_sql` answers, numbered as its columns."""
    return [metric for metric in wanted.metrics if metric.per == "request"]


def units_sql(wanted: Wanted, split: Split | None = None) -> str:
    """Units, and per rate those that carry it and bad ones; of one arm in buckets, with a split.

    Columns: block (its start, us), arm, stratum, worker_id, assigned, ahead_us, then `n<i>`, `bad<i>`.
    """
    flags, sums = "", ""
    for at, metric in enumerate(per_unit(wanted)):
        bad, carried = _FLAGS[metric.field]
        place = _FIRST_FLAG + 2 * at
        flags += f", {bad}, {carried}"
        sums += (
            f", sum(arrayExists(m -> m.{place + 1} = 1, mine)) AS n{at}"
            f", sum(arrayExists(m -> m.{place} = 1, mine)) AS bad{at}"
        )
    return f"""
SELECT opener.1 - opener.1 % {{block:Int64}} AS block, opener.5 AS arm, opener.6 AS stratum,
    opener.7 AS worker_id, count() AS assigned, max(opener.8) AS ahead_us{sums}
FROM (
    SELECT opener, arrayFilter(
        m -> m.1 >= opener.1 AND m.1 <= opener.1 + {{mature:Int64}}
            AND m.4 < opener.1 - opener.1 % {{block:Int64}} + {{block:Int64}} + {{mature:Int64}},
        requests) AS mine
    FROM (
        SELECT arraySort(groupArray((
                started, boot_id, seq, done, arm, stratum, worker_id, ahead_us{flags}
            ))) AS requests,
            arrayFilter(
                (m, at) -> at = 1 OR m.1 - requests[at - 1].1 > {{gap:Int64}},
                requests, arrayEnumerate(requests)
            ) AS openers
        FROM ({_requests_sql(wanted, split)})
        GROUP BY unit
    )
    ARRAY JOIN openers AS opener
    WHERE opener.1 >= {{first:Int64}} AND opener.1 < {{end:Int64}}
)
GROUP BY block, arm, stratum, worker_id"""


def requests_sql(wanted: Wanted, split: Split | None = None) -> str:
    """Requests and the sums of what is counted per request; of one arm in buckets, with a split.

    Columns: block, arm, stratum, worker_id, and of metric i `n<i>` with `bad<i>`, with `bins<i>` (a
    pair of arrays), or with `a<i>`, `b<i>`, `aa<i>`, `ab<i>`, `bb<i>`, `top_a<i>`, `top_b<i>`.
    """
    sums = ", ".join(_sums(at, metric) for at, metric in enumerate(per_request(wanted)))
    return f"""
SELECT started - started % {{block:Int64}} AS block, arm, stratum, worker_id, {sums}
FROM ({_requests_sql(wanted, split)})
WHERE started >= {{first:Int64}} AND started < {{end:Int64}}
GROUP BY block, arm, stratum, worker_id"""


def gathered(
    wanted: Wanted, units: Iterable[Mapping[str, Any]], requests: Iterable[Mapping[str, Any]]
) -> tuple[dict[Key, int], dict[Key, dict[str, Row]], int]:
    """What the two queries answered, by row of a block.

    Args:
        wanted: what the gate needs.
        units, requests: rows of `units_sql` and of `requests_sql`.

    Returns:
        Units assigned, sums of each metric, and by how many us a clock was ahead at most.
    """
    assigned: dict[Key, int] = {}
    sums: dict[Key, dict[str, Row]] = defaultdict(dict)
    ahead_us = 0
    for row in units:
        key = _key(row)
        assigned[key] = int(row["assigned"])
        ahead_us = max(ahead_us, int(row["ahead_us"]))
        for at, metric in enumerate(per_unit(wanted)):
            sums[key][metric.name] = {"n": int(row[f"n{at}"]), "bad": int(row[f"bad{at}"])}
    for row in requests:
        for at, metric in enumerate(per_request(wanted)):
            sums[_key(row)][metric.name] = _told(metric, at, row)
    return assigned, sums, ahead_us


def _key(row: Mapping[str, Any]) -> Key:
    return int(row["block"]), int(row["arm"]), str(row["stratum"]), str(row["worker_id"])


def _told(metric: WantedMetric, at: int, row: Mapping[str, Any]) -> Row:
    if metric.kind == "bins":
        bins, counts = row[f"bins{at}"]
        return {"n": int(row[f"n{at}"]), "bins": [*map(int, bins)], "counts": [*map(int, counts)]}
    names = ("n", "bad") if metric.kind == "rate" else ("n", *_MOMENTS)
    return {name: int(row[f"{name}{at}"]) for name in names}


def _requests_sql(wanted: Wanted, split: Split | None) -> str:
    """Requests of all arms that ended before their block was closed."""
    stratum = " || '|' || ".join(_STRATA[name] for name in wanted.strata) or "''"
    columns = sorted({column for metric in wanted.metrics for column in _columns(metric)})
    values = "".join(f", max(r.{name}) AS its_{name}" for name in columns)
    feedback = any(metric.field in ("unaccepted", "quality") for metric in wanted.metrics)
    arms = 2 if split is None else split.buckets
    sql = f"""
    SELECT any(unit_key) AS unit, min(row_started) AS started, max(row_done) AS done,
        argMin(row_arm, row_done) AS arm, argMin(row_stratum, row_done) AS stratum,
        argMin(r.worker_id, row_done) AS worker_id, r.boot_id AS boot_id, min(r.seq) AS seq,
        max(r.clock_ahead_us) AS ahead_us, max(r.overdue = 1) AS announced,
        max(r.status IN ('error', 'timeout')) AS failed, max(r.status = 'timeout') AS timed_out,
        max(notEmpty(r.safety_flags)) AS unsafe{values}{_TOLD if feedback else ""}
    FROM (
        SELECT *, toUnixTimestamp64Micro(ts) AS row_done,
            row_done - toInt64(ifNull(latency_us, 0)) AS row_started,
            row_started - row_started % {{block:Int64}} + {{block:Int64}} + {{mature:Int64}}
                AS row_closes,
            {_KEYS[wanted.unit]} AS unit_key, {_arm_sql(wanted, split)} AS row_arm,
            {stratum} AS row_stratum
        FROM penstock.requests_rows FINAL
        WHERE ts >= fromUnixTimestamp64Micro({{since:Int64}}, 'UTC')
            AND ts < fromUnixTimestamp64Micro({{end:Int64}} + {{mature:Int64}}, 'UTC')
            AND row_arm < {arms} AND row_started >= {{since:Int64}}
            AND row_done < row_closes AND {{applied}}
    ) AS r{_FEEDBACK if feedback else ""}
    GROUP BY r.boot_id, if(r.request_id != '', r.request_id, toString(r.seq))"""
    return sql if split is None else split.changed_sql(sql, columns)


def _arm_sql(wanted: Wanted, split: Split | None) -> str:
    """0 for control, 1 for the treatment, 2 for neither; or a bucket."""
    if split is not None:
        return split.bucket_sql(_is_of(wanted, split.arm))
    cases = [f"{_is_of(wanted, arm)}, {arm}" for arm in (CONTROL, TREATMENT) if wanted.arms[arm]]
    return f"multiIf({', '.join(cases)}, 2)"


def _is_of(wanted: Wanted, arm: int) -> str:
    """Condition that a row is of an arm."""
    name = ARM_NAMES[arm]
    return " AND ".join(f"{column} = {{{name}_{column}:String}}" for column in wanted.arms[arm])


def _columns(metric: WantedMetric) -> tuple[str, ...]:
    """Columns of a request that a metric reads."""
    if metric.per == "unit":
        return ()
    if metric.kind == "bins" or metric.field.startswith("above:"):
        return (_column(metric),)
    if metric.field == "quality":
        return ("quality",)
    tokens = ("input_tokens", "output_tokens") if metric.field == "cost_tokens" else ()
    return ("cost_nanousd", *tokens)


def _column(metric: WantedMetric) -> str:
    return metric.field.removeprefix("above:").removesuffix("_ms") + "_us"


def _its(metric: WantedMetric) -> str:
    """A column of a request, all its rows together."""
    return f"its_{_column(metric)}"


def _sums(at: int, metric: WantedMetric) -> str:
    if metric.kind == "bins":
        column = _its(metric)
        carried = f"isNotNull({column}) OR announced"
        # An announced request counts above everything, once, whatever it completes with.
        bin_ = (
            f"multiIf(announced, {INFINITE_BIN}, {column} = 0, 0, least(greatest(toInt64(ceil("
            f"{BIN_SHARE} * log(greatest({column}, 1) / 1000.) / {LOG_GAMMA!r})) + {FINE_OFFSET}, 1),"
            f" {INFINITE_BIN - 1}))"
        )
        return (
            f"countIf({carried}) AS n{at}, sumMapIf([toUInt16(assumeNotNull({bin_}))],"
            f" [toUInt64(1)], {carried}) AS bins{at}"
        )
    if metric.kind == "rate":
        return _rate(at, metric)
    return _moments(at, metric)


def _rate(at: int, metric: WantedMetric) -> str:
    if metric.field == "above_cap":
        cap = round((metric.cap or 0.0) * 1e9)
        return (
            f"countIf(isNotNull(its_cost_nanousd)) AS n{at},"
            f" countIf(ifNull(its_cost_nanousd > {cap}, 0)) AS bad{at}"
        )
    column, limit_us = _its(metric), round((metric.limit or 0.0) * 1000)
    return (
        f"countIf(isNotNull({column}) OR announced) AS n{at},"
        f" countIf(announced OR ifNull({column} > {limit_us}, 0)) AS bad{at}"
    )


def _moments(at: int, metric: WantedMetric) -> str:
    cap = metric.cap or 1.0
    if metric.field == "quality":
        value = f"ifNull(judged, its_quality) / {cap!r}"
    else:
        value = f"its_cost_nanousd / {cap * 1e9!r}"
    weight = f"{PPM}"
    carried = f"isNotNull({value})"
    if metric.field == "cost_tokens":
        tokens = "(ifNull(its_input_tokens, 0) + ifNull(its_output_tokens, 0))"
        weight = _ppm(f"{tokens} / {float(metric.cap_tokens or 1)!r}")
    a, b = _ppm(value), f"toInt64({weight})"
    products = {"a": a, "b": b, "aa": f"{a} * {a}", "ab": f"{a} * {b}", "bb": f"{b} * {b}"}
    found = [
        f"sumIf(assumeNotNull({of}), {carried}) AS {name}{at}" for name, of in products.items()
    ]
    found += [
        f"maxIf(assumeNotNull({products[name]}), {carried}) AS top_{name}{at}"
        for name in ("a", "b")
    ]
    return f"countIf({carried}) AS n{at}, {', '.join(found)}"


def _ppm(share: str) -> str:
    """A share as whole millionths, clipped to 0..1 and rounded half up."""
    return f"toInt64(floor(least(greatest({share}, 0), 1) * {PPM} + 0.5))"
