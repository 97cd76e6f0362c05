"""/v1/config over a real store: versions, dry runs, conflicts, the way back, and the audit log."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from fastapi import FastAPI
from penstock.api import config_models as models
from penstock.api.app import build_app
from penstock.api.auth import Access
from penstock.api.config_versions import Versions
from penstock.api.keys import create_key
from penstock.api.live_app import LiveApp
from penstock.cli import config as cli_config
from penstock.cli import main
from penstock.cli.audit_log import verified
from penstock.schemas.config import Configuration, parse
from penstock.schemas.errors import InvalidConfiguration, PenstockError
from penstock.streams.config_feed import ConfigurationFeed
from penstock.streams.storage.store import Store
from penstock.tests.support.api import Client, Ingest, problem_of

GATE = "gates: [{id: g, metrics: [{metric: error_rate, max_ratio: %s}]}]\n"
BASE = parse(GATE % "0.01" + "limits: {max_slices: 400}\n")


def now_us() -> int:
    return time.time_ns() // 1000


@pytest.fixture
def fresh(store: Store) -> Iterator[None]:
    """No version was made yet."""
    store.command("TRUNCATE TABLE penstock.audit_log_rows")
    yield
    store.command("TRUNCATE TABLE penstock.audit_log_rows")


@pytest.fixture
def feed(api_store: Store, fresh: None) -> ConfigurationFeed:
    return ConfigurationFeed(api_store, BASE)


@pytest.fixture
def client(api_store: Store, feed: ConfigurationFeed, tmp_path: Path) -> Client:
    """The application as a server runs it, and a key of ann's."""
    path = tmp_path / "keys.json"
    token = create_key(path, "ann", ["admin"])
    versions = Versions(api_store, BASE, now_us, (refuse,), feed.look)

    def build(configuration: Configuration, is_over: Any) -> FastAPI:
        access = Access(required=True, keys_path=path)
        return build_app(
            Ingest(), api_store, configuration, access, is_stopping=is_over, versions=versions
        )

    app = LiveApp(build, feed.configuration, lambda: False)
    return Client(app, {"Authorization": f"Bearer {token}"})


def refuse(configuration: Configuration) -> None:
    """What a server checks beside the form."""
    if any(gate.id == "secretless" for gate in configuration.gates):
        raise InvalidConfiguration("a secret is missing")


def apply(client: Client, text: str, expected: int | None = None, **more: Any) -> httpx.Response:
    headers = {} if expected is None else {"If-Match": f'"{expected}"'}
    query = {"why": "because", **more}
    return client.request("POST", "/v1/config", content=text, headers=headers, params=query)


def applied(client: Client, text: str, expected: int, **more: Any) -> Any:
    answer = apply(client, text, expected, **more)
    assert answer.status_code == 200, answer.text
    models.AppliedAnswer.model_validate(answer.json())
    assert answer.headers["ETag"] == f'"{answer.json()["version"]}"'
    return answer.json()


def shown(client: Client) -> Any:
    answer = client.get("/v1/config")
    models.ConfigAnswer.model_validate(answer.json())
    assert answer.headers["ETag"] == f'"{answer.json()["version"]}"'
    return answer.json()


def limit_of(client: Client) -> float:
    """What the gate of the running application asks for."""
    (gate,) = client.ok("/v1/gates")["gates"]
    found: float = gate["spec"]["metrics"][0]["max_ratio"]
    return found


