"""Concept drift at one look: by labels where there are enough of them, else by what predictions tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ....schemas.drift.thresholds import ConceptThresholds
from .labelled import Labelled, with_labels
from .unlabelled import without_labels


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known beside the distributions.

    Attributes:
        labels_before, labels_now: of the reference and of `window_s`.
        importance: `importance_correlation` of the last two release markers that carry importances.
    """

    labels_before: Labelled = field(default_factory=Labelled)
    labels_now: Labelled = field(default_factory=Labelled)
    importance: float | None = None


@dataclass(frozen=True, slots=True)
class ConceptLook:
    """What one look says about the relation between inputs and labels.

    Attributes:
        by: what it was judged by.
        value, limit: the largest drop and the drop that is drift, by labels; the indicators over
            their limits and two, by predictions. None where nothing is known.
        n: labels behind it.
        details: drops or indicators, as JSON holds them.
    """

    by: Literal["labels", "predictions"]
    state: Literal["no_data", "ok", "drift"]
    severity: Literal["medium", "high"] | None
    reasons: tuple[str, ...]
    value: float | None
    limit: float
    n: int
    details: Mapping[str, Any] = field(default_factory=dict)


def judge_concept(
    evidence: Evidence,
    confidence_js: float | None,
    class_psi: float | None,
    limits: ConceptThresholds,
) -> ConceptLook:
    """By labels where both sides have `min_labels`, else by predictions.

    Args:
        evidence: labels and importances.
        confidence_js: JS divergence of output_score, None where it is not known.
        class_psi: PSI of output_class, None where it is not known.
        limits: thresholds.

    >>> few = Labelled.of([("cat", "cat", 0.9)] * 5)
    >>> judge_concept(Evidence(few, few), 0.2, 0.3, ConceptThresholds()).reasons
    ('confidence', 'class')
    """
    found = with_labels(evidence.labels_before, evidence.labels_now, limits)
    if found.state != "no_data":
        drops = {name: asdict(drop) for name, drop in found.drops.items()}
        worst = max(drop.drop for drop in found.drops.values())
        return ConceptLook(
            "labels", found.state, found.severity, found.reasons, worst, limits.drop,
            found.n_current, drops,
        )  # fmt: skip
    proxy = without_labels(confidence_js, class_psi, evidence.importance, limits)
    known = proxy.state != "no_data"
    return ConceptLook(
        "predictions",
        proxy.state,
        "medium" if proxy.state == "drift" else None,
        proxy.reasons,
        float(len(proxy.reasons)) if known else None,
        2.0,
        found.n_current,
        dict(proxy.known),
    )
