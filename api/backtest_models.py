"""What POST /v1/gates/{id}/backtest takes and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from .gates_models import Verdict
from .models import Strict


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ChangeBody(_Body):
    """What is done to requests, as a worse release would."""

    latency_times: float = Field(
        1.0, gt=0, le=1000, description="Every latency is multiplied by it."
    )
    cost_times: float = Field(1.0, gt=0, le=1000, description="Every cost is multiplied by it.")
    error_ratio: float = Field(0.0, ge=0, le=1, description="Share of requests that become errors.")
    safety_ratio: float = Field(0.0, ge=0, le=1, description="Share that get a safety flag.")

    @model_validator(mode="after")
    def _changes_something(self) -> ChangeBody:
        if self == ChangeBody.model_construct():
            raise ValueError("say what changes, such as latency_times: 1.1 or error_ratio: 0.01")
        return self


class BacktestBody(_Body):
    """Which history, and what is done with it."""

    mode: Literal["aa", "inject", "past"]
    start: AwareDatetime = Field(description="Of the history, in event time.")
    end: AwareDatetime
    spec: dict[str, Any] | None = Field(
        None, description="A gate that is not in the configuration yet, as an entry of `gates:`."
    )
    change: ChangeBody | None = Field(None, description="Of inject.")
    runs: int = Field(200, ge=1, le=5000, description="Of aa and inject.")
    max_s: float = Field(60.0, gt=0, le=900, description="Runs begin for so many seconds at most.")
    seed: int = Field(1, ge=0, lt=2**31)
    share: float | None = Field(
        None, gt=0, lt=1, description="Of the treatment; that of the gate, or 0.5."
    )
    life_s: int | None = Field(
        None, ge=1, description="How long each run goes on; the gate's deadline, or all of it."
    )

    @model_validator(mode="after")
    def _fits(self) -> BacktestBody:
        if self.end <= self.start:
            raise ValueError("start comes before end")
        if (self.mode == "inject") != (self.change is not None):
            raise ValueError("change is of inject, which needs it")
        return self


class ToldAnswer(Strict):
    """How often one verdict was told, and how soon."""

    verdict: Verdict
    runs: int
    share: float
    low: float = Field(description="Exact 95 % interval of the share.")
    high: float
    median_s: float | None = Field(
        description="Event time until half of all runs had told it, from the change on; null where "
        "they had not."
    )
    median_low_s: float | None = Field(description="95 % interval of the median.")
    median_high_s: float | None
    delays_s: list[float] = Field(description="Of each run that told it, ascending.")


class RunsAnswer(Strict):
    """Runs over parts of the history."""

    made: int = Field(description="Fewer than asked for where the time of an answer was over.")
    asked: int
    lives: int = Field(description="Stretches of history that the runs take turns on.")
    life_s: int
    share: float | None = Field(description="Of the treatment; null for a gate with one arm.")
    seed: int
    early: int = Field(description="Runs that failed before their change: false alarms.")
    table: list[ToldAnswer]
    open_reasons: dict[str, int] = Field(description="Of runs without PASS or FAIL.")


class PastAnswer(Strict):
    """One release, as the gate would have met it."""

    start: datetime
    end: datetime
    release: str | None
    delay_s: float | None = Field(description="Of PASS or FAIL, from start on.")
    told: dict[str, Any] = Field(description="The answer at its end, evidence included.")


class BacktestAnswer(Strict):
    """What a gate would have said."""

    gate: str
    kind: str
    mode: str
    spec_hash: str
    start: datetime = Field(description="Of the first block, which is whole.")
    end: datetime
    blocks: int
    block_s: int
    units: int = Field(description="Units of the history that was read.")
    alpha_fail: float
    runs: RunsAnswer | None = Field(description="Of aa and inject.")
    past: list[PastAnswer] = Field(description="Of past.")
