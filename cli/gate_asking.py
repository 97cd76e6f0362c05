"""What the commands that ask a server about gates share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import click

from ..schemas.errors import NotFound
from .sources import Body, Source

EXIT_CODES = {"PASS": 0, "FAIL": 1, "UNDECIDED": 2, "NO_DATA": 3, "INVALID": 3}
_OPTIONS = (
    click.option("--url", required=True, help="Of a server: http://host:port"),
    click.option("--api-key", envvar="PENSTOCK_API_KEY", help="Key with the scope gate or read."),
)


def server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--url and --api-key."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def path_of(gate_id: str, what: str) -> str:
    """Path of a question about a gate."""
    return f"/v1/gates/{quote(gate_id, safe='')}/{what}"


def gate_of(source: Source, gate_id: str) -> Body:
    """A gate with its specification and newest verdict.

    Raises:
        NotFound: the server has none of that id.
    """
    gates: list[Body] = source.ask("/v1/gates")["gates"]
    for gate in gates:
        if gate["id"] == gate_id:
            return gate
    known = ", ".join(gate["id"] for gate in gates) or "none"
    raise NotFound(f"the server has no gate {gate_id!r}; it has: {known}")


def amount(value: float | None, unit: str) -> str:
    """A value of the evidence for people.

    >>> amount(0.0123, "ratio"), amount(0.5, "usd_per_request"), amount(None, "ratio")
    ('1.23 %', '0.5 USD per request', 'unknown')
    """
    if value is None:
        return "unknown"
    if unit == "ratio":
        return f"{value * 100:.3g} %"
    if unit == "usd_per_request":
        return f"{value:.3g} USD per request"
    return f"{value:.4g}" if unit in ("relative", "difference") else f"{value:.4g} {unit}"
