"""False discoveries among many series."""

import numpy as np
import pytest
from penstock.streams.core.drift.discovery import benjamini_hochberg, e_bh
from scipy.stats import norm


def test_nothing_known_is_nothing_believed() -> None:
    nothing = np.array([np.nan, np.nan])
    assert e_bh(nothing, 0.1).tolist() == [False, False]
    assert benjamini_hochberg(nothing, 0.1).tolist() == [False, False]
    assert e_bh(np.array([np.nan, np.inf, 1.0]), 0.1).tolist() == [False, True, False]


def test_one_monitor_is_believed_at_its_own_threshold() -> None:
    assert e_bh(np.array([10.0]), 0.1).tolist() == [True]
    assert e_bh(np.array([9.9]), 0.1).tolist() == [False]


@pytest.mark.parametrize("method", ["p", "e"])
def test_share_of_false_discoveries(method: str) -> None:
    rng = np.random.default_rng(2)
    shares = []
    for _ in range(300):
        truth = np.arange(200) < 20
        z = rng.standard_normal(200) + 4 * truth
        if method == "p":
            found = benjamini_hochberg(norm.sf(z), 0.1)
        else:
            found = e_bh(np.exp(4 * z - 8), 0.1)
        shares.append((found & ~truth).sum() / max(found.sum(), 1))
    assert np.mean(shares) <= 0.1 + 3 * np.std(shares) / np.sqrt(300)
