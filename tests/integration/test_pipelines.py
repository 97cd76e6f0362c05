"""The files of deploy/pipelines, each by the rules of its own tool, against a real server.

Real events make PASS, FAIL, UNDECIDED and NO_DATA on a real `penstock up`. INVALID cannot be made from
outside; it comes from a stored verdict, through the same API.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from penstock import Emitter
from penstock.streams.storage.store import Store
from penstock.tests.support.gates import GateWorld, served
from penstock.tests.support.ports import free_port
from penstock.tests.support.rows import epoch_at
from penstock.tests.support.server import Server
from penstock.tests.support.store import opened_store

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "pipelines"
GATES = ("good", "bad", "few", "none")
# `few` keeps its limit, and takes thousands of requests to show it.
CONFIG = "gates:" + "".join(
    f"""
  - id: {name}
    filter: {{variant: {name}}}
    min_units: 20
    min_bake_s: 0
    min_coverage: 0
    metrics: [{{metric: error_rate, max_ratio: {0.001 if name == "few" else 0.1}}}]
"""
    for name in GATES
)
DOWN = f"http://127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Every gate but the last has traffic and its verdict."""
    found = Server(tmp_path_factory.mktemp("up"), CONFIG)
    found.start()
    for name in GATES[:-1]:
        emit = Emitter(url=found.url, worker_id=name, model="m", variant=name, release="r1")
        with emit:
            emit.release(release="r1", model="m", variant=name, stage="canary")
            for number in range(200):
                failed = name == "bad" and number % 2
                emit.request(status="error" if failed else "ok", latency_ms=1.0)
    for name, wanted in (("good", "PASS"), ("bad", "FAIL"), ("few", "UNDECIDED")):
        await_verdict(found, name, wanted)
    yield found
    found.stop()


def await_verdict(server: Server, gate: str, wanted: str) -> None:
    """Ask until it is given."""
    until = time.monotonic() + 30
    while (told := server.get(f"/v1/gates/{gate}/verdict").json())["verdict"] != wanted:
        assert time.monotonic() < until, told
        time.sleep(0.1)


def stay_undecided(server: Server) -> None:
    """Traffic for `few`: after a minute without any, nothing is known of what it would say."""
    with Emitter(url=server.url, worker_id="few", model="m", variant="few", release="r1") as emit:
        for _ in range(20):
            emit.request(status="ok", latency_ms=1.0)
    await_verdict(server, "few", "UNDECIDED")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with opened_store(tmp_path_factory.mktemp("store")) as found:
        yield found


@pytest.fixture
def invalid(store: Store) -> Iterator[tuple[str, GateWorld]]:
    """A server whose gate is INVALID, until the test says otherwise."""
    world = GateWorld(store, store)
    world.mark("r1", 0)
    world.say("INVALID", 10, epoch=epoch_at(0), action="hold")
    with served(world.app) as url:
        yield url, world


