"""A monitor on a stream: rows, restarts, repeats, references that change."""

import math

import numpy as np
import pytest
from penstock.schemas.drift.monitors import DriftMonitor
from penstock.streams.core.drift.keeper import Counts, DriftKeeper, DriftRow, References
from penstock.streams.core.drift.references import Reference
from penstock.streams.core.sketch import bins_of

HOUR_S = 3600
SPEC = DriftMonitor(id="m", features=("output_tokens", "absent"), categories=("language",))


def numbers(rng: np.random.Generator, n: int, by: float = 1.0) -> dict[int, int]:
    bins, counts = np.unique(bins_of(rng.lognormal(5, 0.7, n) * by), return_counts=True)
    return dict(zip(bins.tolist(), counts.tolist(), strict=True))


def languages(rng: np.random.Generator, n: int, german: float = 0.2) -> dict[str, int]:
    shares = [0.75 - german, german, 0.15, 0.1]
    return dict(zip(["en", "de", "fr", "ja"], rng.multinomial(n, shares).tolist(), strict=True))


def references(seed: int = 1, version: int = 1, hours: int = 168) -> References:
    rng = np.random.default_rng(seed)
    times = [at * HOUR_S for at in range(hours)]
    return References(
        {"output_tokens": Reference("o", {}, {at: numbers(rng, 300) for at in times}, version)},
        {"language": Reference("l", {}, {at: languages(rng, 300) for at in times}, version)},
    )


def hours(seed: int, looks: int, by: float = 1.0, german: float = 0.2) -> list[Counts]:
    rng = np.random.default_rng(seed)
    return [
        Counts({"output_tokens": numbers(rng, 300, by)}, {"language": languages(rng, 300, german)})
        for _ in range(looks)
    ]


def run(
    keeper: DriftKeeper, past: References, looks: list[Counts], first: int = 1000
) -> list[list[DriftRow]]:
    return [
        keeper.look((first + at) * HOUR_S, past, counts, counts) for at, counts in enumerate(looks)
    ]


def test_quiet_traffic_is_ok_and_drift_is_found() -> None:
    keeper, past = DriftKeeper(SPEC), references()
    for rows in run(keeper, past, hours(2, 24)):
        assert [row.name for row in rows] == ["output_tokens", "language"]
        assert {row.state for row in rows} <= {"ok", "moderate"}
        assert not any(row.sequential and row.sequential.state.alarm for row in rows)
    found = run(keeper, past, hours(3, 8, by=1.6, german=0.5), 1024)
    assert [row.state for row in found[0]] == ["drift", "drift"]
    for at in range(2):
        alarmed = [rows[at].sequential for rows in found]
        assert any(item is not None and item.state.alarm for item in alarmed)
    assert max(row.p for row in found[0]) < 0.01
    assert max(rows[0].e_value for rows in found) >= 100


def test_restart_and_repeats_change_nothing() -> None:
    looks, past = hours(4, 6, by=1.1), references()
    whole = DriftKeeper(SPEC)
    expected = run(whole, past, looks)
    keeper = DriftKeeper(SPEC)
    for at, counts in enumerate(looks):
        keeper = DriftKeeper(SPEC, keeper.to_json())
        for _ in range(2):
            rows = keeper.look((1000 + at) * HOUR_S, past, counts, counts)
        assert [row.sequential for row in rows] == [row.sequential for row in expected[at]]
    assert keeper.to_json() == whole.to_json()


def test_no_data_is_not_ok() -> None:
    keeper = DriftKeeper(SPEC)
    rows = keeper.look(HOUR_S, references(), Counts(), Counts())
    assert [row.state for row in rows] == ["no_data", "no_data"]
    assert all(math.isnan(row.p) and math.isnan(row.e_value) for row in rows)
    empty = References({"output_tokens": Reference("o", {}, {})})
    only = keeper.look(2 * HOUR_S, empty, Counts(), Counts())
    assert [(row.state, row.p != row.p) for row in only] == [("no_data", True)]


def test_a_rolling_reference_does_not_reset_but_a_new_upload_does() -> None:
    looks = hours(5, 2)
    keeper = DriftKeeper(SPEC)
    run(keeper, references(1, 1), looks[:1])
    rolled = run(keeper, references(2, 2), looks[1:], 1001)[0]
    assert [row.sequential and row.sequential.reset for row in rolled] == [False, False]
    upload = DriftMonitor.model_validate(
        {**SPEC.model_dump(), "reference": {"kind": "uploaded", "name": "t"}, "design_effect": 2}
    )
    keeper = DriftKeeper(upload)
    first = run(keeper, references(1, 1, hours=1), looks[:1])[0]
    second = run(keeper, references(1, 2, hours=1), looks[1:], 1001)[0]
    for rows, reset in ((first, False), (second, True)):
        for row in rows:
            assert row.sequential is not None
            assert (row.sequential.reset, row.sequential.state.looks) == (reset, 1)
            assert row.sequential.design_effect == 2


def test_an_upload_without_hours_is_looked_at_once_and_not_watched() -> None:
    row = run(DriftKeeper(SPEC), references(hours=1), hours(6, 1, by=2))[0][0]
    assert row.state == "drift"
    assert row.sequential is not None
    assert row.sequential.design_effect == math.inf
    assert row.sequential.state.looks == 0


def test_a_control_arm_is_looked_at_only() -> None:
    spec = DriftMonitor.model_validate(
        {**SPEC.model_dump(), "reference": {"kind": "control"}, "same_hour_of_week": False}
    )
    rows = run(DriftKeeper(spec), references(), hours(7, 1))[0]
    assert [row.sequential for row in rows] == [None, None]
    assert math.isnan(rows[0].e_value)


@pytest.mark.parametrize("text", ["[1]", '{"a": 1}', '{"a": {"identity": "x"}}'])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not the state"):
        DriftKeeper(SPEC, text)
