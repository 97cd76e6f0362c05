"""Has a number drifted? Every score of many series at once, and the default rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ....schemas.drift.thresholds import Thresholds
from ..tiles import Tile
from . import divergences as d
from .binning import LOG, Binning
from .pairs import Floats, Ints, bin_ranges, pair, quantile_bins

State = Literal["no_data", "ok", "moderate", "drift"]
KS_METHOD = "asymptotic (Stephens 1970)"


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Scores of each series, shape (s,), NaN where a side is empty.

    Attributes:
        series: what a series is called in the tiles, see pairs.py.
        n_reference, n_current: values on either side.
        psi: on reference-quantile bins, in nats, `psi_bias` taken off.
        ks: D at bin edges; that of the values is at most `ks_error` above.
        ks_low, ks_high: interval of the true distance at 95 %, bins' error included.
        ks_p: two-sided, by `KS_METHOD`.
        js: Jensen-Shannon divergence on the bins of PSI, in bits.
        wasserstein: in the unit of the values, within +- `wasserstein_error`.
        wasserstein_iqr: the same in quartile distances of the reference.
        bins_reference, bins_current: counts in the bins of PSI, shape (s, k).
        ranges: first and last sketch bin of each of them, shape (s, k, 2).
        drift: what the rule says, shape (s,).
        enough: whether both sides have enough values for it.
    """

    series: npt.NDArray[np.uint64]
    n_reference: Ints
    n_current: Ints
    psi: Floats
    psi_bias: Floats
    ks: Floats
    ks_error: Floats
    ks_low: Floats
    ks_high: Floats
    ks_p: Floats
    js: Floats
    wasserstein: Floats
    wasserstein_error: Floats
    wasserstein_iqr: Floats
    bins_reference: Ints
    bins_current: Ints
    ranges: Ints
    drift: npt.NDArray[np.bool_]
    enough: npt.NDArray[np.bool_]
    thresholds: Thresholds

    def __len__(self) -> int:
        return len(self.series)

    def state(self, at: int) -> State:
        """What to say about one series."""
        if not self.enough[at]:
            return "no_data"
        if self.drift[at]:
            return "drift"
        return "moderate" if self.psi[at] > self.thresholds.psi_moderate else "ok"

    def reasons(self, at: int) -> tuple[str, ...]:
        """Which parts of the rule hold for one series."""
        if not self.enough[at]:
            return ()
        limits = self.thresholds
        by_psi = self.psi[at] > limits.psi
        by_ks = self.ks_p[at] < limits.ks_p and self.ks[at] > limits.ks_d
        return ("psi",) * bool(by_psi) + ("ks",) * bool(by_ks)

    def severity(self, at: int) -> Literal["medium", "high"] | None:
        """High above `psi_high`, else medium; None where there is no drift."""
        if not self.drift[at]:
            return None
        return "high" if self.psi[at] > self.thresholds.psi_high else "medium"


def compare(
    reference: Tile,
    current: Tile,
    thresholds: Thresholds | None = None,
    binning: Binning = LOG,
) -> Scores:
    """Compare every series of two tiles; drift when PSI > 0.2, or KS p < 0.01 with D > 0.1.

    A pure function of the counts: the same after any order of merges.

    >>> from .pairs import tile_of_sketches
    >>> before = tile_of_sketches([(range(2300, 2320), [100] * 20)])
    >>> after = tile_of_sketches([(range(2310, 2330), [100] * 20)])
    >>> scores = compare(before, after)
    >>> scores.state(0), round(float(scores.ks[0]), 2)
    ('drift', 0.5)
    """
    limits = thresholds or Thresholds()
    pairs = pair(reference, current)
    n, m = pairs.n_reference, pairs.n_current
    before, after = quantile_bins(pairs, limits.quantile_bins)
    psi, bias = d.psi(before, after)
    ks, ks_error = d.kolmogorov_smirnov(pairs)
    ks_low, ks_high = d.ks_interval(ks, ks_error, n, m)
    ks_p = d.ks_p_value(ks, n, m)
    distance, distance_error = d.wasserstein(pairs, binning)
    enough = np.minimum(n, m) >= limits.min_values
    by_ks = (ks_p < limits.ks_p) & (ks > limits.ks_d)
    return Scores(
        series=pairs.series,
        n_reference=n,
        n_current=m,
        psi=psi,
        psi_bias=bias,
        ks=ks,
        ks_error=ks_error,
        ks_low=ks_low,
        ks_high=ks_high,
        ks_p=ks_p,
        js=d.jensen_shannon(before, after),
        wasserstein=distance,
        wasserstein_error=distance_error,
        wasserstein_iqr=distance / d.reference_iqr(pairs, binning),
        bins_reference=before,
        bins_current=after,
        ranges=bin_ranges(pairs, limits.quantile_bins),
        drift=enough & ((psi > limits.psi) | by_ks),
        enough=enough,
        thresholds=limits,
    )
