"""What `penstock gate replay` and `penstock gate backtest` make of a server's answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from penstock.cli import gate_backtest, gate_replay
from penstock.cli.sources import HttpSource

URL = ("--url", "http://127.0.0.1:1")
PERIOD = ("--from", "2026-01-01T00:00:00Z", "--to", "2026-01-01T06:00:00Z")
TOLD = {"as_of": "2026-01-01T00:00:10Z", "verdict": "FAIL", "n": 5, "digest": "d" * 64}


def told(verdict: str, runs: int, **more: Any) -> dict[str, Any]:
    line = {"verdict": verdict, "runs": runs, "share": runs / 20, "low": 0.001, "high": 0.2}
    empty: dict[str, Any] = {
        "median_s": None,
        "median_low_s": None,
        "median_high_s": None,
        "delays_s": [],
    }
    return line | empty | more


def answer(mode: str, **more: Any) -> dict[str, Any]:
    runs = {
        "made": 20, "asked": 20, "lives": 2, "life_s": 600, "share": 0.1, "seed": 1, "early": 0,
        "table": [
            told("PASS", 18, median_s=300.0, median_low_s=200.0, delays_s=[100.0, 300.0]),
            told("FAIL", 1, delays_s=[90.0]), told("UNDECIDED", 1), told("NO_DATA", 0),
        ],
        "open_reasons": {"not_enough_evidence": 1},
    }  # fmt: skip
    head = {"gate": "g", "kind": "canary", "mode": mode, "spec_hash": "h", "alpha_fail": 0.01}
    period = {"start": "S", "end": "E", "blocks": 120, "block_s": 10, "units": 4321}
    return head | period | {"runs": runs, "past": []} | more


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command sent; `answer` is what it gets."""
    kept: dict[str, Any] = {}

    def reply(_: HttpSource, path: str, **query: Any) -> Any:
        kept.update(path=path, query=query)
        return kept["answer"]

    def tell(_: HttpSource, method: str, path: str, body: Any = None) -> Any:
        kept.update(path=path, method=method, body=body)
        return kept["answer"]

    monkeypatch.setattr(HttpSource, "ask", reply)
    monkeypatch.setattr(HttpSource, "tell", tell)
    return kept


def backtest(*arguments: str) -> Result:
    return CliRunner().invoke(gate_backtest.backtest, ["g", *URL, *PERIOD, *arguments])


def test_replay_says_what_differs_and_exits_by_it(asked: dict[str, Any]) -> None:
    command = gate_replay.replay
    asked["answer"] = {"gate": "g", "epoch": 2, "verdicts": 9, "same": 9, "differing": []}
    same = CliRunner().invoke(command, ["g", *URL, "--epoch", "2"])
    assert (same.exit_code, asked["path"], asked["query"]) == (
        0,
        "/v1/gates/g/replay",
        {"epoch": 2},
    )
    assert (
        same.output == "g: epoch 2, 9 stored verdicts computed again: the same to the last byte\n"
    )
    pairs: list[dict[str, Any]] = [{"stored": TOLD, "again": TOLD | {"n": 6, "digest": "e" * 64}}]
    pairs += [{"stored": TOLD, "again": None}] * 3
    asked["answer"] |= {"same": 5, "differing": pairs}
    other = CliRunner().invoke(command, ["g", *URL])
    assert other.exit_code == 1
    assert "4 differ" in other.output
    assert "    n: 5 stored, 6 now\n" in other.output
    assert "verdict:" not in other.output
    assert "what the gate counted for it is not stored" in other.output
    assert "4 of them are in --json" in other.output
    whole = CliRunner().invoke(command, ["g", *URL, "--json"])
    assert (whole.exit_code, json.loads(whole.output)) == (1, asked["answer"])


def test_a_a_is_told_beside_the_alpha_that_it_must_keep(asked: dict[str, Any]) -> None:
    asked["answer"] = answer("aa")
    found = backtest("--mode", "aa", "--runs", "20", "--share", "0.1")
    assert found.exit_code == 0, found.output
    assert (asked["method"], asked["path"]) == ("POST", "/v1/gates/g/backtest")
    expected = {"mode": "aa", "start": PERIOD[1], "end": PERIOD[3], "change": None, "runs": 20}
    assert asked["body"] == expected | {"share": 0.1, "seed": 1, "max_s": 60.0}
    assert "20 runs of 600 s over 2 stretches, 10 % as the treatment, seed 1" in found.output
    line = "PASS          18   90.00 %   0.10 % to 20.00 %   300 s (200 to never)"
    assert line in found.output
    assert (
        "false alarms: 5.00 % (0.10 % to 20.00 %), which agrees with alpha_fail 1.00 %"
        in found.output
    )
    assert "without a decision: not_enough_evidence 1" in found.output
    assert "NO_DATA" not in found.output
    asked["answer"]["runs"]["table"][1]["low"] = 0.02
    assert "above alpha_fail" in backtest("--mode", "aa").output
    asked["answer"]["runs"]["asked"] = 500
    assert "see --max-s" in backtest("--mode", "aa").output
    assert json.loads(backtest("--mode", "aa", "--json").output) == asked["answer"]


def test_power_and_the_change_that_was_asked_for(asked: dict[str, Any], tmp_path: Path) -> None:
    asked["answer"] = answer("inject")
    asked["answer"]["runs"] |= {"early": 2, "share": None}
    path = tmp_path / "penstock.yaml"
    path.write_text(
        "gates: [{id: g, kind: rollback, treatment: {variant: v}, "
        "limits: [{metric: error_rate, max_ratio: 0.1}]}]"
    )
    found = backtest("--mode", "inject", "--error-ratio", "0.01", "--config", str(path))
    assert found.exit_code == 0, found.output
    assert asked["body"]["change"] == {"error_ratio": 0.01}
    assert asked["body"]["spec"]["kind"] == "rollback"
    assert "power: 5.00 % (0.10 % to 20.00 %); 2 runs failed before the change" in found.output
    for arguments in (("--mode", "inject"), ("--mode", "aa", "--latency-times", "1.1")):
        assert "takes a change: one of --latency-times" in backtest(*arguments).output


def test_past_releases_are_told_one_by_one(asked: dict[str, Any]) -> None:
    epoch = {
        "start": "S",
        "end": "E",
        "release": "r2",
        "delay_s": 70.0,
        "told": TOLD | {"text": "T"},
    }
    early = epoch | {"release": None, "delay_s": None, "told": {"verdict": "NO_DATA", "text": "N"}}
    asked["answer"] = answer("past", runs=None, past=[early, epoch])
    lines = backtest("--mode", "past").output.splitlines()
    assert lines[1:] == ["  S no marker: NO_DATA", "    N", "  S r2: FAIL after 70 s", "    T"]


def test_a_curve_rises_with_the_runs_that_told() -> None:
    lines = gate_backtest.curve([150.0, 300.0, 300.0, 900.0], 5, 600.0)
    assert len(lines) == gate_backtest.HEIGHT + 1
    columns = [
        next(row for row, line in enumerate(lines[:-1]) if line[9:].ljust(60)[at] == "●")
        for at in range(gate_backtest.WIDTH)
    ]
    assert columns == sorted(columns, reverse=True)
    assert columns[0] == gate_backtest.HEIGHT - 1
    assert columns[-1] == round(0.2 * (gate_backtest.HEIGHT - 1))  # four of five
    assert columns[9] == columns[0] + round(0.8 * 7) - 7  # the first at 150 of 900 s
    assert lines[-1].endswith("900 s")
