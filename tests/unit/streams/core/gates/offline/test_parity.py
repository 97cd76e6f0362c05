"""The parity gate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from penstock.schemas.gates.parity import ParityGate
from penstock.streams.core.gates.offline import parity
from penstock.streams.core.gates.offline.pairs import Table
from pydantic import ValidationError

from .build import scored, table


def gate(margin: float = 0.02, **more: Any) -> ParityGate:
    metric = {"metric": "acc", "kind": "binary", "margin": margin} | more.pop("metric", {})
    return ParityGate.model_validate({"id": "parity", "metrics": [metric], **more})


def test_equal_builds_pass_and_a_worse_one_fails_for_that_reason() -> None:
    same = parity.evaluate(gate(), *scored(2, 2, 500))
    assert (same.verdict, same.reasons) == ("PASS", ("within_margins",))
    worse = parity.evaluate(gate(), *scored(60, 4, 440))
    assert (worse.verdict, worse.reasons) == ("FAIL", ("parity_lost",))
    assert "acc is 0.11" in worse.text
    assert (worse.action, same.action) == ("rollback", "promote")


@pytest.mark.parametrize(("alpha", "verdict"), [(0.05, "FAIL"), (0.01, "UNDECIDED")])
def test_without_a_margin_it_is_mcnemar(alpha: float, verdict: str) -> None:
    """(12, 1) is 89.94: enough at .05, and not at .01."""
    for spec in (
        gate(0.0, alpha_fail=alpha),
        gate(0.3, alpha_fail=alpha, metric={"fail_above": 0}),
    ):
        told = parity.evaluate(spec, *scored(12, 1, 30))
        assert 10 ** told.evidence[0]["log10_e_fail"] == pytest.approx(89.94, abs=0.005)
        assert told.verdict == verdict
        assert told.evidence[0]["detail"]["log10_mcnemar_e"] == told.evidence[0]["log10_e_fail"]


def test_a_loss_within_the_margin_is_no_fail() -> None:
    told = parity.evaluate(gate(0.05), *scored(20, 1, 979))
    assert told.verdict == "PASS"
    assert told.evidence[0]["detail"]["log10_mcnemar_e"] > 2.0


def test_undecided_says_how_many_more() -> None:
    told = parity.evaluate(gate(0.02), *scored(1, 1, 60))
    assert (told.verdict, told.reasons) == ("UNDECIDED", ("not_enough_evidence",))
    assert told.n_needed is not None
    more = told.n + told.n_needed
    assert parity.evaluate(gate(0.02), *scored(more // 62, more // 62, more)).verdict == "PASS"


def test_few_items_are_no_data() -> None:
    told = parity.evaluate(gate(0.5), *scored(0, 0, 29))
    assert (told.verdict, told.reasons) == ("NO_DATA", ("few_units",))
    assert parity.evaluate(gate(0.5, min_units=29), *scored(0, 0, 29)).verdict == "PASS"


def test_missing_items_are_invalid_or_count_as_lost() -> None:
    run, baseline = scored(0, 0, 500)
    short = Table(run.keys[:490], {"acc": run.columns["acc"][:490]})
    told = parity.evaluate(gate(), short, baseline)
    assert (told.verdict, told.reasons) == ("INVALID", ("missing_items",))
    assert "10 are not in the run" in told.text
    allowed = gate(0.02, max_missing_ratio=0.05)
    strict = parity.evaluate(allowed, short, baseline).evidence[0]
    full = parity.evaluate(allowed, run, baseline).evidence[0]
    assert strict["log10_e_pass"] < full["log10_e_pass"] - 1
    assert strict["log10_e_fail"] < 0
    other_way = parity.evaluate(gate(), baseline, short)
    assert "10 not in the baseline" in other_way.text


def test_a_fixed_question_set() -> None:
    files = scored(0, 0, 500)
    assert parity.evaluate(gate(items=500), *files).verdict == "PASS"
    assert parity.evaluate(gate(items=510), *files).reasons == ("missing_items",)
    assert parity.evaluate(gate(items=150), *files).reasons == ("missing_items",)


def test_duplicates() -> None:
    run, baseline = scored(0, 0, 500)
    again = Table([*run.keys, "7"], {"acc": [*run.columns["acc"], 1]})
    assert parity.evaluate(gate(), again, baseline).verdict == "PASS"
    wrong = Table([*run.keys, "7"], {"acc": [*run.columns["acc"], 0]})
    told = parity.evaluate(gate(), wrong, baseline)
    assert (told.verdict, told.reasons) == ("INVALID", ("duplicate_items",))
    assert "such as 7" in told.text


def test_a_metric_that_is_not_there_never_passes() -> None:
    run, baseline = scored(0, 0, 200)
    told = parity.evaluate(gate(), Table(run.keys, {"exact": run.columns["acc"]}), baseline)
    assert (told.verdict, told.reasons) == ("NO_DATA", ("metric_missing",))
    assert "the run has no column acc; it has exact" in told.text
    empty = parity.evaluate(gate(), Table([], {}), Table([], {}))
    assert empty.verdict == "NO_DATA"
    unscored = table(acc=[None] * 200)
    assert parity.evaluate(gate(), unscored, baseline).verdict == "NO_DATA"


def test_items_that_neither_file_scores_are_of_another_task() -> None:
    run, baseline = (table(acc=[1] * 500 + [None] * 300) for _ in range(2))
    told = parity.evaluate(gate(), run, baseline)
    assert (told.verdict, told.n) == ("PASS", 500)
    lost = table(acc=[1] * 400 + [None] * 400)
    assert parity.evaluate(gate(), lost, baseline).verdict != "PASS"


def test_an_advisory_metric_never_decides() -> None:
    spec = ParityGate.model_validate(
        {
            "id": "p",
            "metrics": [
                {"metric": "acc", "kind": "binary", "margin": 0.02},
                {"metric": "style", "kind": "score", "margin": 0.02, "critical": False},
                {"metric": "gone", "kind": "score", "margin": 0.02, "critical": False},
            ],
        }
    )
    same = np.ones(500)
    run = table(acc=same, style=np.zeros(500), gone=same)
    baseline = table(acc=same, style=same)
    told = parity.evaluate(spec, run, baseline)
    assert told.verdict == "PASS"
    assert [item["decision"] for item in told.evidence] == ["PASS", "FAIL"]


def test_scores_and_directions() -> None:
    g = np.random.default_rng(4)
    old = g.uniform(2, 4, 400)
    score = {"kind": "score", "range": (0, 5), "margin": 0.25}
    better = table(acc=old + 0.1)
    assert parity.evaluate(gate(metric=score), better, table(acc=old)).verdict == "PASS"
    worse = table(acc=old - 1.9)
    assert parity.evaluate(gate(metric=score), worse, table(acc=old)).verdict == "FAIL"
    lower = score | {"direction": "lower"}
    assert parity.evaluate(gate(metric=lower), worse, table(acc=old)).verdict == "PASS"


def test_a_range_whose_width_is_rounded() -> None:
    score = {"kind": "score", "range": (0.1, 0.3), "margin": 0.01}
    told = parity.evaluate(gate(metric=score), table(acc=[0.1] * 50), table(acc=[0.3] * 50))
    assert told.verdict == "FAIL"


def test_columns_that_cannot_be_what_the_specification_says() -> None:
    run, baseline = scored(0, 0, 100)
    with pytest.raises(ValueError, match="kind binary takes 0 and 1"):
        parity.evaluate(gate(), table(acc=[0.5] * 100), baseline)
    with pytest.raises(ValueError, match="must be numbers"):
        parity.evaluate(gate(), table(acc=["yes"] * 100), baseline)
    with pytest.raises(ValueError, match=r"must lie in range \[0, 1\]"):
        parity.evaluate(gate(metric={"kind": "score"}), table(acc=[7.0] * 100), baseline)
    tokens = ParityGate.model_validate(
        {"id": "t", "metrics": [{"kind": "tokens", "max_mismatch_ratio": 0.01}]}
    )
    with pytest.raises(ValueError, match="tokens must be lists or texts, not int"):
        parity.evaluate(tokens, table(tokens=[5]), table(tokens=[[5]]))
    assert run.row(0) == (1,)


def test_tokens() -> None:
    spec = ParityGate.model_validate(
        {"id": "t", "metrics": [{"kind": "tokens", "max_mismatch_ratio": 0.05}]}
    )
    old = table(tokens=[[1, 2, 3, 4]] * 300)
    assert parity.evaluate(spec, old, old).verdict == "PASS"
    drifted = table(tokens=[[1, 2, 9, 9]] * 100 + [[1, 2, 3, 4]] * 200)
    told = parity.evaluate(spec, drifted, old)
    assert (told.verdict, told.evidence[0]["bad"]) == ("FAIL", 100)
    assert told.evidence[0]["estimate"] == pytest.approx(1 / 6)
    unsaid = table(tokens=[None] * 50 + [[1, 2, 3, 4]] * 250)
    assert parity.evaluate(spec, unsaid, old).verdict == "UNDECIDED"
    assert parity.evaluate(spec, table(text=["a"] * 300), old).verdict == "NO_DATA"
    assert parity.mismatch([], []) == 0.0
    assert parity.mismatch("a b", "a c d") == pytest.approx(2 / 3)


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(60)), st.permutations(range(60)))
def test_the_verdict_does_not_depend_on_the_order_of_rows(one: list[int], other: list[int]) -> None:
    run, baseline = scored(9, 2, 49)

    def shuffled(source: Table, order: list[int]) -> Table:
        columns = {n: [v[at] for at in order] for n, v in source.columns.items()}
        return Table([source.keys[at] for at in order], columns)

    told = parity.evaluate(gate(), shuffled(run, one), shuffled(baseline, other))
    assert told == parity.evaluate(gate(), run, baseline)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": [{"metric": "a", "kind": "binary"}]}, "margin"),
        ({"metrics": [{"metric": "a", "kind": "binary", "margin": 1.0}]}, "smaller than its width"),
        (
            {"metrics": [{"metric": "a", "kind": "binary", "margin": 0.1, "critical": False}]},
            "critical",
        ),
        (
            {"metrics": [{"metric": "a", "kind": "binary", "margin": 0.1}] * 2},
            "one entry per metric",
        ),
        ({"metrics": []}, "at least 1"),
    ],
)
def test_specifications_that_make_no_sense(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ParityGate.model_validate({"id": "p", **change})
