"""The rollback gate: always on after a release, the inverse of a canary gate."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .absolute import LatencyLimit, RateLimit
from .base import Arm, LivePolicies, Model


class AcceptanceDrop(Model):
    """Acceptance must not fall more than `sigmas` below its baseline.

    The baseline is the mean of the baseline arm's first `baseline_blocks` minutes with feedback, and
    sigma the spread of those minutes: how far acceptance moves by itself.
    """

    metric: Literal["acceptance_drop"] = "acceptance_drop"
    sigmas: float = Field(3.0, gt=0)
    baseline_blocks: int = Field(60, ge=10)
    critical: Literal[True] = True

    @property
    def name(self) -> str:
        """Name of the metric in evidence."""
        return self.metric


RollbackLimit = Annotated[LatencyLimit | RateLimit | AcceptanceDrop, Field(discriminator="metric")]


class RollbackGate(LivePolicies):
    """Must the release go back? It never passes: FAIL, or still watching (docs/gates.md).

    A limit fails where it is broken in the first and the newest minute of the last `for_s` seconds and
    over all of them, and the e-detector says that it is no chance: a release that keeps its limits
    fails within 30 days with probability at most `alpha_fail`, split over the limits, however old it is.

    Attributes:
        treatment: the release that is watched.
        baseline: what acceptance is compared with; needed for it only.
        limits: what must hold.
        for_s: how long a limit must be broken.
    """

    kind: Literal["rollback"] = "rollback"
    treatment: Arm
    baseline: Arm | None = None
    limits: tuple[RollbackLimit, ...] = Field(min_length=1)
    for_s: int = Field(300, ge=60, le=86400, multiple_of=60)
    alpha_fail: float = Field(0.01, gt=0, lt=0.5)
    mature_s: int = Field(60, ge=0, le=86400)
    deadline_s: None = None

    @model_validator(mode="after")
    def _fits(self) -> RollbackGate:
        names = [limit.name for limit in self.limits]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"one limit per metric: {', '.join(repeated)}")
        if not all(limit.critical for limit in self.limits):
            raise ValueError("every limit of a rollback gate is critical: leave others out")
        if "acceptance_drop" in names and self.baseline is None:
            raise ValueError("acceptance_drop needs a baseline arm, such as release: r41")
        return self
