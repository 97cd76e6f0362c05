"""Shapes of what gates are asked and told, beside the verdict itself (api/models.py)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from ..schemas.alerts.base import Moment
from .models import OverrideShown, Strict

GateId = Annotated[str, Path(max_length=64, examples=["canary"])]
OverrideAction = Literal["promote", "rollback", "hold"]
Verdict = Literal["PASS", "FAIL", "UNDECIDED", "NO_DATA", "INVALID"]


class OverrideBody(BaseModel):
    """An order; give `until` or `duration_s`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: OverrideAction
    who: str = Field(min_length=1, max_length=200, examples=["ann"])
    reason: str = Field(min_length=1, max_length=1000, examples=["a broken client, INC-412"])
    until: Moment | None = None
    duration_s: int | None = Field(None, ge=1, le=30 * 86_400, examples=[7200])


class ResetBody(BaseModel):
    """Why everything shall start again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    who: str = Field(min_length=1, max_length=200, examples=["ann"])
    reason: str = Field(min_length=1, max_length=1000, examples=["the load test is over"])


class OverrideAnswer(Strict):
    """The override in force, null once it is ended."""

    gate: str
    override: OverrideShown | None


class ResetAnswer(Strict):
    """The reset is stored; the next epoch begins within a second."""

    gate: str
    epoch: int = Field(description="The epoch that ends. Wait for a higher one.")


class Differing(Strict):
    """A stored verdict that is not what its evidence gives."""

    stored: dict[str, Any]
    again: dict[str, Any] | None = Field(description="null where its evidence is not stored.")


class ReplayAnswer(Strict):
    """Stored verdicts of one epoch, computed again from what the gate counted."""

    gate: str
    epoch: int
    spec_hash: str
    verdicts: int = Field(description="How many are stored of this version of the engine.")
    same: int = Field(description="How many of them are the same to the last byte.")
    differing: list[Differing] = Field(description="The others, at most 20.")


class StoredVerdict(Strict):
    """A verdict as it was stored; what was never told is not in it."""

    as_of: datetime
    epoch: int
    verdict: Verdict
    digest: str
    told: dict[str, Any] = Field(description="The whole answer of that moment, evidence included.")


class HistoryAnswer(Strict):
    """Stored verdicts of one epoch, oldest first."""

    gate: str
    epoch: int | None = Field(description="null where nothing was stored.")
    step_s: int = Field(description="One verdict per so many seconds of event time.")
    verdicts: list[StoredVerdict]


class EpochAnswer(Strict):
    """One life of a gate, from a release or reset to the next."""

    epoch: int
    first: datetime
    last: datetime
    verdict: Verdict = Field(description="The last one.")
    n: int = Field(description="Requests at its end.")
    changes: int = Field(description="How often the verdict changed.")
    seen: dict[str, int] = Field(
        description="Stored verdicts by name.", examples=[{"UNDECIDED": 40, "PASS": 2}]
    )
    told: dict[str, Any] = Field(description="The last answer, evidence included.")


class EpochsAnswer(Strict):
    """Epochs of a gate, newest first, under whatever specification they had."""

    gate: str
    epochs: list[EpochAnswer]


class _Why(Strict):
    verdict: Verdict
    action: str
    text: str
    reasons: list[str]
    release: str | None
    epoch: int
    override: OverrideShown | None
    n_needed: int | None
    eta_s: float | None
    next_poll_ms: int


class StatusAnswer(_Why):
    """One word for scripts, and why."""

    status: Literal["in_progress", "pass", "fail"]


class HookAnswer(_Why):
    """What a hook is told, and why."""

    hook: str
    ok: bool


class _Camel(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


class StartedAnswer(_Camel):
    """What Kayenta answers to a start."""

    canary_execution_id: str = Field(examples=["canary@3"])


class ExecutionAnswer(_Camel):
    """As Kayenta's CanaryExecutionStatusResponse; `result` comes with the decision."""

    pipeline_id: str
    application: str
    config_id: str
    stage_status: dict[str, str]
    complete: bool
    status: Literal["running", "succeeded", "canceled"]
    build_time_iso: str
    start_time_iso: str
    end_time_iso: str | None = None
    result: dict[str, Any] | None = None


class GoodReleaseAnswer(Strict):
    """A release that passed."""

    model: str
    release: str = Field(examples=["r41"])
    model_version: str | None
    since: datetime = Field(description="Time of its first marker.")
    gates: list[str] = Field(description="Those that passed it.", examples=[["canary"]])


class CreatedAnswer(Strict):
    """The version of the configuration that has the gate."""

    gate: str
    version: int = Field(description="Of the configuration now in force.", examples=[4])
    dry_run: bool
    changes: dict[str, Any] = Field(description="As of POST /v1/config.")
