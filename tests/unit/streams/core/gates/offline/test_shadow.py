"""The shadow gate."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from penstock.schemas.gates.shadow import ShadowGate
from penstock.streams.core.gates.eprocess import FloatArray
from penstock.streams.core.gates.offline import shadow
from penstock.streams.core.gates.offline.pairs import Table
from pydantic import ValidationError

from .build import table

ACCEPTED = {"metric": "accepted", "kind": "binary", "margin": 0.02}


def gate(**more: Any) -> ShadowGate:
    return ShadowGate.model_validate({"id": "shadow", "metrics": [ACCEPTED], **more})


def accepted(seed: int, n: int = 2000, share: float = 0.9) -> FloatArray:
    return (np.random.default_rng(seed).random(n) < share).astype(float)


def lowered(old: FloatArray, share: float, seed: int = 5) -> FloatArray:
    """Some of the accepted answers are not accepted any more."""
    return old * (np.random.default_rng(seed).random(old.size) >= share)


def test_a_build_that_serves_as_well_passes() -> None:
    old = accepted(1)
    told = shadow.evaluate(gate(), table(accepted=lowered(old, 0.002)), table(accepted=old))
    assert (told.verdict, told.reasons) == ("PASS", ("within_margins",))


def test_a_gap_fails_before_blocks_fall() -> None:
    old = accepted(1)
    told = shadow.evaluate(gate(), table(accepted=lowered(old, 0.06)), table(accepted=old))
    assert (told.verdict, told.reasons) == ("FAIL", ("shadow_gap",))


def test_a_late_drop_of_more_than_three_sigma_is_found() -> None:
    old = accepted(1)
    new = lowered(old, 0.002)
    new[1750:] *= np.random.default_rng(6).random(250) < 0.4
    told = shadow.evaluate(
        gate(metrics=[ACCEPTED | {"margin": 0.2}]), table(accepted=new), table(accepted=old)
    )
    assert (told.verdict, told.reasons) == ("FAIL", ("shadow_drop",))
    assert told.evidence[-1]["metric"] == "accepted_3_sigma"


def test_a_gap_in_one_slice() -> None:
    old = accepted(1)
    routes = ["/chat"] * 1700 + ["/code"] * 280 + ["/rare"] * 20
    new = old.copy()
    new[1700:1980] = lowered(old[1700:1980], 0.2)
    run, baseline = table(accepted=new, route=routes), table(accepted=old, route=routes)
    told = shadow.evaluate(
        gate(slices=["route"], metrics=[ACCEPTED | {"margin": 0.05}]), run, baseline
    )
    assert (told.verdict, told.reasons) == ("FAIL", ("shadow_gap_in_slice",))
    names = [item["metric"] for item in told.evidence]
    assert names == [
        "accepted",
        "accepted[route=/chat]",
        "accepted[route=/code]",
        "accepted_3_sigma",
    ]
    same = shadow.evaluate(gate(slices=["route"]), table(accepted=old, route=routes), baseline)
    assert same.verdict == "PASS"
    unknown = shadow.evaluate(gate(slices=["tenant"]), run, baseline)
    assert (unknown.verdict, unknown.reasons) == ("NO_DATA", ("metric_missing",))


def test_requests_without_a_twin() -> None:
    old = accepted(1)
    run = Table([str(at) for at in range(1900)], {"accepted": old[:1900].tolist()})
    told = shadow.evaluate(gate(), run, table(accepted=old))
    assert (told.verdict, told.reasons) == ("INVALID", ("missing_pairs",))
    allowed = shadow.evaluate(gate(max_unpaired_ratio=0.1), run, table(accepted=old))
    assert allowed.verdict != "PASS"


def test_what_was_never_measured_never_passes() -> None:
    old = accepted(1)
    told = shadow.evaluate(gate(), table(quality=old), table(accepted=old))
    assert (told.verdict, told.reasons) == ("NO_DATA", ("metric_missing",))
    few = shadow.evaluate(gate(), table(accepted=old[:400]), table(accepted=old[:400]))
    assert (few.verdict, few.reasons) == ("NO_DATA", ("few_units",))
    assert shadow.evaluate(gate(), table(accepted=[]), table(accepted=[])).verdict == "NO_DATA"


def test_scores_in_their_own_range() -> None:
    quality = {"metric": "quality", "kind": "score", "range": (0, 10), "margin": 0.3}
    g = np.random.default_rng(3)
    old = np.clip(g.normal(7, 1, 3000), 0, 10)
    spec = gate(metrics=[quality])
    assert shadow.evaluate(spec, table(quality=old), table(quality=old)).verdict == "PASS"
    worse = np.clip(old - 3, 0, 10)
    assert "shadow_drop" in shadow.evaluate(spec, table(quality=worse), table(quality=old)).reasons
    lower = gate(metrics=[quality | {"direction": "lower"}])
    assert shadow.evaluate(lower, table(quality=worse), table(quality=old)).verdict == "PASS"


def test_a_perfect_baseline_is_not_taken_for_one_without_spread() -> None:
    old = np.ones(2000)
    told = shadow.evaluate(gate(), table(accepted=lowered(old, 0.004)), table(accepted=old))
    assert told.verdict == "PASS"


def test_the_share_that_may_fall_so_far() -> None:
    assert shadow.cantelli(3.0) == Fraction(1, 10)
    healthy = shadow.detector_log_e(np.zeros(200), Fraction(1, 10))
    assert healthy < 0
    falling = np.concatenate([np.zeros(150), np.ones(12)])
    assert shadow.detector_log_e(falling, Fraction(1, 10)) > np.log(100)


def test_specifications() -> None:
    with pytest.raises(ValidationError, match="smaller than its width"):
        gate(metrics=[ACCEPTED | {"margin": 1.0}])
    with pytest.raises(ValidationError, match="one entry per metric"):
        gate(metrics=[ACCEPTED, ACCEPTED])


@pytest.mark.slow
def test_false_alarms_of_blocks() -> None:
    """200 pairs of healthy arms of 2,000 requests: the drop is hardly ever seen."""
    g = np.random.default_rng(12)
    alarms = 0
    for _ in range(200):
        old, new = ((g.random(2000) < 0.9).astype(float) for _ in range(2))
        told = shadow.evaluate(gate(alpha_fail=0.05), table(accepted=new), table(accepted=old))
        alarms += told.evidence[-1]["decision"] == "FAIL"
    assert alarms / 200 <= 0.05
