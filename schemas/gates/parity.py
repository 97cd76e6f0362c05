"""Parity: evaluation results of two builds, paired per item."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .base import Model
from .offline import GateOnFiles, PairedMetric, check_names


class TokenParity(Model):
    """Share of an item's tokens (of its text's words where there are none) that differ."""

    kind: Literal["tokens"]
    metric: str = Field("tokens", description="Column of the tokens or of the text.")
    max_mismatch_ratio: float = Field(gt=0, lt=1, description="Largest mean share per item.")
    critical: bool = True

    @property
    def name(self) -> str:
        """Name of the metric in evidence."""
        return f"{self.metric}_mismatch"


class PairedParity(PairedMetric):
    """A score of both builds for the same item."""

    @model_validator(mode="after")
    def _in_range(self) -> PairedParity:
        if self.width <= 0 or self.margin >= self.width:
            raise ValueError("range must be (low, high), and margin smaller than its width")
        return self


class ParityGate(GateOnFiles):
    """Is the new build as right as the baseline on the same questions?"""

    kind: Literal["parity"] = "parity"
    metrics: tuple[Annotated[TokenParity | PairedParity, Field(discriminator="kind")], ...] = Field(
        min_length=1
    )
    item: str = Field("item_id", description="Column that pairs the two files.")
    items: int | None = Field(None, ge=1, description="Size of the fixed question set.")
    max_missing_ratio: float = Field(
        0.0, ge=0, lt=1, description="Share of items that one file may lack; they count as lost."
    )
    min_units: int = Field(30, ge=1, description="Items below which there is no PASS.")

    @model_validator(mode="after")
    def _decidable(self) -> ParityGate:
        check_names([m.name for m in self.metrics], [m.critical for m in self.metrics])
        return self
