"""Versions of the configuration: what may change while everything runs, and what a version is.

Version 0 is each process's own penstock.yaml. A stored version replaces its sections that may change;
the others (ports, retention, limits, times, ...) are a process's own for as long as it runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .config import Configuration, parse
from .errors import InvalidConfiguration

RUNTIME = ("gates", "slos", "alerts", "costs", "drift")
"""Sections that may change while everything runs."""
CHAIN = "configuration"
"""Chain of the audit log whose entries are the versions: version n is the entry at place n - 1."""
KIND = "configuration"
MAX_BYTES = 1_000_000
NAME = "configuration"  # stands for the file in errors

Action = Literal["apply", "rollback"]


@dataclass(frozen=True, slots=True)
class ConfigVersion:
    """One stored version.

    Attributes:
        number: counts from 1.
        text: as it was given, YAML or JSON; None for whatever penstock.yaml each process has.
        action: how it came about.
        rolled_back_to: the version that a rollback took up again.
        at_s: when, seconds since 1970 UTC.
        who: the key that made it.
        why: the reason that was given.
        changes: what it changed, as `config_changes.Changes.to_dict` says it.
    """

    number: int
    text: str | None
    action: Action
    rolled_back_to: int | None
    at_s: int
    who: str
    why: str
    changes: Mapping[str, Any]

    @classmethod
    def of_entry(cls, place: int, at_s: int, who: str, body: Mapping[str, Any]) -> ConfigVersion:
        """The version that an entry of the chain is.

        Raises:
            InvalidConfiguration: it is none.
        """
        try:
            return cls(
                place + 1, body["text"], body["action"], body["rolled_back_to"], at_s, who,
                body["why"], body["changes"],
            )  # fmt: skip
        except KeyError as error:
            raise InvalidConfiguration(
                f"entry {place} of the chain {CHAIN} is no version: penstock audit-log verify"
            ) from error

    def body(self) -> dict[str, Any]:
        """What the entry holds beside place, time and author."""
        names = ("text", "action", "rolled_back_to", "why", "changes")
        return {name: getattr(self, name) for name in names}


def in_force(base: Configuration, text: str | None) -> Configuration:
    """A process's configuration under a stored version.

    Args:
        base: what its penstock.yaml says.
        text: of the version.

    Raises:
        InvalidConfiguration: this Penstock does not understand it.
    """
    return base if text is None else _with(base, parse(text, NAME))


def proposed(base: Configuration, text: str) -> Configuration:
    """The configuration that a text would bring about, checked more strictly than a stored one.

    Raises:
        InvalidConfiguration: it has mistakes, or sets what cannot change while everything runs.
    """
    given = parse(text, NAME)
    fixed = [
        name
        for name in sorted(given.model_fields_set - {*RUNTIME})
        if getattr(given, name) != getattr(base, name)
    ]
    if fixed:
        raise InvalidConfiguration(
            f"{', '.join(fixed)} cannot change while everything runs: leave it out here, change "
            f"penstock.yaml, and restart. What can change: {', '.join(RUNTIME)}"
        )
    return _with(base, given)


def _with(base: Configuration, given: Configuration) -> Configuration:
    sections = {name: getattr(base, name) for name in Configuration.model_fields}
    sections |= {name: getattr(given, name) for name in RUNTIME}
    return Configuration.model_construct(**sections)  # every part is validated