def test_a_change_and_the_way_back(client: Client, api_store: Store) -> None:
    first = shown(client)
    assert (first["version"], first["text"], first["who"]) == (0, None, None)
    assert first["configuration"]["gates"][0]["id"] == "g"
    text = "# tighter\n" + GATE % "0.005"
    dry = applied(client, text, 0, dry_run=True)
    assert (dry["version"], dry["dry_run"]) == (0, True)
    assert dry["changes"] == {
        "parts": {"gates": {"added": [], "changed": ["g"], "removed": []}},
        "resets": ["gate g: its evidence begins anew"],
    }
    assert (shown(client)["version"], limit_of(client)) == (0, 0.01)
    made = applied(client, text, 0)
    assert (made["version"], made["replaced"], made["changes"]) == (1, 0, dry["changes"])
    assert limit_of(client) == 0.005
    second = shown(client)
    assert (second["version"], second["text"], second["why"]) == (1, text, "because")
    assert second["who"].startswith("ann (key ")
    assert second["configuration"]["limits"]["max_slices"] == 400  # the file's, as it stays
    same = applied(client, text, 1)
    assert (same["version"], same["changes"]["parts"]) == (1, {})
    body = {"version": 0, "why": "too tight", "expected_version": 1}
    back = client.request("POST", "/v1/config/rollback", json=body)
    assert (back.status_code, back.json()["version"]) == (200, 2)
    assert limit_of(client) == 0.01
    assert (shown(client)["rolled_back_to"], shown(client)["text"]) == (0, None)
    again = client.request("POST", "/v1/config/rollback", json=body | {"version": 1})
    assert problem_of(again, 409)["detail"].startswith("version 2 is in force, not 1")
    body |= {"version": 1, "expected_version": 2}
    assert client.request("POST", "/v1/config/rollback", json=body).json()["version"] == 3
    assert (limit_of(client), shown(client)["text"]) == (0.005, text)
    versions = client.ok("/v1/config/versions")
    models.VersionsAnswer.model_validate(versions)
    assert [item["version"] for item in versions["versions"]] == [3, 2, 1]
    assert client.ok("/v1/config/versions", limit=1)["versions"] == versions["versions"][:1]
    log = verified(api_store, "configuration", None)
    assert (log["entries"], log["broken"]) == (3, None)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("gates: [", "is not YAML"),
        ("gates: [{id: g}]", "configuration:1: gates.0"),
        (GATE % "2", "gates.0"),
        ("limits: {max_slices: 7}", "limits cannot change while everything runs"),
        ("gates: []\nretention: {hot_days: 1}\ntime: {lateness_s: 9}", "retention, time cannot"),
        (GATE.replace("id: g", "id: secretless") % "0.5", "a secret is missing"),
    ],
)
def test_mistakes_change_nothing(client: Client, text: str, what: str) -> None:
    for dry_run in (True, False):
        problem = problem_of(apply(client, text, 0, dry_run=dry_run), 422)
        assert what in problem["detail"]
    assert shown(client)["version"] == 0
    assert client.ok("/v1/config/versions") == {"versions": []}


def test_what_is_not_said(client: Client) -> None:
    text = GATE % "0.5"
    assert "which version" in problem_of(apply(client, text), 422)["detail"]
    problem_of(apply(client, text, 0, why=""), 422)
    problem_of(client.request("POST", "/v1/config", content=text), 422)
    headers = {"If-Match": "*"}
    query = {"why": "x"}
    answer = client.request("POST", "/v1/config", content=text, headers=headers, params=query)
    assert "If-Match" in problem_of(answer, 422)["detail"]
    problem_of(apply(client, text, 1, expected_version=0), 422)
    answer = client.request("POST", "/v1/config", content=b"\xff", params=query)
    assert "UTF-8" in problem_of(answer, 422)["detail"]
    answer = client.request("POST", "/v1/config", content=b"#" * 1_000_001, params=query)
    problem_of(answer, 413)
    body = {"version": 7, "why": "x", "expected_version": 0}
    problem_of(client.request("POST", "/v1/config/rollback", json=body), 404)
    # What says the same as the limits here may stay in the file.
    same = applied(client, GATE % "0.01" + "limits: {max_slices: 400}", 0)
    assert (same["version"], same["changes"]["parts"]) == (0, {})
    as_json = json.dumps({"gates": []})
    assert applied(client, as_json, 0)["changes"]["parts"]["gates"]["removed"] == ["g"]


