"""Changes of verdicts that the notifier tells, as a part of its plan (streams/notify/notifier.py).

What was told is remembered as the last change of each gate. A gate that is new here is told of as it is
now, once it was evaluated under the specification in force: its past is nobody's news.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ...schemas.alerts.section import Alerts
from ...schemas.gates import LiveGate
from ..core.gates.canonical import spec_hash
from ..core.gates.changes import VerdictChange
from ..delivery.message import Message
from ..delivery.verdict import verdict_messages
from ..storage.store import Store
from .verdicts import VerdictFeed

Last = Mapping[str, VerdictChange]
"""Gate -> its last change that is dealt with."""


class VerdictDesk:
    """Reads verdicts and makes messages of them; plans store them. Not for several threads at once.

    Args:
        store: migrated.
        section: with the receivers.
        gates: those that tell somebody.
        last: as a plan remembered it.

    Attributes:
        last: what the plan that is in force knows.
    """

    def __init__(
        self, store: Store, section: Alerts, gates: Sequence[LiveGate], last: Last
    ) -> None:
        self._feed = VerdictFeed(store)
        named = {receiver.name: receiver for receiver in section.receivers}
        self._told = {
            gate.id: [named[name] for name in dict.fromkeys(gate.notify)] for gate in gates
        }
        self._hashes = {gate.id: spec_hash(gate) for gate in gates}
        self.last: Last = {gate: change for gate, change in last.items() if gate in self._told}

    def look(self) -> tuple[Last, int, list[Message]]:
        """What is known after a look, how many notifications that makes, and their messages.

        Raises:
            StoreError: the store is away.
        """
        new = self._feed.newest(self._told.keys() - self.last.keys())
        changes = [one for one in new if one.spec_hash == self._hashes[one.gate_id]]
        changes += self._feed.changes(self.last)
        if not changes:
            return self.last, 0, []
        last, told = dict(self.last), 0
        messages = []
        for change, document in self._feed.documents(changes):
            last[change.gate_id] = change
            for receiver in self._told[change.gate_id] if change.is_told else ():
                messages += verdict_messages(change, document, receiver)
                told += 1
        return last, told, messages


def last_to_json(last: Last) -> list[dict[str, Any]]:
    """As JSON can hold it, in one order."""
    return [asdict(last[gate]) for gate in sorted(last)]


def last_from_json(items: list[dict[str, Any]]) -> Last:
    """What `last_to_json` wrote."""
    return {item["gate_id"]: VerdictChange(**item) for item in items}
