"""Amounts, times and names as the `costs:` section writes them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

NANO_PER_USD = 10**9
PICO_PER_USD = 10**12
SECOND_US = 1_000_000


class Section(BaseModel):
    """A part of penstock.yaml: frozen, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _moment(value: Any) -> Any:
    """A date is its midnight in UTC; a time must say its zone."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value) if "T" in value else date.fromisoformat(value)
        except ValueError as error:
            raise ValueError(f"not a time such as 2026-01-31T00:00:00Z: {value!r}") from error
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"a time without a zone; write {value:%Y-%m-%dT%H:%M:%S}Z for UTC")
        return value.astimezone(UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    raise ValueError(f"not a time such as 2026-01-31T00:00:00Z: {value!r}")


Moment = Annotated[datetime, BeforeValidator(_moment)]
"""A time in UTC."""
Usd = Annotated[Decimal, Field(ge=0, le=10**9, allow_inf_nan=False)]
"""US dollars, exact; at most a billion, which 64 bits hold in nano-dollars."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
"""What identifies an entry in alerts and answers."""


def unix_us(moment: datetime) -> int:
    """Microseconds since 1970 UTC, exact."""
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86400 + since.seconds) * SECOND_US + since.microseconds


def whole(usd: Decimal, per_usd: int) -> int:
    """Dollars as an integer number of smaller units.

    Raises:
        ValueError: the amount is finer than the unit.
    """
    units = usd * per_usd
    if units != units.to_integral_value():
        raise ValueError(f"{usd} is finer than 1/{per_usd}")
    return int(units)


class Budgeted(Section):
    """An amount in whole nano-dollars, larger than zero."""

    usd: Annotated[Usd, Field(gt=0)]

    @model_validator(mode="after")
    def _countable(self) -> Budgeted:
        whole(self.usd, NANO_PER_USD)
        return self

    @property
    def nanousd(self) -> int:
        """The amount in nano-dollars."""
        return whole(self.usd, NANO_PER_USD)


class Scope(Section):
    """Which traffic; nothing named is the whole fleet.

    Only combinations that tiles are kept by: a model, a model and version, a route, a model and
    route, or a tenant.
    """

    model: str | None = None
    model_version: str | None = None
    route: str | None = None
    tenant: str | None = None

    @model_validator(mode="after")
    def _kept(self) -> Scope:
        if self.grouping is None:
            names = " and ".join(self.given())
            raise ValueError(f"no numbers are kept by {names} together; name fewer dimensions")
        return self

    @property
    def grouping(self) -> str | None:
        """Grouping set of the slice that it names; None for a combination that none keeps."""
        return {
            (): "fleet",
            ("model",): "model",
            ("model", "model_version"): "model_version",
            ("route",): "route",
            ("model", "route"): "model_route",
            ("tenant",): "tenant",
        }.get(tuple(self.given()))

    def given(self) -> dict[str, str]:
        """The dimensions that are named, in the order of the grouping sets."""
        return {name: value for name, value in self if value is not None}
