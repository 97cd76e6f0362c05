"""OpenSLO v1 documents, field by field (https://github.com/OpenSLO/OpenSLO).

They are validated as the specification has them; `convert.py` makes objectives of them.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from .base import InnerShare, Model

Text = Annotated[str, Field(max_length=1050)]
Duration = Annotated[str, Field(pattern=r"^[0-9]+[mhdwMQY]$")]


class _Camel(Model):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)


class Metadata(_Camel):
    """Name and labels of an object."""

    name: str = Field(min_length=1, max_length=63)
    display_name: str = ""
    labels: dict[str, str | list[str]] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class MetricSource(_Camel):
    """Where a metric comes from; `spec` is free."""

    metric_source_ref: str | None = None
    type: str | None = None
    spec: dict[str, Any] = Field(default_factory=dict)


class Metric(_Camel):
    """One query."""

    metric_source: MetricSource


class RatioMetric(_Camel):
    """Good or bad out of total, or a ratio that is stored already."""

    counter: bool = True
    good: Metric | None = None
    bad: Metric | None = None
    total: Metric | None = None
    raw_type: Literal["success", "failure"] | None = None
    raw: Metric | None = None


class SliSpec(_Camel):
    """Either a threshold or a ratio metric."""

    description: Text = ""
    threshold_metric: Metric | None = None
    ratio_metric: RatioMetric | None = None

    @model_validator(mode="after")
    def _one(self) -> SliSpec:
        if (self.threshold_metric is None) == (self.ratio_metric is None):
            raise ValueError("give either thresholdMetric or ratioMetric")
        return self


class Indicator(_Camel):
    """An SLI inside an SLO."""

    metadata: Metadata | None = None
    spec: SliSpec


class Calendar(_Camel):
    """Start and time zone of calendar periods."""

    start_time: datetime | str
    time_zone: str


class TimeWindow(_Camel):
    """A rolling or a calendar window."""

    duration: Duration
    is_rolling: bool = False
    calendar: Calendar | None = None


class SloTarget(_Camel):
    """One target (an `objective` of OpenSLO)."""

    display_name: str = ""
    op: Literal["lte", "gte", "lt", "gt"] | None = None
    value: Decimal | None = None
    target: InnerShare | None = None
    target_percent: Annotated[Decimal, Field(gt=0, lt=100)] | None = None
    time_slice_target: Annotated[Decimal, Field(gt=0, le=1)] | None = None
    time_slice_window: int | Duration | None = None
    indicator: Indicator | None = None
    indicator_ref: str | None = None
    composite_weight: Decimal | None = None

    @model_validator(mode="after")
    def _one(self) -> SloTarget:
        if (self.target is None) == (self.target_percent is None):
            raise ValueError("give either target or targetPercent")
        return self

    @property
    def share(self) -> Decimal:
        """The target as a share."""
        if self.target is not None:
            return self.target
        assert self.target_percent is not None
        return self.target_percent.scaleb(-2)


class BurnCondition(_Camel):
    """Burn rate above a threshold over a window."""

    kind: Literal["burnrate"] = "burnrate"
    op: Literal["lte", "gte", "lt", "gt"] | None = None
    threshold: Annotated[Decimal, Field(gt=0)]
    lookback_window: Duration
    alert_after: Duration = "0m"


class ConditionSpec(_Camel):
    """Severity and condition."""

    description: Text = ""
    severity: str
    condition: BurnCondition


class ConditionRef(_Camel):
    """Name of an AlertCondition."""

    condition_ref: str


class TargetRef(_Camel):
    """Name of an AlertNotificationTarget."""

    target_ref: str


class PolicyRef(_Camel):
    """Name of an AlertPolicy."""

    alert_policy_ref: str


class TargetSpec(_Camel):
    """Where notifications go."""

    description: Text = ""
    target: str


class _Object(_Camel):
    api_version: Literal["openslo/v1"] = "openslo/v1"
    metadata: Metadata


class AlertCondition(_Object):
    """A condition that policies name, or hold."""

    kind: Literal["AlertCondition"]
    spec: ConditionSpec


class AlertNotificationTarget(_Object):
    """A target that policies name, or hold."""

    kind: Literal["AlertNotificationTarget"]
    spec: TargetSpec


class PolicySpec(_Camel):
    """Condition and targets of a policy."""

    description: Text = ""
    alert_when_no_data: bool = False
    alert_when_resolved: bool = False
    alert_when_breaching: bool = True
    conditions: tuple[ConditionRef | AlertCondition, ...] = Field(min_length=1, max_length=1)
    notification_targets: tuple[TargetRef | AlertNotificationTarget, ...] = ()


class AlertPolicy(_Object):
    """When an SLO alerts, and whom."""

    kind: Literal["AlertPolicy"]
    spec: PolicySpec


class SloSpec(_Camel):
    """The body of an SLO."""

    description: Text = ""
    service: str = ""
    indicator: Indicator | None = None
    indicator_ref: str | None = None
    time_window: tuple[TimeWindow, ...] = Field((), max_length=1)
    budgeting_method: Literal["Occurrences", "Timeslices", "RatioTimeslices"] = "Occurrences"
    objectives: tuple[SloTarget, ...] = Field(min_length=1)
    alert_policies: tuple[str | PolicyRef | AlertPolicy, ...] = ()


class SloDocument(_Object):
    """A service level objective."""

    kind: Literal["SLO"]
    spec: SloSpec


class SliDocument(_Object):
    """A service level indicator that SLOs name."""

    kind: Literal["SLI"]
    spec: SliSpec


class DataSourceSpec(_Camel):
    """Type and connection of a source of metrics."""

    description: Text = ""
    type: str
    connection_details: Any = None


class DataSource(_Object):
    """A source of metrics; only its type is looked at."""

    kind: Literal["DataSource"]
    spec: DataSourceSpec


class ServiceSpec(_Camel):
    """Description of a service."""

    description: Text = ""


class Service(_Object):
    """A service that SLOs name."""

    kind: Literal["Service"]
    spec: ServiceSpec = ServiceSpec.model_validate({})


Document = Annotated[
    SloDocument
    | SliDocument
    | Service
    | AlertPolicy
    | AlertCondition
    | AlertNotificationTarget
    | DataSource,
    Field(discriminator="kind"),
]
