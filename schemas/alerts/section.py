"""The section as a whole, with the references between its parts checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import Field, model_validator

from .base import Model
from .quiet import Inhibition, MaintenanceWindow, Silence
from .routing import Receiver, RootRoute, Route, Url
from .rules import AlertRule
from .shipped import Catalogue


class Alerts(Model):
    """`alerts:` of penstock.yaml."""

    rules: tuple[AlertRule, ...] = ()
    catalogue: Catalogue | None = Field(
        None,
        description="Rules that come with Penstock; one of `rules` takes the place of its namesake.",
    )
    receivers: tuple[Receiver, ...] = ()
    route: RootRoute = RootRoute()
    inhibitions: tuple[Inhibition, ...] = ()
    silences: tuple[Silence, ...] = ()
    maintenance: tuple[MaintenanceWindow, ...] = ()
    alert_url: Url | Literal[""] = Field(
        "", description="Where an alert is shown, with {id}; for links in messages."
    )
    explanation_wait_s: float = Field(
        0.3,
        ge=0,
        le=60,
        description="The first message about an alert waits so long at most for what explains it.",
    )
    log_size: int = Field(1000, ge=1, description="Alerts that latest_alerts() remembers.")

    @model_validator(mode="after")
    def _consistent(self) -> Alerts:
        _unique("rule id", (rule.id for rule in self.rules))
        _unique("receiver name", (receiver.name for receiver in self.receivers))
        _unique("silence id", (silence.id for silence in self.silences))
        _unique("maintenance id", (window.id for window in self.maintenance))
        known = {receiver.name for receiver in self.receivers}
        unknown = sorted(set(_named(self.route)) - known)
        if unknown:
            raise ValueError(f"no such receiver: {', '.join(unknown)}")
        return self


def _unique(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what} given twice: {name}")
        seen.add(name)


def _named(route: Route) -> Iterator[str]:
    """Receivers that a route and those below it name."""
    yield from route.receivers or ()
    for step in route.escalate or ():
        yield from step.receivers
    for child in route.routes:
        yield from _named(child)
