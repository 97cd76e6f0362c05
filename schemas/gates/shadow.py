"""Shadow: mirrored traffic, paired by request."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .offline import GateOnFiles, PairedMetric, check_names


class ShadowGate(GateOnFiles):
    """Would users have been served as well by the new build, on their own requests?"""

    kind: Literal["shadow"] = "shadow"
    metrics: tuple[PairedMetric, ...] = Field(min_length=1)
    pair: str = Field("pair_id", description="Column that pairs a request and its mirrored twin.")
    slices: tuple[str, ...] = Field((), description="Columns; each value is tested by itself.")
    min_units: int = Field(100, ge=1, description="Pairs below which there is no PASS.")
    min_slice_units: int = Field(30, ge=1, description="Pairs below which a slice is not told.")
    max_unpaired_ratio: float = Field(
        0.01, ge=0, lt=1, description="Share of requests without a twin."
    )
    sigma: float = Field(3.0, gt=1, description="Drop that counts, in spreads of baseline blocks.")
    block: int = Field(25, ge=1, description="Pairs of a block, in the order of time.")

    @model_validator(mode="after")
    def _decidable(self) -> ShadowGate:
        check_names([m.name for m in self.metrics], [m.critical for m in self.metrics])
        for metric in self.metrics:
            if metric.width <= 0 or metric.margin >= metric.width:
                raise ValueError("range must be (low, high), and margin smaller than its width")
        return self
