"""Drift over a real store, through the API and the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from penstock.api import drift_models as models
from penstock.api.app import build_app
from penstock.api.auth import Access
from penstock.api.drift import Drift, DriftAsk
from penstock.cli import drift as drift_cli
from penstock.cli import main
from penstock.cli.sources import StoreSource
from penstock.schemas.config import parse
from penstock.streams.core.drift.series_counts import SeriesCounts
from penstock.streams.core.drift.stored import counting_of
from penstock.streams.drift.counts import count_rows_table
from penstock.streams.storage.store import Store
from penstock.tests.contract.signal_rows import Clock, post
from penstock.tests.support.api import Client, Ingest
from penstock.tests.support.rows import T0, at, iso
from penstock.tests.support.store import insert, unique

CONFIGURATION = parse("""
drift:
  monitors:
    - {id: chat, filter: {model: chat}, features: [input_tokens], categories: [language]}
    - {id: any, features: [latency_ms], categories: []}
""")
SPEC = CONFIGURATION.drift.monitors[0]
BARS = [
    {"bin": 0, "first": 2279, "last": 2279, "low": 100.0, "high": 100.0, "reference": 5, "current": 1},
    {"bin": 1, "first": 2313, "last": 2313, "low": 201.0, "high": 201.0, "reference": 5, "current": 9},
]  # fmt: skip


def score(series: str, end_s: int, **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "monitor": "chat", "series": series, "end": at(end_s), "window_s": 3600, "kind": "feature",
        "filter": {"model": "chat"}, "state": "ok", "psi": 0.01, "figures": '{"psi":0.01}',
        "bars": json.dumps(BARS), "version": 1, "n_current": 10,
    }  # fmt: skip
    return row | more


def request(number: int, tokens: int, **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "ts": at(3000 + number), "boot_id": "drift", "seq": number, "request_id": f"d-{number}",
        "model": "chat", "status": "ok", "input_tokens": tokens, "append_ts": at(3000),
        "categories": {"language": "en" if number % 2 else "de"},
    }  # fmt: skip
    return row | more


@pytest.fixture(scope="module")
def looked(store: Store) -> None:
    """Looks of two hours, the last one amended, and the requests behind them."""
    rows = [score("input_tokens", hour * 3600) for hour in (-1, 0, 1)]
    moved = {"state": "drift", "psi": 0.7, "confirmed": at(3600), "reasons": ["psi"], "version": 2}
    named = [
        {"bin": 0, "name": "en", "reference": 5, "current": 5},
        {"bin": 1, "name": "(rest)", "reference": 1, "current": 0},
    ]
    rows += [
        score("input_tokens", 3600, severity="high", **moved),
        score("language", 3600, kind="category", bars=json.dumps(named)),
        score("(concept)", 3600, kind="concept", state="no_data", psi=None, bars="[]"),
    ]
    insert(store, "drift_scores_rows", rows)
    sent = [request(n, 200) for n in range(6)] + [request(6, 100), request(7, 200, model="other")]
    insert(
        store, "requests_rows", [*sent, request(8, 200, status=""), request(9, 200, ts=at(3600))]
    )


@pytest.fixture
def client(api_store: Store) -> Client:
    access, clock = Access(required=False), Clock()
    return Client(build_app(Ingest(), api_store, CONFIGURATION, access, wall_us=clock.us))


def test_scores_over_time_and_the_newest_look(client: Client, looked: None) -> None:
    body = client.ok("/v1/drift", start=iso(-3600), step=3600)
    models.DriftAnswer.model_validate(body)
    assert body["as_of"] == iso(3600)
    chat, other = body["monitors"]
    assert (chat["id"], chat["filter"], chat["every_s"]) == ("chat", {"model": "chat"}, 3600)
    assert chat["false_alarms_per_30d"] == 0.02
    assert other["series"] == []
    assert [one["series"] for one in chat["series"]] == ["input_tokens", "language", "(concept)"]
    tokens = chat["series"][0]
    assert [point["end"] for point in tokens["points"]] == [iso(-3600), iso(0), iso(3600)]
    assert [point["psi"] for point in tokens["points"]] == [0.01, 0.01, 0.7]
    assert tokens["latest"]["confirmed"] == iso(3600)
    assert tokens["latest"]["bars"] == BARS
    assert tokens["latest"]["figures"] == {"psi": 0.01}


def test_some_of_it(client: Client, looked: None) -> None:
    (chat,) = client.ok("/v1/drift", monitor="chat", series="language", end=iso(3600))["monitors"]
    assert [one["series"] for one in chat["series"]] == ["language"]
    assert [m["id"] for m in client.ok("/v1/drift", model="chat")["monitors"]] == ["chat", "any"]
    assert [m["id"] for m in client.ok("/v1/drift", model="m")["monitors"]] == ["any"]
    early = client.ok("/v1/drift", monitor="chat", end=iso(0), start=iso(-1))["monitors"][0]
    assert early["series"][0]["latest"]["state"] == "ok"
    client.problem(404, "/v1/drift", monitor="nobody")
    client.problem(422, "/v1/drift", start=iso(10), end=iso(0))
    client.problem(422, "/v1/drift", start=0, end=iso(0), step=1)


def test_without_a_configuration_whatever_the_store_has(api_store: Store, looked: None) -> None:
    found = Drift(api_store, None).all(DriftAsk.model_validate({}))
    assert [one["id"] for one in found["monitors"]] == ["chat"]
    assert found["monitors"][0]["reference"] is None


def test_requests_behind_a_bin(client: Client, looked: None) -> None:
    url = "/v1/drift/chat/examples"
    body = client.ok(url, series="input_tokens", bin=1)
    models.ExamplesAnswer.model_validate(body)
    assert body["bar"] == BARS[1]
    assert [row["request_id"] for row in body["requests"]] == [f"d-{n}" for n in range(5, -1, -1)]
    assert [r["request_id"] for r in client.ok(url, series="input_tokens", bin=0)["requests"]] == [
        "d-6"
    ]
    english = client.ok(url, series="language", bin=0, limit=2)["requests"]
    assert [row["request_id"] for row in english] == ["d-5", "d-3"]
    assert client.ok(url, series="input_tokens", bin=1, end=iso(0))["requests"] == []
    assert "many categories" in client.problem(422, url, series="language", bin=1)["detail"]
    client.problem(404, url, series="input_tokens", bin=7)
    client.problem(404, url, series="absent", bin=0)


def test_a_reference_is_uploaded_once(client: Client) -> None:
    name = unique("training")
    tokens = {"kind": "feature", "rows": 12, "counts": {"2279": 4, "2313": 6}}
    body: dict[str, Any] = {"name": name, "series": {"input_tokens": tokens}}
    made = post(client, "/v1/drift/references", body)
    models.ReferenceAnswer.model_validate(made)
    assert (made["revision"], made["series"]) == (1, {"input_tokens": 10})
    assert post(client, "/v1/drift/references", body)["revision"] == 1
    body["series"]["language"] = {"kind": "category", "counts": {"en": 3}}
    assert post(client, "/v1/drift/references", body)["revision"] == 2
    listed = client.ok("/v1/drift/references", name=name)
    models.ReferencesAnswer.model_validate(listed)
    assert [one["revision"] for one in listed["references"]] == [2, 1]


@pytest.mark.parametrize(
    "body",
    [
        {"name": "n"},
        {"name": "n", "monitor": "chat", "series": {"a": {"kind": "category", "counts": {"x": 1}}}},
        {"name": "n", "monitor": "chat", "start": iso(0)},
        {"name": "n", "monitor": "chat", "start": iso(10), "end": iso(0)},
        {"name": "a b", "monitor": "chat"},
        {"name": "n", "series": {"a": {"kind": "feature", "counts": {"65536": 1}}}},
        {"name": "n", "series": {"a": {"kind": "feature", "counts": {"1": -1}}}},
        {"name": "n", "series": {"a": {"kind": "category", "rows": 1, "counts": {"x": 2}}}},
        {"name": "n", "monitor": "any"},  # it has chosen none
        {"name": "n", "monitor": "chat", "start": iso(-7200), "end": iso(-3600)},
    ],
)
def test_references_that_make_no_sense(client: Client, body: dict[str, Any]) -> None:
    post(client, "/v1/drift/references", body, 422)


def test_what_a_monitor_saw_is_pinned(client: Client, store: Store) -> None:
    counting = counting_of(SPEC)
    hours = range(int(T0.timestamp()), int(T0.timestamp()) + 3 * 3600, 3600)
    pieces = {
        hour: {"input_tokens": SeriesCounts(9, {"2279": 4, str(number): 1})}
        for number, hour in enumerate(hours)
    }
    store.insert("drift_counts_rows", count_rows_table(counting, pieces, 1), unique("t"))
    name = unique("pinned")
    body = {"name": name, "monitor": "chat", "start": iso(0), "end": iso(7200)}
    made = post(client, "/v1/drift/references", body)
    assert made["series"] == {"input_tokens": 10}
    assert made["source"]["monitor"] == "chat"
    post(client, "/v1/drift/references", body | {"monitor": "nobody"}, 404)


# ---- the command line


@pytest.fixture
def run(api_store: Store, monkeypatch: pytest.MonkeyPatch) -> Any:
    @contextmanager
    def source(**_: Any) -> Iterator[StoreSource]:
        yield StoreSource(api_store, CONFIGURATION, Clock().us)

    monkeypatch.setattr(drift_cli, "opened", source)

    def invoke(*arguments: str, code: int = 0) -> str:
        found = CliRunner().invoke(main, ["drift", *arguments])
        assert found.exit_code == code, found.output
        return found.output

    return invoke


def test_show_and_examples(run: Any, client: Client, looked: None) -> None:
    table = run("show", "--monitor", "chat").splitlines()
    assert "input_tokens" in table[1]
    assert "drift" in table[1]
    assert table[-1] == "3 series of 1 monitors; 1 confirmed"
    assert json.loads(run("show", "--json")) == client.ok("/v1/drift")
    assert "d-6" in run("examples", "chat", "input_tokens", "0")
    found = json.loads(run("examples", "chat", "input_tokens", "0", "--json"))
    assert found == client.ok("/v1/drift/chat/examples", series="input_tokens", bin=0)


def test_references(run: Any, tmp_path: Path, looked: None) -> None:
    name = unique("file")
    path = tmp_path / "train.csv"
    path.write_text("input_tokens,language,predicted,label\n100,en,a,a\n200,de,a,b\n,en,b,b\n")
    told = run(
        "reference", "upload", name, str(path), "--feature", "input_tokens", "--category",
        "language", "--label", "label", "--predicted", "predicted",
    )  # fmt: skip
    assert told.startswith(f"{name}, version 1: ")
    (stored,) = json.loads(run("reference", "list", "--name", name, "--json"))["references"]
    assert stored["series"] == {"(labels)": 3, "input_tokens": 2, "language": 3}
    assert name in run("reference", "list", "--name", name)
    again = json.loads(
        run("reference", "upload", name, str(path), "--feature", "input_tokens", "--json")
    )
    assert again["revision"] == 2
    run("reference", "upload", name, str(path), "--label", "label", code=2)
    run("reference", "upload", name, str(path), "--feature", "absent", code=1)
    run("reference", "pin", name, "--monitor", "any", code=1)
    run("reference", "pin", name, "--monitor", "chat", "--start", iso(0), code=2)
    counted = run(
        "reference", "pin", name, "--monitor", "chat", "--start", iso(-900_000), "--end",
        iso(-800_000), code=1,
    )  # fmt: skip
    assert "counted nothing" in counted
