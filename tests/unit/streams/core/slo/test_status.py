"""States, budgets and reports: known answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from penstock.schemas.slo.objective import Composite
from penstock.streams.core.slo.keeper import SloKeeper
from penstock.streams.core.slo.report import compliance_report, markdown, share, span
from penstock.streams.core.slo.status import ObjectiveStatus, State, overall
from penstock.tests.unit.streams.core.slo.stored import START_S, Stored, objective

END_S = START_S + 86400


def status(
    requests: int = 0, errors: int = 0, lost: int = 0, vanished: bool = False, **fields: Any
) -> ObjectiveStatus:
    """A day in whose last minute everything happened."""
    stored = Stored()
    if requests:
        stored.count(END_S - 60, requests, errors)
    if lost:
        stored.lose(END_S - 60, lost)
    keeper = SloKeeper([objective(**fields)], stored.registry)
    keeper.feed(stored.until(END_S))
    return keeper.evaluate(END_S, vanished)["a"]


@pytest.mark.parametrize(
    ("counts", "state"),
    [
        ({}, "no_data"),
        ({"lost": 5}, "no_data"),
        ({"requests": 10_000}, "met"),
        ({"requests": 10_000, "errors": 7}, "met"),
        ({"requests": 10_000, "errors": 7, "at_risk": "0.7"}, "at_risk"),
        ({"requests": 20_000, "errors": 15}, "at_risk"),
        ({"requests": 10_000, "errors": 10}, "at_risk"),  # the target itself is kept
        ({"requests": 10_000, "errors": 11}, "breached"),
        ({"requests": 9_900, "lost": 100}, "met"),
        ({"requests": 9_900, "lost": 101}, "unknown"),
        ({"requests": 9_900, "lost": 101, "min_coverage": "0.98"}, "met"),
        ({"requests": 10_000, "errors": 100, "lost": 5_000}, "unknown"),
        ({"requests": 10_000, "vanished": True}, "unknown"),
        ({"requests": 10_000, "vanished": True, "min_coverage": 0}, "met"),
    ],
)
def test_states(counts: dict[str, Any], state: State) -> None:
    assert status(**counts).state == state


def test_a_month_of_three_nines_is_43_minutes() -> None:
    found = status(requests=100_000, errors=25)
    assert found.budget_minutes == 43.2
    assert found.consumed == 0.25
    assert found.left_minutes == pytest.approx(32.4)
    assert found.attainment == 0.99975
    assert found.burn_1h == 0.25
    assert found.exhaustion_s == pytest.approx(0.75 * 30 * 86400 / 0.25)
    assert (found.target, found.coverage) == (0.999, 1.0)


def test_time_to_exhaustion() -> None:
    assert status().exhaustion_s is None
    assert status(requests=10).exhaustion_s is None
    assert status(requests=10, errors=1).exhaustion_s == 0.0
    assert status(requests=10_000, errors=5, window="month").exhaustion_s is None
    stored = Stored()
    stored.count(START_S, 10_000)
    stored.count(END_S - 60, 1_000, 4)  # burn rate 4 in the last hour, 4/11 of the budget spent
    keeper = SloKeeper([objective(window="month")], stored.registry)
    keeper.feed(stored.until(END_S))
    found = keeper.evaluate(END_S)["a"]
    assert found.exhaustion_s == pytest.approx(7 / 11 * 86400 / 3)
    assert found.period_end_s - found.period_start_s == 31 * 86400


NAMES = ("a", "b", "c")


@pytest.mark.parametrize(
    ("states", "target", "expected"),
    [
        (("met", "met", "met"), 1, "met"),
        (("met", "met", "at_risk"), 1, "at_risk"),
        (("met", "met", "breached"), 1, "breached"),
        (("met", "met", "breached"), "0.6", "at_risk"),
        (("met", "unknown", "breached"), "0.6", "unknown"),
        (("met", "met", "no_data"), "0.6", "met"),
        (("met", "met", "no_data"), 1, "unknown"),
        (("no_data", "no_data", "no_data"), 1, "no_data"),
        (("unknown", "no_data", "no_data"), 1, "unknown"),
        (("breached", "breached", "met"), "0.6", "breached"),
    ],
)
def test_overall_compliance(states: tuple[State, ...], target: Any, expected: State) -> None:
    made: dict[str, dict[str, Any]] = {
        "met": {"requests": 10_000},
        "at_risk": {"requests": 10_000, "errors": 10},
        "breached": {"requests": 100, "errors": 1},
        "unknown": {"requests": 100, "vanished": True},
    }
    composite = Composite(id="all", of=NAMES, target=target)
    known = {
        name: status(**made[state])
        for name, state in zip(NAMES, states, strict=True)
        if state != "no_data"
    }
    found = overall(composite, known)
    assert found.state == expected
    assert found.kept == sum(state in ("met", "at_risk") for state in states)
    assert found.to_dict()["states"] == dict(zip(NAMES, states, strict=True))


def test_the_report_has_every_objective_and_composite() -> None:
    slos = (
        objective(filter={"model": "a|b"}, service="chat"),
        objective(id="gone"),
        Composite(id="all", of=("a", "gone")),
    )
    report = compliance_report(slos, {"a": status(requests=100_000, errors=25)}, END_S)
    assert [row.status.id for row in report.rows] == ["a"]
    assert report.counts == {"met": 1, "at_risk": 0, "breached": 0, "unknown": 0, "no_data": 0}
    data = json.loads(json.dumps(report.to_dict()))
    assert data["as_of"] == "2026-01-02T00:00:00Z"
    assert data["objectives"][0]["status"]["burns"][0]["factor"] == 14.4
    assert data["objectives"][0]["filter"] == {"model": "a|b"}
    text = markdown(report)
    assert "As of 2026-01-02T00:00:00Z: 1 met." in text
    assert (
        "| a | availability >= 99.9 % | 99.975 % | met | 25 % | 32.4 min of 43.2 | 0.25 | 90.0 d |"
        " 25 / 100,000 | 100 % |" in text
    )
    assert "| all | unknown | 1 of 2 | 100 % |" in text
    widths = {line.count(" | ") for line in text.splitlines() if line.startswith("| a |")}
    assert widths == {9}


def test_a_report_without_anything_says_so() -> None:
    text = markdown(compliance_report((), {}, END_S))
    assert "no objectives" in text
    empty = compliance_report((objective(),), {"a": status()}, END_S)
    assert "| a | availability >= 99.9 % | - | no_data | - | - of 43.2 | - | - | 0 / 0 | - |" in (
        markdown(empty)
    )


def test_numbers_for_people() -> None:
    assert [share(value) for value in (None, 0.0, 0.9995, 0.9999999, 1.0, 12.5)] == [
        "-", "0 %", "99.95 %", "99.999 %", "100 %", "1250 %",
    ]  # fmt: skip
    assert [span(value) for value in (None, 0, 90, 7200, 864000)] == [
        "-", "0 s", "1.5 min", "2.0 h", "10.0 d",
    ]  # fmt: skip
