"""What current traffic is compared with."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, model_validator

from .thresholds import Model

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]


class UploadedReference(Model):
    """A training distribution that was uploaded (`penstock drift reference`)."""

    kind: Literal["uploaded"] = "uploaded"
    name: Name
    version: int | None = Field(None, ge=1, description="Absent: the newest.")


class StableReference(Model):
    """The last days that were complete and without an alarm."""

    kind: Literal["stable_days"] = "stable_days"
    days: int = Field(7, ge=1, le=90)


class PeriodReference(Model):
    """A fixed period of event time, [start, end)."""

    kind: Literal["period"] = "period"
    start: AwareDatetime
    end: AwareDatetime

    @model_validator(mode="after")
    def _whole_hours(self) -> PeriodReference:
        if not self.start < self.end:
            raise ValueError("start must be before end")
        if any(moment.timestamp() % 3600 for moment in (self.start, self.end)):
            raise ValueError("start and end must be whole hours: references are kept by the hour")
        return self


class ControlReference(Model):
    """The control arm in the same window."""

    kind: Literal["control"] = "control"
    variant: str = "control"


ReferenceSource = Annotated[
    UploadedReference | StableReference | PeriodReference | ControlReference,
    Field(discriminator="kind"),
]
