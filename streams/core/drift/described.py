"""What a look found of one series, as numbers by name and as bars to be drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .binning import binning_of
from .categorical import CategoryScores
from .continuous import Scores
from .keeper import DriftRow

MOST_BARS = 50  # categories that are drawn apart, the largest; the rest is one bar
REST = "(rest)"
_OF_FEATURES = (
    "n_reference", "n_current", "psi", "psi_bias", "js", "ks", "ks_error", "ks_low", "ks_high",
    "ks_p", "wasserstein", "wasserstein_error", "wasserstein_iqr",
)  # fmt: skip
_OF_CATEGORIES = (
    "n_reference", "n_current", "psi", "psi_bias", "js", "chi_square", "degrees", "cramers_v",
    "v_low", "v_high", "new_share",
)  # fmt: skip


def figures(row: DriftRow) -> dict[str, float]:
    """Every score of a row by its name, `p` that of the single look; what is not known is left out."""
    scores = row.scores
    if isinstance(scores, CategoryScores):
        found = {name: float(getattr(scores, name)) for name in _OF_CATEGORIES} | {"p": scores.p}
    elif len(scores):
        found = {name: float(getattr(scores, name)[0]) for name in _OF_FEATURES}
        found["p"] = found.pop("ks_p")
    else:
        found = {"n_reference": 0.0, "n_current": 0.0}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def reasons(row: DriftRow) -> tuple[str, ...]:
    """Which parts of the rule for a single look hold."""
    if isinstance(row.scores, CategoryScores):
        return row.scores.reasons
    return row.scores.reasons(0) if len(row.scores) else ()


def severity(row: DriftRow) -> str:
    """medium or high; empty where a single look shows no drift."""
    if isinstance(row.scores, CategoryScores):
        return row.scores.severity or ""
    return (row.scores.severity(0) or "") if len(row.scores) else ""


def psi_of(row: DriftRow) -> float | None:
    """PSI; None without data."""
    return figures(row).get("psi") if row.state != "no_data" else None


def bars(row: DriftRow) -> list[dict[str, Any]]:
    """Reference and current counts by bin of PSI, or by category, to be drawn side by side.

    Of a feature: `low` and `high` are estimates of the least and greatest value in the bin (None in
    one that nothing is in), `first` and `last` its sketch bins. Of a category: its `name`.
    """
    if isinstance(row.scores, CategoryScores):
        return _of_category(row.reference, row.current)
    return _of_feature(row.name, row.scores) if len(row.scores) else []


def _of_feature(name: str, scores: Scores) -> list[dict[str, Any]]:
    values_of = binning_of(name).values_of
    found = []
    for at, (first, last) in enumerate(scores.ranges[0].tolist()):
        ends = values_of(scores.ranges[0, at]).tolist() if first >= 0 else (None, None)
        found.append(
            {
                "bin": at,
                "first": first,
                "last": last,
                "low": _finite(ends[0]),
                "high": _finite(ends[1]),
                "reference": int(scores.bins_reference[0, at]),
                "current": int(scores.bins_current[0, at]),
            }
        )
    return found


def _of_category(reference: Mapping[Any, int], current: Mapping[Any, int]) -> list[dict[str, Any]]:
    names = sorted(
        {*reference, *current},
        key=lambda name: (-max(reference.get(name, 0), current.get(name, 0)), name),
    )
    shown, rest = names[:MOST_BARS], names[MOST_BARS:]
    found = [_bar(at, name, [name], reference, current) for at, name in enumerate(shown)]
    return found + ([_bar(len(found), REST, rest, reference, current)] if rest else [])


def _bar(
    at: int,
    name: str,
    of: Sequence[str],
    reference: Mapping[Any, int],
    current: Mapping[Any, int],
) -> dict[str, Any]:
    counts = (sum(side.get(one, 0) for one in of) for side in (reference, current))
    return {"bin": at, "name": name} | dict(zip(("reference", "current"), counts, strict=True))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
