"""Shapes of the answers about SLOs, alerts and costs."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from .explanations import ExplanationAnswer
from .models import Strict

SloState = Literal["met", "at_risk", "breached", "unknown", "no_data"]
AlertState = Literal["pending", "firing", "resolved", "cancelled"]
Severity = Literal["info", "warning", "critical", "emergency"]


class BurnAnswer(Strict):
    """A burn-rate rule: it fires where both rates are above the factor, and it is no chance."""

    name: str = Field(examples=["1h"])
    severity: Severity
    for_s: int
    factor: float = Field(examples=[14.4])
    long_rate: float | None = Field(description="Over the long window; 1 spends the budget in it.")
    short_rate: float | None = Field(description="Over a twelfth of it.")
    above: bool = Field(description="Both are above the factor.")
    firing: bool = Field(description="The e-detector says too that this is no chance.")


class SloPoint(Strict):
    """An objective at one moment."""

    as_of: datetime = Field(examples=["2026-01-01T00:00:00Z"])
    state: SloState
    bad: int = Field(description="Events (or minutes) of the period so far.", examples=[17])
    total: int = Field(examples=[120_400])
    attainment: float | None = Field(description="Share of good ones.", examples=[0.99986])
    consumed: float | None = Field(
        description="Share of the budget that is spent; above 1 in a breach.", examples=[0.141]
    )
    left_minutes: float | None = Field(description="What is left of it.", examples=[37.1])
    burn_1h: float | None = Field(description="Burn rate of the last hour.", examples=[0.2])
    coverage: float | None = Field(description="Share of events that arrived.", examples=[1.0])


class SloStatus(SloPoint):
    """The newest moment, with the budget's period and the burn-rate rules."""

    declared: str = Field(examples=["availability >= 99.9 %"])
    target: float = Field(description="Share that must be good.", examples=[0.999])
    period_start: datetime
    period_end: datetime
    budget_minutes: float = Field(examples=[43.2])
    exhaustion_s: float | None = Field(
        description="Until the budget is spent at the burn rate of the last hour; null: it will not."
    )
    burns: list[BurnAnswer]
    alarm_at: datetime | None = Field(description="Last alarm of the e-detector.")


class SloAnswer(Strict):
    """An objective and its newest status."""

    id: str = Field(examples=["chat-availability"])
    description: str
    service: str
    filter: dict[str, str] = Field(examples=[{"model": "chat-8b"}])
    window: str = Field(description="Of its budget; empty where unknown.", examples=["30d"])
    latest: SloStatus | None = Field(
        description="Null before the first evaluation of what is asked for now."
    )


class OverallAnswer(Strict):
    """Several objectives as one."""

    id: str = Field(examples=["chat"])
    state: SloState
    kept: int = Field(description="Objectives that are met or at risk.")
    total: int
    target: float = Field(description="Share that must be kept.", examples=[1.0])
    states: dict[str, SloState]


class SlosAnswer(Strict):
    """Every objective and composite of the configuration."""

    as_of: datetime | None = Field(description="Event time of the newest status.")
    counts: dict[SloState, int] = Field(description="Objectives in each state.")
    slos: list[SloAnswer]
    overall: list[OverallAnswer]


class SloDetail(SloAnswer):
    """An objective over time, oldest first: attainment, and the curve of its budget."""

    step_s: int = Field(description="The last status of each so many seconds.", examples=[1210])
    points: list[SloPoint]


class AcknowledgementAnswer(Strict):
    """Who has taken an alert."""

    who: str = Field(examples=["ann"])
    at: datetime
    until: datetime | None = Field(description="Null: as long as the alert is open.")
    reason: str


class AlertAnswer(Strict):
    """An alert as it stands."""

    id: str = Field(examples=["6d1f0b7c9a52e4d8b3f10c7a59e2d6b4"])
    rule: str = Field(examples=["latency-p95-high"])
    severity: Severity
    state: AlertState = Field(description="cancelled: pending that never fired.")
    reason: str = Field(examples=["condition"])
    labels: dict[str, str] = Field(examples=[{"alertname": "latency-p95-high", "model": "chat"}])
    started: datetime
    fired: datetime | None
    ended: datetime | None
    at: datetime = Field(description="Event time of the last change.")
    value: float | None
    limit: float | None
    n: int = Field(description="Rows behind the value.")
    text: str = Field(examples=["8.3 % of requests above 1200 ms (limit 5 %)"])
    amended_text: str | None = Field(description="The same as late rows left it.")
    annotations: dict[str, str]
    runbook: str | None
    quiet: str | None = Field(
        description="Why nobody is told of it: silence:ID, maintenance:ID, inhibited:ALERT.",
        examples=["silence:migration"],
    )
    acknowledged: AcknowledgementAnswer | None
    explanation: str | None = Field(
        description="What changed, in one line; null until it is found out.",
        examples=["variant=canary explains 96 % of the change (0.4 % -> 48 %)"],
    )


class AlertsAnswer(Strict):
    """Alerts, the newest change first."""

    alerts: list[AlertAnswer]
    counts: dict[Severity, int] = Field(description="Firing ones, however many are listed.")


