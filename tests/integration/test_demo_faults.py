"""`penstock demo --fault` for real: the matching alerts, rightly explained, whatever the seed, form, or crash.

PENSTOCK_DEMO_FAULTS=all (`make demo-faults`) runs every fault alone, ten seeds without any, and the
distributed form. Without it there are two runs: nothing at all, and several faults at once with a server
that is killed in the middle.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from penstock.demo.expected import expected
from penstock.demo.faults import (
    FaultResult,
    explained_alerts,
    fault_config,
    fired_alerts,
    healthy_hour,
    replay_of,
    run_fault_demo,
    upload_reference,
    wait_evaluated,
)
from penstock.demo.faults_view import FiredAlert
from penstock.demo.run import DemoOptions
from penstock.demo.server import Api
from penstock.producers.faults import FAULTS, FaultName
from penstock.producers.replay import Progress, ReplayOptions, ReplaySummary, run_replay
from penstock.tests.contract.deployments import distributed
from penstock.tests.support.hook_server import HookServer
from penstock.tests.support.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LONG = os.environ.get("PENSTOCK_DEMO_FAULTS") == "all"
AT_ONCE: tuple[FaultName, ...] = ("slow", "errors", "safety", "cost", "silent-worker")
RUNS: list[tuple[int, tuple[FaultName, ...]]] = [(0, ())]
if LONG:
    RUNS += [(seed, ()) for seed in range(1, 10)] + [(0, (fault,)) for fault in FAULTS]
PAGES = """
  receivers: [{{kind: webhook, name: hook, url: "{url}"}}]
  route: {{receivers: [hook], group_by: [alertname], group_wait_s: 0, group_interval_s: 1}}
"""


WRONG = ("missing", "unexpected", "unexplained")


def wrong(result: FaultResult) -> list[list[str]]:
    return [getattr(result, name) for name in WRONG]


def options(folder: Path, seed: int = 0) -> DemoOptions:
    return DemoOptions(speed=math.inf, seed=seed, data=folder / "demo", port=0, as_json=True)


@pytest.mark.parametrize(("seed", "faults"), RUNS)
def test_exactly_the_matching_alerts_fire(
    seed: int,
    faults: tuple[FaultName, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = run_fault_demo(faults, options(tmp_path, seed))
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads(json.dumps(result.document()))
    assert [document[name] for name in WRONG] == [[], [], []]
    assert document["emitted"] == document["stored"] > 50_000
    assert result.exit_code == 0


def test_a_server_that_is_killed_in_the_middle_pages_nothing_twice(tmp_path: Path) -> None:
    replay = replace(replay_of(AT_ONCE, options(tmp_path)), spool_dir=tmp_path / "spool")
    with HookServer() as hook:
        config = fault_config(healthy_hour(replay))
        assert config.count("alerts:\n") == 1
        pages = PAGES.format(url=hook.url)
        server = Server(tmp_path / "server", config.replace("alerts:\n", f"alerts:{pages}"))
        server.start()
        kills: list[float] = []

        def progress(now: Progress) -> None:
            # By then alerts fire, and others are pending.
            if not kills and now.done > 0.75:
                kills.append(now.done)
                server.kill()
                server.start()

        told: Counter[str] = Counter()

        def paged() -> None:
            _await_pages(hook, len(expected(AT_ONCE)))
            told.update(_told(hook))

        try:
            result = _replayed(Api(server.url), replay, progress, paged)
        finally:
            server.stop()
    assert kills
    assert wrong(result) == [[], [], []]
    assert result.exit_code == 0
    assert set(told) == set(expected(AT_ONCE))
    assert set(told.values()) == {1}


if LONG:

    @pytest.mark.timeout(1800)
    def test_the_same_alerts_fire_in_the_distributed_form(tmp_path: Path) -> None:
        replay = replace(
            replay_of(AT_ONCE, options(tmp_path)), spool_dir=tmp_path / "spool", turn_s=20.0
        )
        with distributed(tmp_path, fault_config(healthy_hour(replay))) as running:
            result = _replayed(Api(running.url), replay, lambda _: None)
        # Nobody explains them: that is `penstock notify`, which does not run here.
        assert (result.missing, result.unexpected) == ([], [])
        assert result.complete


def _replayed(
    api: Api,
    replay: ReplayOptions,
    progress: Callable[[Progress], None],
    settled: Callable[[], None] = lambda: None,
) -> FaultResult:
    """Replay against a server that runs already, until everything that must fire has fired.

    Args:
        api: of the server.
        replay: what is replayed.
        progress: called as it goes on.
        settled: called then, while the workers are still there: without them more fires, rightly.
    """
    found: list[FiredAlert] = []

    def settle(summary: ReplaySummary) -> None:
        wait_evaluated(api, summary)
        deadline = time.monotonic() + 30  # shards are evaluated one after the other
        while len(found) < len(expected(replay.faults)) and time.monotonic() < deadline:
            found[:] = fired_alerts(api)
        time.sleep(2)
        found[:] = explained_alerts(api)
        settled()

    upload_reference(api, replay)
    summary = run_replay(replace(replay, url=api.url), progress, settle=settle)
    stored = api.get("/v1/coverage")["totals"]["stored"]
    return FaultResult(replay.faults, summary.emitted.total(), stored, found)


def _told(hook: HookServer) -> Counter[str]:
    """By rule, how many different messages said that it fires; a message may come more than once."""
    messages = {}
    for seen in hook.seen:
        body = json.loads(seen.body)
        messages[body["key"]] = body
    return Counter(
        alert["labels"]["alertname"]
        for body in messages.values()
        for alert in body["alerts"]
        if alert["status"] == "firing"
    )


def _await_pages(hook: HookServer, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(_told(hook)) < count and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(3)  # a page too many would come about now
