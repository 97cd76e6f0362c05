"""`penstock gate run` on a saved /metrics."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from penstock.cli import main

DATA = Path(__file__).parents[2] / "data" / "gates"
BEFORE, AFTER, SLOW = (DATA / f"vllm_{name}.prom" for name in ("before", "after", "slow"))
GATES = """\
gates:
  - id: limits
    kind: absolute
    metrics:
      - {metric: latency, field: ttft_ms, quantile: 0.95, max_ms: 750}
      - {metric: latency, field: latency_ms, quantile: 0.95, max_ms: 10000}
  - id: perf
    kind: perf
    metrics:
      - {metric: ttft_ms, statistic: median, direction: lower, margin_ratio: 1.2}
      - {metric: latency_ms, statistic: mean, direction: lower, margin_ratio: 1.2, critical: false}
"""


def ask(tmp_path: Path, *arguments: object) -> Result:
    config = tmp_path / "gates.yaml"
    config.write_text(GATES)
    return CliRunner().invoke(main, ["gate", "run", "--config", str(config), *map(str, arguments)])


def test_a_load_test_that_is_good(tmp_path: Path) -> None:
    done = ask(
        tmp_path,
        "--run",
        AFTER,
        "--before",
        BEFORE,
        "--baseline",
        SLOW,
        "--baseline-before",
        BEFORE,
    )
    assert done.exit_code == 0, done.output
    assert (
        "limits: PASS: ttft_ms_p95, latency_ms_p95 within limits after 3,000 requests"
        in done.output
    )
    assert "perf: PASS: ttft_ms_median within margins" in done.output
    assert (
        "input: run: ttft_ms is vllm:time_to_first_token_seconds of vllm_after.prom less "
        "vllm_before.prom, sum of 2 series (engine=0; engine=1), 3,000 values"
    ) in done.output


def test_a_slow_one_fails(tmp_path: Path) -> None:
    done = ask(tmp_path, "--run", SLOW, "--baseline", AFTER, "--json")
    assert done.exit_code == 1, done.output
    limits, perf = json.loads(done.output)["gates"]
    assert (limits["reasons"], perf["reasons"]) == (["limit_exceeded"], ["perf_regression"])
    assert limits["evidence"][0]["detail"]["bucket_ms"] == [500.0, 750.0]
    assert perf["evidence"][0]["estimate"] is None
    assert perf["evidence"][0]["low"] >= 1.2
    assert perf["evidence"][1]["estimate"] == pytest.approx(2.63, abs=0.01)


def test_the_same_against_itself_is_within_its_buckets(tmp_path: Path) -> None:
    done = ask(tmp_path, "--run", AFTER, "--baseline", AFTER, "--gate", "perf")
    assert done.exit_code == 2
    decision = done.output.splitlines()[0]
    assert "ttft_ms_median is in the bucket 250 to 500 ms, of the baseline in" in decision
    row = done.output.splitlines()[2].split()
    assert row[:3] == ["ttft_ms_median", "UNDECIDED", "-"]


def test_series_can_be_chosen(tmp_path: Path) -> None:
    done = ask(tmp_path, "--gate", "limits", "--run", AFTER, "--match", "engine=1")
    assert "1,550 values" in done.output
    named = ask(
        tmp_path, "--gate", "limits", "--run", AFTER,
        "--histogram", "ttft_ms=vllm:e2e_request_latency_seconds",
    )  # fmt: skip
    assert "ttft_ms is vllm:e2e_request_latency_seconds" in named.output
    assert ask(tmp_path, "--gate", "limits", "--run", AFTER, "--match", "engine").exit_code == 4


def test_a_restart_says_what_to_do(tmp_path: Path) -> None:
    done = ask(tmp_path, "--gate", "limits", "--run", BEFORE, "--before", AFTER)
    assert done.exit_code == 3
    assert "the server restarted in between" in done.output
