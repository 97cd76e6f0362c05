"""Gates and their files, together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from penstock.schemas.gates.files import GatesFile
from penstock.streams.gate_files.judging import Files, OnFiles, judge

DATA = Path(__file__).parents[3] / "data" / "gates"


def gate(kind: str, **more: object) -> OnFiles:
    found = GatesFile.model_validate({"gates": [{"id": kind, "kind": kind, **more}]}).gates[0]
    assert not hasattr(found, "treatment")
    return found  # type: ignore[return-value]  # the kinds of streams have an arm


PERF = gate("perf", metrics=[{"metric": "ttft_ms", "direction": "lower", "margin_ratio": 1.1}])
PARITY = gate(
    "parity", metrics=[{"metric": "exact_match,strict-match", "kind": "binary", "margin": 0.1}]
)
SHADOW = gate("shadow", metrics=[{"metric": "ok", "kind": "binary", "margin": 0.1}])
STABLE = gate("stability", metrics=[{"metric": "step_ms", "max_cv": 0.1, "max_drift_ratio": 0.1}])
TRAINED = gate("training", metrics=[{"metric": "loss", "margin_ratio": 1.1}])


@pytest.mark.parametrize(
    "spec", [PERF, PARITY, SHADOW, STABLE, TRAINED], ids=lambda spec: spec.kind
)
def test_no_file_is_no_data_and_a_wrong_one_invalid(spec: OnFiles, tmp_path: Path) -> None:
    gone = judge(spec, Files(tmp_path / "gone.json", tmp_path / "gone.json"))
    assert (gone.verdict, gone.reasons, gone.action) == ("NO_DATA", ("no_file",), "rollback")
    assert "there is no such file" in gone.text
    wrong = tmp_path / "wrong.json"
    wrong.write_text("{")
    told = judge(spec, Files(wrong, wrong))
    assert (told.verdict, told.reasons) == ("INVALID", ("unreadable_file",))
    assert "wrong.json:1" in told.text


def test_without_a_baseline() -> None:
    told = judge(PERF, Files(DATA / "vllm_serve.json"))
    assert (told.verdict, told.reasons) == ("NO_DATA", ("no_file",))
    assert "--baseline" in told.text


def test_a_serving_benchmark_with_a_failed_request() -> None:
    path = DATA / "vllm_serve.json"
    told = judge(PERF, Files(path, path))
    assert (told.verdict, told.reasons) == ("INVALID", ("baseline_unhealthy",))


def test_a_pytest_benchmark_against_itself_made_slower(tmp_path: Path) -> None:
    path = DATA / "pytest_benchmark.json"
    metric = {"metric": "test_sort[200]_ms", "direction": "lower", "margin_ratio": 1.1}
    spec = gate("perf", metrics=[metric], warmup=5, block=5)
    assert judge(spec, Files(path, path)).verdict == "PASS"
    document = json.loads(path.read_text())
    stats = document["benchmarks"][0]["stats"]
    stats["data"] = [1.5 * value for value in stats["data"]]
    slower = tmp_path / "slower.json"
    slower.write_text(json.dumps(document))
    assert judge(spec, Files(slower, path)).reasons == ("perf_regression",)


def test_lm_eval_results_are_paired_by_document() -> None:
    told = judge(PARITY, Files(DATA / "lm_eval", DATA / "lm_eval"))
    assert (told.verdict, told.n) == ("NO_DATA", 6)


def test_a_column_that_is_no_score(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("pair_id,ok\n1,0.5\n")
    told = judge(SHADOW, Files(path, path))
    assert (told.verdict, told.reasons) == ("INVALID", ("unreadable_file",))
    assert "kind binary" in told.text


def test_step_events(tmp_path: Path) -> None:
    g = np.random.default_rng(1)
    steps = 30 * np.exp(g.normal(0, 0.1, 1000))
    path = tmp_path / "steps.jsonl"
    rows = [{"kind": "engine", "step": at, "step_ms": float(ms)} for at, ms in enumerate(steps)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert judge(STABLE, Files(path)).verdict == "PASS"
    assert judge(TRAINED, Files(path)).reasons == ("metric_missing",)
