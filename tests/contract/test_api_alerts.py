"""Alerts, acknowledgements and silences over a real store, held against the models of OpenAPI."""

from __future__ import annotations

from typing import Any

import pytest
from penstock.api import signal_models as models
from penstock.streams.core.explain.evidence import Gauge, Part
from penstock.streams.core.explain.explanation import Explanation, Release
from penstock.streams.core.explain.question import Stretch
from penstock.streams.core.explain.ranking import Finding
from penstock.streams.core.explain.words import one_line
from penstock.streams.storage.store import Store
from penstock.tests.contract.signal_rows import NOW_S, Clock, change, client_of, post
from penstock.tests.support.api import Client, problem_of
from penstock.tests.support.rows import T0, at, iso
from penstock.tests.support.store import insert, unique

T0_S = int(T0.timestamp())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(api_store: Store, clock: Clock) -> Client:
    return client_of(api_store, clock)


# ---- alerts


def labelled(severity: str, model: str) -> dict[str, Any]:
    labels = {"alertname": "slow", "severity": severity, "model": model}
    return {"severity": severity, "labels": labels}


@pytest.fixture(scope="module")
def raised(store: Store) -> dict[str, str]:
    """Alerts by what has become of them."""
    names = {name: unique(name) for name in ("open", "ended", "waiting", "info", "fixed")}
    model = unique("m")
    rows = [
        change(names["open"], 0, "pending", 100, **labelled("critical", model)),
        change(names["open"], 1, "firing", 400, **labelled("critical", model)),
        change(names["open"], 1, "amended", 400, text="7 % of 110", **labelled("critical", model)),
        change(names["ended"], 0, "firing", 100, runbook="docs/x.md"),
        change(names["ended"], 1, "resolved", 200, value=None, reason="cleared"),
        change(names["waiting"], 0, "pending", 500, **labelled("warning", model), rule_id="other"),
        change(names["info"], 0, "firing", 450, **labelled("info", model)),
        change(names["fixed"], 0, "firing", 460, **labelled("warning", "fixed")),
    ]
    for _ in range(2):
        insert(store, "alert_transitions_rows", rows)
    return names | {"model": model}


def ids(client: Client, **asked: Any) -> list[str]:
    body = client.ok("/v1/alerts", **asked)
    models.AlertsAnswer.model_validate(body)
    return [alert["id"] for alert in body["alerts"]]


def test_alerts_by_state(client: Client, raised: dict[str, str]) -> None:
    order = [raised[name] for name in ("waiting", "fixed", "info", "open", "ended")]
    assert ids(client) == order[:-1]
    assert ids(client, state="all") == order
    assert ids(client, state="firing") == order[1:-1]
    assert ids(client, state="resolved") == order[-1:]
    assert ids(client, state="cancelled") == []
    assert ids(client, severity="critical") == [raised["open"]]
    assert ids(client, rule="other") == [raised["waiting"]]
    assert ids(client, since=iso(461)) == [raised["waiting"]]
    assert ids(client, limit=1) == order[:1]
    client.problem(422, "/v1/alerts", state="closed")
    counts = client.ok("/v1/alerts", limit=1)["counts"]
    assert counts == {"info": 1, "warning": 1, "critical": 1, "emergency": 0}


def test_what_changed_is_told_with_the_alert(
    client: Client, store: Store, raised: dict[str, str]
) -> None:
    stretch, name = Stretch(T0_S, T0_S + 60), raised["open"]
    found = Explanation(
        "", "error rate", "ratio", stretch, stretch, 0.5, 0.01,
        (Finding({"variant": "canary"}, 0.96, 0.9, 0.01, 0.25, 0.25, 0.3),),
        "error type", (Part("oom", "ratio", 0.9, 0.45, 0.009),),
        (Release(T0_S, 40, "r2", "chat", "canary", "", ""),),
        (Gauge("output_tokens", "number", 200.0, 190.0),),
        (Gauge("queue_depth", "number", 40.0, None),),
    )  # fmt: skip
    row = {"alert_id": name, "at": at(400), "text": one_line(found), "body": found.to_json()}
    insert(store, "alert_explanations_rows", [row | {"recorded_at": at(401)}])
    (listed,) = (a for a in client.ok("/v1/alerts")["alerts"] if a["id"] == name)
    assert listed["explanation"].startswith("variant=canary explains 96 % of the change")
    body = client.ok(f"/v1/alerts/{name}")
    models.AlertDetail.model_validate(body)
    told = body["explained"]
    assert told["now"] == {"start": iso(0), "end": iso(60)}
    assert told["slices"][0]["slice"] == {"variant": "canary"}
    assert (told["releases"][0]["at"], told["releases"][0]["after_s"]) == (iso(0), 40)
    assert told["sentences"][0] == "error rate: 50 %, before 1 %"
    assert (told["parts_of"], told["parts"][0]["name"]) == ("error type", "oom")
    assert (told["requests"][0]["now"], told["engine"][0]["before"]) == (200.0, None)
    other = client.ok(f"/v1/alerts/{raised['info']}")
    assert (other["explanation"], other["explained"]) == (None, None)


def test_an_alert_and_its_history(client: Client, raised: dict[str, str]) -> None:
    body = client.ok(f"/v1/alerts/{raised['open']}")
    models.AlertDetail.model_validate(body)
    kinds = [item["kind"] for item in body["transitions"]]
    assert (kinds[0], sorted(kinds[1:])) == ("pending", ["amended", "firing"])
    assert (body["state"], body["fired"], body["ended"]) == ("firing", iso(400), None)
    assert (body["text"], body["amended_text"]) == ("firing text", "7 % of 110")
    ended = client.ok(f"/v1/alerts/{raised['ended']}")
    assert (ended["state"], ended["ended"], ended["value"]) == ("resolved", iso(200), None)
    assert client.ok(f"/v1/alerts/{raised['waiting']}")["fired"] is None
    client.problem(404, "/v1/alerts/nothing")


