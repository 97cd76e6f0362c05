"""What every model of this section shares: names, matchers of labels, moments of time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

Severity = Literal["info", "warning", "critical", "emergency"]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
LabelName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]

# Labels that every alert has; a rule may not give them another meaning.
OWN_LABELS = ("alertname", "group", "severity")


def _whole_second(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=0)


Moment = Annotated[AwareDatetime, AfterValidator(_whole_second)]
"""A time with its zone, held in UTC and cut to the second."""


def unix_s(moment: datetime) -> int:
    """Seconds since 1970 UTC."""
    return int(moment.timestamp())


class Model(BaseModel):
    """Frozen, and strict about unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Matcher(Model):
    """A condition on one label; an absent label is the empty string, as in Alertmanager.

    `=~` and `!~` take a regular expression that must match the whole value.
    """

    label: LabelName
    op: Literal["=", "!=", "=~", "!~"] = "="
    value: str = Field(max_length=200)

    @model_validator(mode="after")
    def _compiles(self) -> Matcher:
        if self.op in ("=~", "!~"):
            try:
                re.compile(self.value)
            except re.error as error:
                raise ValueError(f"{self.value!r} is no regular expression: {error}") from error
        return self

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels fulfil it."""
        found = labels.get(self.label, "")
        if self.op in ("=", "!="):
            return (found == self.value) == (self.op == "=")
        return (re.fullmatch(self.value, found) is not None) == (self.op == "=~")


Matchers = tuple[Matcher, ...]


def all_match(matchers: Matchers, labels: Mapping[str, str]) -> bool:
    """Whether the labels fulfil every matcher; no matcher matches everything."""
    return all(matcher.matches(labels) for matcher in matchers)
