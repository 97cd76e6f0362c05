"""`penstock demo` for real: server, workers, store, windows, gate."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from penstock.demo.run import DemoOptions, run_demo
from penstock.producers.fleet import CanaryFate
from penstock.producers.traces import bundled_trace

HEAD_S = 1500  # of the hour's 3,600 s


def test_a_few_minutes_are_stored_once_and_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run_demo(
        DemoOptions(
            canary="slow",
            speed=math.inf,
            seed=3,
            data=tmp_path / "demo",
            as_json=True,
            head_s=240,
        )
    )
    document = json.loads(capsys.readouterr().out)
    assert document == result.document()
    assert document["emitted"] == document["stored"] > 10_000
    assert document["duplicate"] == document["rejected"] == 0
    assert document["coverage"] == 1.0
    assert document["verdict"]["verdict"] in ("FAIL", "UNDECIDED", "NO_DATA")
    hour = {row["variant"]: row for row in document["windows"] if row["window"] == "1h"}
    canary = hour["canary"]
    trace = bundled_trace().head(240)
    assert sum(row["requests"] for row in hour.values()) == len(trace)
    assert canary["tpot_ms_p50"] > 1.3 * hour["control"]["tpot_ms_p50"]
    assert canary["coverage_state"] == "ok"
    assert result.pid is None


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("canary", "verdicts"),
    [
        ("slow", {"FAIL"}),
        ("errors", {"FAIL"}),
        ("good", {"PASS", "UNDECIDED"}),
    ],
)
def test_the_verdict_on_a_canary(canary: CanaryFate, verdicts: set[str], tmp_path: Path) -> None:
    options = DemoOptions(
        canary=canary, speed=math.inf, data=tmp_path / "demo", as_json=True, head_s=HEAD_S
    )
    result = run_demo(options)
    assert result.complete
    assert result.coverage == 1.0
    assert result.verdict["verdict"] in verdicts
    assert result.verdict["verdict"] != "UNDECIDED" or result.verdict["n_needed"] is not None
    hour = [row for row in result.windows if row["window"] == "1h"]
    assert sum(row["requests"] for row in hour) == len(bundled_trace().head(HEAD_S))
