"""What ties the sections together: the ids of signals, and the alert rules that they bring along.

An objective, a budget or a drift monitor that nobody wrote an alert rule for would go wrong in silence,
so each brings rules of its own, unless a rule of the configuration watches the same signal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .alerts.rules import AlertRule, Signal
from .costs.section import Costs
from .drift.monitors import DriftConfiguration, DriftMonitor
from .slo.objective import Composite, Objective

SignalId = tuple[str, str]
Problem = tuple[tuple[int | str, ...], str]
_LONGEST = 64 - len(".budget")  # rules that are brought along are named after it
_LONGEST_MONITOR = 64 - len(".missing-high")
_NAMED = {"drift": ("drift", "a monitor"), "detector": ("drift", "a detector")}
_LONGEST_OF = {
    "detector": ("drift", 64 - len(".alarm")),
    "spend_limit": ("costs", 64 - len(".spend-limit")),
    "capacity": ("costs", 64 - len(".capacity")),
}


def burn_signals(objective: Objective) -> list[str]:
    """Ids of the signals of an objective's burn-rate rules, in their order: `chat-ttft.1h`."""
    names = [f"{objective.id}.{rule.name}" for rule in objective.rules]
    return [
        name if names.index(name) == at else f"{name}-{names[: at + 1].count(name)}"
        for at, name in enumerate(names)
    ]


def drift_signals(monitor: DriftMonitor) -> list[str]:
    """Ids of the signals of a monitor: the whole of it, then its parts.

    >>> drift_signals(DriftMonitor(id="chat"))
    ['chat', 'chat.missing', 'chat.concept', 'chat.prediction']
    """
    parts = ["missing", "concept", *(["prediction"] if monitor.outputs else [])]
    return [monitor.id, *(f"{monitor.id}.{part}" for part in parts)]


def signal_ids(
    slos: Iterable[Objective | Composite],
    costs: Costs,
    drift: DriftConfiguration,
) -> list[SignalId]:
    """Kind and id of every signal that is computed; one that is there twice is a mistake."""
    found: list[SignalId] = []
    for slo in slos:
        if isinstance(slo, Objective):
            found += [("budget", slo.id), ("burn_rate", slo.id)]
            found += [("burn_rate", name) for name in burn_signals(slo)]
    found += [("budget", budget.id) for budget in costs.budgets]
    found += [("spend_limit", limit.id) for limit in costs.spend_limits]
    found += [("capacity", forecast.id) for forecast in costs.forecasts]
    found += [("drift", name) for monitor in drift.monitors for name in drift_signals(monitor)]
    return found + [("detector", detector.id) for detector in drift.detectors]


def signal_of(rule: AlertRule) -> SignalId | None:
    """The signal that a rule watches, if it watches one."""
    condition = rule.condition
    return (condition.kind, condition.id) if isinstance(condition, Signal) else None


def signal_problems(rules: Sequence[AlertRule], known: Sequence[SignalId]) -> Iterator[Problem]:
    """Signals that rules name and that are not there, and names that mean two things.

    Yields:
        Where in the configuration, and what is wrong.
    """
    for kind, name in sorted({signal for signal in known if known.count(signal) > 1}):
        where, what = _NAMED.get(kind, ("slos", "an objective or a budget"))
        yield (where,), f"two signals are named {kind} {name}: rename {what}"
    for kind, name in known:
        if kind == "budget" and len(name) > _LONGEST:
            yield ("slos",), f"{name} is longer than {_LONGEST} characters, and names alert rules"
        section, longest = _LONGEST_OF.get(kind, ("", len(name)))
        if len(name) > longest:
            yield (section,), f"{name} is longer than {longest} characters, and names alert rules"
        monitor = name.removesuffix(".missing")
        if kind == "drift" and monitor != name and len(monitor) > _LONGEST_MONITOR:
            most = f"{monitor} is longer than {_LONGEST_MONITOR} characters"
            yield ("drift",), f"{most}, and names alert rules"
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
    slos: Iterable[Objective | Composite],
    costs: Costs,
    drift: DriftConfiguration,
    rules: Iterable[AlertRule],
) -> tuple[AlertRule, ...]:
    """The rules that objectives, costs and monitors bring along, unless a rule watches the signal."""
    watched: set[SignalId] = {
        (rule.condition.kind, rule.condition.id)
        for rule in rules
        if isinstance(rule.condition, Signal)
    }
    found = [
        *_of_objectives(slos, watched),
        *_of_costs(costs, watched),
        *_of_monitors(drift, watched),
    ]
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
                f"{slo.id} ({slo.declared}): {{{{ value }}}}", labels={"slo": slo.id},
            )  # fmt: skip
        if ("burn_rate", slo.id) in watched:
            continue
        for name, burn in zip(burn_signals(slo), slo.rules, strict=True):
            if ("burn_rate", name) not in watched:
                summary = f"{slo.id} ({slo.declared}): {{{{ value }}}}"
                yield _rule(
                    name, "slo", "burn_rate", name, burn.severity, burn.for_s, summary,
                    labels={"slo": slo.id},
                )  # fmt: skip


