"""How the rows behind a verdict are told."""

from __future__ import annotations

from typing import Any

from penstock.cli.gate_evidence import behind, statements

ARMS = [
    {
        "arm": "treatment",
        "evidence": {"n": 1200, "bad": 30},
        "found": {"n": 1201, "bad": 31},
        "examples": ["r1", "b:7"],
    },
    {
        "arm": "control",
        "evidence": {"n": 900, "bad": None},
        "found": {"n": 900, "bad": None},
        "examples": [],
    },
]
SLICE = {
    "dimension": "route", "value": "", "effect": 0.0125, "power": 0.96, "n": 400.0, "bad": 28.0,
    "n_control": 300.0, "bad_control": 3.0,
}  # fmt: skip


def shown(**more: Any) -> dict[str, Any]:
    metric = {
        "metric": "error_rate", "reproduces": False, "note": "why", "late_rows": 2, "sql": "SELECT 1",
        "arms": ARMS, "unit": "ratio", "slices": [SLICE],
    }  # fmt: skip
    return {"gate": "g", "as_of": "2026-01-01T00:00:00Z", "metrics": [metric | more]}


def test_counts_examples_and_slices_as_lines() -> None:
    assert list(behind(shown())) == [
        "Where it comes from (--sql prints the statements)",
        "  error_rate: the SQL finds other counts",
        "    why; late_rows: 2",
        "    arm        n      bad  found now      examples",
        "    treatment  1,200  30   1,201, 31 bad  r1, b:7",
        "    control    900    -    =",
        "    route=(none) adds 1.25 points, 96 % of the difference (28 of 400 against 3 of 300)",
    ]


def test_what_cannot_be_told_is_left_out() -> None:
    alone = SLICE | {"value": "a", "power": None, "n_control": 0.0, "bad_control": 0.0}
    same = shown(reproduces=True, note="", late_rows=None, slices=[alone], unit="usd_per_request")
    lines = list(behind(same))
    assert lines[1] == "  error_rate: the SQL finds the same counts"
    assert lines[-1] == "    route=a adds 0.0125 usd_per_request (28 of 400)"
    assert list(behind({"metrics": []})) == []


def test_statements_are_ready_for_a_client() -> None:
    assert list(statements(shown())) == ["-- g: error_rate up to 2026-01-01T00:00:00Z\nSELECT 1;\n"]
