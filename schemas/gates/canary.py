"""The canary gate: a treatment against a control that runs at the same time."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .absolute import LatencyLimit, RateLimit
from .base import Arm, InnerRatio, SequentialGate
from .metrics import Metric

Stratum = Literal["prompt_length", "tenant", "route", "region", "hour"]
HealthLimit = Annotated[LatencyLimit | RateLimit, Field(discriminator="metric")]
_RATE_BLOCK_S = 10
_WORKER_BLOCK_S = 30


class CanaryGate(SequentialGate):
    """Is the treatment no worse than control, by more than a margin? (docs/gates.md)

    `min_units` counts units of each arm, and of each critical metric.

    Attributes:
        control, treatment: the arms; no request may belong to both.
        metrics: what is compared.
        unit: what rates count, at its first request: a request with its retries, a session, a user.
        mature_s: how long a unit's outcome is waited for; a block is counted that much later.
        block_s: length of a block; 30 s where a metric counts worker blocks, else 10 s.
        strata: what units are compared within, for rates by ratio; never what the treatment changes.
        share: configured share of the treatment, for the sample-ratio check; none without it.
        sample_ratio_alpha, health_alpha: error rates of the two checks over the gate's life.
        baseline_health: limits that control itself must not be shown to break.
        max_clock_skew_s: difference of the workers' clocks beyond which the comparison is invalid.
    """

    kind: Literal["canary"] = "canary"
    control: Arm
    treatment: Arm
    metrics: tuple[Metric, ...] = Field(min_length=1)
    unit: Literal["request", "session", "user"] = "request"
    mature_s: int = Field(60, ge=0, le=86400)
    block_s: int | None = Field(None, ge=10, le=3600, multiple_of=10)
    strata: tuple[Stratum, ...] = ()
    share: InnerRatio | None = None
    sample_ratio_alpha: float = Field(0.001, gt=0, lt=0.5)
    baseline_health: tuple[HealthLimit, ...] = ()
    health_alpha: float = Field(0.001, gt=0, lt=0.5)
    max_clock_skew_s: float = Field(5.0, gt=0)

    @property
    def blocks_s(self) -> int:
        """Length of a block, the default written out."""
        worker_blocks = any(getattr(m, "unit", "request") == "worker_block" for m in self.metrics)
        return self.block_s or (_WORKER_BLOCK_S if worker_blocks else _RATE_BLOCK_S)

    @model_validator(mode="after")
    def _decidable(self) -> CanaryGate:
        if self.control.overlaps(self.treatment):
            raise ValueError("control and treatment overlap: name a dimension in which they differ")
        for names in ([m.name for m in self.metrics], [m.name for m in self.baseline_health]):
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise ValueError(f"one entry per metric: {', '.join(repeated)}")
        if not any(metric.critical for metric in self.metrics):
            raise ValueError("at least one metric must be critical: advisory ones never decide")
        return self
