"""What the commands about gates make of answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from click.testing import CliRunner, Result
from penstock.cli import gate_audit, gate_explain, gate_watch
from penstock.cli.gate_audit import findings
from penstock.cli.gate_watch import Point, drawn, points_of
from penstock.streams.storage.store import Store
from penstock.tests.support.gates import GateWorld, served
from penstock.tests.support.rows import epoch_at
from penstock.tests.support.store import opened_store


def epoch(number: int, verdict: str, **more: Any) -> dict[str, Any]:
    estimate, n = more.pop("estimate", None), more.pop("n", 1000)
    item = {"metric": "error_rate", "unit": "ratio", "limit": 0.01, "critical": True, "n": n}
    told = {"evidence": [item | {"estimate": estimate}]}
    found = {"epoch": number, "verdict": verdict, "changes": 2, "seen": {verdict: 9}, "told": told}
    return found | more


@pytest.mark.parametrize(
    ("epochs", "kinds"),
    [
        ([], []),
        ([epoch(1, "NO_DATA"), epoch(2, "INVALID")], ["never_measured"]),
        ([epoch(1, "NO_DATA", seen={"UNDECIDED": 1, "NO_DATA": 3})], []),
        ([epoch(n, "UNDECIDED", estimate=0.001) for n in range(3)], ["always_undecided"]),
        ([epoch(n, "UNDECIDED", estimate=0.001) for n in range(2)], []),
        ([epoch(n, "PASS", estimate=0.001) for n in range(10)], ["never_failed"]),
        ([epoch(n, "PASS", estimate=0.001) for n in range(9)], []),
        ([*(epoch(n, "PASS", estimate=0.001) for n in range(10)), epoch(10, "FAIL")], []),
        ([epoch(1, "PASS", estimate=0.001, changes=5)], ["flapping"]),
        # The metric's own ups and downs cross the limit.
        (
            [epoch(n, "PASS", estimate=e) for n, e in enumerate((0.002, 0.009, 0.013))],
            ["limit_inside_noise"],
        ),
        # Each estimate is within a standard error of the limit, whatever their spread.
        ([epoch(n, "PASS", estimate=0.0103) for n in range(3)], ["limit_inside_noise"]),
        ([epoch(n, "PASS", estimate=0.0103, n=10**6) for n in range(3)], []),
    ],
)
def test_what_a_history_says_of_its_gate(epochs: list[dict[str, Any]], kinds: list[str]) -> None:
    assert [found.kind for found in findings("g", epochs)] == kinds


def test_a_drawing_keeps_to_its_size_and_shows_the_limit() -> None:
    wide = [Point(0.5, 0.0, 1.0)] * 40 + [Point(0.02, 0.01, 0.03)] * 60
    lines = drawn(wide, 0.05, width=60, height=9)
    assert (len(lines), {len(line) for line in lines} <= set(range(61))) == (9, True)
    assert lines[0] == "╌" * 60
    # An interval that holds the limit is seen to hold it.
    assert drawn([Point(0.05, 0.0, 0.1)], 0.075, height=5) == ["│", "┼", "●", "│", "│"]
    assert drawn([], 0.05) == [""] * gate_watch.HEIGHT
    same = drawn([Point(1.0, 1.0, 1.0)], 1.0, height=3)
    assert [line for line in same if line] == ["●"]


def test_open_intervals_are_not_drawn() -> None:
    told = [{"evidence": [{"metric": "m", "estimate": e, "low": 0.0, "high": h}]} for e, h in
            ((None, 1.0), (0.5, None), (0.5, 1.0))]  # fmt: skip
    assert points_of(told, "m") == [Point(0.5, 0.0, 1.0)]
    assert points_of(told, "other") == []


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with opened_store(tmp_path_factory.mktemp("store")) as found:
        yield found


@contextmanager
def asked(store: Store) -> Iterator[tuple[GateWorld, Any]]:
    """A gate on a server, and a way to run a command against it."""
    world = GateWorld(store, store)
    with served(world.app) as url:

        def run(command: Any, *arguments: str) -> Result:
            return CliRunner().invoke(command, [*arguments, "--url", url])

        yield world, run


def test_explain_says_why_and_what_next(store: Store) -> None:
    with asked(store) as (world, run):
        text = run(gate_explain.explain, world.gate).output
        assert f"{world.gate}: NO_DATA -> wait, ask again" in text
        assert "no_traffic: no request of the release was seen" in text
        assert "no deadline" in text
        world.mark("r1", 0)
        world.say("FAIL", 10, epoch=epoch_at(0), action="rollback")
        world.override(action="hold", duration_s=60)
        text = run(gate_explain.explain, world.gate).output
        assert "FAIL -> hold, leave it as it is until a person decides" in text
        assert f"release r1, epoch {epoch_at(0)}, 500 requests" in text
        assert "overridden by ann" in text
        assert "2 % over 500 units; 1.2 % to 3 % at 99 %" in text
        assert "evidence for FAIL 1:1e+03 of 1:100 needed, for PASS 1:1 of 1:20 needed" in text
        assert "until a new release or a reset" in text
        told = json.loads(run(gate_explain.explain, world.gate, "--json").output)
        assert told["latest"]["verdict"] == "FAIL"
        missing = run(gate_explain.explain, "nobody")
        assert world.gate in str(missing.exception)


def test_watch_draws_ends_with_the_decision_and_exits_by_it(store: Store) -> None:
    with asked(store) as (world, run):
        once = run(gate_watch.watch, world.gate, "--once")
        assert once.exit_code == 3
        for at_s in (10, 20, 30):
            world.say("UNDECIDED", at_s)
        once = run(gate_watch.watch, world.gate, "--once")
        assert once.exit_code == 2
        assert "error_rate <= 1 %: 2 % (1.2 % to 3 %)" in once.output
        drawing = [line for line in once.output.splitlines() if "●●●" in line]
        assert len(drawing) == 1
        world.say("PASS", 40, action="promote")
        lines = run(gate_watch.watch, world.gate, "--json").output.splitlines()
        assert [json.loads(line)["verdict"] for line in lines] == ["PASS"]
        assert run(gate_watch.watch, world.gate).exit_code == 0


def test_audit_looks_at_every_gate(store: Store) -> None:
    with asked(store) as (world, run):
        assert "1 gates, 0 epochs, 0 findings" in run(gate_audit.audit).output
        for number in range(3):
            world.say("NO_DATA", number, epoch=number)
        found = run(gate_audit.audit, world.gate, "--json", "--fail-on-finding")
        assert found.exit_code == 1
        told = json.loads(found.output)
        assert told["epochs"] == {world.gate: 3}
        assert [one["kind"] for one in told["findings"]] == ["never_measured"]
        assert f"{world.gate}: never_measured: in 3 epochs" in run(gate_audit.audit).output
