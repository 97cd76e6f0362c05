"""Alert rules: what is watched, when it is wrong, and how long it must be."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from .base import OWN_LABELS, Id, LabelName, Model, Severity
from .metrics import GROUPINGS, METRICS
from .templates import check_template

Op = Literal[">", ">=", "<", "<="]
Window = Literal["1m", "5m", "30m", "1h", "2h", "6h", "1d", "3d", "7d", "28d", "30d"]
Grouping = Literal[
    "fleet",
    "model",
    "model_version",
    "release",
    "model_route",
    "model_adapter",
    "route",
    "tenant",
]


class Scope(Model):
    """Which traffic: every dimension that is given must match exactly."""

    model: str | None = None
    model_version: str | None = None
    adapter: str | None = None
    route: str | None = None
    release: str | None = None
    variant: str | None = None
    tenant: str | None = None

    def given(self) -> dict[str, str]:
        """The dimensions that are named."""
        return {name: value for name, value in self if value is not None}


def _known(metric: str) -> str:
    if metric not in METRICS:
        raise ValueError(f"{metric} is no number in the table windows (docs/alerts.md lists them)")
    return metric


MetricName = Annotated[str, AfterValidator(_known)]


class Limit(Model):
    """A comparison with a limit, and the easier one that ends an alert (hysteresis)."""

    op: Op
    value: float = Field(allow_inf_nan=False)
    resolve_below: float | None = Field(
        None, allow_inf_nan=False, description="With > or >=: resolved only below this."
    )
    resolve_above: float | None = Field(
        None, allow_inf_nan=False, description="With < or <=: resolved only above this."
    )

    @model_validator(mode="after")
    def _hysteresis(self) -> Limit:
        up = self.op in (">", ">=")
        if (self.resolve_above if up else self.resolve_below) is not None:
            raise ValueError("resolve_below goes with > and >=, resolve_above with < and <=")
        if self.resolve_below is not None and self.resolve_below > self.value:
            raise ValueError("resolve_below must not be above value")
        if self.resolve_above is not None and self.resolve_above < self.value:
            raise ValueError("resolve_above must not be below value")
        return self


class Threshold(Limit):
    """A metric of a rolling window against a limit: `latency_ms_p95 over 1m > 1200`."""

    kind: Literal["threshold"] = "threshold"
    metric: MetricName
    window: Window = "5m"


class Change(Limit):
    """A metric against itself over an earlier period.

    The baseline covers the length of `baseline` and ends `offset_s` before the end of the window.
    `ratio` compares metric / baseline, `difference` metric - baseline. A baseline of zero has no
    ratio; `min_baseline` says from which value on a baseline means something.
    """

    kind: Literal["change"]
    metric: MetricName
    window: Window = "5m"
    baseline: Window = "1h"
    offset_s: int = Field(300, ge=0, le=30 * 86400)
    compare: Literal["ratio", "difference"] = "ratio"
    min_baseline: float = Field(0.0, ge=0)


class Absence(Model):
    """A dead-man switch: no rows of a slice for `absent_s` seconds of event time."""

    kind: Literal["absence"]
    of: Literal["any", "requests", "steps", "feedback"] = "any"
    absent_s: int = Field(300, ge=10)


class Signal(Model):
    """A signal that is computed elsewhere, by its id.

    Without `limit` the signal's own judgement counts, else its value is compared.
    """

    kind: Literal["burn_rate", "drift", "budget", "detector", "spend_limit", "capacity"]
    id: Id
    limit: Limit | None = None


Condition = Annotated[Threshold | Change | Absence | Signal, Field(discriminator="kind")]
STEP_GROUPINGS = ("fleet", "model", "model_version", "release", "model_adapter")


class AlertRule(Model):
    """One rule; it raises one alert for each slice in which it is broken.

    Without `by`, the filter must name exactly the dimensions of one grouping set: one slice. With
    it, every slice of that grouping set is watched that the filter matches. A signal's slices are
    those that it tells of.
    """

    id: Id
    group: Id = "default"
    filter: Scope = Scope()
    by: Grouping | None = None
    condition: Condition
    for_s: int = Field(0, ge=0, description="How long it must be broken before it fires.")
    resolve_for_s: int = Field(0, ge=0, description="How long it must be well before it ends.")
    min_requests: int = Field(
        0, ge=0, description="Rows behind a value below which nothing is known."
    )
    on_no_data: Literal["keep", "resolve", "fire"] = "keep"
    forget_after_s: int = Field(
        86400, ge=60, description="Silence after which a slice is forgotten and its alert ends."
    )
    severity: Severity = "warning"
    labels: dict[LabelName, str] = Field(default_factory=dict)
    annotations: dict[LabelName, Annotated[str, AfterValidator(check_template)]] = Field(
        default_factory=dict
    )
    runbook: str | None = None

    @property
    def grouping(self) -> str:
        """The grouping set whose slices are watched; empty for a signal.

        Raises:
            ValueError: the filter names the dimensions of no grouping set.
        """
        if isinstance(self.condition, Signal):
            return ""
        given = self.filter.given().keys()
        if self.by is not None:
            return self.by
        for name, dimensions in GROUPINGS.items():
            if given == set(dimensions):
                return name
        sets = "; ".join(", ".join(dimensions) for dimensions in GROUPINGS.values() if dimensions)
        raise ValueError(f"without `by`, filter names nothing, or one of: {sets}")

    @model_validator(mode="after")
    def _fits(self) -> AlertRule:
        taken = sorted({*OWN_LABELS, *Scope.model_fields} & self.labels.keys())
        if taken:
            raise ValueError(f"labels that every alert has: {', '.join(taken)}")
        if isinstance(self.condition, Signal):
            if self.by is not None:
                raise ValueError("a signal tells its own slices: leave `by` out")
            return self
        grouping = self.grouping
        outside = sorted(self.filter.given().keys() - set(GROUPINGS[grouping]))
        if outside:
            raise ValueError(f"grouping set {grouping} has no {', '.join(outside)}")
        self._has_data(grouping)
        return self

    def _has_data(self, grouping: str) -> None:
        if isinstance(self.condition, Threshold | Change):
            per = METRICS[self.condition.metric].per
        else:
            per = "steps" if getattr(self.condition, "of", "") == "steps" else "requests"
        if per == "received" and grouping != "fleet":
            raise ValueError("coverage is kept for the fleet only")
        if per == "steps" and grouping not in STEP_GROUPINGS:
            raise ValueError(f"steps have no {grouping}")
