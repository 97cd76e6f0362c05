"""What a metric of a gate reads of one stored request, as SQL that can be pasted.

Gates count units and requests (query.py) or cells; these are the rows behind them, from which examples
and slices are picked. Values are written out as literals: nothing is left to be bound.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .interface import WantedMetric

_PLACEHOLDER = re.compile(r"\{(\w+):(\w+)\}")
_DONE = "status != ''"
# What was announced overdue is above everything, once: not when it completes.
_COMPLETED = "NOT ifNull(overdue, false)"
_TOKENS = "(ifNull(input_tokens, 0) + ifNull(output_tokens, 0))"
_COSTED = "isNotNull(cost_nanousd)"
KNOWN_COST = f"{_COSTED} AND (isNotNull(input_tokens) OR isNotNull(output_tokens))"
_RATES = {
    "error": "status IN ('error', 'timeout')",
    "timeout": "status = 'timeout'",
    "safety": f"notEmpty(safety_flags) AND {_DONE}",
}


@dataclass(frozen=True, slots=True)
class RowMeasure:
    """A quotient of sums over rows of `penstock.requests`; a share where `bad` is a condition.

    Attributes:
        bad: summed above: a condition, or a value where it is a mean.
        carried: summed below: a condition, or tokens of a cost per token.
        is_mean: whether `bad` is a value.
        higher_is_better: whether a fall is worse.
        unit: of the quotient.
    """

    bad: str
    carried: str
    is_mean: bool = False
    higher_is_better: bool = False
    unit: str = "ratio"


def literal(value: object) -> str:
    """A value as SQL.

    >>> print(literal(5), literal("it's"))
    toInt64(5) 'it\\'s'
    """
    if isinstance(value, int):
        return f"toInt64({value})"
    text = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"


def moment(time_us: int) -> str:
    """A time in integer microseconds since 1970 UTC as SQL."""
    return f"fromUnixTimestamp64Micro({literal(time_us)}, 'UTC')"


def filled(sql: str, parameters: Mapping[str, Any]) -> str:
    """A query with its `{name:Type}` placeholders written out.

    >>> filled("a = {a:String} AND b < {b:Int64}", {"a": "{b:Int64}", "b": 3})
    "a = '{b:Int64}' AND b < toInt64(3)"
    """
    return _PLACEHOLDER.sub(lambda found: literal(parameters[found[1]]), sql)


def is_arm(dimensions: Mapping[str, str]) -> str:
    """Condition that a row is of an arm: every dimension matches; all rows without any."""
    return " AND ".join(f"{name} = {literal(v)}" for name, v in dimensions.items()) or "1"


def row_measure(metric: WantedMetric, typical_ms: float | None = None) -> RowMeasure | None:
    """What a metric reads of one row.

    Args:
        metric: as the gate counts it.
        typical_ms: of a latency quantile, what is slow: the estimate of what it is compared with.

    Returns:
        None for a quantile of which nothing is known yet.
    """
    if metric.field in _RATES:
        return RowMeasure(_RATES[metric.field], _DONE)
    if metric.field == "unaccepted":
        return RowMeasure(_told("accepted = 0"), _told("isNotNull(accepted)"))
    if metric.field == "above_cap":
        return RowMeasure(f"cost_nanousd > {round((metric.cap or 0.0) * 1e9)}", _COSTED)
    if metric.kind == "moments":
        return _mean(metric)
    limit_ms = typical_ms if metric.kind == "bins" else metric.limit
    name = metric.field.removeprefix("above:")
    return None if limit_ms is None else above(name, round(limit_ms * 1000))


def above(field: str, limit_us: int) -> RowMeasure:
    """The share of rows above a limit among those that state a latency.

    Args:
        field: a `_ms` field of requests.
        limit_us: microseconds.
    """
    column = f"{field.removesuffix('_ms')}_us"
    if field != "latency_ms":
        return RowMeasure(f"{column} > {limit_us}", f"isNotNull({column})")
    return RowMeasure(
        f"(NOT {_DONE} OR {_COMPLETED} AND {column} > {limit_us})",
        f"(NOT {_DONE} OR {_COMPLETED} AND isNotNull({column}))",
    )


def cost_above_plan(limit_nano: int, cap_nano: int) -> str:
    """What a request costs above plan, in nano-dollars, capped, as absolute gates count it.

    Args:
        limit_nano: planned, nano-dollars per 1,000 tokens.
        cap_nano: neither more nor less than so many nano-dollars.
    """
    plan = f"intDiv(toInt128({limit_nano}) * {_TOKENS}, 1000)"
    score = f"toInt64(ifNull(cost_nanousd, 0)) - {plan}"
    return f"greatest(least({score}, {cap_nano}), -{cap_nano})"


def cost_per_1k_tokens() -> RowMeasure:
    """Cost over tokens of the requests of which both are known."""
    cost = f"if({KNOWN_COST}, cost_nanousd / 1e9, 0)"
    return RowMeasure(
        cost, f"if({KNOWN_COST}, {_TOKENS} / 1000, 0)", is_mean=True, unit="usd_per_1k_tokens"
    )


def _mean(metric: WantedMetric) -> RowMeasure:
    if metric.field == "quality":
        return RowMeasure(
            "quality", "isNotNull(quality)", is_mean=True, higher_is_better=True, unit="score"
        )
    if metric.field == "cost_tokens":
        return cost_per_1k_tokens()
    return RowMeasure("cost_nanousd / 1e9", _COSTED, is_mean=True, unit="usd_per_request")


def _told(condition: str) -> str:
    return (
        "(request_id != '' AND request_id GLOBAL IN"
        f" (SELECT request_id FROM penstock.feedback WHERE {condition}))"
    )
