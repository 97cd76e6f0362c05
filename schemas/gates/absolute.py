"""The absolute gate: limits on one release."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .base import InnerRatio, LatencyField, Model, SequentialGate, SliceFilter


class LatencyLimit(Model):
    """A latency quantile must not exceed a limit: `p95 of ttft_ms <= 1200`.

    Tested as a rate: the share of requests above the limit is at most 1 - quantile.
    """

    metric: Literal["latency"] = "latency"
    field: LatencyField = "latency_ms"
    quantile: float = Field(0.95, ge=0.001, le=0.999999)
    max_ms: float = Field(gt=0)
    critical: bool = True

    @property
    def name(self) -> str:
        """Name of the metric in evidence, such as `ttft_ms_p95`."""
        return f"{self.field}_p{self.quantile * 100:g}"


class RateLimit(Model):
    """A share of requests must not exceed a limit: errors, or safety violations."""

    metric: Literal["error_rate", "safety_rate"]
    max_ratio: InnerRatio
    critical: bool = True

    @property
    def name(self) -> str:
        """Name of the metric in evidence."""
        return self.metric


class CostLimit(Model):
    """Cost per 1,000 tokens (input and output) must not exceed a limit.

    Tested as the mean of cost - limit * tokens per request, each value capped at +- cap_usd.
    """

    metric: Literal["cost_per_1k_tokens_usd"] = "cost_per_1k_tokens_usd"
    max_usd: float = Field(gt=0)
    cap_usd: float = Field(
        gt=0, description="No request is taken to cost more than this above plan."
    )
    critical: bool = True

    @property
    def name(self) -> str:
        """Name of the metric in evidence."""
        return self.metric


MetricLimit = Annotated[LatencyLimit | RateLimit | CostLimit, Field(discriminator="metric")]


class AbsoluteGate(SequentialGate):
    """Limits on one release, each with a confidence statement (docs/gates.md).

    `min_units` counts requests.
    """

    kind: Literal["absolute"] = "absolute"
    filter: SliceFilter = SliceFilter()
    metrics: tuple[MetricLimit, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _decidable(self) -> AbsoluteGate:
        names = [limit.name for limit in self.metrics]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"one limit per metric: {', '.join(repeated)}")
        if not any(limit.critical for limit in self.metrics):
            raise ValueError("at least one metric must be critical: advisory ones never decide")
        return self