def test_it_takes_an_admin(api_store: Store, fresh: None, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    access = Access(required=True, keys_path=path)
    token = create_key(path, "bob", ["read", "gate", "ingest"])
    client = Client(
        build_app(Ingest(), api_store, BASE, access), {"Authorization": f"Bearer {token}"}
    )
    client.problem(403, "/v1/config")
    client.problem(403, "/v1/config/versions")
    problem_of(apply(client, "gates: []", 0), 403)


def test_of_two_at_once_one_wins(api_store: Store, feed: ConfigurationFeed) -> None:
    def make(number: int) -> int | str:
        versions = Versions(api_store, BASE, now_us)
        proposal = versions.propose(GATE % f"0.{number + 1}")
        try:
            return versions.make(proposal, 0, f"w{number}", "race").number
        except PenstockError as error:
            return error.slug

    with ThreadPoolExecutor(4) as pool:
        results = [*pool.map(make, range(4))]
    assert sorted(map(str, results)) == ["1", "conflict", "conflict", "conflict"]
    feed.look()
    (gate,) = feed.configuration().gates
    assert gate.metrics[0].max_ratio == (results.index(1) + 1) / 10  # type: ignore[union-attr]  # a rate


def test_what_a_process_makes_of_it(
    api_store: Store, feed: ConfigurationFeed, caplog: pytest.LogCaptureFixture
) -> None:
    versions = Versions(api_store, BASE, now_us)
    feed.look()
    assert feed.current.configuration is BASE
    versions.make(versions.propose(GATE % "0.2"), 0, "ann", "looser")
    feed.look()
    assert "penstock.yaml says" not in caplog.text
    ConfigurationFeed(api_store, BASE).look()  # a process that starts now
    taken = feed.configuration()
    assert (feed.current.number, taken.limits.max_slices) == (1, 400)
    assert "penstock.yaml says something else about gates" in caplog.text
    feed.look()
    assert feed.configuration() is taken  # nothing new
    # Made by a Penstock that knows more: what was in force stays.
    proposal = versions.propose("gates: []")
    versions._journal.write_at(1, "configuration", "ann", {"text": "robots: [1]", "why": "new",
        "action": "apply", "rolled_back_to": None, "changes": {}})  # fmt: skip
    feed.look()
    assert feed.configuration() is taken
    assert "version 2" in feed.failure
    assert versions.understood(versions.newest()) is None
    with pytest.raises(PenstockError, match="robots"):
        versions.propose_rollback(2)
    back = versions.propose_rollback(0)
    assert (proposal.before, back.before, back.understood) == (1, 2, False)
    versions.make(back, 2, "ann", "back")
    feed.look()
    assert (feed.current.number, feed.failure) == (3, "")
    assert feed.configuration() is BASE
    versions._journal.write_at(3, "configuration", "mallory", {"none": 1})
    feed.look()
    assert "version 4" in feed.failure
    with pytest.raises(PenstockError, match="audit-log verify"):
        versions.newest()


def test_the_commands(client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Source:
        """The client as the commands know a server."""

        def __init__(self, url: str, api_key: str | None) -> None:
            assert (url, api_key) == ("http://here", None)

        def ask(self, path: str, **query: Any) -> Any:
            return client.ok(path, **query)

        def tell(self, method: str, path: str, body: Any) -> Any:
            return self.send(method, path, json.dumps(body).encode())

        def send(self, method: str, path: str, data: bytes, headers: Any = None) -> Any:
            headers = {"Content-Type": "application/json", **(headers or {})}
            answer = client.request(method, path, content=data, headers=headers)
            if answer.status_code != 200:
                raise PenstockError(answer.json()["detail"])
            return answer.json()

    monkeypatch.setattr(cli_config, "HttpSource", Source)
    file = tmp_path / "penstock.yaml"

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["config", *arguments, "--url", "http://here"])
        return done.exit_code, done.output

    assert run("history") == (0, "no version was made: penstock.yaml is in force\n")
    assert run("show")[1].startswith("# version 0: penstock.yaml\ngates:\n- id: g\n")
    file.write_text(GATE % "0.02")
    changed = "~ gates g\n! gate g: its evidence begins anew\n"
    told = run("diff", str(file))
    assert told == (1, changed + "nothing was changed: version 0 is in force\n")
    assert run("apply", str(file))[0] == 2  # without a reason
    told = run("apply", str(file), "--why", "looser")
    assert told == (0, changed + "version 1 is in force, it replaces 0\n")
    assert run("diff", str(file)) == (0, "nothing changes: version 1 is in force\n")
    stale = run("apply", str(file), "--why", "x", "--expect", "0")
    assert stale[0] == 1
    assert "version 1 is in force, not 0" in stale[1]
    assert run("show")[1].splitlines()[1:] == (GATE % "0.02").splitlines()
    told = run("rollback", "0", "--why", "no", "--dry-run")
    assert told == (0, changed + "nothing was changed: version 1 is in force\n")
    told = run("rollback", "0", "--why", "no")
    assert told == (0, changed + "version 2 is in force, it replaces 1\n")
    listed = run("history")[1].splitlines()
    assert listed[0].startswith("version 2 (back to 0), ")
    assert listed[1:3] == ["  ~ gates g", "  ! gate g: its evidence begins anew"]
    assert listed[3].endswith(": looser")
    assert json.loads(run("show", "--json")[1])["version"] == 2
    assert [v["version"] for v in json.loads(run("history", "--json")[1])["versions"]] == [2, 1]
    assert json.loads(run("diff", str(file), "--json")[1])["dry_run"] is True
    for command in ("show", "apply", "diff", "history", "rollback"):
        done = CliRunner().invoke(main, ["config", command, "--help"])
        assert "Example:" in done.output
