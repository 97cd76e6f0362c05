from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.streams.core.sketch import (
    ACCURACY,
    INFINITE_BIN,
    LOG_GAMMA,
    OFFSET,
    ZERO_BIN,
    bins_of,
    quantiles,
    values_of,
)
from penstock.tests.unit.streams.core.bruteforce import bin_of, estimate, quantile

GAMMA = Fraction(101, 99)


@pytest.mark.parametrize("scale", [1, 1000, 1_000_000])
def test_no_integer_up_to_32_bits_lies_on_the_edge_of_a_bin(scale: int) -> None:
    """So that every float64 logarithm, ours or ClickHouse's, finds the same bin.

    An edge is gamma^i * scale. The nearest integers are compared with it exactly: where the error of
    ln x / ln gamma (a few units in the last place) cannot reach over, the bin is certain.
    """
    for i in range(-700, 1200):
        edge = GAMMA**i * scale
        if not Fraction(1, 2) < edge < 2**32:
            continue
        for value in {math.floor(edge), math.ceil(edge)} - {0}:
            if value == edge:
                assert i == 0  # ln 1 is 0 everywhere
                continue
            distance = abs(float((value - edge) / edge)) / LOG_GAMMA
            assert distance > 64 * np.spacing(float(max(abs(i), 1)))


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=50))
def test_bins_and_estimates_are_those_of_plain_python(micros: list[int]) -> None:
    values = np.array(micros) / 1000
    bins = bins_of(values)
    plain = [bin_of(us / 1000) for us in micros]
    expected = [max(b + OFFSET, 1) if b > -(10**6) else ZERO_BIN for b in plain]
    assert bins.tolist() == expected
    assert values_of(bins).tolist() == [estimate(b) for b in plain]


def test_a_bin_stands_for_its_values_within_the_accuracy() -> None:
    values = np.geomspace(1e-3, 1e9, 10_000)
    assert (np.abs(values_of(bins_of(values)) / values - 1) <= ACCURACY * (1 + 1e-9)).all()


def test_zero_negative_and_infinite_have_bins_of_their_own() -> None:
    assert bins_of(np.array([0.0, -3.0])).tolist() == [0, 0]
    assert values_of(np.array([ZERO_BIN, INFINITE_BIN])).tolist() == [0.0, math.inf]
    assert bins_of(np.empty(0)).tolist() == []


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=80))
def test_quantiles_take_the_rank_from_below(micros: list[int]) -> None:
    bins, counts = np.unique(bins_of(np.array(micros) / 1000), return_counts=True)
    wanted = (0.0, 0.5, 0.9, 0.95, 0.99, 1.0)
    found = quantiles(bins, counts, np.array(wanted))
    assert found.tolist() == [quantile([us / 1000 for us in micros], p) for p in wanted]


def test_an_empty_sketch_has_no_quantiles() -> None:
    assert np.isnan(quantiles(np.empty(0, np.int64), np.empty(0, np.int64), np.array([0.5]))).all()
