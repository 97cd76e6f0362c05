"""`notify` of an objective: who is told of the alerts that it brings along."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..alerts.base import Matcher
from ..alerts.routing import Route
from ..alerts.section import Alerts
from .objective import Composite, Objective

Slos = Iterable[Objective | Composite]


def notified(section: Alerts, slos: Slos) -> Alerts:
    """The section with a route for each objective that says who is to be told.

    Its alerts go there instead of down the tree: the objective is the more special of the two.
    """
    routes = [
        Route(matchers=(Matcher(label="slo", value=slo.id),), receivers=slo.notify)
        for slo in slos
        if isinstance(slo, Objective) and slo.notify
    ]
    if not routes or not section.receivers:
        return section
    route = section.route.model_copy(update={"routes": (*routes, *section.route.routes)})
    return section.model_copy(update={"route": route})


def notify_problems(section: Alerts, slos: Slos) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """Names that are no receivers; without any receivers nobody is told of anything.

    Yields:
        Where in the configuration, and what is wrong.
    """
    known = {receiver.name for receiver in section.receivers}
    for slo in slos:
        missing = sorted({*slo.notify} - known) if isinstance(slo, Objective) and known else []
        if missing:
            there = ", ".join(sorted(known))
            what = f"{slo.id}: notify names {', '.join(missing)}, and the receivers are {there}"
            yield ("slos",), what