def _of_costs(costs: Costs, watched: set[SignalId]) -> Iterator[AlertRule]:
    for budget in costs.budgets:
        if ("budget", budget.id) not in watched:
            summary = f"budget {budget.id}, {budget.usd} USD per {budget.period}: {{{{ value }}}}"
            yield _rule(f"{budget.id}.budget", "cost", "budget", budget.id, "warning", 0, summary)
    for limit in costs.spend_limits:
        if ("spend_limit", limit.id) not in watched:
            rule_id, who = f"{limit.id}.spend-limit", f"{{{{ labels.{limit.by} }}}}"
            summary = f"{who}: {{{{ value }}}}"
            yield _rule(
                rule_id, "cost", "spend_limit", limit.id, "warning", 0, summary,
                runbook="docs/runbooks/spend-limit.md",
            )  # fmt: skip
    for forecast in costs.forecasts:
        if ("capacity", forecast.id) not in watched:
            rule_id, summary = f"{forecast.id}.capacity", f"{forecast.id}: {{{{ value }}}}"
            yield _rule(
                rule_id, "capacity", "capacity", forecast.id, "warning", 0, summary,
                runbook="docs/runbooks/capacity.md",
            )  # fmt: skip


def _of_monitors(drift: DriftConfiguration, watched: set[SignalId]) -> Iterator[AlertRule]:
    for monitor in drift.monitors:
        name, limits = monitor.id, monitor.missing
        summary = f"{name}: {{{{ value }}}}"
        critical = {"op": ">", "value": limits.critical}
        brought = {
            name: [_rule(f"{name}.drift", "drift", "drift", name, "warning", 0, summary)],
            f"{name}.missing": [
                _rule(f"{name}.missing", "drift", "drift", f"{name}.missing", "warning", 0, summary),
                _rule(
                    f"{name}.missing-high", "drift", "drift", f"{name}.missing", "critical", 0,
                    summary, critical,
                ),
            ],
            f"{name}.concept": [
                _rule(f"{name}.concept", "drift", "drift", f"{name}.concept", "warning", 0, summary)
            ],
            f"{name}.prediction": [
                _rule(
                    f"{name}.prediction", "drift", "drift", f"{name}.prediction", "warning",
                    drift.prediction.hold_s, summary,
                )
            ],
        }  # fmt: skip
        for signal in drift_signals(monitor):
            if ("drift", signal) not in watched:
                yield from brought[signal]
    for detector in drift.detectors:
        if ("detector", detector.id) not in watched:
            summary = f"{detector.id}: {{{{ value }}}}"
            rule_id = f"{detector.id}.alarm"
            yield _rule(rule_id, "drift", "detector", detector.id, "warning", 0, summary)


def _rule(
    rule_id: str,
    group: str,
    kind: str,
    name: str,
    severity: str,
    for_s: int,
    summary: str,
    limit: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
    runbook: str | None = None,
) -> AlertRule:
    return AlertRule.model_validate(
        {
            "id": rule_id,
            "group": group,
            "condition": {"kind": kind, "id": name, "limit": limit},
            "severity": severity,
            "for_s": for_s,
            "labels": labels or {},
            "annotations": {"summary": summary},
            "runbook": runbook,
        }
    )
