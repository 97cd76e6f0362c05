"""Which slices a difference between two arms comes from, or what is bad in one.

Of two arms the change is split over the slices of a dimension as that of an alert is over time
(streams/core/explain/contribution.py), with control as what was before. Of one arm, a slice contributes
what it has more of the bad rows than its share of the rows would make.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..explain.contribution import Floats, Sums, change, effects

MOST = 5


@dataclass(frozen=True, slots=True)
class Slice:
    """A slice that makes the treatment worse.

    Attributes:
        dimension, value: which rows.
        effect: what it adds to the difference of the arms, in the unit of the measure; always worse.
        power: share of the whole difference that it makes, above 1 where others make up for some of
            it; None of one arm, or where the treatment is not worse.
        n, bad: rows (or tokens) of the treatment, and bad ones (or the sum of values).
        n_control, bad_control: of control; 0 of one arm.
    """

    dimension: str
    value: str
    effect: float
    power: float | None
    n: float
    bad: float
    n_control: float
    bad_control: float


def contributing(
    rows: Sequence[Mapping[str, Any]], two_arms: bool, higher_is_better: bool = False
) -> list[Slice]:
    """The slices that contribute most, best first, at most `MOST`.

    A dimension of which all rows have one value tells nothing, and is left out.

    Args:
        rows: dimension, value, n1, bad1, n0, bad0; a row for everything, whose dimension is empty.
        two_arms: whether there is a control.
        higher_is_better: whether a fall is worse.

    >>> row = {"dimension": "route", "n0": 0, "bad0": 0}
    >>> rows = [row | {"value": "a", "n1": 90, "bad1": 0}, row | {"value": "b", "n1": 10, "bad1": 9},
    ...         row | {"dimension": "", "value": "", "n1": 100, "bad1": 9}]
    >>> [(found.value, round(found.effect, 4)) for found in contributing(rows, two_arms=False)]
    [('b', 0.081)]
    """
    total = _sums([row for row in rows if not row["dimension"]])
    if not len(total.n) or not total.d[0] or (two_arms and not total.d0[0]):
        return []
    sign = -1.0 if higher_is_better else 1.0
    whole = sign * change(total, True) if two_arms else 0.0
    found: list[Slice] = []
    for name in dict.fromkeys(row["dimension"] for row in rows if row["dimension"]):
        mine = [row for row in rows if row["dimension"] == name]
        if len(mine) > 1:
            worse = sign * _effects(_sums(mine), total, two_arms)
            found += [_slice(*pair, whole) for pair in zip(mine, worse.tolist(), strict=True)]
    found = [item for item in found if item.effect > 0]
    return sorted(found, key=lambda item: (-item.effect, item.dimension, item.value))[:MOST]


def _effects(slices: Sums, total: Sums, two_arms: bool) -> Floats:
    if two_arms:
        return effects(slices, total, True)
    return np.asarray((slices.n - slices.d * (total.n / total.d)) / total.d)


def _sums(rows: Sequence[Mapping[str, Any]]) -> Sums:
    columns = ([float(row[name]) for row in rows] for name in ("bad1", "n1", "bad0", "n0"))
    return Sums(*(np.array(column) for column in columns))


def _slice(row: Mapping[str, Any], effect: float, whole: float) -> Slice:
    return Slice(
        str(row["dimension"]),
        str(row["value"]),
        effect,
        effect / whole if whole > 0 else None,
        float(row["n1"]),
        float(row["bad1"]),
        float(row["n0"]),
        float(row["bad0"]),
    )
