from __future__ import annotations

import io
import json
import socket
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from penstock.demo.run import DemoOptions, DemoResult, GateLimits, run_demo
from penstock.demo.server import GATE, TWO_ARMS, DemoFailed, iso, parse_us, running_server
from penstock.demo.view import (
    FINAL_METRICS,
    LIVE_METRICS,
    Figures,
    View,
    evidence_table,
    live_table,
    windows_table,
)
from penstock.producers.fleet import MODEL, CanaryFate, Rehearsal, plan_fleet, rehearse
from penstock.producers.replay import Progress, ReplaySummary
from penstock.producers.traces import bundled_trace
from penstock.producers.traffic import make_traffic
from penstock.schemas.config import parse
from penstock.schemas.gates.absolute import AbsoluteGate, LatencyLimit
from penstock.schemas.gates.canary import CanaryGate
from penstock.streams.core.windows import WINDOWS
from rich.console import Console

LIMITS = GateLimits(ttft_ms=850, tpot_ms=46, latency_ms=17_000, cost_per_1k_usd=0.00081)
SUMMARY = ReplaySummary(Counter(request=2, step=7), 0, 0, 2_000_000, 1_000_000, 1.5, {"w": 9})
EVIDENCE = [
    {
        "metric": "error_rate",
        "declared": "1 %",
        "unit": "ratio",
        "limit": 0.01,
        "estimate": 0.035,
        "low": 0.0109,
        "high": 0.0809,
        "confidence": 0.99,
        "n": 428,
        "bad": 15,
        "decision": "FAIL",
        "n_needed": None,
    },
    {
        "metric": "cost_per_1k_tokens_usd",
        "declared": "0.00081 USD per 1,000 tokens",
        "unit": "usd_per_request",
        "limit": 0.0,
        "estimate": None,
        "low": -0.1,
        "high": 0.1,
        "confidence": 0.99,
        "n": 428,
        "bad": None,
        "decision": "UNDECIDED",
        "n_needed": 12,
    },
]
VERDICT: dict[str, Any] = {
    "verdict": "FAIL",
    "text": "FAIL: error_rate is above 1 %",
    "as_of": "1970-01-01T00:05:01Z",
    "n": 428,
    "evidence": EVIDENCE,
}


def result(**changes: Any) -> DemoResult:
    plain = DemoResult(
        emitted=9,
        stored=9,
        duplicate=0,
        rejected=0,
        coverage=1.0,
        windows=[],
        verdict=VERDICT,
        two_arms=VERDICT,
        url="http://127.0.0.1:1",
        pid=None,
    )
    return replace(plain, **changes)


def window(variant: str, **values: Any) -> dict[str, Any]:
    fixed = {"window": "1m", "variant": variant, "release": "r41", "end": "2026-01-01T00:00:00Z"}
    return fixed | dict.fromkeys((*FINAL_METRICS, *LIVE_METRICS)) | values


def shown(what: Any) -> str:
    out = io.StringIO()
    Console(file=out, width=80, highlight=False).print(what)
    return out.getvalue()


@pytest.fixture(scope="module")
def hours() -> dict[str, Rehearsal]:
    """The hour with each canary."""
    fates: tuple[CanaryFate, ...] = ("good", "slow")
    traffic = make_traffic(bundled_trace(), seed=0)
    return {fate: rehearse(plan_fleet(traffic, canary=fate, seed=0)) for fate in fates}


def test_the_written_configuration_is_valid() -> None:
    gate, two_arms = parse(LIMITS.yaml()).gates
    assert isinstance(gate, AbsoluteGate)
    assert isinstance(two_arms, CanaryGate)
    assert two_arms.id == TWO_ARMS
    assert gate.id == GATE
    assert gate.filter.given() == {"model": MODEL, "variant": "canary"}
    latencies = {
        limit.field: limit.max_ms for limit in gate.metrics if isinstance(limit, LatencyLimit)
    }
    assert latencies == {"tpot_ms": 46, "latency_ms": 17_000, "ttft_ms": 850}
    assert len(gate.metrics) == 6


@pytest.mark.slow
def test_limits_tell_a_slow_canary_from_a_good_one(hours: dict[str, Rehearsal]) -> None:
    limits = GateLimits.of(hours["good"])
    share = {
        (fate, name): float((hour.column("canary", name) > getattr(limits, name)).mean())
        for fate, hour in hours.items()
        for name in ("tpot_ms", "latency_ms", "ttft_ms")
    }
    # The gate allows 5 % of the requests beyond a p95 limit.
    assert max(share["good", name] for name in ("tpot_ms", "latency_ms", "ttft_ms")) < 0.03
    assert share["slow", "tpot_ms"] > 0.07
    assert share["slow", "latency_ms"] > 0.1


