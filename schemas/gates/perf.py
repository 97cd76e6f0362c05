"""Perf: two benchmark runs, or a run against a stored baseline."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .offline import Direction, GateOnFiles, SeriesMetric, check_names


class PerfMetric(SeriesMetric):
    """At most so many times worse than the baseline."""

    direction: Direction
    margin_ratio: float = Field(ge=1, le=100, description="1.05: at most 1.05 times worse.")


class PerfGate(GateOnFiles):
    """Is the new build as fast as the baseline?"""

    kind: Literal["perf"] = "perf"
    metrics: tuple[PerfMetric, ...] = Field(min_length=1)
    warmup: int = Field(0, ge=0, description="Values left out at the start of each run.")
    block: int | None = Field(
        None, ge=1, description="Values of a block. Default: ten autocorrelation times."
    )
    min_blocks: int = Field(5, ge=2, description="Blocks of each run below which there is no PASS.")
    max_stall_ratio: float = Field(
        10.0, gt=1, description="Longest value of a time, against the baseline's longest."
    )
    max_failed_ratio: float = Field(
        0.0, ge=0, lt=1, description="Share of requests or steps that may have failed."
    )
    may_differ: tuple[str, ...] = Field(
        (), description="Conditions (model, concurrency, ...) that need not be equal."
    )

    @model_validator(mode="after")
    def _decidable(self) -> PerfGate:
        check_names([m.name for m in self.metrics], [m.critical for m in self.metrics])
        return self
