"""What pipelines ask of gates, over a real store: verdicts, history, orders, hooks, Kayenta, words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from penstock.api import gates_models as models
from penstock.api.app import build_app
from penstock.api.auth import Access
from penstock.api.keys import create_key
from penstock.api.models import VerdictAnswer
from penstock.streams.core.gates.canonical import ENGINE, spec_hash
from penstock.streams.storage.store import Store
from penstock.tests.contract.signal_rows import post
from penstock.tests.support.api import Client
from penstock.tests.support.gates import EVIDENCE, GateWorld
from penstock.tests.support.rows import at, epoch_at, iso
from penstock.tests.support.store import insert, unique


@pytest.fixture
def world(store: Store, api_store: Store) -> GateWorld:
    return GateWorld(store, api_store)


def test_a_new_release_never_gets_the_verdict_of_the_one_before(world: GateWorld) -> None:
    assert world.ask()["release"] is None
    world.mark("r1", 0)
    world.say("PASS", 100, epoch=epoch_at(0), action="promote")
    told = world.ask()
    VerdictAnswer.model_validate(told)
    assert (told["verdict"], told["release"], told["epoch_started"]) == ("PASS", "r1", iso(0))
    # Asked about a release whose marker is not here yet, at once and while waiting.
    for query in ({}, {"wait": "0.3s"}):
        early = world.ask(release="r2", **query)
        assert (early["verdict"], early["action"], early["evidence"]) == ("NO_DATA", "wait", [])
        assert "r2" in early["text"]
    # The marker is stored, the gate was not evaluated since.
    world.mark("r2", 200)
    fresh = world.ask()
    wanted = ("NO_DATA", epoch_at(200), "r2")
    assert (fresh["verdict"], fresh["epoch"], fresh["release"]) == wanted
    assert world.ask("status", release="r2")["status"] == "in_progress"
    assert world.hook("confirm-promotion")[0] == 409
    world.say("FAIL", 300, epoch=epoch_at(200), action="rollback")
    assert world.ask(release="r2")["verdict"] == "FAIL"
    assert world.ask(release="r1")["verdict"] == "NO_DATA"


@pytest.mark.parametrize(
    ("verdict", "action", "by_verdict", "by_action"),
    [
        ("PASS", "promote", "pass", "pass"),
        ("FAIL", "rollback", "fail", "fail"),
        ("UNDECIDED", "wait", "in_progress", "in_progress"),
        ("UNDECIDED", "promote", "in_progress", "pass"),
        ("NO_DATA", "rollback", "in_progress", "fail"),
        ("INVALID", "hold", "in_progress", "in_progress"),
    ],
)
def test_every_tool_is_told_the_same(
    world: GateWorld, verdict: str, action: str, by_verdict: str, by_action: str
) -> None:
    world.say(verdict, 10, action=action)
    for follow, status in (("verdict", by_verdict), ("action", by_action)):
        body = world.ask("status", follow=follow)
        models.StatusAnswer.model_validate(body)
        assert body["status"] == status
        assert (world.hook("confirm-promotion", follow=follow)[0] == 200) == (status == "pass")
        assert (world.hook("rollback", follow=follow)[0] == 200) == (status == "fail")
        answer = world.client.get(f"/v1/gates/{world.gate}/status", follow=follow, format="text")
        assert answer.text == f"{status} {verdict}: said at 10\n"
        assert answer.headers["content-type"].startswith("text/plain")
    goes_on = by_verdict == "pass" or (by_verdict == "in_progress" and action != "hold")
    assert (world.hook("rollout")[0] == 200) == goes_on
    world.client.problem(405, f"/v1/gates/{world.gate}/hooks/rollout")


def test_a_canary_execution_as_spinnaker_reads_it(world: GateWorld) -> None:
    world.mark("r1", 0)
    world.say("UNDECIDED", 50, epoch=epoch_at(0))
    named = f"{world.gate}@{epoch_at(0)}"
    started = post(world.client, f"/v1/kayenta/canary/{world.gate}?application=a", {}, 200)
    assert started == {"canaryExecutionId": named}
    url = f"/v1/kayenta/canary/{named}"

    def execution() -> Any:
        body = world.client.ok(url, storageAccountName="s")
        models.ExecutionAnswer.model_validate(body)
        return body

    running = execution()
    assert (running["status"], running["complete"], "result" in running) == (
        "running",
        False,
        False,
    )
    world.say("FAIL", 90, epoch=epoch_at(0), action="rollback")
    failed = execution()
    assert (failed["status"], failed["complete"]) == ("succeeded", True)
    judged = failed["result"]["judgeResult"]
    assert judged["score"] == {
        "score": 0, "classification": "Fail", "classificationReason": "FAIL: said at 90",
    }  # fmt: skip
    assert failed["result"]["canaryDuration"] == "PT90S"
    assert judged["results"][0]["resultMetadata"]["estimate"] == 0.02
    world.mark("r2", 100)
    assert execution()["status"] == "canceled"
    assert world.client.request("PUT", f"/v1/kayenta/pipelines/{named}/cancel").json() == {}
    world.client.problem(404, "/v1/kayenta/canary/nobody@1")
    world.client.problem(404, f"/v1/kayenta/canary/{world.gate}")


def test_an_override_is_shown_obeyed_and_ends(world: GateWorld) -> None:
    world.say("FAIL", 10, action="rollback")
    body = world.override(action="promote", duration_s=60)
    models.OverrideAnswer.model_validate(body)
    told = world.ask()
    VerdictAnswer.model_validate(told)
    assert (told["verdict"], told["action"]) == ("FAIL", "promote")
    assert told["override"] == body["override"]
    (listed,) = world.client.ok("/v1/gates")["gates"]
    assert listed["latest"]["override"] == body["override"]
    code, why = world.hook("confirm-promotion")
    assert (code, why["override"]["who"], why["verdict"]) == (200, "ann", "FAIL")
    assert world.hook("rollback")[0] == 409
    assert (
        world.client.ok(f"/v1/kayenta/canary/{world.gate}@0")["result"]["judgeResult"]["score"][
            "score"
        ]
        == 100
    )
    world.override(action="hold", duration_s=60)
    assert world.ask("status")["status"] == "in_progress"
    assert world.hook("rollout")[0] == 409
    # Its time ends it, and so does its taker-back.
    world.clock.s += 61
    assert (world.ask()["override"], world.ask()["action"]) == (None, "rollback")
    world.override(action="promote", duration_s=60)
    url = f"/v1/gates/{world.gate}/override"
    assert world.client.request("DELETE", url).json() == {"gate": world.gate, "override": None}
    assert world.ask()["override"] is None
    assert world.client.request("DELETE", url).status_code == 404
    # It was an order for this epoch, not for the next release.
    world.override(action="promote", duration_s=60)
    world.mark("r1", 20)
    assert (world.ask()["override"], world.ask()["action"]) == (None, "wait")


def test_an_override_says_who_why_and_until_when(world: GateWorld) -> None:
    world.override(422, action="promote")
    world.override(422, action="promote", duration_s=60, until=iso(7200))
    world.override(422, action="promote", until=iso(60))
    world.override(422, action="promote", duration_s=60, reason="")
    world.override(422, action="promote", until=iso(40 * 86_400))
    world.override(422, action="wait", duration_s=60)
    world.override(action="rollback", until=iso(7200))
    query = "SELECT kind, who, body FROM penstock.audit_log WHERE body LIKE {g:String} ORDER BY seq"
    (entry,) = world.store.query(query, {"g": f"%{world.gate}%"})
    assert (entry["kind"], entry["who"]) == ("override", "anyone")
    told = json.loads(entry["body"])
    assert (told["who"], told["reason"], told["until"][:19]) == ("ann", "r", iso(7200)[:19])


def test_what_a_gate_said_by_epoch(world: GateWorld) -> None:
    url = f"/v1/gates/{world.gate}"
    assert world.client.ok(f"{url}/verdicts")["verdicts"] == []
    assert world.client.ok(f"{url}/epochs") == {"gate": world.gate, "epochs": []}
    for at_s, verdict in ((0, "NO_DATA"), (4, "UNDECIDED"), (10, "UNDECIDED"), (27, "PASS")):
        world.say(verdict, at_s, epoch=1)
    world.say("UNDECIDED", 40, epoch=2)
    body = world.client.ok(f"{url}/verdicts", epoch=1, step=10)
    models.HistoryAnswer.model_validate(body)
    assert [one["as_of"] for one in body["verdicts"]] == [iso(4), iso(10), iso(27)]
    assert body["verdicts"][-1]["told"]["evidence"] == [EVIDENCE]
    assert world.client.ok(f"{url}/verdicts")["epoch"] == 2
    part = world.client.ok(f"{url}/verdicts", epoch=1, start=iso(10), end=iso(27))
    assert [one["as_of"] for one in part["verdicts"]] == [iso(10)]
    epochs = world.client.ok(f"{url}/epochs")
    models.EpochsAnswer.model_validate(epochs)
    last, first = epochs["epochs"]
    assert (last["epoch"], last["verdict"], last["changes"]) == (2, "UNDECIDED", 0)
    assert first["seen"] == {"NO_DATA": 1, "UNDECIDED": 2, "PASS": 1}
    assert (first["changes"], first["first"], first["last"]) == (2, iso(0), iso(27))
    assert first["told"]["text"] == "PASS: said at 27"
    for path in ("verdicts", "epochs", "status", "hooks/rollback"):
        method = "POST" if path.startswith("hooks") else "GET"
        assert world.client.request(method, f"/v1/gates/nobody/{path}").status_code == 404


def test_only_what_came_since_is_read_and_a_store_may_be_put_back(world: GateWorld) -> None:
    for verdict, at_s in (("UNDECIDED", 10), ("PASS", 10), ("FAIL", 20), ("UNDECIDED", 15)):
        world.say(verdict, at_s)
    assert world.ask()["text"] == "FAIL: said at 20"
    world.say("PASS", 30)
    assert world.ask()["text"] == "PASS: said at 30"
    lost = f"gate_id = '{world.gate}' AND as_of > fromUnixTimestamp({epoch_at(15)})"
    world.store.command(f"DELETE FROM penstock.verdicts_rows WHERE {lost}")
    assert world.ask()["text"] == "UNDECIDED: said at 15"
    world.say("PASS", 12, epoch=1)
    assert world.ask()["text"] == "PASS: said at 12"


def test_a_verdict_that_nothing_gives_is_told_by_replay(world: GateWorld) -> None:
    url = f"/v1/gates/{world.gate}/replay"
    world.say("PASS", 10)  # by an engine that is no more
    world.client.problem(404, url)
    (gate,) = world.configuration.gates
    row = {"gate_id": world.gate, "as_of": at(20), "version": 1, "spec_hash": spec_hash(gate)}
    insert(world.store, "verdicts_rows", [row | {"engine": ENGINE, "evidence": '{"n":1}'}])
    told = world.client.ok(url)
    models.ReplayAnswer.model_validate(told)
    assert (told["epoch"], told["verdicts"], told["same"]) == (0, 1, 0)
    assert told["differing"] == [{"stored": {"n": 1}, "again": None}]
    world.client.problem(404, url, epoch=1)


def test_a_reset_is_a_marker_for_one_gate(world: GateWorld) -> None:
    world.mark("r1", 0)
    world.say("FAIL", 10, epoch=epoch_at(0))
    body = post(world.client, f"/v1/gates/{world.gate}/reset", {"who": "ann", "reason": "r"}, 202)
    assert body == {"gate": world.gate, "epoch": epoch_at(0)}
    ((raw, form, key),) = world.ingest.got
    marker = json.loads(raw)
    assert (form, key) == ("json", None)
    assert (marker["event"], marker["stage"], marker["release"]) == ("release", "gate-reset", "r1")
    assert (marker["variant"], marker["attributes"]) == (world.gate, {"gate": world.gate})
    # Once it is stored, the epoch is another, and no other gate's.
    world.mark("r1", 20, attributes={"gate": "another"})
    assert world.ask()["verdict"] == "FAIL"
    world.mark("r1", 20, attributes={"gate": world.gate})
    told = world.ask()
    assert (told["verdict"], told["epoch"], told["release"]) == ("NO_DATA", epoch_at(20), "r1")


def test_markers_expire_and_the_epoch_stays(world: GateWorld) -> None:
    """Newer numbers than any marker that is kept: of a release that has run for very long."""
    world.say("PASS", 100, epoch=epoch_at(50))
    told = world.ask()
    assert (told["verdict"], told["epoch_started"], told["release"]) == ("PASS", iso(50), None)
    # Nor does what was counted under numbers of another kind hide a release.
    world.mark("r1", 200)
    assert (world.ask()["verdict"], world.ask()["epoch"]) == ("NO_DATA", epoch_at(200))


def test_a_verdict_of_another_specification_hides_none(world: GateWorld) -> None:
    row = {"gate_id": world.gate, "epoch": epoch_at(500), "as_of": at(500), "version": 1}
    insert(world.store, "verdicts_rows", [row | {"spec_hash": "another", "verdict": "FAIL"}])
    assert world.ask()["verdict"] == "NO_DATA"
    world.say("PASS", 100)
    assert world.ask()["verdict"] == "PASS"


def test_a_key_in_the_url_of_a_hook(world: GateWorld, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys = {scope: create_key(path, scope, [scope]) for scope in ("gate", "ingest")}
    app = build_app(world.ingest, world.store, world.configuration, Access(True, path))
    url = f"/v1/gates/{world.gate}/hooks/rollback"

    def status(**more: Any) -> int:
        return Client(app).request("POST", url, **more).status_code

    assert status() == 401
    assert status(auth=("flagger", "psk_no_no")) == 401
    assert status(auth=("flagger", keys["ingest"])) == 403
    assert status(auth=("flagger", keys["gate"])) == 409
    assert status(headers={"Authorization": f"Bearer {keys['gate']}"}) == 409
    assert status(headers={"Authorization": "Basic ?"}) == 401


def test_the_last_release_that_passed(world: GateWorld) -> None:
    url = "/v1/releases/last-known-good"
    world.client.problem(404, url, model=world.gate)
    for number, verdict in enumerate(("PASS", "PASS", "FAIL"), 1):
        world.mark(f"r{number}", 100 * number)
        world.say("UNDECIDED", 100 * number + 10, epoch=number)
        world.say(verdict, 100 * number + 50, epoch=number)
    world.mark("r4", 400)
    body = world.client.ok(url, model=world.gate)
    models.GoodReleaseAnswer.model_validate(body)
    assert (body["release"], body["since"], body["gates"]) == ("r2", iso(200), [world.gate])
    earlier = world.client.ok(url, model=world.gate, other_than="r2", gate=world.gate)
    assert earlier["release"] == "r1"
    world.client.problem(404, url, model=world.gate, gate="nobody")
    world.client.problem(422, url)


def test_a_gate_by_the_api_is_a_version_of_the_configuration(world: GateWorld) -> None:
    metrics = [{"metric": "error_rate", "max_ratio": 0.02}]
    spec = {"id": unique("new"), "metrics": metrics}
    tried = post(world.client, "/v1/gates", {"spec": spec, "why": "w", "dry_run": True}, 200)
    assert tried["changes"]["parts"]["gates"]["added"] == [spec["id"]]
    made = post(world.client, "/v1/gates", {"spec": spec, "why": "w"})
    models.CreatedAnswer.model_validate(made)
    assert made["version"] == tried["version"] + 1
    told = world.client.ok("/v1/config")
    assert [gate["id"] for gate in told["configuration"]["gates"]][-1] == spec["id"]
    # Not twice, not broken, and changed only where that is said.
    again = spec | {"metrics": [{"metric": "error_rate", "max_ratio": 0.03}]}
    post(world.client, "/v1/gates", {"spec": again, "why": "w"}, 422)
    post(world.client, "/v1/gates", {"spec": {"metrics": metrics}, "why": "w"}, 422)
    broken = {"id": unique("broken"), "metrics": []}
    post(world.client, "/v1/gates", {"spec": broken, "why": "w"}, 422)
    changed = post(world.client, "/v1/gates", {"spec": again, "why": "w", "replace": True})
    assert changed["changes"]["parts"]["gates"]["changed"] == [spec["id"]]
    same = post(world.client, "/v1/gates", {"spec": again, "why": "w", "replace": True})
    assert same["version"] == changed["version"]
