"""Shapes of what a verdict rests on."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from .gates_models import Verdict
from .models import Strict


class CountsShown(Strict):
    """What one arm counted."""

    n: int = Field(description="Units or requests.")
    bad: int | None = Field(description="Of them; null of a mean or a quantile.")


class ArmShown(Strict):
    """Counts of one arm: as the verdict has them, and as the SQL finds them now."""

    arm: str = Field(description="treatment, control, or all where there is one.")
    evidence: CountsShown
    found: CountsShown
    examples: list[str] = Field(
        description="Bad requests (of a mean, the worst), at most 5: request_id, or boot_id:seq."
    )


class SliceShown(Strict):
    """Rows that make the treatment worse."""

    dimension: str = Field(examples=["route"])
    value: str
    effect: float = Field(description="What it adds to the difference of the arms, in `unit`.")
    power: float | None = Field(description="Share of the whole difference; null of one arm.")
    n: float = Field(description="Rows of the treatment; of a cost per token, thousands of tokens.")
    bad: float = Field(description="Bad ones; of a mean, the sum of the values.")
    n_control: float
    bad_control: float


class MetricShown(Strict):
    """One metric of the verdict."""

    metric: str
    declared: str
    decision: str
    reproduces: bool = Field(description="Whether the SQL finds the counts of the evidence.")
    note: str = Field(description="Why not, or what to know; empty where there is nothing.")
    late_rows: int | None = Field(
        description="Rows of that time that came after their second had closed; null of a budget."
    )
    sql: str = Field(description="To paste into clickhouse-client.")
    arms: list[ArmShown]
    unit: str = Field(description="Of `effect`.")
    slices: list[SliceShown] = Field(description="Those that contribute most, at most 5.")


class EvidenceAnswer(Strict):
    """What the newest verdict of an epoch rests on. Without a stored verdict, nulls."""

    gate: str
    kind: str
    epoch: int | None
    verdict: Verdict | None
    as_of: datetime | None = Field(description="End of the last cell or block counted.")
    start: datetime | None = Field(description="Where the epoch began; null of a budget.")
    spec_hash: str
    engine: str | None
    digest: str | None
    reproduces: bool | None = Field(description="Whether every metric does; null without any.")
    metrics: list[MetricShown]
    told: dict[str, Any] | None = Field(description="The verdict as it was stored.")
