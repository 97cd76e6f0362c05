"""Training: did the run learn, and did it stay healthy?"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .offline import Direction, GateOnFiles, SeriesMetric, Statistic, check_names

_BETTER: dict[str, Direction] = {
    "loss": "lower",
    "grad_norm": "lower",
    "step_ms": "lower",
    "mfu": "higher",
    "tokens_per_s": "higher",
}


class TrainingMetric(SeriesMetric):
    """A series that must not become more than so many times worse."""

    statistic: Statistic = "median"
    direction: Direction | None = Field(
        None, description="Which way is better; known for loss, grad_norm, step_ms, mfu."
    )
    margin_ratio: float = Field(gt=1, le=100, description="1.1: at most 1.1 times worse.")

    @model_validator(mode="after")
    def _known(self) -> TrainingMetric:
        if self.direction is None and self.metric not in _BETTER:
            raise ValueError(f"direction of {self.metric}: higher or lower is better?")
        return self

    @property
    def name(self) -> str:
        """Name of the metric in evidence."""
        return self.metric

    @property
    def better(self) -> Direction:
        """Which way is better."""
        return self.direction or _BETTER[self.metric]


class TrainingGate(GateOnFiles):
    """PASS needs the loss shown to have fallen; a run that never trained never passes."""

    kind: Literal["training"] = "training"
    metrics: tuple[TrainingMetric, ...] = Field(min_length=1)
    loss: str = Field("loss", description="Series that must fall.")
    min_loss_drop_ratio: float = Field(
        0.01, gt=0, lt=1, description="From the first quarter of the run to the last, at least."
    )
    warmup: int = Field(0, ge=0, description="Steps left out at the start.")
    block: int = Field(10, ge=1, description="Steps of a block; longer than what makes them alike.")
    max_missing_ratio: float = Field(
        0.05, ge=0, lt=1, description="Share of the numbered steps that may be missing."
    )
    min_blocks: int = Field(40, ge=20, description="Blocks below which there is no PASS.")

    @model_validator(mode="after")
    def _decidable(self) -> TrainingGate:
        check_names([m.name for m in self.metrics], [m.critical for m in self.metrics])
        return self
