"""Streaming detectors: which metric of which slices one watches, and how it is configured."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

from pydantic import Field, model_validator

from ..alerts.base import Id
from ..alerts.metrics import WINDOWS_S
from ..alerts.rules import AlertRule, Grouping, MetricName, Scope, Threshold
from .thresholds import Model

Option = int | float | bool | str


class SeriesDetector(Model):
    """One detector per slice on a metric of `windows`, a value per window.

    Windows do not overlap: a detector takes values as independent. Slices are named as in alert rules.
    `options` are arguments of the detector (docs/drift.md).
    """

    id: Id
    metric: MetricName
    window: Literal["1m", "5m", "30m", "1h", "1d"] = "1m"
    filter: Scope = Scope()
    by: Grouping | None = None
    detector: Literal[
        "zscore", "performance", "adwin", "page_hinkley", "change_point", "record"
    ] = "record"
    options: dict[str, Option] = Field(default_factory=dict)
    min_requests: int = Field(1, ge=1, description="Rows of a window below which it has no value.")
    hold_s: int = Field(
        3600, ge=0, description="For how long after an alarm the signal says that it is broken."
    )

    @cached_property
    def rule(self) -> AlertRule:
        """A rule about the same metric of the same slices, which says whether these go together."""
        condition = Threshold(metric=self.metric, window=self.window, op=">", value=0)
        return AlertRule(id=self.id, filter=self.filter, by=self.by, condition=condition)

    @property
    def length_s(self) -> int:
        """Length of its windows."""
        return WINDOWS_S[self.window]

    @model_validator(mode="after")
    def _fits(self) -> SeriesDetector:
        assert self.rule
        return self
