"""Burn rates over windows, and whether a rule holds: exact integers, strictly above.

A rule pages where its point condition holds and the e-detector alarmed within its long window: the
first says how fast the budget goes, the second that it is no chance.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from ....schemas.slo.base import Severity
from ....schemas.slo.burn import BurnRule
from .ledger import Ledger, Pair
from .readings import MINUTE_S


@dataclass(frozen=True, slots=True)
class BurnStatus:
    """A rule at one moment.

    Attributes:
        name, severity, for_s: of the rule.
        factor: burn rate that must be exceeded.
        long_rate, short_rate: burn rates, None without events; 1 spends the budget in its period.
        above: whether both are above the factor.
        firing: whether the e-detector says too that this is no chance.
    """

    name: str
    severity: Severity
    for_s: int
    factor: float
    long_rate: float | None
    short_rate: float | None
    above: bool
    firing: bool


def burn_rate(pair: Pair, budget: Fraction) -> float | None:
    """Error rate over the budget's rate; None without events.

    >>> burn_rate((144, 10_000), Fraction(1, 1000))
    14.4
    """
    bad, total = pair
    return float(Fraction(bad, total) / budget) if total else None


def above(pair: Pair, factor: Fraction, budget: Fraction) -> bool:
    """Whether an error rate is strictly above factor times the budget; False without events.

    >>> above((144, 10_000), Fraction("14.4"), Fraction(1, 1000))
    False
    >>> above((145, 10_000), Fraction("14.4"), Fraction(1, 1000))
    True
    """
    bad, total = pair
    limit = factor * budget
    return bad * limit.denominator > limit.numerator * total


def over(ledger: Ledger, length_s: int, end_s: int) -> Pair:
    """Bad and total of the last `length_s` seconds, from a full minute on."""
    return ledger.total((end_s - length_s) // MINUTE_S * MINUTE_S, end_s)


def burn_statuses(
    rules: Iterable[BurnRule], ledger: Ledger, budget: Fraction, end_s: int, alarm_s: int | None
) -> tuple[BurnStatus, ...]:
    """Every rule at one moment.

    Args:
        rules: of the objective.
        ledger: its counts.
        budget: share that may be bad.
        end_s: what is closed.
        alarm_s: event time of the e-detector's last alarm, None without one.
    """
    found = []
    for rule in rules:
        long, short = over(ledger, rule.long_s, end_s), over(ledger, rule.short_s, end_s)
        point = above(long, rule.factor, budget) and above(short, rule.factor, budget)
        shown = alarm_s is not None and alarm_s > end_s - rule.long_s
        found.append(
            BurnStatus(
                name=rule.name,
                severity=rule.severity,
                for_s=rule.for_s,
                factor=float(rule.factor),
                long_rate=burn_rate(long, budget),
                short_rate=burn_rate(short, budget),
                above=point,
                firing=point and shown,
            )
        )
    return tuple(found)
