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
COSTED = "isNotNull(cost_usd)"
_RATES = {
    "error": "status IN ('error', 'timeout')",
    "timeout": "status = 'timeout'",
    "safety": "notEmpty(safety_flags)",
}
STARTED = "toUnixTimestamp64Micro(ts) - toInt64(round(ifNull(latency_ms, 0) * 1000))"
"""When a request started, in integer microseconds."""


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


def row_measure(
    metric: WantedMetric, since_us: int, typical_ms: float | None = None
) -> RowMeasure | None:
    """What a metric reads of one row.

    Args:
        metric: as the gate counts it.
        since_us: feedback is not looked for before.
        typical_ms: of a latency quantile, what is slow: the estimate of what it is compared with.

    Returns:
        None for a quantile of which nothing is known yet.
    """
    if metric.field in _RATES:
        return RowMeasure(_RATES[metric.field], _DONE)
    if metric.field == "unaccepted":
        accepted = _told("isNotNull(accepted)", since_us)
        return RowMeasure(_told("accepted = 0", since_us), accepted)
    if metric.field == "above_cap":
        return RowMeasure(f"cost_usd > {round((metric.cap or 0.0) * 1e9) / 1e9!r}", COSTED)
    if metric.kind == "moments":
        return _mean(metric)
    limit_ms = typical_ms if metric.kind == "bins" else metric.limit
    name = metric.field.removeprefix("above:")
    return None if limit_ms is None else above(name, round(limit_ms * 1000))


def above(field: str, limit_us: int) -> RowMeasure:
    """The share of rows above a limit among those that state a latency.

    Args:
        field: a `_ms` field of requests, which is stored in whole microseconds.
        limit_us: microseconds.
    """
    limit_ms = repr(limit_us / 1000)
    if field != "latency_ms":
        return RowMeasure(f"{field} > {limit_ms}", f"isNotNull({field})")
    return RowMeasure(
        f"(NOT {_DONE} OR {_COMPLETED} AND {field} > {limit_ms})",
        f"(NOT {_DONE} OR {_COMPLETED} AND isNotNull({field}))",
    )


def usd_above_plan(limit_nano: int, cap_nano: int) -> str:
    """What a request costs above plan, as absolute gates count it: capped, in whole nano-dollars.

    Args:
        limit_nano: planned, nano-dollars per 1,000 tokens.
        cap_nano: neither more nor less than so many nano-dollars.
    """
    plan = f"intDiv({literal(limit_nano)} * {_TOKENS}, 1000)"
    score = f"toInt64(round(ifNull(cost_usd, 0) * 1e9)) - {plan}"
    return f"greatest(least({score}, {cap_nano}), -{cap_nano}) / 1e9"


def cost_per_1k_tokens() -> RowMeasure:
    """Cost over tokens of the requests whose cost is known."""
    return RowMeasure(
        "cost_usd", f"if({COSTED}, {_TOKENS} / 1000, 0)", is_mean=True, unit="usd_per_1k_tokens"
    )


def _mean(metric: WantedMetric) -> RowMeasure:
    if metric.field == "quality":
        return RowMeasure(
            "quality", "isNotNull(quality)", is_mean=True, higher_is_better=True, unit="score"
        )
    if metric.field == "cost_tokens":
        return cost_per_1k_tokens()
    return RowMeasure("cost_usd", COSTED, is_mean=True, unit="usd_per_request")


def _told(condition: str, since_us: int) -> str:
    return (
        "(request_id != '' AND request_id GLOBAL IN (SELECT request_id FROM penstock.feedback"
        f" WHERE ts >= {moment(since_us)} AND {condition}))"
    )
