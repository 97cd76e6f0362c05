"""Stability: variation and drift within one run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .offline import GateOnFiles, SeriesMetric, check_names


class StabilityMetric(SeriesMetric):
    """A series that should neither scatter nor drift."""

    max_cv: float = Field(gt=0, lt=1, description="Coefficient of variation of the blocks.")
    max_drift_ratio: float = Field(
        gt=0, lt=1, description="Change from the run's start to its end, either way."
    )


class StabilityGate(GateOnFiles):
    """Did the run stay what it was?"""

    kind: Literal["stability"] = "stability"
    metrics: tuple[StabilityMetric, ...] = Field(min_length=1)
    warmup: int = Field(0, ge=0, description="Values left out at the start.")
    block: int | None = Field(
        None, ge=1, description="Values of a block. Default: ten autocorrelation times."
    )
    min_blocks: int = Field(20, ge=8, description="Blocks below which there is no PASS.")
    max_burst_ratio: float = Field(
        0.1, gt=0, lt=1, description="Share of pairs of blocks that may differ by three times."
    )
    max_stall_ratio: float = Field(
        20.0, gt=1, description="Longest value of a time, against the run's median."
    )
    max_failed_ratio: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _decidable(self) -> StabilityGate:
        check_names([m.name for m in self.metrics], [m.critical for m in self.metrics])
        return self