def together(run: Callable[[str], Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Run for each name at once."""
    with ThreadPoolExecutor(len(names)) as pool:
        return dict(zip(names, pool.map(run, names), strict=True))


def shell(
    script: str, url: str, *arguments: str, shell: str = "sh", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a script as a job does: it ends at the first command that fails."""
    environment = {"PATH": os.environ["PATH"], "PENSTOCK_URL": url, "PENSTOCK_API_KEY": "k"}
    return subprocess.run(
        [shell, "-e", "-c", script, "sh", *arguments],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )


# ---- the shell loop


def loop(url: str, gate: str, release: str = "r1", limit_s: str = "1") -> tuple[int, str]:
    found = shell((FOLDER / "gate.sh").read_text(), url, gate, release, limit_s)
    return found.returncode, found.stdout + found.stderr


@pytest.mark.slow
def test_the_shell_loop(server: Server, invalid: tuple[str, GateWorld]) -> None:
    stay_undecided(server)
    found = together(lambda name: loop(server.url, name), (*GATES, "nobody"))
    codes = {name: code for name, (code, _) in found.items()}
    assert codes == {"good": 0, "bad": 1, "few": 2, "none": 3, "nobody": 4}
    assert found["good"][1].startswith("PASS: error_rate")
    assert found["bad"][1].startswith("FAIL: error_rate is above")
    assert "not decided within 1 s: UNDECIDED" in found["few"][1]
    assert "has no gate 'nobody'" in found["nobody"][1]
    # The good gate says nothing about a release that it has not seen.
    assert loop(server.url, "good", "r2")[0] == 3
    assert loop(DOWN, "good") == (4, loop(DOWN, "good")[1])
    url, world = invalid
    assert loop(url, world.gate)[0] == 3


# ---- jobs


def job(name: str) -> tuple[str, list[str]]:
    """The shell that runs a job's scripts, and they."""
    found = yaml.safe_load((FOLDER / name).read_text())
    if name.startswith("github"):
        return "bash", [step["run"] for step in found["jobs"]["gate"]["steps"]]
    assert found["gate"]["stage"] in found["stages"]
    assert found["gate"]["allow_failure"] == {"exit_codes": [2]}
    return "sh", found["gate"]["script"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
def test_a_job_marks_its_release_and_obeys(server: Server, name: str) -> None:
    kind, (mark, wait) = job(name)
    release = name.split("-")[0]
    ran = {"RELEASE": release, "MODEL": "m", "GITHUB_RUN_ID": "1", "CI_PIPELINE_ID": "1"}
    marked = shell(mark, server.url, shell=kind, **ran)
    assert json.loads(marked.stdout)["accepted"] == 1, marked.stderr
    (row,) = server.get("/v1/releases", release=release).json()["releases"]
    assert (row["model"], row["variant"], row["stage"]) == ("m", "canary", "canary")

    def code(gate: str) -> int:
        script = wait.replace("wait=25s", "wait=1s")
        limits = {"GATE": gate, "RELEASE": "r1", "LIMIT_S": "1"}
        return shell(script, server.url, shell=kind, **limits).returncode

    assert together(code, GATES) == {"good": 0, "bad": 1, "few": 2, "none": 2}
    away = shell(wait, DOWN, shell=kind, GATE="good", RELEASE="r1", LIMIT_S="1")
    assert (away.returncode, "Penstock did not answer" in away.stdout) == (2, True)


# ---- Argo Rollouts


def compiled(name: str, folder: Path) -> Path:
    """A program of tests/go; Go fetches its modules."""
    if shutil.which("go") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Go is not installed")
        pytest.skip(f"Go is not installed: the code of {name} itself was not tried")
    built = folder / name
    source = ROOT / "tests" / "go" / name
    # The newest modules ask for a newer Go than is installed: Go fetches that too.
    environment = os.environ | {"GOTOOLCHAIN": "auto"}
    command = ["go", "build", "-o", str(built), "."]
    subprocess.run(command, cwd=source, env=environment, check=True, timeout=800)
    return built


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_argo_rollouts_own_provider(
    tmp_path: Path, server: Server, invalid: tuple[str, GateWorld]
) -> None:
    argo = compiled("argo", tmp_path)
    stay_undecided(server)

    def measured(url: str, gate: str, release: str = "r1") -> Any:
        given = {"url": url, "gate": gate, "release": release, "api-key": "k", "wait": "1s"}
        template = str(FOLDER / "argo-analysis-template.yaml")
        arguments = [f"{name}={value}" for name, value in given.items()]
        ran = subprocess.run(
            [str(argo), template, *arguments], capture_output=True, text=True, timeout=60
        )
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)["verdict"]

    found = together(lambda name: measured(server.url, name), GATES)
    told = {name: (one["phase"], one["value"]["verdict"]) for name, one in found.items()}
    assert told == {
        "good": ("Successful", "PASS"),
        "bad": ("Failed", "FAIL"),
        "few": ("Inconclusive", "UNDECIDED"),
        "none": ("Inconclusive", "NO_DATA"),
    }
    # Of another release, of a gate that is not there, of a server that is not there.
    assert measured(server.url, "good", "r2")["phase"] == "Inconclusive"
    missing = measured(server.url, "nobody")
    assert (missing["phase"], "404" in missing["message"]) == ("Error", True)
    assert measured(DOWN, "good")["phase"] == "Error"
    url, world = invalid
    untrusted = measured(url, world.gate)
    assert (untrusted["phase"], untrusted["value"]["verdict"]) == ("Inconclusive", "INVALID")
    for action, phase in (
        ("promote", "Successful"),
        ("rollback", "Failed"),
        ("hold", "Inconclusive"),
    ):
        world.override(action=action, duration_s=60)
        assert measured(url, world.gate)["phase"] == phase
    # A server whose store is away answers 503.
    world.api_store.broken = True
    away = measured(url, world.gate)
    world.api_store.broken = False
    assert (away["phase"], "503" in away["message"]) == ("Error", True)


# ---- Flagger

FLAGGER_HOST = "penstock.monitoring:8080"
Called = dict[str, str | None]


def by_the_rule(canary: Path, url: str) -> Called:
    """Flagger's documented rule: POST within the timeout; 200 to 202 succeed, else the body is told."""
    found: Called = {}
    for hook in yaml.safe_load(canary.read_text())["spec"]["analysis"]["webhooks"]:
        answer = httpx.post(
            hook["url"].replace(FLAGGER_HOST, url.removeprefix("http://")),
            json={
                "name": "chat",
                "namespace": "inference",
                "phase": "Progressing",
                "checksum": "1",
            },
            timeout=float(hook["timeout"].removesuffix("s")),
        )
        found[hook["type"]] = None if answer.status_code <= 202 else answer.text
    return found


def by_flagger(canary: Path, url: str) -> Called:
    """Flagger's own code, compiled."""
    program = compiled("flagger", canary.parent)
    command = [str(program), str(canary), FLAGGER_HOST, url.removeprefix("http://")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found: Called = json.loads(ran.stdout)
    return found


# Flagger's own code takes minutes to compile: in the long form only.
CALLERS = [by_the_rule, *([by_flagger] if os.environ.get("PENSTOCK_PIPELINES") == "all" else [])]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("call", CALLERS)
def test_flaggers_hooks(
    call: Callable[[Path, str], Called], invalid: tuple[str, GateWorld], tmp_path: Path
) -> None:
    url, world = invalid
    canary = tmp_path / "canary.yaml"
    text = (FOLDER / "flagger-canary.yaml").read_text()
    canary.write_text(text.replace("chat-canary", world.gate).replace("?wait=20s", ""))
    yes = {
        "PASS": {"confirm-traffic-increase", "confirm-promotion"},
        "FAIL": {"rollback"},
        "UNDECIDED": {"confirm-traffic-increase"},
        "NO_DATA": {"confirm-traffic-increase"},
        "INVALID": set(),
    }
    for at_s, (verdict, wanted) in enumerate(yes.items(), 2):
        world.mark(verdict, at_s)
        world.say(verdict, at_s, epoch_at(at_s), "hold" if verdict == "INVALID" else "wait")
        found = call(canary, url)
        assert {hook for hook, error in found.items() if error is None} == wanted, verdict
        told = [json.loads(error)["text"] for error in found.values() if error is not None]
        assert set(told) == {f"{verdict}: said at {at_s}"}
    # A server whose store is away gives no permission and no order.
    world.api_store.broken = True
    away = call(canary, url)
    world.api_store.broken = False
    assert all(error is not None for error in away.values())


# ---- orders


@pytest.mark.slow
def test_a_reset_begins_an_epoch_of_one_gate(server: Server) -> None:
    stay_undecided(server)
    before = {name: server.get(f"/v1/gates/{name}/verdict").json() for name in GATES}
    body = {"who": "ann", "reason": "the load test is over"}
    answer = httpx.post(f"{server.url}/v1/gates/bad/reset", json=body, timeout=30)
    assert (answer.status_code, answer.json()["epoch"]) == (202, before["bad"]["epoch"])
    until = time.monotonic() + 30
    while True:
        told = server.get("/v1/gates/bad/epochs").json()["epochs"][0]
        if told["epoch"] > before["bad"]["epoch"]:
            break
        assert time.monotonic() < until, told
        time.sleep(0.1)
    # Counted again from nothing, by the streams themselves.
    assert (told["verdict"], told["n"]) == ("NO_DATA", 0)
    for name in ("good", "few", "none"):
        after = server.get(f"/v1/gates/{name}/verdict").json()
        assert (after["epoch"], after["verdict"]) == (
            before[name]["epoch"],
            before[name]["verdict"],
        )
