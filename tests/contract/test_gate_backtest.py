"""A gate over stored history: what is read of it, and what comes out, over a real store."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from penstock.api.app import build_app
from penstock.api.auth import Access
from penstock.api.backtest_models import BacktestAnswer
from penstock.api.gates_traffic import traffic
from penstock.schemas.config import parse
from penstock.schemas.gates.canary import CanaryGate
from penstock.streams.core.gates.interface import CONTROL, GateInputs
from penstock.streams.core.gates.live import inputs_wanted
from penstock.streams.core.gates.pool import joined, picked
from penstock.streams.core.gates.split import BUCKETS, Change, Split
from penstock.streams.storage.store import Store
from penstock.tests.support.api import STATUS, Client, Ingest, problem_of
from penstock.tests.support.rows import T0, at, iso
from penstock.tests.support.store import insert, unique

pytestmark = pytest.mark.slow

SECOND = 1_000_000
HISTORY_S = 1800
START_US = int(T0.timestamp()) * SECOND


class History:
    """Half an hour of a healthy stable arm, and ten minutes of a canary that fails, of one model."""

    def __init__(self, store: Store, api_store: Store) -> None:
        self.model = "backtest"  # what is drawn by hash stays the same
        self.store = api_store
        self.spec: dict[str, Any] = {
            "kind": "canary",
            "control": {"model": self.model, "variant": "stable"},
            "treatment": {"model": self.model, "variant": "canary"},
            "mature_s": 10,
            "block_s": 10,
            "metrics": [{"metric": "error_rate", "margin_ratio": 1.5}],
        }
        draw = random.Random(3)
        stable = [draw.uniform(0, HISTORY_S) for _ in range(300)]
        canary = [draw.uniform(1200, HISTORY_S) for _ in range(40)]
        rows = [
            self.request(draw, at, start_s, "stable", 0.02) for at, start_s in enumerate(stable)
        ]
        rows += [self.request(draw, 300 + n, s, "canary", 0.6) for n, s in enumerate(canary)]
        again = [row | {"seq": 1000 + row["seq"], "offset": 1000 + row["seq"]} for row in rows]
        insert(store, "requests_rows", rows + again)  # two requests make a unit
        marker = {
            "ts": at(1200), "boot_id": unique("b"), "seq": 0, "release": "r2", "incarnation": 1,
            "model": self.model, "variant": "canary", "variant_share": 0.3,
        }  # fmt: skip
        insert(store, "releases_rows", [marker])
        ends = range(10, HISTORY_S + 1, 10)
        fleet = {"window_s": 60, "grouping": "fleet", "coverage": 1.0, "coverage_state": "ok"}
        insert(store, "windows_rows", [fleet | {"end": at(end), "version": 9} for end in ends])
        configuration = parse(
            "gates: [{id: limits, filter: {model: m}, metrics: [{metric: error_rate, max_ratio: 0.1}]}]"
        )
        ingest = Ingest(state=replace(STATUS, watermark_us=START_US + 2 * HISTORY_S * SECOND))
        self.app = build_app(ingest, api_store, configuration, Access(False))

    def request(
        self, draw: random.Random, n: int, started_s: float, variant: str, errors: float
    ) -> dict[str, Any]:
        latency_us = round(draw.lognormvariate(12, 0.3))
        return {
            "ts": at(round(started_s, 3) + latency_us / SECOND), "latency_us": latency_us,
            "boot_id": self.model, "seq": n, "worker_id": f"w{n % 3}", "model": self.model,
            "variant": variant, "trace_id": f"{self.model}-{n}", "incarnation": 1,
            "offset": n, "status": "error" if draw.random() < errors else "ok",
        }  # fmt: skip

    def ask(self, mode: str, status: int = 200, **more: Any) -> Any:
        body = {"mode": mode, "start": iso(0), "end": iso(HISTORY_S), "spec": self.spec, "runs": 20}
        url = "/v1/gates/canary/backtest"
        answer = Client(self.app).request("POST", url, json=body | more)
        if status != 200:
            return problem_of(answer, status)
        assert answer.status_code == 200, answer.text
        BacktestAnswer.model_validate(answer.json())
        return answer.json()


@pytest.fixture(scope="module")
def history(stores: tuple[Store, Store]) -> History:
    return History(*stores)


def totals(inputs: GateInputs) -> dict[str, Any]:
    """Sums of one arm's rows over everything."""
    latencies = inputs.metrics["latency_ms_p95"]
    assert latencies.bins is not None
    assert latencies.counts is not None
    errors = inputs.metrics["error_rate"]
    assert errors.bad is not None
    histogram = np.zeros(1 << 16, np.int64)
    for bins, counts in zip(latencies.bins, latencies.counts, strict=True):
        np.add.at(histogram, bins, counts)
    return {
        "assigned": int(inputs.assigned.sum()),
        "errors": (int(errors.n.sum()), int(errors.bad.sum())),
        "bins": {int(bin_): int(histogram[bin_]) for bin_ in np.flatnonzero(histogram)},
    }


