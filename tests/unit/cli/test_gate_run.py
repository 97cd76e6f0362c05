"""`penstock gate run` and `gate init`: exit codes, formats, and the gates of a release on files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner, Result
from penstock.cli import gate_run, main
from penstock.cli.gate_templates import TEMPLATES
from penstock.schemas.config import read_as
from penstock.schemas.gates.files import GatesFile

GATES = """\
gates:
  - id: perf
    kind: perf
    run: bench.json
    baseline: bench-old.json
    metrics:
      - {metric: step_ms, direction: lower, margin_ratio: 1.05}
      - {metric: tokens, statistic: per_s, direction: higher, margin_ratio: 1.05}
  - id: parity
    kind: parity
    run: eval.csv
    baseline: eval-old.csv
    metrics: [{metric: correct, kind: binary, margin: 0.02}]
  - id: shadow
    kind: shadow
    run: shadow.jsonl
    baseline: control.jsonl
    metrics: [{metric: accepted, kind: binary, margin: 0.02}]
  - id: stability
    kind: stability
    run: bench.json
    metrics: [{metric: step_ms, max_cv: 0.1, max_drift_ratio: 0.1}]
"""
BAD = {
    "perf": ({"factor": 1.2}, "perf_regression"),
    "parity": ({"lost": 0.1}, "parity_lost"),
    "shadow": ({"refused": 0.08}, "shadow_gap"),
    "stability": ({"spread": 0.7}, "unstable"),
}


def release(
    folder: Path,
    factor: float = 1.0,
    spread: float = 0.1,
    lost: float = 0.0,
    refused: float = 0.0,
) -> Path:
    """The files of a release, good unless told otherwise."""
    g = np.random.default_rng(1)

    def bench(name: str, by: float, scatter: float) -> None:
        steps = 30.0 * by * np.exp(g.normal(-(scatter**2) / 2, scatter, 1500))
        document = {"series": {"step_ms": steps.tolist(), "tokens": [32.0] * 1500}}
        (folder / name).write_text(json.dumps(document | {"took_ms": steps.tolist()}))

    def rows(name: str, key: str, column: str, values: Any) -> None:
        lines = [{key: at, column: float(value)} for at, value in enumerate(values)]
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))

    bench("bench-old.json", 1.0, 0.1)
    bench("bench.json", factor, spread)
    correct = g.random(800) < 0.8
    for name, share in (("eval-old.csv", 0.0), ("eval.csv", lost)):
        kept = correct & (g.random(800) >= share)
        text = "".join(f"{at},{int(value)}\n" for at, value in enumerate(kept))
        (folder / name).write_text(f"item_id,correct\n{text}")
    accepted = g.random(2000) < 0.9
    rows("control.jsonl", "pair_id", "accepted", accepted)
    rows("shadow.jsonl", "pair_id", "accepted", accepted & (g.random(2000) >= refused))
    config = folder / "gates.yaml"
    config.write_text(GATES)
    return config


def ask(*arguments: object, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, ["gate", "run", *map(str, arguments)], env=env)


def test_a_good_release_passes_all_four(tmp_path: Path) -> None:
    done = ask("--config", release(tmp_path))
    assert done.exit_code == 0, done.output
    first = [line for line in done.output.splitlines() if not line.startswith(" ") and line]
    assert [line.split(":")[0] for line in first] == ["perf", "parity", "shadow", "stability"]
    assert all(": PASS: " in line for line in first)


@pytest.mark.parametrize("kind", [*BAD])
def test_each_bad_release_fails_its_own_gate_for_its_own_reason(kind: str, tmp_path: Path) -> None:
    change, reason = BAD[kind]
    done = ask("--config", release(tmp_path, **change), "--json")
    assert done.exit_code == 1, done.output
    told = {one["gate"]: one for one in json.loads(done.output)["gates"]}
    assert reason in told[kind]["reasons"]
    assert [name for name, one in told.items() if one["verdict"] == "FAIL"] == [kind]


def test_exit_codes(tmp_path: Path) -> None:
    config = release(tmp_path, factor=1.05)
    assert ask("--config", config, "--gate", "perf").exit_code == 2
    assert ask("--config", config, "--gate", "parity").exit_code == 0
    gone = ask("--config", config, "--gate", "parity", "--run", tmp_path / "gone.csv")
    assert gone.exit_code == 3
    assert "there is no such file" in gone.output
    (tmp_path / "cut.jsonl").write_text('{"pair_id": 1, "acc')
    cut = ask("--config", config, "--gate", "shadow", "--run", tmp_path / "cut.jsonl")
    assert cut.exit_code == 3
    assert "cut.jsonl:1: no JSON" in cut.output
    assert ask("--config", config).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--gate", "typo"), "no gate 'typo'; it has perf, parity"),
        (("--format", "yaml"), "yaml"),
        (("--config", "gone.yaml"), "`penstock gate init` writes one"),
        (("--server", "http://127.0.0.1:9"), "which gate?"),
        (("--server", "http://127.0.0.1:9", "--gate", "x"), "did not answer"),
        (("--server", "ftp://x", "--gate", "x"), "http"),
    ],
)
def test_faults_are_no_verdicts(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = ask("--config", release(tmp_path), *arguments)
    assert done.exit_code == 4
    assert message in done.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gates:\n  - id: a\n    kind: perf\n", "gates.yaml:2: gates.0.perf.metrics"),
        ("gates: []\n", "gates"),
        ("gates:\n  - {id: a, kind: none}\n", "does not match any of the expected tags"),
        (GATES + GATES.removeprefix("gates:\n"), "gate ids must be unique: parity, perf"),
    ],
)
def test_specifications_gone_wrong(tmp_path: Path, text: str, message: str) -> None:
    config = tmp_path / "gates.yaml"
    config.write_text(text)
    done = ask("--config", config)
    assert done.exit_code == 4
    assert message in done.output


def test_a_gate_that_names_no_file(tmp_path: Path) -> None:
    config = tmp_path / "gates.yaml"
    config.write_text(TEMPLATES["absolute"])
    assert "give --run" in ask("--config", config).output
    text = GATES.replace("    baseline: bench-old.json\n", "")
    config.write_text(text)
    assert "give --baseline" in ask("--config", config, "--gate", "perf").output


def test_gates_of_streams_are_asked_on_a_server(tmp_path: Path) -> None:
    config = release(tmp_path)
    config.write_text(TEMPLATES["canary"] + GATES.removeprefix("gates:\n"))
    done = ask("--config", config)
    assert done.exit_code == 0
    assert "left out without --server" in done.output
    assert ask("--config", config, "--gate", "canary").exit_code == 4


class _Server:
    """Answers of a server, one after another."""

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self.answers = ["UNDECIDED", "UNDECIDED", "PASS"] if url.endswith("slow") else ["FAIL"]
        self.asked: list[str] = []

    def ask(self, path: str, **query: str) -> dict[str, Any]:
        if path == "/v1/gates":
            return {"gates": [{"id": "canary", "kind": "canary"}]}
        self.asked.append(query["wait"])
        verdict = self.answers.pop(0)
        return {"verdict": verdict, "text": f"{verdict}: so it is", "evidence": [], "checks": []}


def test_a_live_gate_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_run, "HttpSource", _Server)
    monkeypatch.setattr(gate_run, "_PAUSE_S", 0.0)
    asked = ("--gate", "canary", "--format", "json")
    done = ask("--server", "http://here", *asked)
    assert done.exit_code == 1
    assert json.loads(done.output)["gates"][0]["text"] == "FAIL: so it is"
    assert ask("--server", "http://slow", *asked).exit_code == 2
    assert ask("--server", "http://slow", *asked, "--wait", "60").exit_code == 0
    assert ask("--server", "http://here", "--gate", "typo").exit_code == 4


def test_junit(tmp_path: Path) -> None:
    config = release(tmp_path, lost=0.1, factor=1.05)
    (tmp_path / "shadow.jsonl").unlink()
    output = tmp_path / "gates.xml"
    done = ask("--config", config, "--format", "junit", "--output", output)
    assert done.exit_code == 1
    assert "parity: FAIL: correct is" in done.output
    [suite] = ElementTree.parse(output).getroot()
    counts = [suite.get(name) for name in ("tests", "failures", "errors", "skipped")]
    assert counts == ["4", "1", "1", "1"]
    tags = {case.get("name"): case[0].tag for case in suite}
    assert tags == {
        "perf": "skipped", "parity": "failure", "shadow": "error", "stability": "system-out",
    }  # fmt: skip


def test_github(tmp_path: Path) -> None:
    config = release(tmp_path, factor=1.05)
    summary, check = tmp_path / "summary.md", tmp_path / "check.json"
    done = ask(
        "--config", config, "--format", "github", "--check-run", check,
        env={"GITHUB_STEP_SUMMARY": str(summary), "GITHUB_SHA": "abc123"},
    )  # fmt: skip
    assert done.exit_code == 2
    assert "::warning title=gate perf%3A UNDECIDED::UNDECIDED" in done.output
    assert "::notice title=gate parity%3A PASS::PASS: correct within margins" in done.output
    assert "5 %25" not in done.output.split("::group::")[1].split("::endgroup::")[0]
    assert "### Gate `stability`: PASS" in summary.read_text()
    body = json.loads(check.read_text())
    assert (body["conclusion"], body["head_sha"]) == ("neutral", "abc123")
    assert body["output"]["title"] == "UNDECIDED: perf"
    for change, conclusion in (({"lost": 0.1}, "failure"), ({}, "success")):
        ask("--config", release(tmp_path, **change), "--check-run", check)
        assert json.loads(check.read_text())["conclusion"] == conclusion


def test_the_table_says_what_was_tested(tmp_path: Path) -> None:
    done = ask("--config", release(tmp_path, lost=0.1), "--gate", "parity")
    decision, head, row = done.output.splitlines()
    assert decision.startswith("parity: FAIL: correct is 0.0")
    assert head.split()[:3] == ["metric", "decision", "estimate"]
    assert row.split()[:2] == ["correct", "FAIL"]
    assert row.endswith("800")


@pytest.mark.parametrize("kind", [*TEMPLATES])
def test_init_writes_what_the_schema_accepts(kind: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["gate", "init", kind])
    assert done.exit_code == 0
    [gate] = read_as(GatesFile, done.output, kind)[0].gates
    assert gate.kind == kind
    assert "#" in done.output


def test_init_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "gates.yaml"
    arguments = ["gate", "init", "perf", "--output", str(path)]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    written = path.read_text()
    again = CliRunner().invoke(main, [*arguments[:2], "parity", *arguments[3:]])
    assert again.exit_code == 2
    assert path.read_text() == written
