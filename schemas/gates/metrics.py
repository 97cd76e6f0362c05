"""Metrics of two arms: what is compared, and by how much the treatment may be worse."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from .base import InnerRatio, LatencyField, Model

BIN_SHARE = 4
"""Latencies of gates are read in bins of a quarter of the sketch's, so of about 0.5 % each."""
MIN_BINS = 2
_LOG_GAMMA = 0.020000666706669435
"""ln(1.01 / 0.99), the width of a sketch bin; streams/core/sketch.py has the same, and a test says so."""


class TwoArmMetric(Model):
    """A metric with a margin, which has no default: what is too much depends on what is served.

    Attributes:
        margin_ratio: treatment over control that is still allowed.
        margin_absolute: treatment less control that is still allowed, in the metric's unit.
        critical: whether it decides; advisory metrics are told and never do.
    """

    margin_ratio: float | None = Field(None, ge=1, le=100)
    margin_absolute: float | None = Field(None, gt=0)
    critical: bool = True

    @model_validator(mode="after")
    def _one_margin(self) -> TwoArmMetric:
        if (self.margin_ratio is None) == (self.margin_absolute is None):
            raise ValueError("give either margin_ratio (such as 1.5) or margin_absolute")
        return self


class RateMetric(TwoArmMetric):
    """A share of units that are bad: any of a unit's requests is.

    With a ratio margin a metric without any bad unit cannot pass on its ratio: `floor_ratio` lets the
    treatment pass where its own rate is shown to be below that.
    """

    metric: Literal["error_rate", "timeout_rate", "safety_rate", "unaccepted_rate"]
    floor_ratio: InnerRatio | None = None

    @property
    def name(self) -> str:
        """Name of the metric in evidence."""
        return self.metric

    @model_validator(mode="after")
    def _fits(self) -> RateMetric:
        if self.margin_absolute is not None and self.margin_absolute >= 1:
            raise ValueError("margin_absolute of a rate is a share below 1, such as 0.002")
        if self.margin_absolute is not None and self.floor_ratio is not None:
            raise ValueError("floor_ratio goes with margin_ratio; an absolute margin needs none")
        return self


class LatencyMetric(TwoArmMetric):
    """A latency quantile, by ratio; requests that are overdue count above every limit.

    `unit` is what is taken as independent: worker_block, the share below x of one worker (or group
    of workers) in one block of time; or request, where the operator knows that requests are.
    """

    metric: Literal["latency"] = "latency"
    field: LatencyField = "latency_ms"
    quantile: float = Field(0.95, ge=0.01, le=0.9999)
    unit: Literal["worker_block", "request"] = "worker_block"

    @property
    def name(self) -> str:
        """Name of the metric in evidence, such as `ttft_ms_p95`."""
        return f"{self.field}_p{self.quantile * 100:g}"

    @model_validator(mode="after")
    def _fits(self) -> LatencyMetric:
        if self.margin_ratio is None:
            raise ValueError("a latency has a margin_ratio: quantiles are compared by ratio")
        if whole_bins(self.margin_ratio) < MIN_BINS:
            raise ValueError("margin_ratio of a latency is at least 1.0101: two bins of 0.5 %")
        return self


class MeanMetric(TwoArmMetric):
    """A mean per request of values in 0..cap, or the ratio of two sums (cost per 1,000 tokens).

    Values above `cap` count as the cap, and the share of them is tested as a rate of its own with
    `cap_margin_ratio` (the ratio margin unless given) and `cap_floor_ratio`. A quality score is in
    0..cap by definition, and better when higher.
    """

    metric: Literal["cost_usd", "cost_per_1k_tokens_usd", "quality"]
    cap: float = Field(gt=0, description="Largest value of a request: USD, or the best score.")
    cap_tokens: int | None = Field(None, ge=1, description="Tokens of the longest request.")
    cap_margin_ratio: float | None = Field(None, ge=1, le=100)
    cap_floor_ratio: InnerRatio = 0.001
    unit: Literal["worker_block", "request"] = "worker_block"

    @property
    def name(self) -> str:
        """Name of the metric in evidence."""
        return self.metric

    @property
    def higher_is_better(self) -> bool:
        """Whether more is good."""
        return self.metric == "quality"

    @model_validator(mode="after")
    def _fits(self) -> MeanMetric:
        per_token = self.metric == "cost_per_1k_tokens_usd"
        if per_token and self.cap_tokens is None:
            raise ValueError("cost_per_1k_tokens_usd needs cap_tokens, the tokens of a request")
        if per_token and self.margin_ratio is None:
            raise ValueError("cost_per_1k_tokens_usd is compared by margin_ratio")
        if self.margin_absolute is not None and self.margin_absolute >= self.cap:
            raise ValueError("margin_absolute must be below cap")
        if self.metric == "cost_usd" and self.margin_ratio is None and not self.cap_margin_ratio:
            raise ValueError("give cap_margin_ratio, for the share of requests above the cap")
        return self


Metric = Annotated[RateMetric | LatencyMetric | MeanMetric, Field(discriminator="metric")]


def whole_bins(ratio: float, share: int = BIN_SHARE) -> int:
    """Bins that a ratio spans, rounded down.

    Args:
        ratio: at least 1.
        share: bins per bin of the sketch.

    >>> whole_bins(1.05, 1), round(ratio_of(2, 1), 3)
    (2, 1.041)
    """
    return math.floor(math.log(ratio) * share / _LOG_GAMMA + 1e-9)


def ratio_of(bins: int, share: int = BIN_SHARE) -> float:
    """The ratio that so many bins span."""
    return math.exp(bins * _LOG_GAMMA / share)
