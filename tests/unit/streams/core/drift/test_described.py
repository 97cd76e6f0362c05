"""What a look found, as numbers and as bars."""

from __future__ import annotations

import numpy as np
from penstock.schemas.drift.monitors import DriftMonitor
from penstock.streams.core.drift.described import (
    MOST_BARS,
    REST,
    bars,
    figures,
    psi_of,
    reasons,
    severity,
)
from penstock.streams.core.drift.keeper import Counts, DriftKeeper, DriftRow, References
from penstock.streams.core.drift.references import Reference
from penstock.streams.core.sketch import bins_of

SPEC = DriftMonitor.model_validate(
    {
        "id": "m",
        "features": ["input_tokens"],
        "categories": ["language"],
        "reference": {"kind": "control"},
    }
)


def numbers(by: float) -> dict[int, int]:
    values = np.random.default_rng(1).lognormal(5, 0.5, 2000) * by
    bins, counts = np.unique(bins_of(values), return_counts=True)
    return dict(zip(bins.tolist(), counts.tolist(), strict=True))


def rows(by: float = 1.0, names: dict[str, int] | None = None) -> list[DriftRow]:
    before = {"en": 900, "de": 100}
    past = References(
        {"input_tokens": Reference("f", {}, {0: numbers(1.0)})},
        {"language": Reference("c", {}, {0: before})},
    )
    now = Counts({"input_tokens": numbers(by)}, {"language": before if names is None else names})
    return DriftKeeper(SPEC).look(3600, past, now, now)


def test_figures_have_every_score() -> None:
    feature, category = rows(by=1.5)
    assert {"psi", "ks", "ks_low", "p", "wasserstein", "js"} <= figures(feature).keys()
    assert {"psi", "cramers_v", "v_low", "chi_square", "p"} <= figures(category).keys()
    assert psi_of(feature) == figures(feature)["psi"] > 0.2
    assert (reasons(feature), severity(feature)) == (("psi", "ks"), "high")
    assert (reasons(category), severity(category)) == ((), "")


def test_bars_of_a_feature_hold_every_value() -> None:
    feature, _ = rows(by=1.5)
    found = bars(feature)
    assert [bar["bin"] for bar in found] == list(range(10))
    assert sum(bar["reference"] for bar in found) == 2000
    assert sum(bar["current"] for bar in found) == 2000
    lows = [bar["low"] for bar in found]
    assert lows == sorted(lows)
    assert all(bar["low"] <= bar["high"] for bar in found)


def test_bars_of_a_category_name_the_largest() -> None:
    names = {f"n{at:03}": 1000 - at for at in range(MOST_BARS + 5)}
    _, category = rows(names=names)
    found = bars(category)
    assert len(found) == MOST_BARS + 1
    assert found[0] == {"bin": 0, "name": "n000", "reference": 0, "current": 1000}
    assert found[-1]["name"] == REST
    assert sum(bar["current"] for bar in found) == sum(names.values())
    assert sum(bar["reference"] for bar in found) == 1000


def test_without_data_there_is_nothing_to_tell() -> None:
    empty = References({"input_tokens": Reference("f", {}, {0: {}})}, {})
    (row,) = DriftKeeper(SPEC).look(3600, empty, Counts(), Counts())
    assert (psi_of(row), bars(row), reasons(row), severity(row)) == (None, [], (), "")
    assert figures(row) == {"n_reference": 0.0, "n_current": 0.0}
