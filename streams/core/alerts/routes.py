"""The tree of routes: where an alert goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from ....schemas.alerts.base import all_match
from ....schemas.alerts.routing import Escalation, RootRoute, Route


@dataclass(frozen=True, slots=True)
class Destination:
    """A route with everything that it takes from those above it.

    Attributes:
        path: its place in the tree, such as `0.2`: the third child of the first child.
    """

    path: str = ""
    receivers: tuple[str, ...] = ()
    group_by: tuple[str, ...] = ("alertname",)
    group_wait_s: int = 30
    group_interval_s: int = 300
    repeat_interval_s: int = 4 * 3600
    escalate: tuple[Escalation, ...] = ()


_INHERITED = ("receivers", "group_by", "group_wait_s", "group_interval_s", "repeat_interval_s", "escalate")  # fmt: skip


def destinations(root: RootRoute, labels: Mapping[str, str]) -> list[Destination]:
    """Where an alert goes: the deepest routes that match, the first of each level unless `go_on`."""
    return list(_visit(root, Destination(), labels))


def _visit(route: Route, above: Destination, labels: Mapping[str, str]) -> Iterator[Destination]:
    own = {name: getattr(route, name) for name in _INHERITED}
    here = replace(above, **{name: value for name, value in own.items() if value is not None})
    found = False
    for position, child in enumerate(route.routes):
        if all_match(child.matchers, labels):
            found = True
            path = f"{here.path}.{position}" if here.path else str(position)
            yield from _visit(child, replace(here, path=path), labels)
            if not child.go_on:
                return
    if not found:
        yield here
