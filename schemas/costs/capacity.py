"""When does a fleet saturate: what is taken as full, and how far ahead to look."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .values import Name, Scope, Section


class CapacityForecast(Section):
    """A forecast of one model, one version of it, or the fleet.

    Attributes:
        load: what grows: completed requests, or tokens in and out.
        max_batch_fill, max_kv_cache_usage, max_gpu_utilization: mean shares that count as full; null
            leaves a signal out.
        max_queue_depth: mean waiting requests per engine step from which the fleet is saturated
            now; null leaves it out.
        horizon_s: how far ahead to look; never further than the history carries (docs/costs.md).
        level: confidence level of the interval.
    """

    id: Name
    filter: Scope = Scope()
    load: Literal["requests_per_s", "tokens_per_s"] = "tokens_per_s"
    max_batch_fill: float | None = Field(0.95, gt=0, le=1)
    max_kv_cache_usage: float | None = Field(0.9, gt=0, le=1)
    max_gpu_utilization: float | None = Field(0.95, gt=0, le=1)
    max_queue_depth: float | None = Field(None, gt=0)
    horizon_s: int = Field(14 * 86400, ge=60)
    level: float = Field(0.9, gt=0.5, lt=1)

    @model_validator(mode="after")
    def _has_signals(self) -> CapacityForecast:
        if not self.limits:
            raise ValueError("give at least one of the limits that tell when the fleet is full")
        if self.filter.grouping not in ("fleet", "model", "model_version"):
            raise ValueError("engine steps have no route and no tenant")
        return self

    @property
    def limits(self) -> dict[str, float]:
        """The utilisation signals in use and the share from which each is full."""
        named = {
            "batch_fill": self.max_batch_fill,
            "kv_cache_usage": self.max_kv_cache_usage,
            "gpu_utilization": self.max_gpu_utilization,
        }
        return {name: limit for name, limit in named.items() if limit is not None}
