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
from ..core.explain.explanation import Answer, Engine, Release
from ..core.explain.question import SLICED_BY, Question
from ..core.explain.ranking import Dimension
from ..core.tiles import SECOND_US
from ..storage.store import Store
from .columns import ENGINE, field_of, sums

MAX_S = 20  # of the query; beyond it the alert stays unexplained
MAX_THREADS = 2
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
    rows where both are empty), an `engine` the sums of a gauge; a `release` has its fields as JSON in
    value and its time in at (us UTC); `bound` has the limit in n.
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
        if question.measure.source == "requests":
            parts.append(_engine(question))
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
            Engine(name, unit, _mean(row, "n", "d"), _mean(row, "n0", "d0"))
            for name, (unit, _, _) in ENGINE.items()
            for row in by_part.get("engine", [])
            if row["name"] == name and (row["d"] or row["d0"])
        ],
        bound[0] if bound else None,
    )


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
    known = [
        name
        for name in question.filter
        if source == "requests" or name not in ("route", "tenant")  # steps have none
    ]
    mine = "".join(f" AND {name} = {{{name}:String}}" for name in known)
    return f"penstock.{source}_rows FINAL WHERE ({_IS_NOW} OR {_IS_OLD}) AND {_APPENDED}{mine}"


def _four(above: str, below: str, suffix: str = "") -> str:
    """Both sums in both stretches: above and below now, above and below before."""
    return ", ".join(
        f"sumIf(toFloat64(ifNull({column}, 0)), {when}) AS {name}{suffix}"
        for column, when, name in (
            (above, _IS_NOW, "a"),
            (below, _IS_NOW, "b"),
            (above, _IS_OLD, "a0"),
            (below, _IS_OLD, "b0"),
        )
    )


def _slices(question: Question) -> str:
    source = question.measure.source
    names = SLICED_BY[source]
    columns = ", ".join(f"{_BAND} AS {name}" if name == "input_band" else name for name in names)
    pairs = ", ".join(f"('{name}', toString({name}))" for name in names)
    return (
        "SELECT 'slice' AS part, slice.1 AS name, slice.2 AS value, sum(a) AS n, sum(b) AS d,"
        " sum(a0) AS n0, sum(b0) AS d0, toInt64(0) AS at"
        f" FROM (SELECT {columns}, {_four(*sums(question.measure))}"
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


def _engine(question: Question) -> str:
    columns = ", ".join(
        _four(above, below, f"_{name}") for name, (_, above, below) in ENGINE.items()
    )
    gauges = ", ".join(
        f"('{name}', {', '.join(f'{side}_{name}' for side in ('a', 'b', 'a0', 'b0'))})"
        for name in ENGINE
    )
    return (
        "SELECT 'engine', gauge.1, '', gauge.2, gauge.3, gauge.4, gauge.5, toInt64(0)"
        f" FROM (SELECT {columns} FROM {_rows(question, 'steps')}) ARRAY JOIN [{gauges}] AS gauge"
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
