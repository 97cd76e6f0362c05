"""Versions of the configuration in the store: each is one entry of the audit log, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..schemas.config import Configuration
from ..schemas.config_versions import CHAIN, KIND, Action, ConfigVersion, in_force, proposed
from ..schemas.errors import Conflict, InvalidConfiguration, InvalidQuery, NotFound
from ..streams.core.alerts.audit import Entry
from ..streams.core.config_changes import Changes, changes_of
from .journal import Journal, SignalStore

Check = Callable[[Configuration], None]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A version that could be made.

    Attributes:
        before: number of the version in force.
        text: of the new one; None for penstock.yaml.
        action: how it would come about.
        rolled_back_to: the version that it takes up again.
        changes: what it changes; nothing where it says the same.
        understood: whether this Penstock understands the version in force; else `changes` are those
            to penstock.yaml.
    """

    before: int
    text: str | None
    action: Action
    rolled_back_to: int | None
    changes: Changes
    understood: bool = True


class Versions:
    """Reads and makes versions. Safe to share between threads and processes.

    Args:
        store: where they are.
        base: version 0: what penstock.yaml says here.
        wall_us: the clock, integer microseconds since 1970.
        checks: what else a configuration must satisfy here; each raises InvalidConfiguration.
        made: called after a version was made, so that this process need not wait to see it.
    """

    def __init__(
        self,
        store: SignalStore,
        base: Configuration,
        wall_us: Callable[[], int],
        checks: Sequence[Check] = (),
        made: Callable[[], None] = lambda: None,
    ) -> None:
        self._journal = Journal(store, wall_us, CHAIN)
        self._base = base
        self._checks = checks
        self._made = made

    def newest(self) -> ConfigVersion | None:
        """The newest version; None where penstock.yaml is in force."""
        entry = self._journal.newest()
        return None if entry is None else _version(entry)

    def latest(self, limit: int) -> list[ConfigVersion]:
        """The newest versions, the newest first."""
        return [_version(entry) for entry in self._journal.latest(limit)]

    def one(self, number: int) -> ConfigVersion:
        """A version by its number, from 1.

        Raises:
            NotFound: there is none.
        """
        entry = self._journal.at(number - 1)
        if entry is None:
            raise NotFound(f"there is no version {number}; GET /v1/config/versions lists them")
        return _version(entry)

    def configuration(self, version: ConfigVersion | None) -> Configuration:
        """What a version means here; of None, penstock.yaml.

        Raises:
            InvalidConfiguration: a newer Penstock made it, and this one does not understand it.
        """
        return self._base if version is None else in_force(self._base, version.text)

    def understood(self, version: ConfigVersion | None) -> Configuration | None:
        """The same; None where it is not understood here."""
        try:
            return self.configuration(version)
        except InvalidConfiguration:
            return None

    def propose(self, text: str) -> Proposal:
        """What a configuration would change.

        Raises:
            InvalidConfiguration: it has mistakes, or sets what cannot change while everything runs.
        """
        return self._proposal(proposed(self._base, text), text, "apply", None)

    def propose_rollback(self, number: int) -> Proposal:
        """What going back to a version would change; to 0, to penstock.yaml.

        Raises:
            NotFound: there is none of that number.
            InvalidConfiguration: this Penstock does not understand it any more.
        """
        text = self.one(number).text if number else None
        return self._proposal(in_force(self._base, text), text, "rollback", number)

    def make(self, proposal: Proposal, expected: int, who: str, why: str) -> ConfigVersion:
        """Put a proposal in force: everybody takes it up from here on.

        Args:
            proposal: as made above.
            expected: number of the version that it is to replace.
            who: makes it.
            why: makes them.

        Raises:
            Conflict: another version is in force by now; nothing was changed.
            StoreError: the outcome is unknown; GET /v1/config tells.
        """
        if expected != proposal.before:
            raise Conflict(
                f"version {proposal.before} is in force, not {expected}: see what it changed "
                "(GET /v1/config), and decide again"
            )
        version = ConfigVersion(
            proposal.before + 1, proposal.text, proposal.action, proposal.rolled_back_to, 0, who,
            why, proposal.changes.to_dict(),
        )  # fmt: skip
        entry = self._journal.write_at(proposal.before, KIND, who, version.body())
        self._made()
        return _version(entry)

    def _proposal(
        self, after: Configuration, text: str | None, action: Action, to: int | None
    ) -> Proposal:
        for check in self._checks:
            check(after)
        newest = self.newest()
        # What is not understood here must not keep anybody from going back.
        before = self.understood(newest)
        changes = changes_of(before or self._base, after)
        number = 0 if newest is None else newest.number
        return Proposal(number, text, action, to, changes, before is not None)


def expected_version(if_match: str | None, asked: int | None) -> int:
    """The version that a change is to replace, of the header If-Match or the parameter.

    Raises:
        InvalidQuery: neither is given, or they make no sense.

    >>> expected_version('"3"', None), expected_version(None, 0)
    (3, 0)
    """
    if if_match is not None:
        text = if_match.removeprefix("W/").strip('"')
        if not text.isdecimal() or (asked is not None and asked != int(text)):
            raise InvalidQuery(f'If-Match is the number of a version, such as "3", not {if_match}')
        return int(text)
    if asked is None:
        raise InvalidQuery(
            "say which version this replaces, so that nobody's change is lost: If-Match with the "
            "ETag of GET /v1/config, or expected_version"
        )
    return asked


def _version(entry: Entry) -> ConfigVersion:
    return ConfigVersion.of_entry(entry.index, entry.at_s, entry.actor, entry.body)
