"""Which slices each rule watches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..slices import GROUPINGS, Slice, SliceRegistry
from ..windows import Ints
from .machine import key_of
from .watch import Watch


class Members:
    """Numbers and keys of the slices of each rule, kept up as slices are met.

    Args:
        registry: numbers the slices.
        owns: which slices are evaluated here.
    """

    def __init__(self, registry: SliceRegistry, owns: Callable[[Slice], bool]) -> None:
        self.owns = owns
        self._registry = registry
        self._seen = 0
        self._keys: list[str] = []
        self._numbers: dict[tuple[str, str], int] = {}
        self._of: dict[str, tuple[int, Ints]] = {}

    def of(self, watch: Watch) -> Ints:
        """Numbers of the slices of a rule, ascending."""
        self._meet()
        seen, members = self._of.get(watch.rule.id, (0, np.empty(0, np.int64)))
        if seen < self._seen:
            grouping, given = watch.grouping, watch.rule.filter.given()
            new = [
                number
                for number, item in enumerate(self._registry.slices[seen : self._seen], seen)
                if item.grouping == grouping and item.matches(given) and self.owns(item)
            ]
            members = np.append(members, np.array(new, np.int64))
            self._of[watch.rule.id] = self._seen, members
        return members

    def key(self, number: int) -> str:
        """What a slice is remembered by."""
        return self._keys[number]

    def number(self, watch: Watch, key: str) -> int:
        """Number of a remembered slice; -1 where it was not met in this life."""
        return self._numbers.get((watch.grouping, key), -1)

    def _meet(self) -> None:
        for item in self._registry.slices[self._seen :]:
            named = zip(GROUPINGS.get(item.grouping, ()), item.values, strict=True)
            self._keys.append(key_of(dict(named)))
            self._numbers[item.grouping, self._keys[-1]] = self._seen
            self._seen += 1
