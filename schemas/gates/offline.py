"""What gates on files have in common: parity, perf, shadow, stability and training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .base import Alpha, Model, Policies

Direction = Literal["higher", "lower"]
Statistic = Literal["mean", "median", "p90", "p95", "p99", "per_s"]


class GateOnFiles(Policies):
    """A gate that is asked once, about finished files: its deadline is now, so policies apply.

    FAIL splits alpha_fail over the critical metrics; PASS needs every one of them at alpha_pass.
    """

    run: str | None = Field(None, description="File of the new build, relative to this file.")
    baseline: str | None = Field(None, description="File it is compared with.")
    alpha_fail: Alpha = 0.01
    alpha_pass: Alpha = 0.05


class SeriesMetric(Model):
    """A series of a run, cut into blocks; each block is one unit."""

    metric: str = Field(min_length=1, description="Name of the series, such as step_ms.")
    statistic: Statistic = Field(
        "mean", description="Of a block. per_s: its sum by the time that the block took."
    )
    critical: bool = True

    @property
    def name(self) -> str:
        """Name of the metric in evidence, such as `ttft_ms_p95`."""
        return self.metric if self.statistic == "mean" else f"{self.metric}_{self.statistic}"


class PairedMetric(Model):
    """A score that both builds have for every item; the loss per item is what is tested."""

    metric: str = Field(min_length=1, description="Column of the score.")
    kind: Literal["binary", "score"] = "binary"
    direction: Direction = "higher"
    margin: float = Field(ge=0, description="Largest mean loss per item, in the metric's own unit.")
    fail_above: float | None = Field(
        None,
        ge=0,
        description="Mean loss that a FAIL must exceed: the margin; 0 is McNemar's test.",
    )
    range: tuple[float, float] = Field((0.0, 1.0), description="Where scores lie.")
    critical: bool = True

    @property
    def name(self) -> str:
        """Name of the metric in evidence."""
        return self.metric

    @property
    def width(self) -> float:
        """The largest possible loss of an item."""
        return self.range[1] - self.range[0]


def check_names(names: list[str], criticals: list[bool]) -> None:
    """Each metric once, and one that decides.

    Raises:
        ValueError: otherwise.
    """
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"one entry per metric: {', '.join(repeated)}")
    if not any(criticals):
        raise ValueError("at least one metric must be critical: advisory ones never decide")
