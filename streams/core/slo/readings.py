"""What an objective reads off a tile: two integers, each a sum of counters of slices.

For most indicators they are bad and total. For those that count minutes they are what a minute is
judged by, see `MinuteRule`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import singledispatch

from ....schemas.slo.objective import Composite, Objective
from ....schemas.slo.sli import (
    COUNTER_VALUES,
    Acceptance,
    Availability,
    CostPer1kTokens,
    Count,
    ErrorRate,
    Freshness,
    Latency,
    LatencyQuantile,
    Quality,
    Ratio,
    Safety,
    Sli,
    Throughput,
)
from .. import metrics as m
from ..shards import group_of
from ..slices import COVERAGE_GROUPING, Slice

MINUTE_S = 60
MICRO = 1_000_000

COUNTERS: dict[str, int] = {
    "requests": m.REQUESTS,
    "status": m.STATUS,
    "error_type": m.ERROR_TYPE,
    "overdue": m.OVERDUE,
    "safety_violations": m.SAFETY_VIOLATIONS,
    "safety_flag": m.SAFETY_FLAG,
    "cache_known": m.CACHE_KNOWN,
    "cache_hits": m.CACHE_HITS,
    "feedback": m.FEEDBACK,
    "accepted_known": m.ACCEPTED_KNOWN,
    "accepted": m.ACCEPTED,
    "labelled": m.LABELLED,
    "label_correct": m.LABEL_CORRECT,
    "steps": m.STEPS,
}


@dataclass(frozen=True, slots=True)
class Term:
    """A counter of a slice, times a weight; the slice is the objective's where it is None."""

    key: int
    weight: int = 1
    slice: Slice | None = None


