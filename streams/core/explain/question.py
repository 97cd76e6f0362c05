"""What is to be found out about an alert: which rows are summed, and which times are compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ....schemas.alerts.metrics import WINDOWS_S
from ....schemas.alerts.rules import Absence, AlertRule, Change, Signal, Threshold
from ....schemas.config import Configuration
from ....schemas.signals import burn_signals
from ....schemas.slo.objective import Objective
from ..alerts.transition import Transition
from ..slices import DIMENSIONS, OTHER
from .measures import Measure, measure_of, measure_of_sli

LONGEST_S = 3600  # of either stretch, so that a question reads so much and no more
SHORTEST_BEFORE_S = 300
BEFORE = 5  # times as long as the window, for a baseline that is less noisy
# What slices are looked for by, in the order in which names are preferred where several mean the same
# rows; steps have no route, no tenant and no input, frames have a worker only.
SLICED_BY: Mapping[str, tuple[str, ...]] = {
    "requests": (
        "variant", "release", "model", "model_version", "adapter", "route", "tenant", "worker_id",
        "input_band",
    ),
    "steps": ("variant", "release", "model", "model_version", "adapter", "worker_id"),
    "frames": ("worker_id",),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stretch:
    """Event time [start_s, end_s), seconds since 1970 UTC."""

    start_s: int
    end_s: int

    @property
    def length_s(self) -> int:
        """Its length."""
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True)
class Question:
    """What is compared.

    Attributes:
        measure: what is summed.
        limit: of `above`, in the unit of the field; None: the same quantile of the time before.
        filter: dimension -> value that rows must have.
        now: the stretch that the alert fired on.
        before: the baseline, which ends before the breach can have begun.
        started_s, at_s: event time of the first breach, and when it fired.
    """

    measure: Measure
    limit: float | None
    filter: Mapping[str, str]
    now: Stretch
    before: Stretch
    started_s: int
    at_s: int

    @property
    def scale(self) -> float:
        """What sums of the time before are multiplied by, to be those of an equal time."""
        if self.measure.kind == "present":
            return 1.0
        return self.now.length_s / self.before.length_s


def question_of(fired: Transition, rule: AlertRule, settings: Configuration) -> Question | None:
    """What to find out about an alert that fired; None where rows do not tell (feedback, what is missing).

    The time compared is the rule's window before it fired, of a burn rate the short one. The baseline
    ends a (long) window before the first breach, so that no row of it can have been part of that, and is
    five times as long; a change is compared with its own baseline. Both are cut to an hour.
    """
    condition = rule.condition
    (window_s, gap_s), limit = _windows_of(condition, settings), None
    if isinstance(condition, Threshold | Change):
        measure = measure_of(condition.metric)
        if isinstance(condition, Threshold):
            limit = condition.value
    elif isinstance(condition, Absence):
        measure = measure_of("requests" if condition.of == "any" else condition.of)
    else:
        measure, limit = _of_signal(condition, settings)
    if measure is None:
        return None
    at_s, begun_s = fired.at_s, min(fired.started_s, fired.at_s)
    end_s = begun_s - gap_s
    length_s = min(max(BEFORE * window_s, SHORTEST_BEFORE_S), LONGEST_S)
    if isinstance(condition, Change):
        end_s = begun_s - max(condition.offset_s, 1)
        length_s = min(WINDOWS_S[condition.baseline], LONGEST_S)
    return Question(
        measure,
        limit if measure.kind == "above" else None,
        {
            name: v
            for name, v in fired.labels.items()
            if name in (*DIMENSIONS, "user_hash") and v not in ("", OTHER)
        },
        Stretch(at_s - min(window_s, LONGEST_S), at_s),
        Stretch(end_s - length_s, end_s),
        begun_s,
        at_s,
    )


def _windows_of(
    condition: Threshold | Change | Absence | Signal, settings: Configuration
) -> tuple[int, int]:
    """How much is looked at, and how long the breach can have been under way before it was seen."""
    if isinstance(condition, Threshold | Change):
        return WINDOWS_S[condition.window], WINDOWS_S[condition.window]
    if isinstance(condition, Absence):
        return condition.absent_s, condition.absent_s
    for objective in _objectives(settings) if condition.kind == "burn_rate" else ():
        names = burn_signals(objective)
        burns = [
            burn
            for name, burn in zip(names, objective.rules, strict=True)
            if condition.id in (name, objective.id)
        ]
        if burns:  # of all of them as one, the one that sees a breach first
            burn = min(burns, key=lambda burn: burn.short_s)
            return burn.short_s, burn.long_s
    return LONGEST_S, LONGEST_S


def _of_signal(signal: Signal, settings: Configuration) -> tuple[Measure | None, float | None]:
    if signal.kind == "spend_limit":
        return measure_of("cost_usd"), None
    if signal.kind not in ("burn_rate", "budget"):
        return None, None
    for objective in _objectives(settings):
        if signal.id == objective.id or (
            signal.kind == "burn_rate" and signal.id in burn_signals(objective)
        ):
            return measure_of_sli(objective.sli)
    return (measure_of("cost_usd") if signal.kind == "budget" else None), None


def _objectives(settings: Configuration) -> Iterable[Objective]:
    return (item for item in settings.objectives if isinstance(item, Objective))
