"""The budget gate: a census against what a deployment needs, and alarms of burn-rate rules."""

from dataclasses import replace
from typing import Any

import pytest
from penstock.schemas.gates.budget import BudgetGate
from penstock.streams.core.gates.blocks import Block
from penstock.streams.core.gates.budget import budget_verdict
from penstock.streams.core.gates.canonical import canonical_json
from penstock.streams.core.gates.interface import Context
from penstock.streams.core.gates.replay import replayed
from penstock.streams.core.gates.verdict import Verdict
from penstock.streams.core.slo.burn import BurnStatus
from penstock.streams.core.slo.status import ObjectiveStatus

SPEC = BudgetGate.model_validate({"id": "deploy", "slo": "chat", "min_left_ratio": 0.2})
BURN = BurnStatus("1h", "critical", 0, 14.4, 20.0, 20.0, True, True)
STATUS = ObjectiveStatus(
    id="chat", declared="99.9 % good", target=0.999, state="met", end_s=3600, period_start_s=0,
    period_end_s=86400, bad=40, total=100_000, attainment=0.9996, consumed=0.4, budget_minutes=43.2,
    left_minutes=25.9, exhaustion_s=None, burn_1h=0.4, coverage=1.0, burns=(), alarm_s=None,
)  # fmt: skip


def judged(**fields: Any) -> Verdict:
    return budget_verdict(SPEC, replace(STATUS, **fields), 3600 * 10**6, last_hour=(40, 100_000))


@pytest.mark.parametrize(
    ("fields", "verdict", "reasons"),
    [
        ({}, "PASS", ("budget_enough",)),
        ({"consumed": 0.8}, "PASS", ("budget_enough",)),
        ({"consumed": 0.81}, "UNDECIDED", ("budget_low",)),
        ({"consumed": 1.0}, "UNDECIDED", ("budget_low",)),
        ({"consumed": 1.2, "state": "breached"}, "FAIL", ("budget_spent",)),
        ({"burns": (BURN,)}, "FAIL", ("burn_alarm",)),
        ({"burns": (replace(BURN, firing=False),)}, "PASS", ("budget_enough",)),
        ({"burns": (replace(BURN, severity="info"),)}, "PASS", ("budget_enough",)),
        ({"state": "unknown", "coverage": 0.5}, "NO_DATA", ("low_coverage",)),
        ({"state": "unknown", "coverage": None}, "NO_DATA", ("low_coverage", "coverage_unknown")),
        ({"consumed": None, "state": "no_data"}, "NO_DATA", ("no_traffic",)),
        ({"consumed": 1.2, "burns": (BURN,)}, "FAIL", ("budget_spent", "burn_alarm")),
    ],
)
def test_verdicts(fields: dict[str, Any], verdict: str, reasons: tuple[str, ...]) -> None:
    told = judged(**fields)
    assert (told.verdict, told.reasons) == (verdict, reasons)


def test_evidence_is_a_census_with_an_interval_of_the_burn_rate() -> None:
    verdict = judged()
    (evidence,) = verdict.evidence
    assert (evidence["estimate"], evidence["low"], evidence["high"]) == (0.6, 0.6, 0.6)
    detail = evidence["detail"]
    assert detail["burn_1h_low"] < 0.4 < detail["burn_1h_high"]
    assert "60 % of the budget is left" in verdict.text
    assert verdict.n == 100_000


def test_stored_statuses_give_the_same_verdicts_again() -> None:
    statuses = [None, replace(STATUS, burns=(BURN,)), STATUS]
    blocks = [
        Block(at, None, None, canonical_json([] if one is None else [one.to_dict()]), Context(at))
        for at, one in enumerate(statuses, 3600 * 10**6)
    ]
    found = list(replayed(SPEC, 0, blocks))
    assert found == [
        (block.end_us, budget_verdict(SPEC, one, block.end_us))
        for block, one in zip(blocks, statuses, strict=True)
    ]


def test_without_a_status_there_is_no_data_until_the_deadline() -> None:
    spec = SPEC.model_copy(update={"deadline_s": 60})
    early = budget_verdict(spec, None, 30 * 10**6, opened_us=0)
    assert (early.verdict, early.action, early.reasons) == ("NO_DATA", "wait", ("no_traffic",))
    late = budget_verdict(spec, None, 90 * 10**6, opened_us=0)
    assert (late.action, late.reasons) == ("rollback", ("no_traffic", "deadline_passed"))


def test_the_answer_is_the_same_whenever_it_is_asked() -> None:
    one = budget_verdict(SPEC, STATUS, 3600 * 10**6)
    other = budget_verdict(SPEC, STATUS, 3700 * 10**6)
    assert one.digest == other.digest