@dataclass(frozen=True, slots=True)
class MinuteRule:
    """When a minute is bad: a * left + b * right + constant > 0, over its two integers.

    Attributes:
        a, b, constant: integers, so that the comparison is exact.
        every: whether a minute without data counts; else it needs a right integer above 0.
        minutes: how many minutes, up to and with this one, are summed first.
    """

    a: int
    b: int = 0
    constant: int = 0
    every: bool = False
    minutes: int = 1

    def judge(self, left: int, right: int) -> tuple[int, int]:
        """Bad and total of one minute: (0, 0) where it does not count.

        >>> MinuteRule(a=-1, constant=6000, every=True).judge(5999, 0)  # under 100 a second
        (1, 1)
        """
        if not self.every and right <= 0:
            return 0, 0
        return int(self.a * left + self.b * right + self.constant > 0), 1


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read for one objective.

    Attributes:
        left, right: the sums that give its two integers; bad and total without a rule.
        rule: how a minute is judged, where minutes are counted.
        unit: what one event is in the two integers; 1 but for scores.
    """

    left: tuple[Term, ...]
    right: tuple[Term, ...]
    rule: MinuteRule | None = None
    unit: int = 1


def slice_of_objective(objective: Objective) -> Slice:
    """The slice that an objective is about."""
    return Slice(objective.filter.grouping, objective.filter.values)


def group_of_objective(objective: Objective) -> str:
    """The group whose shard evaluates an objective (see `shards.shard_of`)."""
    return group_of(slice_of_objective(objective))


def counters_for_slos(slos: Iterable[Objective | Composite]) -> tuple[m.Threshold, ...]:
    """The counters that tiles must hold for these objectives, beside the ones that gates ask for."""
    wanted = {
        threshold: None
        for slo in slos
        if isinstance(slo, Objective) and isinstance(slo.sli, Latency | LatencyQuantile)
        for threshold in (_threshold(slo.sli),)
    }
    return tuple(wanted)


def reading_of(objective: Objective) -> Reading:
    """What is read for an objective."""
    reading = _read(objective.sli)
    if objective.time_slice_target is None:
        return reading
    allowed = 1 - Fraction(objective.time_slice_target)
    return Reading(
        reading.left, reading.right, MinuteRule(a=allowed.denominator, b=-allowed.numerator)
    )


def coverage_reading() -> Reading:
    """What is missing, out of what was sent, of the whole fleet. Rows without identity count as
    missing: how many of them were lost cannot be told.
    """
    # Panes of the first version kept it in the slice of the fleet.
    places = (Slice(COVERAGE_GROUPING, ()), Slice("fleet", ()))

    def terms(*metrics: int) -> tuple[Term, ...]:
        return tuple(Term(m.key(metric), 1, place) for metric in metrics for place in places)

    return Reading(terms(m.MISSING, m.GAP, m.UNIDENTIFIED), terms(m.RECEIVED, m.MISSING, m.GAP))


def _threshold(sli: Latency | LatencyQuantile) -> m.Threshold:
    return m.Threshold(sli.field.removesuffix("_ms") + "_us", sli.limit_us)


def _typed(counter: str, *values: str) -> tuple[Term, ...]:
    known = COUNTER_VALUES[counter]
    return tuple(Term(m.key(COUNTERS[counter], known.index(value))) for value in values)


_REQUESTS = (Term(m.key(m.REQUESTS)),)


@singledispatch
def _read(sli: Sli) -> Reading:
    raise TypeError(f"no reading of {sli!r}")  # pragma: no cover - the union is closed


@_read.register
def _(sli: Availability) -> Reading:
    return Reading(_typed("status", "error", "timeout", "rejected"), _REQUESTS)


@_read.register
def _(sli: ErrorRate) -> Reading:
    bad = _typed("error_type", *sli.types) if sli.types else _typed("status", "error", "timeout")
    return Reading(bad, _REQUESTS)


@_read.register(Latency)
@_read.register(LatencyQuantile)
def _(sli: Latency | LatencyQuantile) -> Reading:
    number = _threshold(sli).number
    return Reading((Term(m.key(number, 1)),), (Term(m.key(number)),))


@_read.register
def _(sli: Safety) -> Reading:
    flagged = _typed("safety_flag", sli.flag) if sli.flag else (Term(m.key(m.SAFETY_VIOLATIONS)),)
    return Reading(flagged, _REQUESTS)


@_read.register
def _(sli: Quality) -> Reading:
    """What is missing to the highest score, in millionths of a score."""
    highest = round(sli.max_score * MICRO)
    scores = Term(m.key(m.QUALITY_COUNT), highest)
    return Reading((scores, Term(m.key(m.QUALITY_MICRO), -1)), (scores,), unit=highest)


@_read.register
def _(sli: Acceptance) -> Reading:
    known = Term(m.key(m.ACCEPTED_KNOWN))
    return Reading((known, Term(m.key(m.ACCEPTED), -1)), (known,))


@_read.register
def _(sli: CostPer1kTokens) -> Reading:
    """Bad where 1000 * cost > limit * tokens, in nano-dollars."""
    limit = Fraction(sli.max_usd) * 1_000_000_000
    rule = MinuteRule(a=1000 * limit.denominator, b=-limit.numerator)
    return Reading((Term(m.key(m.COST_NANOUSD)),), (Term(m.key(m.COSTED_TOKENS)),), rule)


@_read.register
def _(sli: Freshness) -> Reading:
    rule = MinuteRule(a=-1, constant=1, every=True, minutes=sli.max_age_s // MINUTE_S)
    return Reading((Term(m.key(COUNTERS[sli.of])),), (), rule)


@_read.register
def _(sli: Throughput) -> Reading:
    wanted = Fraction(sli.min_per_s) * MINUTE_S
    rule = MinuteRule(a=-wanted.denominator, constant=wanted.numerator, every=True)
    return Reading(_REQUESTS, (), rule)


@_read.register
def _(sli: Ratio) -> Reading:
    total = _count(sli.total)
    if sli.bad is not None:
        return Reading(_count(sli.bad), total)
    assert sli.good is not None
    return Reading((*total, *_count(sli.good, -1)), total)


def _count(count: Count, weight: int = 1) -> tuple[Term, ...]:
    wanted = count.filter
    place = None if wanted is None else Slice(wanted.grouping, wanted.values)
    if count.values:
        keys = [term.key for term in _typed(count.counter, *count.values)]
    else:
        keys = [m.key(COUNTERS[count.counter])]
    return tuple(Term(key, weight, place) for key in keys)
