"""The state machine of a rule: inactive, pending, firing, resolved, per slice.

It moves only with event time of closed cells and panes, and its state is one JSON value. So a restart
or a replay goes through the same transitions, with the same ids, and pages nobody twice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from ....schemas.alerts.rules import Absence, AlertRule, Signal
from ..gates.canonical import canonical_json, sha256
from .signals import Reading
from .transition import Kind, Reason, Transition, alert_id, told, transition_id
from .watch import Watch

SIGNAL_STALE_S = 300  # objectives and budgets speak every minute, where they can tell

Phase = Literal["inactive", "pending", "firing"]


@dataclass(frozen=True, slots=True)
class Series:
    """One slice of one rule. Times are seconds of event time.

    Attributes:
        phase: where it is; a resolved alert leaves it inactive.
        seen_s: when it last had data.
        started_s: when the condition began to hold: the start of the episode.
        due_s: when a pending one fires, if the condition holds then.
        clear_due_s: when a firing one resolves, if it is still well then; None while it is not.
        sequence: of the next transition of the episode.
    """

    phase: Phase = "inactive"
    seen_s: int = 0
    started_s: int = 0
    due_s: int = 0
    clear_due_s: int | None = None
    sequence: int = 0


_UNKNOWN = Series()
_NOTHING = Reading(None, math.nan, 0, None, None, note="no data")


@dataclass(frozen=True, slots=True)
class RuleState:
    """One rule up to a moment.

    Attributes:
        rule_id, rule_hash: of which rule.
        evaluated_s: the last evaluation.
        labels: those that every alert of the rule has.
        series: canonical JSON of the slice's labels -> what is remembered of it.
    """

    rule_id: str
    rule_hash: str
    evaluated_s: int
    labels: dict[str, str]
    series: dict[str, Series] = field(default_factory=dict)

    def to_json(self) -> str:
        """Canonical JSON; equal states give equal text."""
        return canonical_json(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> RuleState:
        """The state that `to_json` wrote.

        Raises:
            ValueError: if the text is not such a state.
        """
        try:
            data: dict[str, Any] = json.loads(text)
            data["series"] = {key: Series(**item) for key, item in data["series"].items()}
            return cls(**data)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the state of an alert rule: {error}") from error


def initial_state(watch: Watch, start_s: int) -> RuleState:
    """The state before the first evaluation, which comes after `start_s`."""
    rule = watch.rule
    labels = {
        **rule.labels,
        "alertname": rule.id,
        "group": rule.group,
        "severity": rule.severity,
    }
    return RuleState(rule.id, watch.rule_hash, start_s, labels)


def key_of(labels: Mapping[str, str]) -> str:
    """What a slice is remembered by."""
    return canonical_json(dict(labels))


def step(
    watch: Watch, state: RuleState, at_s: int, readings: Mapping[str, Reading]
) -> tuple[RuleState, list[Transition]]:
    """Evaluate a rule at one moment.

    Args:
        watch: the rule.
        state: up to an earlier moment, of this rule.
        at_s: the moment; one that was evaluated already changes nothing.
        readings: of the slices that have data, by `key_of` their labels. Slices that are inactive
            and not in breach may be left out, unless the rule remembers slices.

    Returns:
        The state after it, and what changed, in the order of the slices' keys.
    """
    if at_s <= state.evaluated_s:
        return state, []
    rule, gap_s = watch.rule, at_s - state.evaluated_s
    series = dict(state.series)
    said: list[Transition] = []
    for key in sorted({*readings, *series}):
        before = series.pop(key, _UNKNOWN)
        reading = readings.get(key)
        if _has_data(rule, reading):
            before = replace(before, seen_s=at_s)
        elif at_s - before.seen_s >= rule.forget_after_s:
            if before.phase != "inactive":
                silence = _silence(rule, at_s - before.seen_s)
                said.append(_ending(rule, state, key, before, "forgotten", at_s, silence))
            continue
        elif watch.is_signal:
            silent_s = at_s - before.seen_s
            if reading is None and _holds(rule, silent_s):
                series[key] = before
                continue
            reading = reading if silent_s < SIGNAL_STALE_S else None
        seen = reading or _silence(rule, at_s - before.seen_s)
        after, kind = _advance(rule, before, at_s, gap_s, seen)
        if kind is not None:
            started_s = after.started_s if before.phase == "inactive" else before.started_s
            reason = _reason(kind, silent=reading is None, dead_man=watch.is_dead_man)
            said.append(
                _told(rule, state, key, before.sequence, started_s, kind, reason, at_s, seen)
            )
        if after.phase != "inactive" or watch.remembers:
            series[key] = after
    return replace(state, evaluated_s=at_s, series=series), said


def retire(state: RuleState, reason: Literal["rule_changed", "rule_removed"]) -> list[Transition]:
    """End every open alert of a rule that is no more, at its last evaluation."""
    return [
        _ending(None, state, key, series, reason, state.evaluated_s, _NOTHING)
        for key, series in sorted(state.series.items())
        if series.phase != "inactive"
    ]


def amend(rule: AlertRule, fired: Transition, reading: Reading | None) -> Transition | None:
    """What late rows changed in the window that an alert fired on; None where nothing did.

    The alert keeps its course: only its numbers are noted. The same numbers give the same id.
    """
    if reading is None and isinstance(rule.condition, Absence):
        return None
    seen = reading or _silence(rule, 0)
    fields = told(rule, fired.labels, fired.started_s, seen)
    if all(fields[name] == getattr(fired, name) for name in ("value", "n")):
        return None
    identity = sha256([fired.id, fields["value"], fields["n"]])[:32]
    return replace(fired, id=identity, kind="amended", reason="late_data", **fields)


def _advance(
    rule: AlertRule, before: Series, at_s: int, gap_s: int, reading: Reading
) -> tuple[Series, Kind | None]:
    """One slice after one reading, and what that is called if it is news."""
    if before.phase == "firing":
        return _while_firing(rule, before, at_s, gap_s, reading)
    if reading.breach is None:
        # Time in which nothing is known does not count towards `for`.
        pending = before.phase == "pending"
        return replace(before, due_s=before.due_s + gap_s) if pending else before, None
    inactive = Series(seen_s=before.seen_s)
    if not reading.breach:
        return inactive, "cancelled" if before.phase == "pending" else None
    following = replace(before, sequence=before.sequence + 1)
    if before.phase == "inactive":
        following = replace(following, started_s=at_s, due_s=at_s + rule.for_s)
        if rule.for_s:
            return replace(following, phase="pending"), "pending"
    if at_s >= following.due_s:
        return replace(following, phase="firing"), "firing"
    return before, None


def _while_firing(
    rule: AlertRule, before: Series, at_s: int, gap_s: int, reading: Reading
) -> tuple[Series, Kind | None]:
    clear_due_s = before.clear_due_s
    if reading.clear is None:
        shifted = None if clear_due_s is None else clear_due_s + gap_s
        return replace(before, clear_due_s=shifted), None
    if not reading.clear:
        return replace(before, clear_due_s=None), None
    if clear_due_s is None:
        clear_due_s = at_s + rule.resolve_for_s
    if at_s >= clear_due_s:
        return Series(seen_s=before.seen_s), "resolved"
    return replace(before, clear_due_s=clear_due_s), None


def _holds(rule: AlertRule, silent_s: int) -> bool:
    """Whether what a signal said last stays as it is while it says nothing.

    Drift and detectors speak as seldom as they are looked at; how seldom, a rule does not know.
    """
    condition = rule.condition
    assert isinstance(condition, Signal)
    seldom = condition.kind in ("drift", "detector")
    return seldom or rule.on_no_data == "keep" or silent_s < SIGNAL_STALE_S


def _has_data(rule: AlertRule, reading: Reading | None) -> bool:
    """Whether a slice is there; a signal that cannot tell is not."""
    if reading is None:
        return False
    return reading.breach is not None or not isinstance(rule.condition, Signal)


def _silence(rule: AlertRule, silent_s: int) -> Reading:
    """What a slice without data means."""
    if isinstance(rule.condition, Absence):
        limit = rule.condition.absent_s
        broken = silent_s >= limit
        return Reading(silent_s, limit, 0, broken, not broken, "s", "without data")
    known: dict[str, bool | None] = {"keep": None, "fire": True, "resolve": False}
    breach = known[rule.on_no_data]
    return replace(_NOTHING, breach=breach, clear=None if breach is None else not breach)


def _reason(kind: Kind, silent: bool, dead_man: bool) -> Reason:
    if silent and not dead_man:
        return "no_data"
    return "condition" if kind in ("pending", "firing") else "cleared"


def _ending(
    rule: AlertRule | None,
    state: RuleState,
    key: str,
    series: Series,
    reason: Reason,
    at_s: int,
    reading: Reading,
) -> Transition:
    kind: Kind = "resolved" if series.phase == "firing" else "cancelled"
    return _told(rule, state, key, series.sequence, series.started_s, kind, reason, at_s, reading)


def _told(
    rule: AlertRule | None,
    state: RuleState,
    key: str,
    sequence: int,
    started_s: int,
    kind: Kind,
    reason: Reason,
    at_s: int,
    reading: Reading,
) -> Transition:
    labels = {**json.loads(key), **state.labels}
    alert = alert_id(state.rule_id, state.rule_hash, labels, started_s)
    return Transition(
        transition_id(alert, sequence, kind), alert, sequence, kind, reason,
        state.rule_id, state.rule_hash, at_s, started_s, labels,
        **told(rule, labels, started_s, reading),
    )  # fmt: skip
