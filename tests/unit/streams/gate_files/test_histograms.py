"""Saved /metrics as input of gates: which series, since when, and never against the requests."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from penstock.schemas.gates.absolute import AbsoluteGate
from penstock.schemas.gates.perf import PerfGate
from penstock.schemas.gates.stability import StabilityGate
from penstock.streams.gate_files.histograms import Choice, read_histograms
from penstock.streams.gate_files.judging import Files, judge
from penstock.streams.gate_files.reading import InvalidFile
from prometheus_client import CollectorRegistry, Histogram, generate_latest

DATA = Path(__file__).parents[3] / "data" / "gates"
BEFORE, AFTER, SLOW = (DATA / f"vllm_{name}.prom" for name in ("before", "after", "slow"))
TTFT = "vllm:time_to_first_token_seconds"


def limits(max_ms: float, field: str = "ttft_ms", q: float = 0.95, **more: Any) -> AbsoluteGate:
    limit = {"metric": "latency", "field": field, "quantile": q, "max_ms": max_ms}
    return AbsoluteGate.model_validate(
        {"id": "limits", "metrics": [limit, *more.pop("also", [])], **more}
    )


def perf(**more: Any) -> PerfGate:
    metric = {"metric": "ttft_ms", "statistic": "median", "direction": "lower", "margin_ratio": 1.2}
    return PerfGate.model_validate({"id": "perf", "metrics": [metric], **more})


def metrics(folder: Path, text: str, name: str = "after.prom") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def buckets(name: str = "ttft_seconds", labels: str = "", **counts: float | str) -> str:
    """`_0_5=3` is the bucket le="0.5" with 3."""
    bounds = {key: key[1:].replace("_", ".") if key != "inf" else "+Inf" for key in counts}
    return "".join(
        f'{name}_bucket{{le="{bounds[key]}"{labels}}} {value}\n' for key, value in counts.items()
    )


def read(path: Path, *fields: str, before: Path | None = None, **choice: Any) -> Any:
    return read_histograms(path, before, fields or ("ttft_ms",), Choice(**choice))


def test_series_are_summed_and_told() -> None:
    found = read(AFTER, "ttft_ms", "latency_ms", "itl_ms", "gone_ms")
    assert {name: one.n for name, one in found.fields.items()} == {
        "ttft_ms": 3100, "latency_ms": 3100, "itl_ms": 62_000,
    }  # fmt: skip
    assert found.fields["ttft_ms"].bounds_ms[:3].tolist() == [1.0, 5.0, 10.0]
    assert found.fields["ttft_ms"].mean_ms == pytest.approx(387.4, abs=0.1)
    assert "sum of 2 series (engine=0; engine=1), 3,100 values" in found.sources["ttft_ms"]
    assert found.known == ["itl_ms", "latency_ms", "ttft_ms"]
    assert found.of_tokens == {"itl_ms"}
    assert found.conditions == {"model_name": "meta-llama/Llama-3.1-8B-Instruct"}


def test_what_was_counted_before_is_taken_away() -> None:
    found = read(AFTER, before=BEFORE).fields["ttft_ms"]
    whole, start = read(AFTER).fields["ttft_ms"], read(BEFORE).fields["ttft_ms"]
    assert found.counts.tolist() == (whole.counts - start.counts).tolist()
    assert found.sum_ms == pytest.approx(whole.sum_ms - start.sum_ms)
    assert found.n == 3000


def test_series_can_be_chosen() -> None:
    one = read(AFTER, match={"engine": "1"})
    assert one.fields["ttft_ms"].n == 1550
    assert "one series (engine=1, model_name=" in one.sources["ttft_ms"]
    with pytest.raises(InvalidFile, match=r"no histogram has engine=7 \(engine is 0, 1\)"):
        read(AFTER, match={"engine": "7"})


@pytest.mark.parametrize(
    ("name", "field", "bound"),
    [
        ("sglang:time_to_first_token_seconds", "ttft_ms", 290.0),
        ("kserve_vllm:request_time_per_output_token_seconds", "tpot_ms", 290.0),
        ("vllm_request_queue_time_seconds", "queue_ms", 290.0),
        ("http_request_duration_seconds", "http_request_duration_ms", 290.0),
        ("app:step_ms", "step_ms", 0.29),
        ("app:step_milliseconds", "step_ms", 0.29),
    ],
)
def test_names(name: str, field: str, bound: float, tmp_path: Path) -> None:
    path = metrics(tmp_path, buckets(name, _0_29=1, inf=2))
    assert read(path, field).fields[field].bounds_ms.tolist() == [bound]


def test_a_name_that_is_not_known_can_be_told(tmp_path: Path) -> None:
    path = metrics(tmp_path, buckets("tgi_request_duration", _0_5=1, inf=2))
    assert read(path, "latency_ms").fields == {}
    found = read(path, "latency_ms", names={"latency_ms": "tgi_request_duration"})
    assert found.fields["latency_ms"].bounds_ms.tolist() == [500.0]
    two = metrics(tmp_path, buckets("a:ttft_seconds", inf=1) + buckets("b:ttft_seconds", inf=2))
    with pytest.raises(
        InvalidFile, match="a:ttft_seconds and b:ttft_seconds are all ttft_ms; choose"
    ):
        read(two)
    assert read(two, names={"ttft_ms": "b:ttft_seconds"}).fields["ttft_ms"].n == 2
    old = buckets("vllm:time_per_output_token_seconds", inf=1)
    new = buckets("vllm:inter_token_latency_seconds", inf=2)
    assert read(metrics(tmp_path, old + new), "itl_ms").fields["itl_ms"].n == 2


def test_an_answer_without_a_name(tmp_path: Path) -> None:
    path = tmp_path / "answer.json"
    bounds = {"0.25": "90.4", "0.5": "99.9", "+Inf": "100.2"}
    result = [{"metric": {"le": le}, "value": [1.0, value]} for le, value in bounds.items()]
    path.write_text(
        json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}})
    )
    found = read(path, names={"ttft_ms": TTFT})
    assert found.fields["ttft_ms"].counts.tolist() == [90, 10, 0]
    with pytest.raises(InvalidFile, match="say what it is with one --histogram"):
        read(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (buckets(_1=5, _2=3, inf=6), r"after.prom:1: ttft_seconds counts fewer values up to le=2"),
        (buckets(_1=5, _2=6), r'no bucket le="\+Inf"'),
        (buckets(_1="NaN", inf=6), "counts NaN, which is no count"),
        (buckets(_1=-1, inf=6), "counts -1, which is no count"),
        (buckets(_1=1) + buckets(_1_0=1, inf=6), "le=1.0 is there twice"),
        ('ttft_seconds_bucket{x="1"} 3\n', "has the bound le='', which is no number"),
        (buckets(_1=1, inf=2) + buckets(labels=',e="1"', _2=1, inf=2), "has other buckets than at"),
        ("up 1\n", "there is no histogram in it"),
    ],
)
def test_buckets_that_are_none(text: str, message: str, tmp_path: Path) -> None:
    path = metrics(tmp_path, text)
    with pytest.raises(InvalidFile, match=message):
        read(path)
    told = judge(limits(500), Files(path))
    assert (told.verdict, told.reasons) == ("INVALID", ("unreadable_file",))


@pytest.mark.parametrize(
    ("before", "message"),
    [
        (buckets(_1=2, inf=9), "the server restarted in between; save the start again"),
        (buckets(_2=1, inf=2), "has other buckets than in before.prom"),
        (buckets(labels=',e="1"', _1=1, inf=2), "e=1 is in before.prom and not here"),
        (buckets(_1=1, inf=2) + "ttft_seconds_created 2\n", "began anew"),
    ],
)
def test_counters_that_went_back(before: str, message: str, tmp_path: Path) -> None:
    path = metrics(tmp_path, buckets(_1=3, inf=8) + "ttft_seconds_created 1\n")
    start = metrics(tmp_path, before, "before.prom")
    with pytest.raises(InvalidFile, match=message):
        read(path, before=start)


def test_a_server_that_had_served_nothing_counts_from_nothing(tmp_path: Path) -> None:
    assert read(AFTER, before=metrics(tmp_path, "up 1\n")).fields["ttft_ms"].n == 3100


def test_absolute_verdicts() -> None:
    assert judge(limits(750), Files(AFTER, before=BEFORE)).verdict == "PASS"
    assert judge(limits(750), Files(SLOW)).reasons == ("limit_exceeded",)
    told = judge(limits(400, q=0.8), Files(AFTER))
    assert (told.verdict, told.reasons, told.action) == ("UNDECIDED", ("bucket_too_wide",), "hold")
    assert "which is in the bucket 250 to 500 ms" in told.text
    advisory = {"metric": "error_rate", "max_ratio": 0.1, "critical": False}
    assert judge(limits(750, also=[advisory]), Files(AFTER)).verdict == "PASS"


def test_what_was_not_measured_is_no_data(tmp_path: Path) -> None:
    error_rate = {"metric": "error_rate", "max_ratio": 0.1}
    for spec, text in (
        (
            limits(750, "queue_ms"),
            "no histogram of queue_ms; there are: itl_ms, latency_ms, ttft_ms",
        ),
        (limits(750, also=[error_rate]), "does not tell error_rate"),
        (limits(750, "itl_ms"), "itl_ms counts tokens"),
    ):
        told = judge(spec, Files(AFTER))
        assert (told.verdict, told.reasons) == ("NO_DATA", ("metric_missing",))
        assert text in told.text
    empty = metrics(tmp_path, buckets(_1=0, inf=0))
    assert judge(limits(750), Files(empty)).verdict == "NO_DATA"
    assert judge(limits(750), Files(AFTER, before=AFTER)).verdict == "NO_DATA"
    assert judge(perf(), Files(empty, empty)).verdict == "NO_DATA"
    assert judge(limits(750), Files(tmp_path / "gone.prom")).reasons == ("no_file",)
    assert judge(limits(750), Files(AFTER, before=tmp_path / "gone.prom")).reasons == ("no_file",)


def test_perf_verdicts(tmp_path: Path) -> None:
    assert judge(perf(), Files(SLOW, AFTER, BEFORE, BEFORE)).reasons == ("perf_regression",)
    assert judge(perf(), Files(AFTER, SLOW, BEFORE, BEFORE)).verdict == "PASS"
    assert judge(perf(), Files(AFTER, AFTER)).reasons == ("bucket_too_wide",)
    assert judge(perf(warmup=5), Files(AFTER, SLOW, BEFORE, BEFORE)).verdict == "PASS"
    other = metrics(tmp_path, AFTER.read_text().replace("Llama-3.1", "Llama-3.2"))
    assert judge(perf(), Files(other, AFTER)).reasons == ("different_workload",)


def test_files_that_do_not_go_together(tmp_path: Path) -> None:
    run = tmp_path / "run.json"
    run.write_text(json.dumps({"series": {"ttft_ms": [1.0, 2.0]}}))
    stable = StabilityGate.model_validate(
        {"id": "s", "metrics": [{"metric": "ttft_ms", "max_cv": 0.1, "max_drift_ratio": 0.1}]}
    )
    for told, text in (
        (judge(perf(), Files(AFTER, run)), "compare two of one kind"),
        (judge(perf(warmup=5), Files(AFTER, AFTER, BEFORE)), "warmup: 5 cannot be left out"),
        (judge(perf(), Files(run, run, BEFORE)), "is only taken from counters"),
        (judge(stable, Files(AFTER)), "a run is read from"),
    ):
        assert told.verdict == "INVALID"
        assert text in told.text


BOUNDS = st.lists(st.integers(1, 40), min_size=1, max_size=8, unique=True).map(sorted)


@settings(max_examples=40)
@given(
    BOUNDS,
    st.integers(1, 40),
    st.floats(1.0, 30.0),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.5, 0.9]),
)
def test_a_verdict_is_never_the_opposite_of_that_on_the_requests(
    bounds: list[int], limit: int, median: float, seed: int, q: float
) -> None:
    """Requests as rows, and the same counted by Prometheus' own client."""
    values = np.ceil(median * np.exp(np.random.default_rng(seed).normal(0.0, 0.5, 300)))
    registry = CollectorRegistry()
    counted = Histogram(
        "app:ttft_seconds", "x", buckets=[b / 10 for b in bounds], registry=registry
    )
    for value in values:
        counted.observe(float(value) / 10)
    with tempfile.TemporaryDirectory() as folder:
        rows = metrics(
            Path(folder), "".join(f'{{"ttft_ms": {100.0 * v}}}\n' for v in values), "rows.jsonl"
        )
        saved = metrics(Path(folder), generate_latest(registry).decode())
        spec = limits(100.0 * limit, q=q)
        raw, told = judge(spec, Files(rows)), judge(spec, Files(saved))
    assert {raw.verdict, told.verdict} != {"PASS", "FAIL"}
    assert told.verdict in (raw.verdict, "UNDECIDED")
    if limit in bounds:
        assert (told.verdict, told.reasons, told.n_needed) == (
            raw.verdict,
            raw.reasons,
            raw.n_needed,
        )
        assert told.evidence[0] | {"detail": {}} == raw.evidence[0]