def test_the_document_has_exactly_the_promised_keys() -> None:
    document = json.loads(json.dumps(result().document()))
    assert list(document) == [
        "emitted",
        "stored",
        "duplicate",
        "rejected",
        "coverage",
        "windows",
        "verdict",
        "two_arms",
    ]


@pytest.mark.parametrize(
    ("verdict", "code"),
    [("PASS", 0), ("FAIL", 1), ("UNDECIDED", 2), ("NO_DATA", 3), ("INVALID", 3)],
)
def test_exit_codes(verdict: str, code: int) -> None:
    assert result(verdict={"verdict": verdict}).exit_code == code


def test_complete_means_that_everything_was_stored_once() -> None:
    assert result().complete
    assert not result(stored=8).complete
    assert not result(stored=10).complete
    assert not result(rejected=1, stored=9).complete


def test_metrics_and_windows_are_those_of_the_store() -> None:
    from penstock.api.queries import WINDOW_METRICS
    from penstock.demo.run import WINDOWS as SHOWN

    assert {*FINAL_METRICS, *LIVE_METRICS} <= set(WINDOW_METRICS)
    assert set(SHOWN) <= set(WINDOWS)


def test_times_go_to_the_api_and_back() -> None:
    assert iso(1_700_000_040_000_000) == "2023-11-14T22:14:00Z"
    assert parse_us("2023-11-14T22:14:00Z") == 1_700_000_040_000_000


def test_tables_fit_a_terminal() -> None:
    rows = [
        window("control", requests=17_445, error_rate=0.005, latency_ms_p95=14_300.0),
        window("canary", requests=0, tokens_per_s=1027.4, cost_per_1k_tokens_usd=0.00064),
    ]
    table = shown(windows_table(rows))
    assert "17,445" in table
    assert "14.3" in table
    assert "0.00064" in table
    evidence = shown(evidence_table(VERDICT))
    for words in ("error_rate", "1 %", "3.50%", "1.09 to 8.09", "FAIL", "UNDECIDED, ~12 more"):
        assert words in evidence
    assert "…" not in table + evidence


def test_live_figures_start_empty_and_show_the_verdict() -> None:
    assert "verdict so far: -" in shown(live_table(Figures()))
    text = shown(live_table(Figures([window("control", request_rate=5.4)], VERDICT)))
    assert "5.4" in text
    assert "FAIL" in text


def test_without_a_terminal_progress_is_a_few_lines() -> None:
    out = io.StringIO()
    view = View(quiet=False, console=Console(file=out, width=100))
    fleet = plan_fleet(make_traffic(bundled_trace().head(60), 0), canary="errors")
    view.begin(fleet, 40.0, LIMITS.yaml(), "http://127.0.0.1:1")
    with view.live():
        for done in range(101):
            view.progress(Progress(done * 1_000_000, done / 100, Counter(request=done)))
    view.end(
        SUMMARY,
        [window("control", requests=2)],
        {"g": VERDICT},
        result().document(),
        "http://x",
        77,
    )
    text = out.getvalue()
    assert text.count(" UTC ") == 10
    for words in ("0.5%", "3.0%", "CC-BY-4.0", "max_ms: 46", "decided 5.0 minutes", "kill 77"):
        assert words in text


def test_quiet_without_a_terminal_says_nothing() -> None:
    out = io.StringIO()
    view = View(quiet=True, console=Console(file=out))
    view.end(SUMMARY, [], {"g": VERDICT}, result().document(), "http://x", None)
    assert out.getvalue() == ""


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    with pytest.raises(DemoFailed, match="not empty"):
        run_demo(DemoOptions(data=tmp_path))


@pytest.mark.slow
def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    (tmp_path / "penstock.yaml").write_text(LIMITS.yaml(), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(DemoFailed, match=f"port {port} is taken"),
            running_server(tmp_path, port, leave_open=False),
        ):
            pass


@pytest.mark.slow
def test_a_server_that_does_not_start_shows_why(tmp_path: Path) -> None:
    (tmp_path / "penstock.yaml").write_text("gates: 3\n", encoding="utf-8")
    with (
        pytest.raises(DemoFailed, match=r"(?s)does not start.*gates"),
        running_server(tmp_path, 0, leave_open=False),
    ):
        pass
