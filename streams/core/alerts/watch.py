"""What it takes to evaluate a rule: which windows, how often, which counters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from ....schemas.alerts.metrics import METRICS, WINDOWS_S, quantile_of
from ....schemas.alerts.rules import Absence, AlertRule, Change, Op, Signal, Threshold
from ....schemas.errors import InvalidConfiguration
from .. import metrics as m
from ..gates.canonical import sha256
from ..tiles import CELL_S, PANE_S
from ..windows import tick_s
from .counted import COUNTED, PRESENCE
from .ring import LONGEST_S


@dataclass(frozen=True)
class Watch:
    """A rule, and how it is evaluated."""

    rule: AlertRule

    @cached_property
    def rule_hash(self) -> str:
        """Hash of what decides; its texts may change under an open alert."""
        decides = self.rule.model_dump(mode="json", exclude={"annotations", "runbook"})
        return sha256(decides)[:16]

    @cached_property
    def grouping(self) -> str:
        """The grouping set whose slices are watched; empty for a signal."""
        return self.rule.grouping

    @property
    def is_signal(self) -> bool:
        """Whether it is evaluated when a signal is told, not at ticks."""
        return isinstance(self.rule.condition, Signal)

    @property
    def is_dead_man(self) -> bool:
        """Whether silence is what it watches."""
        return isinstance(self.rule.condition, Absence)

    @property
    def remembers(self) -> bool:
        """Whether slices without an alert are remembered, so that their silence is noticed."""
        return self.is_dead_man or self.rule.on_no_data == "fire"

    @cached_property
    def quantile(self) -> tuple[str, int] | None:
        """Latency and percentile, where they are read as an exact share off cells."""
        condition = self.rule.condition
        if not isinstance(condition, Threshold) or not self._short:
            return None
        return quantile_of(condition.metric)

    @cached_property
    def uses_cells(self) -> bool:
        """Whether it is read off 1 s cells; off 10 s panes otherwise."""
        condition = self.rule.condition
        # Silences and changes are slow to begin with, and a baseline is read off panes.
        if not isinstance(condition, Threshold) or not self._short:
            return False
        return METRICS[condition.metric].counted or self.quantile is not None

    @property
    def _short(self) -> bool:
        return self.length_s <= LONGEST_S

    @cached_property
    def length_s(self) -> int:
        """Length of its window."""
        condition = self.rule.condition
        if isinstance(condition, Threshold | Change):
            return WINDOWS_S[condition.window]
        return PANE_S

    @cached_property
    def tick_s(self) -> int:
        """Seconds of event time between two evaluations."""
        if self.uses_cells:
            return CELL_S
        return tick_s(self.length_s)

    @cached_property
    def keys(self) -> frozenset[int]:
        """Keys of everything that it reads off cells."""
        condition = self.rule.condition
        if not self.uses_cells or not isinstance(condition, Threshold):
            return frozenset()
        if self.quantile is not None:
            found = {(counter.number, at) for counter in self.counters() for at in (0, 1)}
        else:
            metric = COUNTED[condition.metric]
            found = {*metric.plus, *metric.minus}
            found |= {(metric.per, 0)} if isinstance(metric.per, int) else set()
        for name in (METRICS[condition.metric].per, *PRESENCE):
            found |= {*COUNTED[name].plus}
        return frozenset(m.key(number, at) for number, at in found)

    def counter(self, op: Op, limit_ms: float) -> m.Threshold:
        """The counter behind a comparison of its quantile. Limits are resolved to a microsecond."""
        assert self.quantile is not None
        limit_us = round(limit_ms * 1000)
        # Latencies are whole microseconds: not below a limit is above the one before it.
        column = self.quantile[0].removesuffix("_ms") + "_us"
        return m.Threshold(column, limit_us - 1 if op in (">=", "<") else limit_us)

    def counters(self) -> list[m.Threshold]:
        """Every counter that it reads off cells."""
        condition = self.rule.condition
        if self.quantile is None or not isinstance(condition, Threshold):
            return []
        counters = [self.counter(condition.op, condition.value)]
        if condition.resolve_below is not None:
            counters.append(self.counter("<", condition.resolve_below))
        if condition.resolve_above is not None:
            counters.append(self.counter(">", condition.resolve_above))
        return counters


def counters_for_rules(rules: Iterable[AlertRule]) -> tuple[m.Threshold, ...]:
    """The counters that cells must hold for these rules.

    Raises:
        InvalidConfiguration: two limits have the same number, which is a hash of 30 bits; move one
            of them by a microsecond.
    """
    wanted: dict[int, m.Threshold] = {}
    for rule in rules:
        for counter in Watch(rule).counters():
            other = wanted.setdefault(counter.number, counter)
            if other != counter:
                raise InvalidConfiguration(
                    f"alert rule {rule.id}: {counter.column} > {counter.limit_us} us is counted under"
                    f" the same number as {other.column} > {other.limit_us} us; move one by 1 us"
                )
    return tuple(wanted.values())
