"""All rules of one shard on a running stream: closed cells and panes in, transitions out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ....schemas.alerts.rules import AlertRule, Signal
from ..slices import GROUPINGS, Slice, SliceRegistry
from ..tiles import CELL_S, PANE_S, Span, Tile
from ..windows import Ints
from .machine import RuleState, Series, amend, initial_state, key_of, retire, step
from .members import Members
from .moment import Moment, Panes
from .ring import LONGEST_S, CellRing
from .signals import Reading, SignalReading, read, read_signal
from .transition import Transition
from .watch import Watch

SILENT_TICK_S = 60  # how often signals that say nothing are looked at


class AlertEngine:
    """Rules and their states. Not for several threads at once.

    Args:
        rules: all of the configuration; slices that are not owned here raise nothing here.
        registry: numbers the slices.
        owns: which slices are evaluated here: `shards.owner`.
        start_s: where rules without a state begin: the end of the last closed cell.
        states: where rules left off, by rule id. States of rules that changed or went are ended:
            the first `close` tells so.
        cells_from: grouping set -> start of its first cell, where there were none before: its rules
            wait until their window is whole.
    """

    def __init__(
        self,
        rules: Iterable[AlertRule],
        registry: SliceRegistry,
        owns: Callable[[Slice], bool],
        start_s: int,
        states: Mapping[str, RuleState] | None = None,
        cells_from: Mapping[str, int] | None = None,
    ) -> None:
        self.watches = {rule.id: Watch(rule) for rule in rules}
        self._members = Members(registry, owns)
        self._ring = CellRing({key for watch in self.watches.values() for key in watch.keys})
        self._unsaid: list[Transition] = []
        self.states: dict[str, RuleState] = {}
        for rule_id, state in sorted((states or {}).items()):
            watch = self.watches.get(rule_id)
            if watch is not None and watch.rule_hash == state.rule_hash:
                self.states[rule_id] = state
            else:
                self._unsaid += retire(state, "rule_removed" if watch is None else "rule_changed")
        for rule_id, watch in self.watches.items():
            if rule_id not in self.states:
                self.states[rule_id] = self._begin(watch, start_s)
            from_s = (cells_from or {}).get(watch.grouping)
            if watch.uses_cells and from_s is not None:
                state = self.states[rule_id]
                whole_s = max(state.evaluated_s, from_s + watch.length_s - CELL_S)
                self.states[rule_id] = replace(state, evaluated_s=whole_s)

    @property
    def needs_from_s(self) -> int | None:
        """Start of the first cell that the first `close` must be given; None where it needs none."""
        starts = [
            self.states[rule_id].evaluated_s
            for rule_id, watch in self.watches.items()
            if watch.uses_cells
        ]
        return max(min(starts) - LONGEST_S, 0) if starts else None

    def close(
        self,
        cells: Iterable[tuple[Span, Tile]],
        closed_s: int,
        panes: Panes,
        signals: Iterable[SignalReading] = (),
    ) -> list[Transition]:
        """Evaluate every moment that closed, in order.

        How moments are spread over calls changes nothing. Where it raises, nothing was evaluated,
        and the same call may be made again.

        Args:
            cells: that closed since the last call; empty seconds may be left out, repeated ones
                change nothing.
            closed_s: every cell that ends at or before it is closed.
            panes: all that are closed.
            signals: told since the last call; those before a rule's last evaluation are ignored.

        Returns:
            What changed, by time and rule. Store it with `states`, then hand it on.
        """
        self._ring.put(cells)
        told = _by_moment(signals)
        states, said = dict(self.states), list(self._unsaid)
        for at_s in self._moments(closed_s, told):
            moment = Moment(self._ring, panes, at_s)
            for rule_id, watch in self.watches.items():
                state = states[rule_id]
                if at_s <= state.evaluated_s:
                    continue
                if watch.is_signal:
                    readings = self._heard(watch, told.get(at_s, ()))
                    if readings is None and state.series and at_s % SILENT_TICK_S == 0:
                        readings = {}  # whatever is open must not stay so because nobody speaks
                elif at_s % watch.tick_s == 0:
                    readings = self._read(watch, state, moment)
                else:
                    continue
                if readings is not None:
                    states[rule_id], news = step(watch, state, at_s, readings)
                    said += news
        self.states, self._unsaid = states, []
        self._ring.trim(closed_s)
        return said

    def amend(
        self, fired: Iterable[Transition], changed: Iterable[Span], panes: Panes
    ) -> list[Transition]:
        """Notes on alerts whose numbers were changed by late rows.

        Args:
            fired: transitions to `firing` that may still be of interest.
            changed: closed panes that late rows changed.
            panes: as they are now.
        """
        notes = []
        spans = [span for span in changed if span.length_s == PANE_S]
        for item in fired:
            watch = self.watches.get(item.rule_id)
            if watch is None or watch.rule_hash != item.rule_hash or watch.is_signal:
                continue
            start_s = item.at_s - watch.length_s
            # Cells never change once they closed.
            if watch.uses_cells or not any(start_s <= s.start_s < item.at_s for s in spans):
                continue
            moment = Moment(self._ring, panes, item.at_s)
            own = item.labels.keys() - self.states[item.rule_id].labels.keys()
            key = key_of({name: item.labels[name] for name in own})
            note = amend(watch.rule, item, self._read(watch, None, moment).get(key))
            if note is not None:
                notes.append(note)
        return notes

    def _begin(self, watch: Watch, start_s: int) -> RuleState:
        """A rule that watches one slice knows of it before it was ever seen."""
        rule, state = watch.rule, initial_state(watch, start_s)
        if watch.is_signal or not watch.remembers or rule.by is not None:
            return state
        given = rule.filter.given()
        only = Slice(rule.grouping, tuple(given[name] for name in GROUPINGS[rule.grouping]))
        if not self._members.owns(only):
            return state
        return replace(state, series={key_of(given): Series(seen_s=start_s)})

    def _moments(self, closed_s: int, told: Mapping[int, Sequence[SignalReading]]) -> list[int]:
        """Every moment up to `closed_s` at which some rule is still to be evaluated."""
        since: dict[int, int] = {}
        for rule_id, watch in self.watches.items():
            before_s, tick_s = self.states[rule_id].evaluated_s, watch.tick_s
            if watch.is_signal:
                tick_s = SILENT_TICK_S
                if not self.states[rule_id].series:
                    if not told:
                        continue  # there is nothing whose silence could mean something
                    before_s = max(before_s, min(told))
            since[tick_s] = min(since.get(tick_s, before_s), before_s)
        moments = {at_s for at_s in told if at_s <= closed_s}
        for tick_s, before_s in since.items():
            moments.update(range(before_s // tick_s * tick_s + tick_s, closed_s + 1, tick_s))
        return sorted(moments)

    def _heard(self, watch: Watch, told: Sequence[SignalReading]) -> dict[str, Reading] | None:
        """What a rule's signal says; None where it says nothing."""
        condition = watch.rule.condition
        assert isinstance(condition, Signal)
        mine = [item for item in told if (item.kind, item.id) == (condition.kind, condition.id)]
        if not mine:
            return None
        wanted = watch.rule.filter.given().items()
        return {
            key_of(item.labels): read_signal(watch, item)
            for item in mine
            if wanted <= item.labels.items()
        }

    def _read(self, watch: Watch, state: RuleState | None, moment: Moment) -> dict[str, Reading]:
        """Readings of the slices that matter to a state; of all without one."""
        window = moment.window(watch)
        if len(window.slices) == 0:
            return {}
        members = self._members.of(watch)
        readings = read(watch, window, members, moment.baseline(watch))
        also: Ints | None = None
        if state is not None and not watch.remembers:
            also = np.array([self._members.number(watch, key) for key in state.series], np.int64)
        return {
            self._members.key(int(readings.slices[at])): readings.at(at)
            for at in readings.positions(also)
        }


def _by_moment(signals: Iterable[SignalReading]) -> dict[int, list[SignalReading]]:
    moments: dict[int, list[SignalReading]] = {}
    for item in signals:
        moments.setdefault(item.at_s, []).append(item)
    return moments
