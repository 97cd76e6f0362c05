"""Objectives: a target for an indicator over a window, and several of them as one."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from pydantic import Field, model_validator

from .base import EVERYTHING, Id, InnerShare, Model, Share, SloFilter, percent
from .burn import WORKBOOK, BurnRate, BurnRule, Window, rule_of, unreachable
from .sli import LatencyQuantile, OfMinutes, Ratio, Sli, phrase


class Objective(Model):
    """A target share of good events (or minutes) over a window.

    `target` of a latency quantile is the quantile. Windows of days roll; `week` (from Monday),
    `month` and `quarter` follow the calendar in UTC. Without `burn_rates` the rules are those of
    the SRE Workbook, as far as they can be reached.
    """

    id: Id
    description: str = ""
    service: str = ""
    filter: SloFilter = EVERYTHING
    sli: Sli
    target: InnerShare | None = None
    window: Window = "30d"
    min_coverage: Share = Field(
        Decimal("0.99"), description="Share of the traffic below which the state is unknown."
    )
    at_risk: InnerShare = Field(
        Decimal("0.75"), description="Consumed share of the budget from which it is at risk."
    )
    time_slice_target: InnerShare | None = Field(
        None, description="Count minutes: one is good where this share of its events is."
    )
    burn_rates: tuple[BurnRate, ...] | None = None
    notify: tuple[str, ...] = Field(
        (), description="Receivers of its alerts; without any, those of alerts.route."
    )

    @model_validator(mode="after")
    def _complete(self) -> Objective:
        if isinstance(self.sli, LatencyQuantile) and self.time_slice_target is None:
            if self.target not in (None, self.sli.quantile):
                raise ValueError("the target of a latency quantile is the quantile: leave it out")
        elif self.target is None:
            raise ValueError("target is missing")
        if isinstance(self.sli, OfMinutes) and self.time_slice_target is not None:
            raise ValueError(f"{self.sli.kind} counts minutes already: no time_slice_target")
        if self.of_minutes and self.window in ("month", "quarter"):
            raise ValueError(
                "minutes are counted over at most 30 days, because they are kept that long"
            )
        return self

    @model_validator(mode="after")
    def _one_place(self) -> Objective:
        if isinstance(self.sli, Ratio):
            for count in self.sli.counts:
                if count.filter is not None and count.filter.group != self.filter.group:
                    raise ValueError(
                        "the filters of a ratio must share the model, route or tenant of the"
                        " objective's filter: they are evaluated together"
                    )
        return self

    @model_validator(mode="after")
    def _reachable(self) -> Objective:
        for rate in self.burn_rates or ():
            reason = unreachable(rule_of(rate, self.window), self.budget)
            if reason:
                raise ValueError(reason)
        return self

    @property
    def of_minutes(self) -> bool:
        """Whether good and bad are minutes, not events."""
        return isinstance(self.sli, OfMinutes) or self.time_slice_target is not None

    @property
    def budget(self) -> Fraction:
        """Share that may be bad, exactly: 1 - target."""
        if self.target is None:
            assert isinstance(self.sli, LatencyQuantile)
            return 1 - Fraction(self.sli.quantile)
        return 1 - Fraction(self.target)

    @property
    def rules(self) -> tuple[BurnRule, ...]:
        """Its burn-rate rules: those that are configured, or the Workbook's that can be reached."""
        rates = WORKBOOK if self.burn_rates is None else self.burn_rates
        rules = (rule_of(rate, self.window) for rate in rates)
        return tuple(rule for rule in rules if unreachable(rule, self.budget) is None)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Why default rules were left out, for `penstock check`."""
        reasons = (unreachable(rule_of(rate, self.window), self.budget) for rate in WORKBOOK)
        return tuple(reason for reason in reasons if reason and self.burn_rates is None)

    @property
    def declared(self) -> str:
        """What is asked for, as a person would say it."""
        text = phrase(self.sli, percent(1 - self.budget), percent(self.budget))
        if self.time_slice_target is None:
            return text
        text = phrase(
            self.sli, percent(self.time_slice_target), percent(1 - self.time_slice_target)
        )
        return f"{text}, in {percent(1 - self.budget)} of minutes"


class Composite(Model):
    """Overall compliance: a share of several objectives that must be kept."""

    id: Id
    description: str = ""
    of: tuple[Id, ...] = Field(min_length=1, description="Ids of objectives.")
    target: Share = Field(Decimal(1), gt=0, description="Share of them that must be kept.")

    @model_validator(mode="after")
    def _once(self) -> Composite:
        if len(set(self.of)) < len(self.of):
            raise ValueError("an objective is named twice")
        return self
