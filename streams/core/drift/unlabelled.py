"""Concept drift without labels: what the predictions themselves tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from scipy import stats

from ....schemas.drift.thresholds import ConceptThresholds

FEWEST_FEATURES = 3  # a rank correlation of two is always 1 or -1


@dataclass(frozen=True, slots=True)
class ProxyDrift:
    """What can be said without labels.

    Attributes:
        state: no_data where fewer than two indicators are known. Drift is a suspicion: collect labels.
        reasons: indicators over their limit.
        known: value of each indicator that is known: confidence (JS in bits), class (PSI),
            importance (Spearman).
    """

    state: Literal["no_data", "ok", "drift"]
    reasons: tuple[str, ...]
    known: Mapping[str, float]


def without_labels(
    confidence_js: float | None,
    class_psi: float | None,
    importance_spearman: float | None,
    thresholds: ConceptThresholds | None = None,
) -> ProxyDrift:
    """Drift where two of the indicators are over their limits: two of three, or both of two.

    Args:
        confidence_js: `Scores.js` of output_score; None where it is not known.
        class_psi: `CategoryScores.psi` of output_class.
        importance_spearman: `importance_correlation` of two release markers.
        thresholds: JS > 0.1, PSI > 0.1, correlation < 0.8 by default.

    >>> without_labels(0.2, 0.15, None).state
    'drift'
    """
    limits = thresholds or ConceptThresholds()
    given = {"confidence": confidence_js, "class": class_psi, "importance": importance_spearman}
    known = {name: value for name, value in given.items() if value is not None and value == value}
    over = {
        "confidence": known.get("confidence", 0.0) > limits.confidence_js,
        "class": known.get("class", 0.0) > limits.class_psi,
        "importance": known.get("importance", 1.0) < limits.importance_spearman,
    }
    reasons = tuple(name for name, holds in over.items() if holds)
    if len(known) < 2:
        return ProxyDrift("no_data", reasons, known)
    return ProxyDrift("drift" if len(reasons) >= 2 else "ok", reasons, known)


def importance_correlation(before: Mapping[str, float], after: Mapping[str, float]) -> float | None:
    """Spearman's rank correlation of two models' feature importances; a feature that one lacks is 0.

    None for fewer than three features, or where all importances of a side are equal.
    """
    names = sorted({*before, *after})
    first = [before.get(name, 0.0) for name in names]
    second = [after.get(name, 0.0) for name in names]
    if len(names) < FEWEST_FEATURES or min(len(set(first)), len(set(second))) < 2:
        return None
    return float(stats.spearmanr(first, second).statistic)
