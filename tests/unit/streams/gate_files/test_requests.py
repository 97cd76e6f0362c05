"""Requests in a file, counted as ingestion counts them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from penstock.schemas.gates.absolute import AbsoluteGate
from penstock.streams.gate_files.judging import Files, judge
from penstock.streams.gate_files.reading import InvalidFile
from penstock.streams.gate_files.requests import cells_of, read_requests

DATA = Path(__file__).parents[3] / "data" / "gates"
METRICS: list[dict[str, Any]] = [
    {"metric": "latency", "field": "latency_ms", "quantile": 0.95, "max_ms": 1000},
    {"metric": "error_rate", "max_ratio": 0.05},
    {"metric": "safety_rate", "max_ratio": 0.05},
    {"metric": "cost_per_1k_tokens_usd", "max_usd": 0.01, "cap_usd": 0.02},
]


def gate(*metrics: int, **more: Any) -> AbsoluteGate:
    chosen = [METRICS[at] for at in metrics or range(4)]
    return AbsoluteGate.model_validate({"id": "limits", "metrics": chosen, **more})


def written(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    path = tmp_path / "requests.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


ROWS: list[dict[str, Any]] = [
    {"ts": 1_000_000, "status": "ok", "latency_ms": 900, "safety_flags": []},
    {"ts": 1_500_000, "status": "timeout", "latency_ms": 1000, "safety_flags": ["toxicity"]},
    {"ts": 3_000_000, "status": None, "error_type": "oom", "latency_ms": 1001},
    {"ts": 3_100_000, "status": None, "overdue": True},
    {"ts": 3_900_000, "status": "ok", "overdue": True, "latency_ms": 9000},
    {"ts": 3_950_000, "status": "cancelled", "cost_usd": 0.005, "input_tokens": 300, "output_tokens": 100},
    {"ts": 3_960_000, "event": "feedback", "latency_ms": 1},
]  # fmt: skip


def test_counts(tmp_path: Path) -> None:
    cells, timed = cells_of(gate(), read_requests(written(tmp_path, ROWS)))
    assert timed
    assert cells.end_us.tolist() == [2_000_000, 4_000_000]
    assert cells.requests.tolist() == [2, 3]
    assert cells.units["latency_ms_p95"].tolist() == [2, 2]
    assert cells.bad["latency_ms_p95"].tolist() == [0, 2]
    assert cells.units["error_rate"].tolist() == [2, 3]
    assert cells.bad["error_rate"].tolist() == [1, 1]
    assert cells.bad["safety_rate"].tolist() == [1, 0]
    assert cells.units["cost_per_1k_tokens_usd"].tolist() == [0, 1]
    assert cells.cost_sum_nano["cost_per_1k_tokens_usd"].tolist() == [0, 1_000_000]


def test_a_row_that_was_delivered_twice_counts_once_and_a_filter_selects(tmp_path: Path) -> None:
    rows = [{"status": "ok", "boot_id": "b", "seq": n // 2, "model": "m"} for n in range(8)]
    rows += [{"status": "error", "model": "other"}]
    found = read_requests(written(tmp_path, rows))
    cells, timed = cells_of(gate(1, filter={"model": "m", "variant": "canary"}), found)
    assert not timed
    assert (int(cells.requests.sum()), int(cells.bad["error_rate"].sum())) == (4, 0)


def test_verdicts(tmp_path: Path) -> None:
    good = [{"status": "ok", "latency_ms": 100} for _ in range(400)]
    told = judge(gate(0, 1), Files(written(tmp_path, good)))
    assert (told.verdict, told.action) == ("PASS", "promote")
    bad = good + [{"status": "error"} for _ in range(80)]
    told = judge(gate(0, 1), Files(written(tmp_path, bad)))
    assert (told.verdict, told.reasons) == ("FAIL", ("limit_exceeded",))
    timed = [row | {"ts": 1_000_000 + 1000 * at} for at, row in enumerate(good)]
    told = judge(gate(0, 1), Files(written(tmp_path, timed)))
    assert (told.verdict, told.reasons) == ("UNDECIDED", ("min_bake",))


def test_the_order_of_rows_without_a_time_is_immaterial(tmp_path: Path) -> None:
    rows = [{"status": "error"} for _ in range(5)] + [{"status": "ok"} for _ in range(495)]
    told = {judge(gate(1), Files(written(tmp_path, some))).digest for some in (rows, rows[::-1])}
    assert len(told) == 1
    with pytest.raises(InvalidFile, match="needs `ts`"):
        cells_of(gate(3), read_requests(written(tmp_path, rows)))


def test_a_release_that_breaks_at_the_end_of_the_file_does_not_pass(tmp_path: Path) -> None:
    rows = [{"ts": 100_000 * at, "status": "ok" if at < 1500 else "error"} for at in range(1600)]
    told = judge(gate(1), Files(written(tmp_path, rows)))
    assert told.verdict in ("UNDECIDED", "FAIL")
    early = judge(gate(1), Files(written(tmp_path, rows[:1500])))
    assert early.verdict == "PASS"


def test_what_no_row_tells_never_passes(tmp_path: Path) -> None:
    rows = [{"latency_ms": 100} for _ in range(400)]
    for metric in (1, 2):
        assert judge(gate(metric), Files(written(tmp_path, rows))).verdict == "NO_DATA"
    timed = [row | {"ts": 100_000 * at} for at, row in enumerate(rows)]
    assert judge(gate(3), Files(written(tmp_path, timed))).verdict == "NO_DATA"
    assert judge(gate(1), Files(tmp_path / "gone.jsonl")).reasons == ("no_file",)
    assert judge(gate(0), Files(written(tmp_path, [{"latency_ms": "x"}]))).verdict == "INVALID"


def test_a_serving_benchmark_is_a_file_of_requests(tmp_path: Path) -> None:
    found = read_requests(DATA / "vllm_serve.json")
    cells, _ = cells_of(gate(0, 1), found)
    assert int(cells.requests.sum()) == 24
    assert int(cells.bad["error_rate"].sum()) == 1
    other = tmp_path / "a.json"
    other.write_text('{"x": 1}')
    with pytest.raises(InvalidFile, match="reads requests, one row each"):
        read_requests(other)
