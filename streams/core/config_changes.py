"""What a new configuration changes, and what begins anew because of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ...schemas.config import Configuration
from ...schemas.slo.objective import Objective
from .alerts.watch import Watch
from .configured import RECOUNT_S, configured_counters, named
from .slo.status import objective_hash

_BY_SECTION = ("alerts", "costs", "drift")
_Parts = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Change:
    """What changed of one part, by id or name; of a part without items, by its own name."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Changes:
    """The difference between two configurations.

    Attributes:
        parts: part of the configuration (`gates`, `alerts.rules`, ...) -> what changed of it.
        resets: what begins anew, in sentences.
    """

    parts: Mapping[str, Change]
    resets: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        parts = {
            name: {how: list(items) for how, items in asdict(change).items()}
            for name, change in self.parts.items()
        }
        return {"parts": parts, "resets": list(self.resets)}


def changes_of(before: Configuration, after: Configuration) -> Changes:
    """What `after` changes of `before`.

    Raises:
        InvalidConfiguration: two counters of `after` have the same number.
    """
    old, new = _parts(before), _parts(after)
    parts = {name: change for name in old if (change := _change(old[name], new[name])) != Change()}
    return Changes(parts, tuple(_resets(before, after, parts)))


def _parts(configuration: Configuration) -> _Parts:
    parts: _Parts = {
        "gates": {gate.id: gate for gate in configuration.gates},
        "slos": {item.id: item for item in configuration.objectives},
        # With those that objectives and budgets bring along.
        "alerts.rules": {rule.id: rule for rule in configuration.rules},
    }
    for section in _BY_SECTION:
        for field, value in getattr(configuration, section):
            parts.setdefault(f"{section}.{field}", _items(field, value))
    return parts


def _items(field: str, value: Any) -> dict[str, Any]:
    """A list of named things by name; anything else as one thing."""
    if isinstance(value, tuple):
        named_by = {getattr(item, "id", getattr(item, "name", None)): item for item in value}
        if None not in named_by and len(named_by) == len(value):
            return {str(name): item for name, item in named_by.items()}
    return {field: value}


def _change(old: Mapping[str, Any], new: Mapping[str, Any]) -> Change:
    return Change(
        tuple(name for name in new if name not in old),
        tuple(name for name in new if name in old and new[name] != old[name]),
        tuple(name for name in old if name not in new),
    )


def _resets(
    before: Configuration, after: Configuration, parts: Mapping[str, Change]
) -> Iterator[str]:
    for gate in parts.get("gates", Change()).changed:
        yield f"gate {gate}: its evidence begins anew"
    rules = parts.get("alerts.rules", Change())
    old = {rule.id: Watch(rule).rule_hash for rule in before.rules}
    new = {rule.id: Watch(rule).rule_hash for rule in after.rules}
    for rule in (*rules.changed, *rules.removed):
        if new.get(rule) != old[rule]:
            yield f"alert rule {rule}: what is open of it ends"
    for slo in parts.get("slos", Change()).changed:
        if _hash(after, slo) != _hash(before, slo):
            yield f"objective {slo}: what was stored of it is not shown any more"
    for monitor in parts.get("drift.monitors", Change()).changed:
        yield f"drift monitor {monitor}: its history begins anew"
    counted = {*configured_counters(before)}
    for counter in configured_counters(after):
        if counter not in counted:
            yield (
                f"{named(counter)}: counted from now on, and in what closed in the "
                f"{RECOUNT_S // 60} minutes before"
            )


def _hash(configuration: Configuration, slo: str) -> str:
    """Hash of an objective; of what is made of others, nothing is stored."""
    found = next(item for item in configuration.objectives if item.id == slo)
    return objective_hash(found) if isinstance(found, Objective) else ""
