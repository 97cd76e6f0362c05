"""One monitor look by look: what is confirmed, and what alert rules are told."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from penstock.schemas.drift.monitors import DriftConfiguration, DriftMonitor
from penstock.streams.core.drift.concept import Evidence
from penstock.streams.core.drift.described import psi_of
from penstock.streams.core.drift.labelled import Labelled
from penstock.streams.core.drift.reference_sets import ReferenceSet, reference_set
from penstock.streams.core.drift.series_counts import SeriesCounts
from penstock.streams.core.drift.watcher import MonitorLook, MonitorWatcher
from penstock.streams.core.sketch import bins_of

HOUR_S = 3600
LIMITS = DriftConfiguration()
NO_EVIDENCE = Evidence()


def monitor(**more: Any) -> DriftMonitor:
    given: dict[str, Any] = {
        "id": "m",
        "filter": {"model": "chat"},
        "features": ["output_tokens"],
        "categories": ["output_class"],
        "reference": {"kind": "uploaded", "name": "training"},
        "design_effect": 1,
    }
    return DriftMonitor.model_validate(given | more)


def numbers(seed: int, by: float = 1.0, n: int = 1000, absent: int = 0) -> SeriesCounts:
    values = np.random.default_rng(seed).lognormal(5, 0.5, n) * by
    bins, counts = np.unique(bins_of(values), return_counts=True)
    return SeriesCounts(
        n + absent, dict(zip(map(str, bins.tolist()), counts.tolist(), strict=True))
    )


def classes(yes: int, n: int = 1000) -> SeriesCounts:
    return SeriesCounts(n, {"yes": yes, "no": n - yes})


def piece(seed: int, by: float = 1.0, yes: int = 500, **more: Any) -> dict[str, SeriesCounts]:
    return {"output_tokens": numbers(seed, by, **more), "output_class": classes(yes)}


def training() -> ReferenceSet:
    given = {0: piece(1, n=20_000) | {"output_class": classes(10_000, 20_000)}}
    return reference_set("t", {}, given, ["output_tokens"], ["output_class"]).revised(None)


def look(
    watcher: MonitorWatcher,
    at: int,
    counts: dict[str, SeriesCounts],
    found: ReferenceSet | None = None,
    evidence: Evidence = NO_EVIDENCE,
) -> MonitorLook:
    spec = watcher.spec
    found = training() if found is None else found
    references = found.of(spec.features, spec.categories)
    return watcher.look(at * HOUR_S, references, counts, counts, evidence)


def told(found: MonitorLook) -> dict[str, tuple[bool | None, float | None]]:
    return {one.id: (one.breach, one.value) for one in found.readings}


def test_quiet_traffic_breaks_nothing() -> None:
    found = look(MonitorWatcher(monitor(), LIMITS), 1, piece(2))
    assert {item.name: item.state for item in found.series} == {
        "output_tokens": "ok", "output_class": "ok",
    }  # fmt: skip
    assert [one.id for one in found.readings] == ["m", "m.missing", "m.concept", "m.prediction"]
    assert all(one.labels == {"model": "chat"} for one in found.readings)
    broken = {name: breach for name, (breach, _) in told(found).items()}
    # One indicator of two is no answer about the concept.
    assert broken == {"m": False, "m.missing": False, "m.concept": None, "m.prediction": False}


def test_drift_is_confirmed_and_ends_when_a_look_says_ok() -> None:
    watcher = MonitorWatcher(monitor(), LIMITS)
    assert told(look(watcher, 1, piece(2)))["m"][0] is False
    found = look(watcher, 2, piece(3, by=1.5))
    row = found.series[0].row
    assert row is not None
    assert told(found)["m"] == (True, psi_of(row))
    assert [item.confirmed_s for item in found.series] == [2 * HOUR_S, None]
    assert found.series[0].believed
    assert "output_tokens" in found.readings[0].note
    # No data ends nothing, and breaks nothing anew.
    silent = look(watcher, 3, {})
    assert silent.series[0].confirmed_s == 2 * HOUR_S
    assert told(silent)["m"] == (True, None)
    assert look(watcher, 4, piece(4, by=1.5)).series[0].confirmed_s == 2 * HOUR_S
    well = look(watcher, 5, piece(5))
    assert (well.series[0].confirmed_s, told(well)["m"][0]) == (None, False)


def test_without_data_from_the_start_nothing_is_known() -> None:
    found = look(MonitorWatcher(monitor(), LIMITS), 1, {})
    assert {breach for breach, _ in told(found).values()} == {None}
    assert {item.state for item in found.series} == {"no_data"}
    nothing = look(MonitorWatcher(monitor(), LIMITS), 1, piece(1), ReferenceSet())
    assert {item.state for item in nothing.series} == {"no_reference"}
    assert {breach for breach, _ in told(nothing).values()} == {None}


def test_a_restart_changes_nothing() -> None:
    whole, again = MonitorWatcher(monitor(), LIMITS), MonitorWatcher(monitor(), LIMITS)
    for at, by in enumerate([1.0, 1.5, 1.5, 1.1, 1.0], 1):
        expected = look(whole, at, piece(at, by))
        again = MonitorWatcher(monitor(), LIMITS, again.to_json())
        found = look(again, at, piece(at, by))
        assert found.readings == expected.readings
        assert again.to_json() == whole.to_json()


def test_a_changed_monitor_begins_anew() -> None:
    watcher = MonitorWatcher(monitor(), LIMITS)
    assert look(watcher, 1, piece(2, by=1.5)).series[0].confirmed_s == HOUR_S
    changed = MonitorWatcher(monitor(alarms_per_30d=0.02), LIMITS, watcher.to_json())
    assert look(changed, 2, piece(3, by=1.5)).series[0].confirmed_s == 2 * HOUR_S


def test_a_single_look_is_enough_where_there_is_no_sequential_monitor() -> None:
    watcher = MonitorWatcher(monitor(reference={"kind": "control"}), LIMITS)
    found = look(watcher, 1, piece(2, by=1.5))
    assert found.series[0].row is not None
    assert found.series[0].row.sequential is None
    assert told(found)["m"][0] is True
    assert look(watcher, 2, piece(3)).series[0].confirmed_s is None
    # An upload without a design effect is compared at single looks only.
    blind = MonitorWatcher(monitor(design_effect=None), LIMITS)
    assert told(look(blind, 1, piece(2, by=1.5)))["m"][0] is True


def test_missing_is_told_above_the_usual() -> None:
    watcher = MonitorWatcher(monitor(), LIMITS)
    assert told(look(watcher, 1, piece(2, absent=9)))["m.missing"][0] is False
    breach, value = told(look(watcher, 2, piece(2, absent=50)))["m.missing"]
    assert breach is True
    assert value == pytest.approx(50 / 1050)
    pieces = {0: piece(1, n=20_000, absent=1000)}
    usual = reference_set("t", {}, pieces, ["output_tokens"], [])
    assert told(look(watcher, 3, piece(2, absent=50), usual))["m.missing"][0] is False
    gone = look(watcher, 4, {"output_tokens": SeriesCounts(500, {})})
    assert told(gone)["m.missing"] == (True, 1.0)
    assert gone.readings[1].n == 500


def test_prediction_shift_reads_the_outputs_only() -> None:
    watcher = MonitorWatcher(monitor(), LIMITS)
    found = told(look(watcher, 1, piece(2, by=1.5, yes=530)))
    assert found["m.prediction"][0] is False
    breach, value = told(look(watcher, 2, piece(2, yes=720)))["m.prediction"]
    assert breach is True
    assert value is not None
    assert value > 0.15
    inputs = MonitorWatcher(monitor(categories=[]), LIMITS)
    assert "m.prediction" not in told(look(inputs, 1, piece(2)))


def test_concept_drift_by_labels_and_without() -> None:
    good = Labelled.of([("a", "a", 0.9)] * 900 + [("a", "b", 0.4)] * 100)
    bad = Labelled.of([("a", "a", 0.9)] * 700 + [("a", "b", 0.4)] * 300)
    watcher = MonitorWatcher(monitor(), LIMITS)
    found = look(watcher, 1, piece(2), evidence=Evidence(good, bad))
    assert found.concept.by == "labels"
    breach, value = told(found)["m.concept"]
    assert (breach, found.concept.severity) == (True, "high")
    assert value == pytest.approx(max(d["drop"] for d in found.concept.details.values()))
    assert told(look(watcher, 2, piece(3), evidence=Evidence(good, good)))["m.concept"][0] is False
    proxy = look(watcher, 3, piece(4, yes=750), evidence=Evidence(importance=0.3))
    assert (proxy.concept.by, proxy.concept.reasons) == ("predictions", ("class", "importance"))
    assert told(proxy)["m.concept"] == (True, 2.0)


@pytest.mark.parametrize("text", ["[]", '{"keeper": {}}', '{"keeper": {"a": 1}, "confirmed": {}}'])
def test_what_is_no_state_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not the state of a monitor"):
        MonitorWatcher(monitor(), LIMITS, text)


def test_readings_say_what_they_are_compared_with() -> None:
    limits = {
        one.id: one.limit for one in look(MonitorWatcher(monitor(), LIMITS), 1, piece(2)).readings
    }
    assert limits == {"m": 0.2, "m.missing": 0.01, "m.concept": 2.0, "m.prediction": 0.15}
    empty = look(MonitorWatcher(monitor(), LIMITS), 1, {}).readings
    assert math.isnan(next(one.limit for one in empty if one.id == "m.missing"))
