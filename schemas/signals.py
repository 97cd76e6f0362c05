"""What ties the sections together: the ids of signals, and the alert rules that they bring along.

An objective or a budget that nobody wrote an alert rule for would be spent in silence, so each brings
rules of its own, unless a rule of the configuration watches the same signal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from .alerts.rules import AlertRule, Signal
from .costs.budgets import Budget
from .drift.monitors import DriftMonitor
from .slo.objective import Composite, Objective

SignalId = tuple[str, str]
Problem = tuple[tuple[int | str, ...], str]
_LONGEST = 64 - len(".budget")  # rules that are brought along are named after it


def burn_signals(objective: Objective) -> list[str]:
    """Ids of the signals of an objective's burn-rate rules, in their order: `chat-ttft.1h`."""
    names = [f"{objective.id}.{rule.name}" for rule in objective.rules]
    return [
        name if names.index(name) == at else f"{name}-{names[: at + 1].count(name)}"
        for at, name in enumerate(names)
    ]


def signal_ids(
    slos: Iterable[Objective | Composite],
    budgets: Iterable[Budget],
    monitors: Iterable[DriftMonitor],
) -> list[SignalId]:
    """Kind and id of every signal that is computed; one that is there twice is a mistake."""
    found: list[SignalId] = []
    for slo in slos:
        if isinstance(slo, Objective):
            found += [("budget", slo.id), ("burn_rate", slo.id)]
            found += [("burn_rate", name) for name in burn_signals(slo)]
    found += [("budget", budget.id) for budget in budgets]
    return found + [("drift", monitor.id) for monitor in monitors]


def signal_problems(rules: Sequence[AlertRule], known: Sequence[SignalId]) -> Iterator[Problem]:
    """Signals that rules name and that are not there, and names that mean two things.

    Yields:
        Where in the configuration, and what is wrong.
    """
    for kind, name in sorted({signal for signal in known if known.count(signal) > 1}):
        yield ("slos",), f"two signals are named {kind} {name}: rename an objective or a budget"
    for kind, name in known:
        if kind == "budget" and len(name) > _LONGEST:
            yield ("slos",), f"{name} is longer than {_LONGEST} characters, and names alert rules"
    for at, rule in enumerate(rules):
        condition = rule.condition
        if isinstance(condition, Signal) and (condition.kind, condition.id) not in known:
            same = sorted(name for kind, name in known if kind == condition.kind)
            there = f"; there is {', '.join(same)}" if same else ""
            yield (
                ("alerts", "rules", at, "condition"),
                f"there is no {condition.kind} {condition.id}{there}",
            )


def implied_rules(
    slos: Iterable[Objective | Composite], budgets: Iterable[Budget], rules: Iterable[AlertRule]
) -> tuple[AlertRule, ...]:
    """The rules that objectives and budgets bring along, as far as no rule watches their signals."""
    watched: set[SignalId] = {
        (rule.condition.kind, rule.condition.id)
        for rule in rules
        if isinstance(rule.condition, Signal)
    }
    found = [*_of_objectives(slos, watched), *_of_budgets(budgets, watched)]
    taken = {rule.id for rule in rules}
    return tuple(rule for rule in found if rule.id not in taken)


def _of_objectives(
    slos: Iterable[Objective | Composite], watched: set[SignalId]
) -> Iterator[AlertRule]:
    for slo in slos:
        if not isinstance(slo, Objective):
            continue
        if ("budget", slo.id) not in watched:
            yield _rule(
                f"{slo.id}.budget", "slo", "budget", slo.id, "warning", 0,
                f"{slo.id} ({slo.declared}): {{{{ value }}}}",
            )  # fmt: skip
        if ("burn_rate", slo.id) in watched:
            continue
        for name, burn in zip(burn_signals(slo), slo.rules, strict=True):
            if ("burn_rate", name) not in watched:
                summary = f"{slo.id} ({slo.declared}): {{{{ value }}}}"
                yield _rule(name, "slo", "burn_rate", name, burn.severity, burn.for_s, summary)


def _of_budgets(budgets: Iterable[Budget], watched: set[SignalId]) -> Iterator[AlertRule]:
    for budget in budgets:
        if ("budget", budget.id) not in watched:
            summary = f"budget {budget.id}, {budget.usd} USD per {budget.period}: {{{{ value }}}}"
            yield _rule(f"{budget.id}.budget", "cost", "budget", budget.id, "warning", 0, summary)


def _rule(
    rule_id: str, group: str, kind: str, name: str, severity: str, for_s: int, summary: str
) -> AlertRule:
    return AlertRule.model_validate(
        {
            "id": rule_id,
            "group": group,
            "condition": {"kind": kind, "id": name},
            "severity": severity,
            "for_s": for_s,
            "annotations": {"summary": summary},
        }
    )
