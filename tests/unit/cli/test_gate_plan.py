"""What `penstock gate plan` assumes of the traffic, and what it says."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from penstock.cli import gate_plan, gate_traffic
from penstock.cli.gate_plan import Given, traffic_for
from penstock.cli.gate_traffic import Seen, latency_of, summed
from penstock.schemas.config import parse
from penstock.schemas.errors import InvalidQuery, PenstockError
from penstock.schemas.gates.canary import CanaryGate

GATES = """
slos: [{id: up, sli: {kind: availability}, target: 0.99}]
gates:
  - id: c
    kind: canary
    control: {variant: stable}
    treatment: {variant: canary}
    deadline_s: 3600
    metrics:
      - {metric: error_rate, margin_ratio: 3.0}
      - {metric: latency, field: ttft_ms, margin_ratio: 1.3, critical: false}
      - {metric: cost_usd, margin_ratio: 1.5, cap: 0.1, critical: false}
  - {id: r, kind: rollback, treatment: {variant: canary}, limits: [{metric: error_rate, max_ratio: 0.1}]}
  - {id: b, kind: budget, slo: up, min_left_ratio: 0.1}
  - {id: a, filter: {variant: canary}, metrics: [{metric: error_rate, max_ratio: 0.01}]}
"""
ROW: dict[str, Any] = {
    "requests": 3600, "request_rate": 1.0, "errors": 36, "timeouts": 0, "safety_violations": 0,
    "cost_usd": 36.0, "quality_mean": None, "acceptance_rate": 0.9, "feedback": 100, "workers": 3,
    "ttft_ms_p50": 100.0, "ttft_ms_p95": 100.0 * math.exp(1.6448536269514722),
}  # fmt: skip
NOTHING = Given(None, None, {}, {}, None, None, 2.0)


@pytest.fixture
def spec() -> CanaryGate:
    (found, *_) = parse(GATES).live_gates
    assert isinstance(found, CanaryGate)
    return found


def run(tmp_path: Path, *arguments: str) -> Result:
    path = tmp_path / "penstock.yaml"
    path.write_text(GATES)
    return CliRunner().invoke(gate_plan.plan, [*arguments, "--config", str(path)])


def test_windows_of_slices_are_one_traffic() -> None:
    other = ROW | {"requests": 1200, "request_rate": 0.5, "errors": 60, "quality_mean": 0.8}
    found = summed([ROW, other], "ttft_ms")
    assert (found.requests, found.requests_per_s, found.workers) == (4800, 1.5, 3)
    assert found.rates["error_rate"] == 96 / 4800
    assert found.rates["timeout_rate"] == 0.5 / 4800  # none was seen: half a request, not never
    assert found.rates["unaccepted_rate"] == pytest.approx(0.1)
    assert found.means == {"cost": 72 / 4800, "quality": 0.8}
    assert found.log_sd == pytest.approx(1.0)
    assert summed([], "ttft_ms") == Seen()
    silent = ROW | {"acceptance_rate": None, "ttft_ms_p50": None, "workers": None}
    assert summed([silent], "ttft_ms").log_sd is None
    assert "unaccepted_rate" not in summed([silent], "ttft_ms").rates


def test_what_is_given_goes_before_what_was_seen(spec: CanaryGate) -> None:
    control, treatment = summed([ROW], "ttft_ms"), summed([ROW | {"requests": 1200}], "ttft_ms")
    seen = traffic_for(spec, NOTHING, control, treatment)
    assert (seen.requests_per_s, seen.share, seen.workers) == (2.0, 0.25, (3, 3))
    assert seen.mean["cost_usd"] == pytest.approx(0.1)  # of a cap of 0.1 USD
    given = Given(50.0, 0.1, {"error_rate": 0.5}, {"cost_usd": 0.7}, 2.0, (9, 8), 4.0)
    told = traffic_for(spec, given, control, treatment)
    assert (told.requests_per_s, told.share, told.workers, told.worse) == (50.0, 0.1, (9, 8), 4.0)
    assert (told.rates["error_rate"], told.mean["cost_usd"], told.log_sd) == (0.5, 0.7, 2.0)
    before = traffic_for(spec.model_copy(update={"share": 0.2}), NOTHING, control, Seen())
    assert (before.share, before.workers) == (0.2, (3, 2))
    with pytest.raises(click.UsageError, match="share"):
        traffic_for(spec, NOTHING, control, Seen())
    with pytest.raises(click.UsageError, match="--rps"):
        traffic_for(spec.model_copy(update={"share": 0.2}), NOTHING, Seen(), Seen())
    assert latency_of(spec) == "ttft_ms"


def test_a_decidable_plan_and_one_that_is_refused(tmp_path: Path) -> None:
    more = ("c", "--share", "0.1", "--rate", "error_rate=0.005")
    good = run(tmp_path, *more, "--rps", "200")
    assert good.exit_code == 0, good.output
    assert (
        "c: decidable (deadline 3,600 s; 200 requests/s, 0.1 of it the treatment's)" in good.output
    )
    assert "times control" in good.output
    slow = run(tmp_path, *more, "--rps", "1")
    assert slow.exit_code == 1
    assert "c: REFUSED" in slow.output
    assert "error_rate: PASS at 1 times control takes about" in slow.output
    told = json.loads(run(tmp_path, *more, "--rps", "200", "--json").output)
    assert told["decidable"]
    assert told["traffic"]["requests_per_s"] == 200
    assert {line["verdict"] for line in told["lines"]} == {"PASS", "FAIL"}


def test_limits_are_planned_and_others_need_no_plan(tmp_path: Path) -> None:
    absolute = run(tmp_path, "a", "--rps", "10")
    assert absolute.exit_code == 0, absolute.output
    assert "times its limit" in absolute.output
    assert "how much there will be" in run(tmp_path, "a").output
    assert "above 1" in run(tmp_path, "a", "--rps", "10", "--worse", "1").output
    assert "never passes" in run(tmp_path, "r").output
    assert "known at once" in run(tmp_path, "b").output
    assert "it has: c, r, b, a" in str(run(tmp_path, "x").exception)
    assert "not name=number" in run(tmp_path, "c", "--rate", "error_rate").output
    wrong = run(tmp_path, "a", "--rps", "10", "--rate", "errors=0.1")
    assert "no metric errors; it has: error_rate" in wrong.output
    assert "where is the gate?" in CliRunner().invoke(gate_plan.plan, ["c"]).output


class Server:
    """Windows of two variants, and of nothing else."""

    def ask(self, path: str, **query: Any) -> Any:
        if "route" in query:
            raise PenstockError("no grouping keeps route and variant together")
        assert path == "/v1/windows"
        assert "ttft_ms_p95" in query["metric"]
        points = [{"values": ROW | {"requests": 0}}, {"values": ROW}]
        silent = [{"values": ROW | {"requests": 0}}]
        return {"series": [{"points": points}, {"points": silent}]}

    def tell(self, method: str, path: str, body: Any = None) -> Any:
        raise AssertionError(path)


def test_the_newest_windows_of_a_server_are_asked() -> None:
    found = gate_traffic.seen(Server(), {"variant": "stable"}, "ttft_ms", "1h")
    assert (found.requests, found.requests_per_s) == (3600, 1.0)
    with pytest.raises(InvalidQuery, match=r"no grouping keeps .*--rps"):
        gate_traffic.seen(Server(), {"route": "/x", "variant": "a"}, "ttft_ms", "1h")