def test_buckets_together_are_the_arm_and_a_change_changes_it_only_as_told(
    history: History,
) -> None:
    latency = {"metric": "latency", "margin_ratio": 1.2}
    metrics = [*history.spec["metrics"], latency]
    spec = CanaryGate.model_validate({"id": "g"} | history.spec | {"metrics": metrics})
    wanted = inputs_wanted(spec)
    assert wanted is not None
    period = (START_US, START_US + HISTORY_S * SECOND)
    whole = traffic(history.store, wanted, *period)
    plain = traffic(history.store, wanted, *period, Split(CONTROL, 7))
    assert len(set(plain.arm.tolist())) > BUCKETS // 2
    control = picked(whole, np.flatnonzero(whole.arm == CONTROL), CONTROL)
    everything = picked(plain, np.arange(len(plain.arm)), CONTROL)
    assert totals(everything) == totals(control)
    nothing = picked(plain, np.empty(0, np.int64), CONTROL)
    added = joined(everything, nothing)
    assert totals(added) == totals(control)
    rows = (control.block, control.stratum, control.worker)
    assert len(added.block) == len(set(zip(*map(list, rows), strict=True)))
    change = Change(latency_times=2.0, error_ratio=0.3)
    worse = traffic(history.store, wanted, *period, Split(CONTROL, 7, change=change))
    assert totals(worse)["assigned"] == totals(plain)["assigned"]
    bad, units = totals(worse)["errors"][1], totals(worse)["errors"][0]
    assert (
        0.3 < bad / units < 0.65
    )  # two requests a unit: 1 - .7 * .7 and the errors that there were
    slower = {bin_ - shift: n for shift in (138, 139) for bin_, n in totals(worse)["bins"].items()}
    assert sum(totals(worse)["bins"].values()) == sum(totals(plain)["bins"].values())
    assert set(totals(plain)["bins"]) <= set(slower)  # 138.6 bins of a factor of two


def test_a_a_tells_false_alarms(history: History) -> None:
    told = history.ask("aa", seed=5)
    assert (told["kind"], told["blocks"], told["block_s"]) == ("canary", 180, 10)
    assert told["units"] == 300
    found = {line["verdict"]: line for line in told["runs"]["table"]}
    assert sum(line["runs"] for line in found.values()) == told["runs"]["made"] == 20
    assert found["FAIL"]["runs"] == 0
    assert (found["FAIL"]["low"], round(found["FAIL"]["high"], 4)) == (0.0, 0.1684)
    assert told == history.ask("aa", seed=5)
    lives = history.ask("aa", life_s=600, share=0.25)["runs"]
    assert (lives["lives"], lives["life_s"], lives["share"]) == (3, 600, 0.25)
    late = history.ask("aa", max_s=1e-6)["runs"]
    assert (late["made"], late["asked"]) == (1, 20)


def test_injection_tells_power_and_delay(history: History) -> None:
    told = history.ask("inject", change={"error_ratio": 0.5}, runs=12)["runs"]
    found = {line["verdict"]: line for line in told["table"]}
    assert found["FAIL"]["runs"] == 12
    assert 0 < found["FAIL"]["median_low_s"] <= found["FAIL"]["median_s"] < HISTORY_S
    harmless = history.ask("inject", change={"latency_times": 1.5}, runs=12)["runs"]["table"]
    assert harmless[1]["runs"] == 0  # latency is no metric of this gate


def test_a_rollback_gate_finds_a_change_that_sets_in_later(history: History) -> None:
    limits = [{"metric": "error_rate", "max_ratio": 0.1}]
    watched = {"model": history.model, "variant": "stable"}
    spec = {"kind": "rollback", "treatment": watched, "limits": limits, "for_s": 60}
    told = history.ask("inject", spec=spec, change={"error_ratio": 0.8}, runs=10)["runs"]
    assert (told["share"], told["early"]) == (None, 0)
    assert told["table"][1]["runs"] == 10
    assert told["table"][1]["delays_s"][0] >= 60
    assert "two arms" in history.ask("aa", 422, spec=spec)["detail"]


def test_past_releases(history: History) -> None:
    spec = history.spec | {"share": 0.01}  # the marker's share is in force
    before, release = history.ask("past", spec=spec)["past"]
    assert (before["release"], before["told"]["verdict"]) == (None, "NO_DATA")
    assert (release["release"], release["start"]) == ("r2", iso(1200))
    assert release["told"]["verdict"] == "FAIL"
    assert 10 < release["delay_s"] <= 610


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"spec": {"kind": "budget", "slo": "a", "min_left_ratio": 0.1}}, "canary and rollback"),
        ({"spec": {"kind": "canary"}}, "control"),
        ({"end": iso(3)}, "no whole block"),
        ({"start": iso(-300_000)}, "shorter period"),
        ({"start": iso(4000)}, "start comes before end"),
        ({"change": {"error_ratio": 0.1}}, "change is of inject"),
        ({"change": {}}, "say what changes"),
    ],
)
def test_what_is_refused(history: History, more: dict[str, Any], words: str) -> None:
    problem = history.ask("aa", 422, **more)
    assert words in str(problem)


def test_gates_of_the_configuration(history: History) -> None:
    body = {"mode": "past", "start": iso(0), "end": iso(HISTORY_S)}
    client = Client(history.app)
    answer = client.request("POST", "/v1/gates/limits/backtest", json=body)
    assert "this is absolute" in problem_of(answer, 422)["detail"]
    problem_of(client.request("POST", "/v1/gates/nobody/backtest", json=body), 404)
