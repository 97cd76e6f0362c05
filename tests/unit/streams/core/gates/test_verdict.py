"""How a verdict is told, and what hangs on its words."""

import json
from typing import get_args

import pytest
from penstock.streams.core.gates.absolute import Context, GateState, evaluate, initial_state
from penstock.streams.core.gates.canonical import canonical_json, sha256, spec_hash
from penstock.streams.core.gates.verdict import REASONS, Reason, iso, outlook

from .conftest import ERRORS, Cells, Gate

KEYS = {
    "verdict",
    "action",
    "reasons",
    "evidence",
    "n",
    "n_needed",
    "eta_s",
    "watermark",
    "as_of",
    "epoch",
    "spec_hash",
    "engine",
    "digest",
    "next_poll_ms",
    "text",
    "checks",
}


def test_answer_is_json_with_the_agreed_keys(gate: Gate, cells: Cells) -> None:
    spec = gate()
    _, verdict = evaluate(
        spec, initial_state(spec, 3, 0), cells([9] * 20), Context(20_500_000, epoch=3)
    )
    answer = verdict.to_dict()
    assert set(answer) == KEYS
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    assert (answer["watermark"], answer["as_of"]) == (
        "1970-01-01T00:00:20.500000Z",
        "1970-01-01T00:00:20Z",
    )
    assert answer["spec_hash"] == spec_hash(spec)


def test_digest_is_of_what_was_found_and_not_of_when(gate: Gate, cells: Cells) -> None:
    spec = gate()
    state, first = evaluate(spec, initial_state(spec, 0, 0), cells([9] * 20), Context(20_000_000))
    empty = cells([])
    _, second = evaluate(spec, state, empty, Context(30_000_000, requests_per_s=9.0))
    assert first.digest == second.digest
    assert first.watermark_us != second.watermark_us
    _, third = evaluate(spec, state, cells([9], first_end_s=21), Context(30_000_000))
    assert third.digest != first.digest


def test_next_poll(gate: Gate, cells: Cells) -> None:
    spec = gate(metrics=[ERRORS])
    start = initial_state(spec, 0, 0)
    context = Context(60_000_000, requests_per_s=1e6)
    assert evaluate(spec, start, cells([200]), context)[1].next_poll_ms == 15_000
    assert evaluate(spec, start, cells([]), context)[1].next_poll_ms == 5_000
    assert evaluate(spec, start, cells([9], errors=[9]), context)[1].next_poll_ms == 60_000


def test_reasons_are_a_closed_list() -> None:
    assert set(REASONS) == set(get_args(Reason))


def test_state_text_that_is_no_state() -> None:
    for text in ("{}", "[]", '{"metrics": {"a": 1}}', "nonsense"):
        with pytest.raises(ValueError):  # noqa: PT011
            GateState.from_json(text)


def test_canonical_json_has_one_form() -> None:
    assert canonical_json({"b": [1.0, 0.1], "a": None}) == '{"a":null,"b":[1.0,0.1]}'
    assert sha256([]) == "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json(float("nan"))


def test_outlook_and_times() -> None:
    assert outlook(100, 300.0) == "; about 100 more are needed, 5 min at the current traffic"
    assert outlook(100, 9000.0).endswith("2 h at the current traffic")
    assert iso(1_767_225_600_000_001) == "2026-01-01T00:00:00.000001Z"
