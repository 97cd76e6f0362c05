"""Service level indicators: what is a good event, and out of which.

Most are shares of events. Throughput, freshness and cost are shares of minutes: a minute is good or
bad as a whole.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from ..events import ERROR_TYPES, SAFETY_FLAGS, STATUSES, field_kinds
from .base import InnerShare, Model, Positive, SloFilter

CounterName = Literal[
    "requests",
    "status",
    "error_type",
    "overdue",
    "safety_violations",
    "safety_flag",
    "cache_known",
    "cache_hits",
    "feedback",
    "accepted_known",
    "accepted",
    "labelled",
    "label_correct",
    "steps",
]
# Counters that are kept by value, and their values.
COUNTER_VALUES: dict[str, tuple[str, ...]] = {
    "status": STATUSES,
    "error_type": ERROR_TYPES,
    "safety_flag": (*SAFETY_FLAGS, "custom"),
}


def _known(values: tuple[str, ...], known: tuple[str, ...]) -> None:
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"no {', '.join(unknown)}; there are {', '.join(known)}")


class Availability(Model):
    """Requests that did not end as error, timeout or rejected, out of all completed ones."""

    kind: Literal["availability"]


class ErrorRate(Model):
    """Requests without an error (timeouts are errors) of some types, out of all completed ones."""

    kind: Literal["error_rate"]
    types: tuple[str, ...] = Field((), description="Error types that count; none for all.")

    @field_validator("types")
    @classmethod
    def _types_exist(cls, types: tuple[str, ...]) -> tuple[str, ...]:
        _known(types, ERROR_TYPES)
        return tuple(dict.fromkeys(types))


class _Latency(Model):
    field: str = "latency_ms"
    max_ms: Positive

    @field_validator("field")
    @classmethod
    def _is_latency(cls, field: str) -> str:
        known = tuple(name for name, kind in field_kinds("request").items() if kind == "ms")
        _known((field,), known)
        return field

    @property
    def limit_us(self) -> int:
        """The limit in whole microseconds; a request at the limit is good."""
        return round(self.max_ms * 1000)


class Latency(_Latency):
    """Requests with a latency of at most `max_ms`, out of those that state it."""

    kind: Literal["latency"]


class LatencyQuantile(_Latency):
    """The same said as a quantile: `p95 of ttft_ms <= 1200` is a target of 95 %."""

    kind: Literal["latency_quantile"]
    quantile: InnerShare


class Safety(Model):
    """Requests without a safety violation (or without one flag), out of all completed ones."""

    kind: Literal["safety"]
    flag: str | None = None

    @field_validator("flag")
    @classmethod
    def _flag_exists(cls, flag: str | None) -> str | None:
        if flag is not None:
            _known((flag,), COUNTER_VALUES["safety_flag"])
        return flag


class Quality(Model):
    """Mean quality score as a share of the highest possible one; scores are from 0 to it."""

    kind: Literal["quality"]
    max_score: Positive = Field(1, validate_default=True)


class Acceptance(Model):
    """Answers that the user took, out of those with a say."""

    kind: Literal["acceptance"]


class CostPer1kTokens(Model):
    """Minutes in which 1,000 tokens cost at most `max_usd`, out of those with a stated cost."""

    kind: Literal["cost_per_1k_tokens_usd"]
    max_usd: Positive


class Freshness(Model):
    """Minutes at whose end there is data that is at most `max_age_s` old, out of all minutes."""

    kind: Literal["freshness"]
    of: Literal["requests", "steps", "feedback"] = "requests"
    max_age_s: int = Field(60, ge=60, le=3600, multiple_of=60)


class Throughput(Model):
    """Minutes with at least `min_per_s` completed requests a second, out of all minutes."""

    kind: Literal["throughput"]
    min_per_s: Positive


class Count(Model):
    """Events that a counter counts in a slice; by value where the counter is kept by value."""

    counter: CounterName
    values: tuple[str, ...] = ()
    filter: SloFilter | None = Field(None, description="None for the filter of the objective.")

    @model_validator(mode="after")
    def _values_exist(self) -> Count:
        if self.counter not in COUNTER_VALUES:
            if self.values:
                raise ValueError(f"{self.counter} is not kept by value")
        elif not self.values:
            known = ", ".join(COUNTER_VALUES[self.counter])
            raise ValueError(f"{self.counter} needs values, of {known}")
        else:
            _known(self.values, COUNTER_VALUES[self.counter])
        return self


class Ratio(Model):
    """Any ratio of two filters: good (or total less bad) out of total."""

    kind: Literal["ratio"]
    good: Count | None = None
    bad: Count | None = None
    total: Count

    @model_validator(mode="after")
    def _one_side(self) -> Ratio:
        if (self.good is None) == (self.bad is None):
            raise ValueError("give either good or bad, beside total")
        return self

    @property
    def counts(self) -> tuple[Count, ...]:
        """Both sides."""
        return tuple(side for side in (self.good, self.bad, self.total) if side is not None)


OfMinutes = CostPer1kTokens | Freshness | Throughput
Sli = Annotated[
    Availability
    | ErrorRate
    | Latency
    | LatencyQuantile
    | Safety
    | Quality
    | Acceptance
    | CostPer1kTokens
    | Freshness
    | Throughput
    | Ratio,
    Field(discriminator="kind"),
]


def phrase(sli: Sli, good: str, bad: str) -> str:
    """What is asked for, as a person would say it: at least `good` good ones, at most `bad` bad."""
    if isinstance(sli, LatencyQuantile):
        return (
            f"p{sli.quantile * 100:f}".rstrip("0").rstrip(".")
            + f" of {sli.field} <= {sli.max_ms:f} ms"
        )
    if isinstance(sli, Latency):
        return f"{sli.field} <= {sli.max_ms:f} ms for {good}"
    if isinstance(sli, ErrorRate):
        return f"{' + '.join(sli.types) or 'errors'} <= {bad}"
    if isinstance(sli, Safety):
        return f"{sli.flag or 'safety violations'} <= {bad}"
    if isinstance(sli, CostPer1kTokens):
        return f"1k tokens <= {sli.max_usd:f} USD in {good} of minutes"
    if isinstance(sli, Freshness):
        return f"{sli.of} at most {sli.max_age_s} s old in {good} of minutes"
    if isinstance(sli, Throughput):
        return f"throughput >= {sli.min_per_s:f} requests/s in {good} of minutes"
    return f"{sli.kind} >= {good}"
