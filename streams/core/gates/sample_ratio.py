"""Is traffic split as configured? The two-sided multinomial e-process for two arms.

Lindon and Malek, "Anytime-valid inference for multinomial count data" (arXiv 2011.03567): under "a
unit is the treatment's with probability s", the Bayes factor of a Beta(k s, k (1 - s)) prior around s
against s is a martingale that starts at 1,

    E = B(k s + n1, k (1 - s) + n0) / (B(k s, k (1 - s)) s^n1 (1 - s)^n0),  p = min(1, 1/E)

k = 100 looks for shares near the configured one. Counts are of assignment units: two requests of one
session are assigned once. Where the configured share changes, each share is a test of its own and the
e-values multiply.
"""

from __future__ import annotations

from collections.abc import Mapping

from scipy import special

PRIOR_COUNT = 100.0


def log_e_share(treatment: int, control: int, share: float, k: float = PRIOR_COUNT) -> float:
    """Log e-value of the null "the treatment gets `share` of the units".

    Args:
        treatment, control: units assigned.
        share: configured, in (0, 1).
        k: weight of the prior, in units.

    >>> import math
    >>> round(math.exp(-log_e_share(5, 45, 0.5)), 8), round(math.exp(-log_e_share(10, 0, 0.5)), 5)
    (0.00534336, 0.66268)
    """
    a, b = k * share, k * (1.0 - share)
    gained = special.betaln(a + treatment, b + control) - special.betaln(a, b)
    expected = special.xlogy(treatment, share) + special.xlog1py(control, -share)
    return float(gained - expected)


def log_e_shares(counts: Mapping[float, tuple[int, int]]) -> float:
    """Log e-value over every configured share that was in force.

    Args:
        counts: share -> (treatment, control) units assigned while it was.
    """
    return sum(log_e_share(*counts[share], share) for share in sorted(counts))
