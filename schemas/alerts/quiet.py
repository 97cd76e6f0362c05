"""What is kept quiet: silences, maintenance windows and inhibitions."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .base import Id, LabelName, Matchers, Model, Moment, unix_s

DAY_S = 86400
WEEK_S = 7 * DAY_S
# 1970-01-01 was a Thursday.
WEEKDAYS = ("thu", "fri", "sat", "sun", "mon", "tue", "wed")


class Silence(Model):
    """Alerts that nobody is told of for a while, by whom and why."""

    id: Id
    matchers: Matchers = Field(min_length=1)
    reason: str = Field(min_length=1, max_length=1000)
    author: str = Field(min_length=1, max_length=200)
    starts_at: Moment
    ends_at: Moment

    @model_validator(mode="after")
    def _ends_later(self) -> Silence:
        if self.ends_at <= self.starts_at:
            raise ValueError("ends_at must be after starts_at")
        return self

    def active(self, at_s: int) -> bool:
        """Whether it holds at a moment, seconds since 1970 UTC; its end is not part of it."""
        return unix_s(self.starts_at) <= at_s < unix_s(self.ends_at)


class Weekly(Model):
    """The same hours every week, in UTC; it may reach into the next day or week."""

    weekday: Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    start: str = Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="HH:MM in UTC.")
    duration_s: int = Field(ge=60, le=WEEK_S)

    def active(self, at_s: int) -> bool:
        """Whether it holds at a moment, seconds since 1970 UTC."""
        hours, minutes = self.start.split(":")
        start_s = WEEKDAYS.index(self.weekday) * DAY_S + int(hours) * 3600 + int(minutes) * 60
        return (at_s - start_s) % WEEK_S < self.duration_s


class MaintenanceWindow(Model):
    """A planned time in which alerts are expected: once, or every week."""

    id: Id
    matchers: Matchers = ()
    reason: str = Field(min_length=1, max_length=1000)
    starts_at: Moment | None = None
    ends_at: Moment | None = None
    weekly: Weekly | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> MaintenanceWindow:
        if (self.starts_at is None) != (self.ends_at is None):
            raise ValueError("starts_at and ends_at go together")
        if (self.starts_at is None) == (self.weekly is None):
            raise ValueError("either starts_at and ends_at, or weekly")
        if self.starts_at and self.ends_at and self.ends_at <= self.starts_at:
            raise ValueError("ends_at must be after starts_at")
        return self

    def active(self, at_s: int) -> bool:
        """Whether it holds at a moment, seconds since 1970 UTC."""
        if self.weekly is not None:
            return self.weekly.active(at_s)
        assert self.starts_at is not None
        assert self.ends_at is not None
        return unix_s(self.starts_at) <= at_s < unix_s(self.ends_at)


class Inhibition(Model):
    """While an alert matches `source`, alerts that match `target` and agree in `equal` are quiet.

    An alert that matches both sides is not quietened by its like, as in Alertmanager.
    """

    source: Matchers = Field(min_length=1)
    target: Matchers = Field(min_length=1)
    equal: tuple[LabelName, ...] = ()
