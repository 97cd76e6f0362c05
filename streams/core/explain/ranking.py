"""Which slices are told: few, those that explain most, each once under all its names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .contribution import Floats, Sums, chance, change, effects, surprise

# As Adtributor has them: a slice below 10 % says nothing, and two thirds are enough.
MIN_POWER = 0.1
ENOUGH_POWER = 0.67
MIN_SURPRISE = 0.02  # bits; a dimension that looks as before explains nothing
AT_MOST = 3  # of one dimension; what is spread over more is no explanation
LIFT = 0.25  # per slice: so much more of the change than of the traffic must be theirs
MOST_FINDINGS = 3
Sample = Literal["counted", "all", "none"]
"""What is drawn by chance: the rows that N counts, all rows, or nothing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A slice that explains part of a change.

    Attributes:
        slice: dimension -> value; several where the same rows have several names.
        power: share of the change that it explains; above 1 where others made up for some of it.
        now, before: its value; None where it had no rows.
        traffic, traffic_before: its share of the rows; None where there were none at all.
        surprise: bits.
    """

    slice: dict[str, str]
    power: float
    now: float | None
    before: float | None
    traffic: float | None
    traffic_before: float | None
    surprise: float


@dataclass(frozen=True, slots=True)
class Dimension:
    """One dimension: its values, and their sums in the same order."""

    name: str
    values: Sequence[str]
    sums: Sums


def findings(
    dimensions: Sequence[Dimension], total: Sums, quotient: bool, sample: Sample = "counted"
) -> list[Finding]:
    """The slices to tell, best first.

    Of a dimension, the slices that explain most are taken until they explain two thirds of the change. The
    dimension whose slices surprise most, each on average, comes first: one slice rather than two that
    say the same. The same rows under names of several dimensions
    (a version, its release, its only worker) are one finding.

    Args:
        dimensions: in the order in which names are preferred.
        total: everything.
        quotient: whether N / D is explained, or N alone.
        sample: what chance can be told from change by.
    """
    whole = change(total, quotient)
    if whole == 0:
        return []
    found: dict[tuple[float, ...], Finding] = {}
    ranked = sorted(
        (_chosen(dimension, total, quotient, sample, whole) for dimension in dimensions),
        key=lambda chosen: -sum(item.surprise for _, item in chosen) / max(len(chosen), 1),
    )
    for chosen in ranked:
        for rows, item in chosen:
            if rows in found:
                found[rows].slice.update(item.slice)
            else:
                found[rows] = item
    order = {dimension.name: at for at, dimension in enumerate(dimensions)}
    for item in found.values():
        names: Mapping[str, str] = dict(sorted(item.slice.items(), key=lambda p: order[p[0]]))
        item.slice.clear()
        item.slice.update(names)
    return list(found.values())[:MOST_FINDINGS]


def _chosen(
    dimension: Dimension, total: Sums, quotient: bool, sample: Sample, whole: float
) -> list[tuple[tuple[float, ...], Finding]]:
    """The slices of one dimension, most power first, each with the sums that it is known by."""
    sums = dimension.sums
    power = effects(sums, total, quotient) / whole
    bits = surprise(sums, total)
    chosen: list[int] = []
    for at in sorted(range(len(power)), key=lambda at: (-power[at], dimension.values[at])):
        if power[at] < MIN_POWER or power[chosen].sum() >= ENOUGH_POWER:
            break
        chosen.append(at)
    explained = power[chosen].sum()
    unlike = sample == "none" or bits.sum() >= max(
        MIN_SURPRISE, chance(len(power), total, sample == "counted")
    )
    stands_out = explained >= (1 + LIFT * len(chosen)) * _traffic(sums, total)[chosen].sum()
    if explained < ENOUGH_POWER or len(chosen) > AT_MOST or not (unlike and stands_out):
        return []
    return [
        (
            tuple(float(column[at]) for column in (sums.n, sums.d, sums.n0, sums.d0)),
            Finding(
                {dimension.name: dimension.values[at]},
                float(power[at]),
                _value(sums.n, sums.d, at, quotient),
                _value(sums.n0, sums.d0, at, quotient) if total.d0[0] else None,
                _share(sums.d, total.d, at),
                _share(sums.d0, total.d0, at),
                float(bits[at]),
            ),
        )
        for at in chosen
    ]


def _traffic(sums: Sums, total: Sums) -> Floats:
    """Share of the rows that each slice has, the mean of now and before, shape (s,)."""
    shares = [d / all_d for d, all_d in ((sums.d, total.d), (sums.d0, total.d0)) if all_d[0]]
    return np.asarray(np.mean(shares, axis=0))


def _value(n: Floats, d: Floats, at: int, quotient: bool) -> float | None:
    if not quotient:
        return float(n[at])
    return float(n[at] / d[at]) if d[at] else None


def _share(d: Floats, total: Floats, at: int) -> float | None:
    return float(d[at] / total[0]) if np.any(total) else None
