"""Shapes of the answers about drift."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from .models import RequestListRow, Strict

DriftState = Literal["no_reference", "no_data", "ok", "moderate", "drift"]


class Bar(Strict):
    """One bin or category, reference and current side by side."""

    bin: int = Field(description="To ask for its requests: /v1/drift/{monitor}/examples.")
    name: str | None = Field(None, description="Of a category; (rest) is all that are not shown.")
    first: int | None = Field(None, description="First sketch bin of a feature's bin; -1: empty.")
    last: int | None = None
    low: float | None = Field(None, description="Estimate of the least value in it.")
    high: float | None = Field(None, description="Estimate of the greatest value in it.")
    reference: int
    current: int


class DriftPoint(Strict):
    """One series at one look."""

    end: datetime = Field(description="End of the window.")
    state: DriftState = Field(description="By the rule for a single look.")
    confirmed: datetime | None = Field(
        description="The look that confirmed drift which is still there."
    )
    psi: float | None = Field(description="Nats, its bias taken off.", examples=[0.31])
    js: float | None = Field(description="Bits.")
    p: float | None = Field(description="Of KS, or of chi-square.")
    ks: float | None = Field(description="Of a feature.")
    cramers_v: float | None = Field(description="Of a category.")
    e_value: float | None = Field(description="Of the sequential monitor.")
    missing_share: float | None = Field(description="Share of rows without a value.")


class DriftLook(DriftPoint):
    """The newest look, whole."""

    severity: str
    reasons: list[str] = Field(examples=[["psi", "ks"]])
    believed: bool = Field(description="Among the series of the look that are believed.")
    alarm: bool = Field(description="The sequential monitor alarmed at this look.")
    revision: int = Field(description="Of the reference; 0 where it is not stored.")
    n_reference: int
    n_current: int
    wasserstein: float | None = Field(description="In the unit of the feature.")
    missing_state: str
    figures: dict[str, Any] = Field(description="Every score and interval by name.")
    bars: list[Bar]


class DriftSeries(Strict):
    """A feature, a category, or (concept): the relation between inputs and labels."""

    series: str = Field(examples=["input_tokens"])
    kind: Literal["feature", "category", "concept"]
    latest: DriftLook
    points: list[DriftPoint]


class DriftMonitorAnswer(Strict):
    """A monitor and its series."""

    id: str
    filter: dict[str, str]
    reference: dict[str, Any] | None = Field(description="As configured; null where not known.")
    window_s: int | None
    every_s: int | None
    false_alarms_per_30d: float | None = Field(
        description="Of the sequential monitors, all series together."
    )
    series: list[DriftSeries]


class DriftAnswer(Strict):
    """What drift monitors say."""

    as_of: datetime | None
    step_s: int
    monitors: list[DriftMonitorAnswer]


class ExamplesAnswer(Strict):
    """Requests behind one bar."""

    monitor: str
    series: str
    end: datetime
    bar: Bar
    requests: list[RequestListRow]


class ReferenceAnswer(Strict):
    """One revision of a reference."""

    scope: Literal["uploaded", "monitor"]
    name: str
    revision: int
    source: dict[str, Any]
    series: dict[str, int] = Field(description="Values by series.")
    created: datetime


class ReferencesAnswer(Strict):
    """References, the newest first."""

    references: list[ReferenceAnswer]
