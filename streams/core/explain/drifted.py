"""What changed when a drift monitor raised an alert: read off the look, which has both distributions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..drift.divergences import SMALLEST_SHARE, shares
from .evidence import Part
from .explanation import Explanation
from .question import Stretch
from .ranking import AT_MOST, MIN_POWER


@dataclass(frozen=True, slots=True)
class Bar:
    """A category, or a bin of values for people, with its rows in the reference and now."""

    name: str
    reference: int
    current: int


@dataclass(frozen=True, slots=True)
class Look:
    """The newest look at one series when the alert fired.

    Attributes:
        series: feature or category.
        window: what was looked at.
        psi: nats; None without data.
        confirmed: whether drift of it is confirmed.
        bars: of both distributions.
    """

    series: str
    window: Stretch
    psi: float | None
    confirmed: bool
    bars: Sequence[Bar]


def explain_drift(looks: Sequence[Look]) -> Explanation:
    """The series that changed most, and the bars that make up most of its PSI.

    A bar's part is its term of PSI, (c - r) ln(c / r); at most three are told, none below 10 %.

    Args:
        looks: at the series that the alert is about.
    """
    known = [(look.confirmed, look.psi, look) for look in looks if look.psi is not None]
    if not known:
        return Explanation("no look of the monitor is stored")
    _, psi, first = max(known, key=lambda item: (item[0], item[1], item[2].series))
    others = sorted(look.series for sure, _, look in known if sure and look is not first)
    note = f"{first.series} changed most" + (f", but also {', '.join(others)}" if others else "")
    return Explanation(
        note,
        f"PSI of {first.series}",
        now=first.window,
        value=psi,
        parts_of=first.series,
        parts=tuple(_parts(first.bars)),
    )


def _parts(bars: Sequence[Bar]) -> list[Part]:
    if not bars:
        return []
    before = shares(np.array([[bar.reference for bar in bars]]))[0]
    now = shares(np.array([[bar.current for bar in bars]]))[0]
    low, high = (np.maximum(side, SMALLEST_SHARE) for side in (before, now))
    terms = (high - low) * np.log(high / low)
    power = terms / (terms.sum() or 1.0)
    order = sorted(range(len(bars)), key=lambda at: (-power[at], bars[at].name))
    return [
        Part(bars[at].name, "ratio", float(power[at]), float(now[at]), float(before[at]))
        for at in order[:AT_MOST]
        if power[at] >= MIN_POWER
    ]
