"""Has a category drifted? From counts by category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from ....schemas.drift.thresholds import Thresholds
from .continuous import State
from .divergences import jensen_shannon, psi, shares

FEWEST_NEW = 5  # rows in new categories below this are told, and are no drift


@dataclass(frozen=True, slots=True)
class CategoryScores:
    """Scores of one category.

    Attributes:
        n_reference, n_current: rows on either side.
        psi: over categories, in nats, `psi_bias` taken off.
        js: in bits.
        chi_square, degrees, p: Pearson's test of homogeneity, asymptotic; `sparse` where a fifth of
            the expected counts are below 5, so that p is rough (Cochran 1954).
        cramers_v, v_low, v_high: effect size and its interval at 95 %.
        new, gone: categories that only one side has, with their share there, largest first.
        new_share: share of current rows in new categories.
        reasons: which parts of the rule hold: psi, chi_square, new_category.
    """

    n_reference: int
    n_current: int
    psi: float
    psi_bias: float
    js: float
    chi_square: float
    degrees: int
    p: float
    sparse: bool
    cramers_v: float
    v_low: float
    v_high: float
    new: tuple[tuple[str, float], ...]
    gone: tuple[tuple[str, float], ...]
    new_share: float
    state: State
    reasons: tuple[str, ...]
    severity: Literal["medium", "high"] | None


def compare_categories(
    reference: Mapping[str, int], current: Mapping[str, int], thresholds: Thresholds | None = None
) -> CategoryScores:
    """Compare counts by category.

    Drift when PSI > 0.2, or chi-square p < 0.01 with Cramer's V > 0.1, or more than 5 % of the rows
    (and at least five) are in categories that the reference lacks.

    >>> scores = compare_categories({"en": 900, "de": 100}, {"en": 500, "de": 420, "fr": 80})
    >>> scores.state, scores.new
    ('drift', (('fr', 0.08),))
    """
    limits = thresholds or Thresholds()
    names = sorted(
        name for name in {*reference, *current} if reference.get(name) or current.get(name)
    )
    before = np.array([[reference.get(name, 0) for name in names]], np.int64).reshape(1, -1)
    after = np.array([[current.get(name, 0) for name in names]], np.int64).reshape(1, -1)
    n, m = int(before.sum()), int(after.sum())
    value, bias = psi(before, after) if names else (np.full(1, np.nan), np.zeros(1))
    chi, degrees, p, sparse = _chi_square(before[0], after[0])
    v, low, high = _cramers_v(chi, degrees, n + m)
    new = _only(names, after[0], before[0])
    fresh = sum(current[name] for name, _ in new)
    enough = min(n, m) >= limits.min_values
    rule = {
        "psi": value[0] > limits.psi,
        "chi_square": p < limits.chi_square_p and v > limits.cramers_v,
        "new_category": fresh >= FEWEST_NEW and fresh > limits.new_share * m,
    }
    reasons = tuple(name for name, holds in rule.items() if enough and holds)
    return CategoryScores(
        n_reference=n,
        n_current=m,
        psi=float(value[0]),
        psi_bias=float(bias[0]),
        js=float(jensen_shannon(before, after)[0]) if n and m else float("nan"),
        chi_square=chi,
        degrees=degrees,
        p=p,
        sparse=sparse,
        cramers_v=v,
        v_low=low,
        v_high=high,
        new=new,
        gone=_only(names, before[0], after[0]),
        new_share=fresh / m if m else float("nan"),
        state=_state(enough, bool(reasons), float(value[0]), limits),
        reasons=reasons,
        severity=("high" if value[0] > limits.psi_high else "medium") if reasons else None,
    )


def category_counts(names: Sequence[str], counts: Mapping[str, int]) -> npt.NDArray[np.int64]:
    """Counts by position of a name, and last those of all other names: what a `Watch` takes.

    >>> category_counts(["de", "en"], {"en": 5, "fr": 1, "it": 1}).tolist()
    [0, 5, 2]
    """
    known = [counts.get(name, 0) for name in names]
    return np.array([*known, sum(counts.values()) - sum(known)], np.int64)


def _state(enough: bool, drift: bool, value: float, limits: Thresholds) -> State:
    if not enough:
        return "no_data"
    if drift:
        return "drift"
    return "moderate" if value > limits.psi_moderate else "ok"


def _only(
    names: list[str],
    here: npt.NDArray[np.int64],
    there: npt.NDArray[np.int64],
) -> tuple[tuple[str, float], ...]:
    share = shares(here)
    found = [(names[at], float(share[at])) for at in np.flatnonzero((here > 0) & (there == 0))]
    return tuple(sorted(found, key=lambda item: (-item[1], item[0])))


def _chi_square(
    before: npt.NDArray[np.int64],
    after: npt.NDArray[np.int64],
) -> tuple[float, int, float, bool]:
    """Statistic, degrees of freedom, p, and whether expected counts are small."""
    table = np.stack([before, after]).astype(np.float64)
    total = table.sum()
    rows = table.sum(axis=1, keepdims=True)
    if not rows.all():
        return float("nan"), 0, float("nan"), True
    expected = rows * table.sum(axis=0) / total
    chi = float(((table - expected) ** 2 / expected).sum())
    degrees = table.shape[1] - 1
    p = float(special.chdtrc(degrees, chi)) if degrees else 1.0
    return chi, degrees, p, bool((expected < 5).mean() > 0.2)


def _cramers_v(chi: float, degrees: int, rows: int) -> tuple[float, float, float]:
    """sqrt(chi-square / n) for two samples, and its interval by inverting the noncentral chi-square.

    As for any effect size by that method (Smithson 2003) the low end is 0 where p > 0.025.
    """
    if not degrees:
        return chi, chi, chi  # 0 for a single category, NaN without data
    ends = []
    for level in (0.975, 0.025):
        inside = special.chndtr(chi, degrees, 0.0) > level
        shift = float(special.chndtrinc(chi, degrees, level)) if inside else 0.0
        ends.append(min(float(np.sqrt(shift / rows)), 1.0))
    return float(np.sqrt(chi / rows)), ends[0], ends[1]
