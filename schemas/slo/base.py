"""What every model of an SLO is made of: exact shares, durations, and filters."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Severity = Literal["info", "warning", "critical", "emergency"]

# The grouping sets that metrics are kept by; streams/core/slices.py has the same, and a test says so.
GROUPING_SETS: dict[str, tuple[str, ...]] = {
    "fleet": (),
    "model": ("model",),
    "model_version": ("model", "model_version"),
    "release": ("model", "model_version", "release", "variant"),
    "model_route": ("model", "route"),
    "model_adapter": ("model", "adapter"),
    "route": ("route",),
    "tenant": ("tenant",),
}

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Model(BaseModel):
    """A frozen model that refuses fields it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _exact_share(value: Any) -> Any:
    """A percentage as a share: `99.9 %` is 0.999. Numbers pass as they are written."""
    if isinstance(value, str) and value.strip().endswith("%"):
        return Decimal(value.strip().removesuffix("%").strip()).scaleb(-2)
    return value


def _readable(value: Any) -> Any:
    try:
        return _exact_share(value)
    except ArithmeticError as error:
        raise ValueError(f"{value!r} is not a percentage") from error


# A float such as 0.999 becomes the decimal that is written, not the binary fraction next to it.
Share = Annotated[Decimal, BeforeValidator(_readable), Field(ge=0, le=1)]
InnerShare = Annotated[Decimal, BeforeValidator(_readable), Field(gt=0, lt=1)]
Positive = Annotated[Decimal, Field(gt=0)]


def seconds_of(text: str) -> int:
    """Seconds of a duration such as `30s`, `5m`, `6h` or `3d`.

    Raises:
        ValueError: it is not one.

    >>> seconds_of("6h")
    21600
    """
    found = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if found is None:
        raise ValueError(f"{text!r} is no duration; write for example 5m, 6h or 3d")
    return int(found[1]) * _UNITS_S[found[2]]


def percent(share: Decimal | Fraction) -> str:
    """A share as a person writes it.

    >>> percent(Decimal("0.9990"))
    '99.9 %'
    """
    scaled = Fraction(share) * 100
    exact = Decimal(scaled.numerator) / Decimal(scaled.denominator)
    return f"{float(exact):.10g} %"


class SloFilter(Model):
    """Which traffic an objective is about: the dimensions of exactly one grouping set.

    So an objective reads one slice, and everything it needs is evaluated in one place.
    """

    model: str | None = None
    model_version: str | None = None
    adapter: str | None = None
    route: str | None = None
    release: str | None = None
    variant: str | None = None
    tenant: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> SloFilter:
        named = set(self.given())
        if not any(named == set(names) for names in GROUPING_SETS.values()):
            sets = "; ".join(" + ".join(names) for names in GROUPING_SETS.values() if names)
            raise ValueError(
                f"{' + '.join(self.given())} is not what metrics are kept by; give all dimensions"
                f" of one of these, or none for everything: {sets}"
            )
        return self

    def given(self) -> dict[str, str]:
        """The dimensions that are named."""
        return {name: value for name, value in self if value is not None}

    @property
    def grouping(self) -> str:
        """Name of the grouping set that it fits."""
        named = set(self.given())
        return next(name for name, names in GROUPING_SETS.items() if named == set(names))

    @property
    def values(self) -> tuple[str, ...]:
        """Its values in the order of the grouping set."""
        given = self.given()
        return tuple(given[name] for name in GROUPING_SETS[self.grouping])

    @property
    def group(self) -> tuple[str, ...]:
        """What slices that are evaluated together share: the first dimension and its value."""
        names = GROUPING_SETS[self.grouping]
        return (names[0], self.values[0]) if names else ()


EVERYTHING = SloFilter()
