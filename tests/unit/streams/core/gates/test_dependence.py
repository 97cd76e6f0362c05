"""Autocorrelation, block length and design effect against direct computation."""

import numpy as np
import pytest
from penstock.streams.core.gates.dependence import (
    Series,
    autocorrelation_time,
    block_length,
    effective_n,
)


def series_of(values: list[float], units: int = 50) -> Series:
    series = Series()
    for value in values:
        series = series.add(value, units)
    return series


def ar1(phi: float, n: int, seed: int) -> list[float]:
    rng = np.random.default_rng(seed)
    out = [0.0]
    for step in rng.standard_normal(n):
        out.append(phi * out[-1] + float(step))
    return out[1:]


@pytest.mark.parametrize("phi", [0.0, 0.6, 0.9])
def test_autocorrelation(phi: float) -> None:
    values = ar1(phi, 4000, 1)
    series = series_of(values)
    centred = np.array(values) - np.mean(values)
    direct = float((centred[1:] * centred[:-1]).sum() / (centred**2).sum())
    assert series.autocorrelation == pytest.approx(direct, abs=1e-9)
    assert direct == pytest.approx(phi, abs=0.05)
    assert series.too_short == (phi > 0.3)


def test_too_little_or_constant_has_no_autocorrelation() -> None:
    assert series_of(ar1(0.5, 9, 2)).autocorrelation is None
    assert series_of([0.2] * 50).autocorrelation is None
    assert not series_of([0.2] * 50).too_short


def test_block_length_is_ten_autocorrelation_times() -> None:
    assert autocorrelation_time(0.9) == pytest.approx(19.0)
    assert autocorrelation_time(-0.5) == 1.0
    assert block_length(0.9, 1.0) == pytest.approx(190.0)  # the 200 steps of the simulation bars


def test_design_effect_of_independent_and_of_bursty_units() -> None:
    rng = np.random.default_rng(3)
    independent = series_of((rng.binomial(200, 0.1, 4000) / 200).tolist(), 200)
    assert independent.design_effect() == pytest.approx(1.0, abs=0.07)
    bursts = series_of((2 * rng.binomial(100, 0.1, 4000) / 200).tolist(), 200)
    assert bursts.design_effect() == pytest.approx(2.0, abs=0.15)
    assert effective_n(1000, 2.0) == 500.0
    assert effective_n(1000, 0.5) == 1000.0
    assert effective_n(1000, None) is None


def test_design_effect_without_spread_is_unknown() -> None:
    assert Series().design_effect() is None
    assert series_of([0.0, 0.0]).design_effect() is None
    assert Series().add(0.5, 0) == Series()