class TransitionAnswer(Strict):
    """One change of an alert."""

    id: str
    sequence: int
    kind: Literal["pending", "firing", "resolved", "cancelled", "amended"]
    reason: str
    at: datetime
    value: float | None
    limit: float | None
    n: int
    text: str


class AlertDetail(AlertAnswer):
    """An alert, what changed when it fired, and every change of it, oldest first."""

    transitions: list[TransitionAnswer]
    explained: ExplanationAnswer | None = Field(description="Null until it is found out.")


class SilenceAnswer(Strict):
    """Alerts that nobody is told of for a while."""

    id: str = Field(examples=["s-3f9a1c27"])
    matchers: list[dict[str, str]] = Field(
        examples=[[{"label": "model", "op": "=", "value": "chat-8b"}]]
    )
    reason: str
    author: str
    starts_at: datetime
    ends_at: datetime
    state: Literal["pending", "active", "expired"]
    source: Literal["api", "configuration"]


class SilencesAnswer(Strict):
    """Silences, the one that ends last first."""

    silences: list[SilenceAnswer]


class SpendAnswer(Strict):
    """What one slice used and cost."""

    dimensions: dict[str, str] = Field(examples=[{"model": "chat-8b"}])
    requests: int
    input_tokens: int
    cached_tokens: int = Field(description="A part of input_tokens.")
    output_tokens: int
    cost_usd: float = Field(examples=[412.07])
    cost_per_1k_tokens_usd: float | None
    share: float | None = Field(description="Of the cost of the whole fleet.", examples=[0.41])


class BudgetAnswer(Strict):
    """A budget, and what will have been spent at the end of its period."""

    id: str = Field(examples=["fleet"])
    filter: dict[str, str]
    as_of: datetime | None = Field(description="Null before its first evaluation.")
    state: Literal["ok", "projected", "exceeded", "unknown"]
    reasons: list[str] = Field(examples=[["no_interval"]])
    period_start: datetime | None
    period_end: datetime | None
    budget_usd: float | None = Field(examples=[5000.0])
    spent_usd: float | None
    projected_usd: float | None = Field(description="At the end of the period.")
    low_usd: float | None = Field(description="Interval of it; null where it cannot be told.")
    high_usd: float | None
    method: str = Field(description="previous_week, linear or none.")
    last_hour_usd: float | None
    budget_per_hour_usd: float | None
    measured_share: float | None = Field(description="Share of traffic whose cost is known.")


class KeySpendAnswer(Strict):
    """What one user or tenant spent in the window of a limit."""

    key: str = Field(examples=["acme"])
    spent_usd: float = Field(examples=[21.4])
    share: float = Field(description="Of the limit.", examples=[1.07])
    above_since: datetime | None = Field(description="Null where it is not above the limit.")


class SpendLimitAnswer(Strict):
    """A spend limit, and who is near it or above it."""

    id: str = Field(examples=["user-day"])
    by: Literal["user_hash", "tenant"]
    window_s: int = Field(examples=[86400])
    limit_usd: float = Field(examples=[20.0])
    as_of: datetime | None = Field(description="End of the window; null before the first look.")
    above: int | None = Field(description="How many are above the limit, listed or not.")
    keys: list[KeySpendAnswer] = Field(
        description="From half of the limit on, those above it first; at most 100."
    )


class ForecastAnswer(Strict):
    """When the fleet is full; times are seconds from history_end."""

    id: str = Field(examples=["chat"])
    filter: dict[str, str]
    as_of: datetime | None = Field(description="Null before its first evaluation.")
    state: Literal["saturated", "saturates", "not_within_horizon", "unknown"]
    reason: str = Field(description="Why it is unknown, or which signal is full now.")
    history_end: datetime | None
    horizon_s: int | None = Field(
        description="How far it looked; history may carry less than asked."
    )
    estimate_s: int | None = Field(description="Expected time until the fleet is full.")
    low_s: int | None = Field(description="Lower end of its interval.")
    high_s: int | None = Field(description="Upper end; null where it lies beyond the horizon.")
    signal: str | None = Field(description="The utilisation that is full first.")
    load: float | None = Field(description="Expected load now, per second.")
    saturating_load: float | None = Field(
        description="Load at which the fleet is full, per second."
    )
    saturating_load_low: float | None
    saturating_load_high: float | None
    daily: bool | None = Field(description="Whether there was history enough for a daily cycle.")
    steps: int | None = Field(description="Length of the history.")


class CostsAnswer(Strict):
    """Where the money goes, and whether the plan holds."""

    window: str = Field(examples=["7d"])
    as_of: datetime | None = Field(description="End of the window.")
    total: SpendAnswer | None = Field(description="The fleet; null before the first window.")
    spend: dict[str, list[SpendAnswer]] = Field(description="By grouping set, dearest first.")
    budgets: list[BudgetAnswer]
    spend_limits: list[SpendLimitAnswer]
    forecasts: list[ForecastAnswer]


Body = dict[str, Any]
