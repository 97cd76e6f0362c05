"""One question to the store per alert: sums by slice, release markers and the engine's steps.

The same SQL on chdb, a server and a cluster. Rows are read once and summed by all dimensions together;
the sums of each dimension are made from those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from ..core.explain.contribution import Sums
from ..core.explain.evidence import Gauge, Kind
from ..core.explain.explanation import Answer, Release
from ..core.explain.measures import Measure
from ..core.explain.question import SLICED_BY, Question
from ..core.explain.ranking import Dimension
from ..core.tiles import SECOND_US
from ..storage.store import Store
from .columns import ENGINE, REQUESTS, Gauges, field_of, kind_of, phases, sums

MAX_S = 20  # of the query; beyond it the alert stays unexplained
MAX_THREADS = 1  # the engine takes events in meanwhile
MAX_VALUES = 200  # per dimension, those that changed most
RELEASES = 3
RELEASES_S = 86_400  # how far back markers are looked for

_BAND = (
    "multiIf(input_tokens IS NULL, '', input_tokens <= 128, '1-128', input_tokens <= 512, '129-512',"
    " input_tokens <= 2048, '513-2048', input_tokens <= 8192, '2049-8192',"
    " input_tokens <= 32768, '8193-32768', 'over 32768')"
)
_IS_NOW = (
    "(ts >= fromUnixTimestamp64Micro({now0:Int64}, 'UTC')"
    " AND ts < fromUnixTimestamp64Micro({now1:Int64}, 'UTC'))"
)
_IS_OLD = (
    "(ts >= fromUnixTimestamp64Micro({old0:Int64}, 'UTC')"
    " AND ts < fromUnixTimestamp64Micro({old1:Int64}, 'UTC'))"
)
# Nothing is taken in before it happened (clocks that are ahead are set back): older days are not read.
_APPENDED = "append_ts >= fromUnixTimestamp64Micro({old0:Int64}, 'UTC')"


def ask(store: Store, question: Question) -> Answer:
    """What the store says to a question.

    Raises:
        StoreError: it is away, or needs more than `MAX_S`.
    """
    return answer_of(store.query(*query_of(question)), question)


def query_of(question: Question) -> tuple[str, dict[str, Any]]:
    """The SQL and its parameters.

    Rows of the answer: part, name, value, n, d, n0, d0, at. A `slice` is a value of a dimension (all
    rows where both are empty); a `kind` has n and n0 of rows of one kind; `phase`, `request` and `engine`
    are the sums of a gauge; a `release` has its fields as JSON in value and its time in at (us UTC);
    `bound` has the limit in n.
    """
    parameters: dict[str, Any] = {
        "now0": question.now.start_s * SECOND_US,
        "now1": question.now.end_s * SECOND_US,
        "old0": question.before.start_s * SECOND_US,
        "old1": question.before.end_s * SECOND_US,
        "from": (question.started_s - RELEASES_S) * SECOND_US,
        "at": question.at_s * SECOND_US,
        "started": question.started_s * SECOND_US,
        "scale": question.scale,
        **question.filter,
    }
    if question.limit is not None:
        parameters["limit"] = question.limit
    parts = [_slices(question), _releases(question)]
    if question.measure.kind == "above":
        parts.append("SELECT 'bound', '', '', ifNull(bound, nan), 0., 0., 0., toInt64(0)")
    if kind_of(question.measure):
        parts.append(_kinds(question))
    parts += [_gauges(question, *asked) for asked in _evidence(question.measure).items()]
    sql = " UNION ALL ".join(f"SELECT * FROM ({part})" for part in parts)
    return (
        f"{_bound(question)}{sql} SETTINGS max_execution_time = {MAX_S}, max_threads = {MAX_THREADS}",
        parameters,
    )


def answer_of(rows: Sequence[Mapping[str, Any]], question: Question) -> Answer:
    """The rows of the answer as sums; those of before are scaled to the length of now."""
    by_part: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_part.setdefault(row["part"], []).append(row)
    slices = by_part.get("slice", [])
    bound = [float(row["n"]) for row in by_part.get("bound", [])]
    asked = [
        name
        for name in SLICED_BY[question.measure.source]
        if name not in question.filter and any(row["name"] == name for row in slices)
    ]
    return Answer(
        _sums([row for row in slices if not row["name"]], question.scale),
        [_dimension(name, slices, question.scale) for name in asked],
        sorted(
            (_release(row, question.started_s) for row in by_part.get("release", [])),
            key=lambda item: (abs(item.after_s), item.release, item.variant),
        ),
        [
            Kind(row["name"], float(row["n"]), float(row["n0"]) * question.scale)
            for row in by_part.get("kind", [])
        ],
        _read(by_part.get("phase", [])),
        _read(by_part.get("request", [])),
        _read(by_part.get("engine", [])),
        bound[0] if bound else None,
    )


def _evidence(measure: Measure) -> dict[str, dict[str, Gauges]]:
    """What gauges are asked for: table -> part of the answer -> gauges."""
    engine = {name: gauge for name, gauge in ENGINE.items() if not measure.name.startswith(name)}
    if measure.source == "steps":
        return {"steps": {"engine": engine}}
    if measure.source == "requests" and measure.kind == "above":
        requests = {"phase": phases(measure), "request": REQUESTS}
        return {"steps": {"engine": engine}, "requests": requests}
    return {"requests": {"request": REQUESTS}} if measure.unit == "usd" else {}


def _read(rows: Sequence[Mapping[str, Any]]) -> list[Gauge]:
    """Gauges in their order; those that nobody states are left out."""
    return [
        Gauge(row["name"], row["value"], _mean(row, "n", "d"), _mean(row, "n0", "d0"))
        for row in sorted(rows, key=lambda row: int(row["at"]))
        if row["d"] or row["d0"]
    ]


def _bound(question: Question) -> str:
    """The limit that rows are compared with: given, or a quantile of the time before."""
    measure = question.measure
    if measure.kind != "above":
        return ""
    if question.limit is not None:
        return "WITH {limit:Float64} AS bound "
    share = 0.5 if measure.percent is None else measure.percent / 100
    return (
        f"WITH (SELECT quantileExact({share})(toFloat64({field_of(measure)}))"
        f" FROM {_rows(question, measure.source)} AND {_IS_OLD}) AS bound "
    )


def _rows(question: Question, source: str) -> str:
    """Rows of both stretches, of the slice that the alert is about."""
    known = [name for name in question.filter if source == "requests" or name in SLICED_BY[source]]
    mine = "".join(f" AND {name} = {{{name}:String}}" for name in known)
    table = f"penstock.{source}_rows FINAL"
    if source == "frames":
        table = f"(SELECT *, clock_ts AS ts FROM {table})"
    return f"{table} WHERE ({_IS_NOW} OR {_IS_OLD}) AND {_APPENDED}{mine}"


def _four(above: str, below: str, suffix: str = "", how: str = "sum") -> str:
    """Both sums in both stretches: above and below now, above and below before."""
    return ", ".join(
        f"{how}If(toFloat64(ifNull({column}, 0)), {when}) AS {name}{suffix}"
        for column, when, name in (
            (above, _IS_NOW, "a"),
            (below, _IS_NOW, "b"),
            (above, _IS_OLD, "a0"),
            (below, _IS_OLD, "b0"),
        )
    )


def _slices(question: Question) -> str:
    source = question.measure.source
    four = _four(
        *sums(question.measure), how="max" if question.measure.kind == "present" else "sum"
    )
    names = SLICED_BY[source]
    columns = ", ".join(f"{_BAND} AS {name}" if name == "input_band" else name for name in names)
    pairs = ", ".join(f"('{name}', toString({name}))" for name in names)
    return (
        "SELECT 'slice' AS part, slice.1 AS name, slice.2 AS value, sum(a) AS n, sum(b) AS d,"
        " sum(a0) AS n0, sum(b0) AS d0, toInt64(0) AS at"
        f" FROM (SELECT {columns}, {four}"
        f" FROM {_rows(question, source)} GROUP BY {', '.join(names)})"
        f" ARRAY JOIN [('', ''), {pairs}] AS slice GROUP BY name, value"
        " ORDER BY name, abs(n - {scale:Float64} * n0) DESC, d + d0 DESC, value"
        f" LIMIT {MAX_VALUES} BY name"
    )


def _releases(question: Question) -> str:
    fields = ", ".join(f"'{n}', toString({n})" for n in ("model", "variant", "stage", "note"))
    mine = " AND model IN ('', {model:String})" if "model" in question.filter else ""
    return (
        f"SELECT 'release', toString(release), toJSONString(map({fields})), 0., 0., 0., 0.,"
        " toUnixTimestamp64Micro(ts) FROM penstock.releases_rows FINAL"
        " WHERE ts >= fromUnixTimestamp64Micro({from:Int64}, 'UTC')"
        f" AND ts <= fromUnixTimestamp64Micro({{at:Int64}}, 'UTC'){mine}"
        " ORDER BY abs(toUnixTimestamp64Micro(ts) - {started:Int64}), release, variant"
        f" LIMIT {RELEASES}"
    )


def _kinds(question: Question) -> str:
    source = question.measure.source
    counted, _ = sums(question.measure)
    return (
        f"SELECT 'kind', {kind_of(question.measure)} AS kind, '', toFloat64(countIf({_IS_NOW})) AS n, 0.,"
        f" toFloat64(countIf({_IS_OLD})) AS n0, 0., toInt64(0)"
        f" FROM {_rows(question, source)} AND ({counted}) GROUP BY kind"
        f" ORDER BY abs(n - {{scale:Float64}} * n0) DESC, kind LIMIT {MAX_VALUES}"
    )


def _gauges(question: Question, source: str, asked: Mapping[str, Gauges]) -> str:
    """Sums of gauges, all of one table by one scan; `at` is the place of each, `value` its unit."""
    every = [
        (part, name, *gauge) for part, gauges in asked.items() for name, gauge in gauges.items()
    ]
    columns = ", ".join(
        _four(above, below, f"_{at}") for at, (_, _, _, above, below) in enumerate(every)
    )
    read = ", ".join(
        f"('{part}', '{name}', '{unit}', a_{at}, b_{at}, a0_{at}, b0_{at}, toInt64({at}))"
        for at, (part, name, unit, _, _) in enumerate(every)
    )
    fields = ", ".join(f"gauge.{at}" for at in range(1, 9))
    return (
        f"SELECT {fields} FROM (SELECT {columns} FROM {_rows(question, source)})"
        f" ARRAY JOIN [{read}] AS gauge"
    )


def _sums(rows: Sequence[Mapping[str, Any]], scale: float) -> Sums:
    n, d, n0, d0 = (
        np.array([float(row[name]) for row in rows] or [0.0]) for name in ("n", "d", "n0", "d0")
    )
    return Sums(n, d, n0 * scale, d0 * scale)


def _dimension(name: str, slices: Sequence[Mapping[str, Any]], scale: float) -> Dimension:
    rows = sorted((row for row in slices if row["name"] == name), key=lambda row: str(row["value"]))
    return Dimension(name, [row["value"] for row in rows], _sums(rows, scale))


def _release(row: Mapping[str, Any], started_s: int) -> Release:
    at_s = int(row["at"]) // SECOND_US
    return Release(at_s, started_s - at_s, row["name"], **orjson.loads(row["value"]))


def _mean(row: Mapping[str, Any], above: str, below: str) -> float | None:
    return float(row[above] / row[below]) if row[below] else None
