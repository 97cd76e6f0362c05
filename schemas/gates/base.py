"""What every gate states: error rates, minima, a deadline, and what follows without a decision."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

PolicyName = Literal["block", "allow", "hold"]
GateId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Alpha = Annotated[float, Field(gt=0, lt=0.5)]
InnerRatio = Annotated[float, Field(gt=0, lt=1)]
Ratio = Annotated[float, Field(ge=0, le=1)]
LatencyField = Annotated[str, Field(pattern=r"^[a-z_]+_ms$")]


class Model(BaseModel):
    """A frozen model that refuses fields it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Policies(Model):
    """What follows where a gate cannot tell: part of every gate."""

    id: GateId
    on_no_data: PolicyName = "block"
    on_undecided_at_deadline: PolicyName = "hold"


class LivePolicies(Policies):
    """Part of every gate on a running stream.

    Attributes:
        notify: names of receivers (`alerts.receivers`) that are told of changes of its verdict; no
            part of what the verdict is computed from.
    """

    notify: tuple[str, ...] = ()


class SequentialGate(LivePolicies):
    """A gate that is asked for as long as a release runs.

    FAIL splits alpha_fail over the critical metrics and needs no minimum. PASS is
    intersection-union, each critical metric at alpha_pass, and needs the minima.
    """

    alpha_fail: Alpha = 0.01
    alpha_pass: Alpha = 0.05
    min_units: int = Field(
        100, ge=1, description="Units below which the answer is NO_DATA, or FAIL if shown."
    )
    min_coverage: Ratio = 0.99
    min_bake_s: int = Field(60, ge=0, description="Event time from the first request to a PASS.")
    deadline_s: int | None = Field(None, gt=0, description="Event time after which policies apply.")


class SliceFilter(Model):
    """Which traffic: every dimension that is given must match exactly."""

    model: str | None = None
    model_version: str | None = None
    release: str | None = None
    variant: str | None = None

    def given(self) -> dict[str, str]:
        """The dimensions that are named, in the order of the grouping set `release`."""
        return {name: value for name, value in self if value is not None}


class Arm(Model):
    """One side of a comparison, or what a gate watches: every dimension given must match exactly.

    Arms are read from raw rows, so they may span models and name dimensions that no grouping set
    holds together.
    """

    model: str | None = None
    model_version: str | None = None
    adapter: str | None = None
    route: str | None = None
    release: str | None = None
    variant: str | None = None
    tenant: str | None = None
    experiment: str | None = None

    @model_validator(mode="after")
    def _names_something(self) -> Arm:
        if not self.given():
            raise ValueError("an arm must name at least one dimension, such as variant: canary")
        return self

    def given(self) -> dict[str, str]:
        """The dimensions that are named."""
        return {name: value for name, value in self if value is not None}

    def overlaps(self, other: Arm) -> bool:
        """Whether one request could belong to both."""
        mine, theirs = self.given(), other.given()
        return all(mine[name] == theirs[name] for name in mine.keys() & theirs.keys())
