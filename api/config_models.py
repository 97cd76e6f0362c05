"""Shapes of the answers about the configuration."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from .models import Strict


class ChangeAnswer(Strict):
    """What changed of one part, by id or name."""

    added: list[str]
    changed: list[str] = Field(examples=[["latency-p95-high"]])
    removed: list[str]


class ChangesAnswer(Strict):
    """The difference to the configuration in force."""

    parts: dict[str, ChangeAnswer] = Field(
        description="Part of the configuration (gates, slos, alerts.rules, ...) -> what changed."
    )
    resets: list[str] = Field(
        description="What begins anew.",
        examples=[["alert rule latency-p95-high: what is open of it ends"]],
    )


class VersionAnswer(Strict):
    """A version of the configuration."""

    version: int = Field(description="0 is penstock.yaml.", examples=[3])
    action: Literal["apply", "rollback"] | None = Field(description="null for version 0.")
    rolled_back_to: int | None = Field(description="The version that a rollback took up again.")
    at: datetime | None = Field(examples=["2026-01-01T00:00:00Z"])
    who: str | None = Field(description="Name of the key.", examples=["ann (key 3f9a1c27d0b1)"])
    why: str | None = Field(examples=["p95 limit for the new GPUs"])
    changes: ChangesAnswer


class ConfigAnswer(VersionAnswer):
    """The configuration in force."""

    text: str | None = Field(description="As it was given; null where penstock.yaml is in force.")
    configuration: dict[str, Any] | None = Field(
        description="What it means, defaults written out; null where a newer Penstock made it."
    )


class VersionsAnswer(Strict):
    """Versions, the newest first; version 0 is not listed."""

    versions: list[VersionAnswer]


class AppliedAnswer(Strict):
    """What was changed, or would be."""

    version: int = Field(description="In force from here on; of a dry run, still.", examples=[4])
    replaced: int = Field(description="In force before.", examples=[3])
    dry_run: bool
    changes: ChangesAnswer
