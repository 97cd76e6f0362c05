"""Files of runs: what other tools write, step events, and what is wrong with them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from penstock.schemas.frames import FrameHeader, encode_frame
from penstock.streams.gate_files.frames import read_frames
from penstock.streams.gate_files.reading import InvalidFile, NoFile
from penstock.streams.gate_files.runs import read_run
from pyarrow import parquet

DATA = Path(__file__).parents[3] / "data" / "gates"
STEPS = [
    {
        "ts": 1_000_000 * at,
        "step": at,
        "step_ms": 30.0 + at,
        "prefill_tokens": 8,
        "decode_tokens": 4,
    }
    for at in range(1, 6)
]


def written(tmp_path: Path, name: str, content: Any) -> Path:
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_pytest_benchmark_as_it_comes() -> None:
    run = read_run(DATA / "pytest_benchmark.json")
    [(name, values)] = run.series.items()
    assert (name, len(values)) == ("test_sort[200]_ms", 60)
    assert values.mean() == pytest.approx(run.summaries[name])
    assert run.conditions["python_implementation"] == "CPython"


def test_pytest_benchmark_without_rounds(tmp_path: Path) -> None:
    document = json.loads((DATA / "pytest_benchmark.json").read_text())
    second = json.loads(json.dumps(document["benchmarks"][0]))
    second["fullname"] = "other.py::test_sort[200]"
    second["stats"]["data"] = second["stats"]["data"][:5]
    both = document | {"benchmarks": [*document["benchmarks"], second]}
    run = read_run(written(tmp_path, "two.json", both))
    assert list(run.series) == ["test_b.py::test_sort[200]_ms", "other.py::test_sort[200]_ms"]
    assert np.isnan(run.series["other.py::test_sort[200]_ms"]).sum() == 55
    for benchmark in both["benchmarks"]:
        del benchmark["stats"]["data"]
    with pytest.raises(InvalidFile, match="--benchmark-save-data"):
        read_run(written(tmp_path, "none.json", both))
    with pytest.raises(InvalidFile, match=r"benchmarks\[0\] has no name and stats"):
        read_run(written(tmp_path, "bad.json", document | {"benchmarks": [{}]}))


def test_vllm_as_it_comes() -> None:
    run = read_run(DATA / "vllm_serve.json")
    assert set(run.series) == {
        "ttft_ms", "tpot_ms", "itl_ms", "latency_ms", "input_tokens", "output_tokens",
    }  # fmt: skip
    assert (len(run), run.failed, run.missing) == (23, 1, 1)
    assert run.conditions["model_id"] == "meta-llama/Llama-3.1-8B-Instruct"
    assert run.summaries["output_throughput"] == 162.1
    assert run.series["itl_ms"] == pytest.approx(run.series["tpot_ms"], rel=1e-3)
    assert run.took_ms is not None
    assert run.took_ms.sum() == pytest.approx(
        run.took_ms[0] + (1e3 * _last_end() - 1e3 * _first_end()), rel=1e-6
    )


def _ends() -> list[float]:
    told = json.loads((DATA / "vllm_serve.json").read_text())
    pairs = zip(told["start_times"], told["latencies"], told["errors"], strict=True)
    return [start + latency for start, latency, error in pairs if not error]


def _last_end() -> float:
    return max(_ends())


def _first_end() -> float:
    return min(_ends())


def test_sglang_as_it_comes() -> None:
    run = read_run(DATA / "sglang_bench_serving.jsonl")
    assert (len(run), run.failed, run.took_ms) == (11, 1, None)
    assert run.series["latency_ms"] == pytest.approx(np.full(11, 557.0), abs=4)


def test_serving_benchmarks_that_are_not_whole(tmp_path: Path) -> None:
    document = json.loads((DATA / "vllm_serve.json").read_text())
    summary = {k: v for k, v in document.items() if not isinstance(v, list)}
    with pytest.raises(InvalidFile, match="--save-detailed"):
        read_run(written(tmp_path, "a.json", summary))
    for name in ("output_lens", "itls", "errors"):
        with pytest.raises(InvalidFile, match=f"{name} and ttfts differ in length"):
            read_run(written(tmp_path, "b.json", document | {name: [1]}))
    with pytest.raises(InvalidFile, match="output_lens are missing"):
        read_run(written(tmp_path, "c.json", document | {"output_lens": None}))
    with pytest.raises(InvalidFile, match="holds 2 benchmarks"):
        read_run(written(tmp_path, "d.jsonl", lines([document, document])))
    bare = {"ttfts": [0.1], "output_lens": [3]}
    assert set(read_run(written(tmp_path, "e.json", bare)).series) == {"ttft_ms", "output_tokens"}


def test_our_own_benchmark(tmp_path: Path) -> None:
    document = {
        "series": {"step_ms": [1.0, None, 3.0]},
        "took_ms": [1, 2, 3],
        "expected": 4,
        "failed": 1,
        "conditions": {"concurrency": 8},
    }
    run = read_run(written(tmp_path, "run.json", document))
    assert run.missing == 1
    assert np.isnan(run.series["step_ms"][1])
    assert run.conditions == {"concurrency": "8"}
    assert run.took_ms is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"series": {}}, "series is an object of arrays"),
        ({"series": {"a": 3}}, "series a is no array"),
        ({"series": {"a": ["x"]}}, r"a\[0\]: a is 'x', and should be a number"),
        ({"series": {"a": [1], "b": [1, 2]}}, "all series are of one length.*a 1, b 2"),
        ({"series": {"a": [1]}, "expected": -1}, "expected is a whole number"),
        ({"series": {"a": [1]}, "typo": 1}, "unknown fields typo"),
    ],
)
def test_our_own_benchmark_gone_wrong(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidFile, match=message):
        read_run(written(tmp_path, "run.json", change))


def test_step_events_of_every_format(tmp_path: Path) -> None:
    paths = [
        written(tmp_path, "a.jsonl", lines(STEPS)),
        written(tmp_path, "b.json", STEPS),
        written(
            tmp_path,
            "c.csv",
            "ts,step,step_ms,prefill_tokens,decode_tokens\n"
            + "".join(",".join(map(str, row.values())) + "\n" for row in STEPS),
        ),
        tmp_path / "d.parquet",
        tmp_path / "e.jsonl.gz",
    ]
    parquet.write_table(pa.Table.from_pylist(STEPS), paths[3])
    paths[4].write_bytes(gzip.compress(lines(STEPS).encode()))
    for path in paths:
        run = read_run(path)
        assert run.series["step_ms"].tolist() == [31.0, 32.0, 33.0, 34.0, 35.0]
        assert run.series["tokens"].tolist() == [12.0] * 5
        assert (run.expected, run.missing) == (5, 0)
        assert run.took_ms is run.series["step_ms"]


def test_frames_of_the_emitter(tmp_path: Path) -> None:
    header = FrameHeader(
        kind="step", worker_id="w", boot_id="b", seq0=10, count=3, next_seq=13, clock_us=9_000_000
    )
    rows: list[dict[str, Any]] = [
        {"ts": 1_000_000 * at, "step": at, "step_ms": 30.5 + at, "extra": {"reward": 0.5}}
        for at in (1, 2, 3)
    ]
    path = tmp_path / "steps.frames"
    frame = encode_frame(header, rows)
    path.write_bytes(frame + frame)
    run = read_run(path)
    assert run.series["step_ms"].tolist() == [31.5, 32.5, 33.5]
    assert run.series["reward"].tolist() == [0.5] * 3
    path.write_bytes(frame[:-3])
    with pytest.raises(InvalidFile, match="after 0 events"):
        read_run(path)
    path.write_bytes(frame)
    with pytest.raises(NoFile, match="has no request events"):
        read_frames(path, "request")


def test_steps_in_the_order_of_time_each_once(tmp_path: Path) -> None:
    rows = [row | {"boot_id": "b", "seq": row["step"]} for row in STEPS]
    shuffled = [rows[3], rows[0], rows[3], rows[4], rows[1]]
    run = read_run(written(tmp_path, "a.jsonl", lines(shuffled)))
    assert run.series["step_ms"].tolist() == [31.0, 32.0, 34.0, 35.0]
    assert (run.expected, run.missing) == (5, 1)


def test_other_events_and_kinds_are_left_out(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"event": "request", "latency_ms": 5},
        {"event": "step", "kind": "training", "loss": 3.0, "step": 10},
        {"event": "step", "kind": "engine", "step_ms": 3.0, "step": 1},
        {"kind": "training", "loss": float("nan"), "step": 20, "extra": {"reward": 1.5}},
        {"kind": "training", "loss": None, "step": 30},
    ]
    run = read_run(written(tmp_path, "a.jsonl", lines(rows)), "training")
    assert run.series["loss"].tolist()[:2] == [3.0, np.inf]
    assert np.isnan(run.series["loss"][2])
    assert run.series["reward"][1] == 1.5
    assert run.expected == 3


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"step_ms": 1}\n{"step_ms": \n', r"a\.jsonl:2: no JSON.*cut off"),
        ("a.jsonl", '{"step_ms": 1}\n[1]\n', r"a\.jsonl:2: is no object"),
        ("a.jsonl", '{"step_ms": 1}\n{"step_ms": "fast"}\n', r"a\.jsonl:2: step_ms is 'fast'"),
        ("a.json", '{"x": \n1,}', r"a\.json:2: no JSON"),
        ("a.json", '{"x": 1}', "pytest-benchmark's"),
        ("a.json", "[1]", "row 1: is no object"),
        ("a.csv", "a,a\n1,2\n", r"a\.csv:1: a column is named twice"),
        ("a.csv", "a,b\n1,2\n1\n", r"a\.csv:3: this row does not have the 2 fields"),
        ("a.csv", "a,b\n1,2,3\n", r"a\.csv:2"),
        ("a.csv", "name\nx\n", "no series of numbers"),
        ("a.txt", "hello", "a run is read from"),
        ("a.jsonl", '{"name": "x"}\n', "no series of numbers"),
        ("a.parquet", "PAR1nothing", "no whole Parquet file"),
        ("a.jsonl.gz", "not gzip", "no whole gzip file"),
        ("a.frames", "no frames here, only text", "after 0 events"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    with pytest.raises(InvalidFile, match=message):
        read_run(written(tmp_path, name, text))


def test_files_with_nothing_in_them(tmp_path: Path) -> None:
    with pytest.raises(NoFile, match="there is no such file"):
        read_run(tmp_path / "gone.json")
    with pytest.raises(NoFile, match="is empty"):
        read_run(written(tmp_path, "a.json", " \n"))
    with pytest.raises(NoFile, match="has no rows"):
        read_run(written(tmp_path, "a.csv", "a,b\n"))
    with pytest.raises(InvalidFile, match="cannot be read"):
        read_run(_folder(tmp_path / "folder.json"))
    latin = tmp_path / "latin.csv"
    latin.write_bytes(b"a,b\n1,\xe9\n")
    with pytest.raises(InvalidFile, match=r"latin\.csv:2: is not UTF-8"):
        read_run(latin)
    deep = written(tmp_path, "deep.json", "[" * 100_000)
    with pytest.raises(InvalidFile, match=r"nested too deep|no JSON"):
        read_run(deep)


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