def test_why_an_alert_is_quiet(client: Client, clock: Clock, raised: dict[str, str]) -> None:
    assert client.ok(f"/v1/alerts/{raised['fixed']}")["quiet"] == "silence:fixed"
    assert client.ok(f"/v1/alerts/{raised['info']}")["quiet"] == f"inhibited:{raised['open']}"
    assert client.ok(f"/v1/alerts/{raised['open']}")["quiet"] is None
    matchers = [
        {"label": "model", "value": raised["model"]},
        {"label": "severity", "value": "critical"},
    ]
    made = post(
        client,
        "/v1/silences",
        {"matchers": matchers, "reason": "new GPUs", "author": "ann", "duration_s": 600},
    )
    models.SilenceAnswer.model_validate(made)
    quiet = f"silence:{made['id']}"
    assert client.ok(f"/v1/alerts/{raised['open']}")["quiet"] == quiet
    clock.s += 600
    assert client.ok(f"/v1/alerts/{raised['open']}")["quiet"] is None


def test_an_alert_is_taken(client: Client, clock: Clock, raised: dict[str, str]) -> None:
    url = f"/v1/alerts/{raised['open']}"
    taken = post(client, f"{url}/acknowledge", {"who": "ann", "reason": "on it"}, 200)
    models.AcknowledgementAnswer.model_validate(taken)
    assert client.ok(url)["acknowledged"] == taken
    assert (taken["who"], taken["at"], taken["until"]) == ("ann", iso(NOW_S), None)
    clock.s += 1
    body = {"who": "bob", "until": iso(NOW_S + 60)}
    taken = post(client, f"{url}/acknowledge", body, 200)
    assert taken["until"] == iso(NOW_S + 60)
    (listed,) = [item for item in client.ok("/v1/alerts")["alerts"] if item["id"] == raised["open"]]
    assert listed["acknowledged"] == taken
    clock.s += 60
    assert client.ok(url)["acknowledged"] is None
    ended = post(client, f"/v1/alerts/{raised['ended']}/acknowledge", {"who": "ann"}, 422)
    assert "only open ones" in ended["detail"]
    post(client, "/v1/alerts/nothing/acknowledge", {"who": "ann"}, 404)
    post(client, f"{url}/acknowledge", {"who": "ann", "until": iso(0)}, 422)
    post(client, f"{url}/acknowledge", {}, 422)


# ---- silences

SILENCE: dict[str, Any] = {
    "matchers": [{"label": "team", "op": "=~", "value": "a|b"}],
    "reason": "moving",
    "author": "ann",
}


def silences(client: Client, **asked: Any) -> dict[str, Any]:
    body = client.ok("/v1/silences", **asked)
    models.SilencesAnswer.model_validate(body)
    return {item["id"]: item for item in body["silences"]}


def delete(client: Client, silence: str) -> Any:
    return client.request("DELETE", f"/v1/silences/{silence}")


def test_a_silence_is_set_and_ended(client: Client, clock: Clock) -> None:
    own = unique("s")
    made = post(client, "/v1/silences", SILENCE | {"id": own, "duration_s": 100})
    assert (made["id"], made["state"], made["source"]) == (own, "active", "api")
    assert (made["starts_at"], made["ends_at"]) == (iso(NOW_S), iso(NOW_S + 100))
    assert silences(client)[own] == made
    clock.s += 1  # again, with another end: the last one counts
    longer = post(client, "/v1/silences", SILENCE | {"id": own, "ends_at": iso(NOW_S + 500)})
    assert silences(client, state="active")[own] == longer
    clock.s += 1
    ended = delete(client, own).json()
    assert (ended["state"], ended["ends_at"]) == ("expired", iso(NOW_S + 2))
    assert own not in silences(client)
    assert silences(client, state="expired")[own] == ended
    clock.s += 1
    assert delete(client, own).json() == ended


def test_a_silence_that_has_not_begun(client: Client, clock: Clock) -> None:
    body = SILENCE | {"starts_at": iso(NOW_S + 60), "ends_at": iso(NOW_S + 120)}
    made = post(client, "/v1/silences", body)
    assert made["id"] in silences(client, state="pending")
    clock.s += 1
    ended = delete(client, made["id"]).json()
    assert ended["state"] == "expired"
    assert ended["starts_at"] < ended["ends_at"]


def test_silences_of_the_configuration_are_shown_only(client: Client) -> None:
    assert silences(client)["fixed"]["source"] == "configuration"
    assert "penstock.yaml" in problem_of(delete(client, "fixed"), 422)["detail"]
    post(client, "/v1/silences", SILENCE | {"id": "fixed", "duration_s": 9}, 422)
    problem_of(delete(client, "nothing"), 404)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"duration_s": 60, "ends_at": iso(2 * NOW_S)},
        {"ends_at": iso(0)},
        {"duration_s": 0},
        {"duration_s": 400 * 86_400},
        {"ends_at": iso(NOW_S + 400 * 86_400)},
        {"starts_at": iso(3 * NOW_S), "ends_at": iso(2 * NOW_S)},
        {"ends_at": "2030-01-01T00:00:00"},
        {"duration_s": 60, "matchers": []},
        {"duration_s": 60, "matchers": [{"label": "a", "op": "=~", "value": "("}]},
        {"duration_s": 60, "reason": ""},
        {"duration_s": 60, "forever": True},
        {"duration_s": 60, "id": "a b"},
    ],
)
def test_silences_that_make_no_sense(client: Client, more: dict[str, Any]) -> None:
    post(client, "/v1/silences", SILENCE | more, 422)
