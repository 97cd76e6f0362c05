"""The command line over a real store: it answers as the API does, and verifies the audit log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from penstock.cli import audit_log, main
from penstock.cli.audit_log import chains_of, verified
from penstock.cli.slo_html import html
from penstock.cli.slo_report import gather, markdown
from penstock.cli.sources import StoreSource
from penstock.schemas.errors import InvalidQuery, NotFound
from penstock.streams.core.alerts.audit import Entry, append
from penstock.streams.core.gates.canonical import canonical_json
from penstock.streams.storage.store import Store
from penstock.tests.contract.signal_rows import (
    CONFIGURATION,
    Clock,
    budget,
    change,
    client_of,
    status,
)
from penstock.tests.support.rows import T0, at, iso
from penstock.tests.support.store import insert, unique


@pytest.fixture(scope="module")
def alert(store: Store) -> str:
    """An alert that fires, beside an objective and a budget."""
    name = unique("a")
    insert(store, "slo_status_rows", [status("up", s, state="met") for s in range(0, 3601, 60)])
    insert(store, "cost_status_rows", [budget("fleet")])
    insert(store, "alert_transitions_rows", [change(name, 0, "firing", 3000)])
    return name


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source(api_store: Store, clock: Clock) -> StoreSource:
    return StoreSource(api_store, CONFIGURATION, clock.us)


def test_a_store_answers_as_a_server_does(
    api_store: Store, source: StoreSource, clock: Clock, alert: str
) -> None:
    client = client_of(api_store, clock)
    for path, query in (
        ("/v1/slos", {}),
        ("/v1/slos/up", {"start": iso(0), "end": iso(3600), "step": 600}),
        ("/v1/alerts", {"state": "firing", "since": iso(0), "limit": 5}),
        (f"/v1/alerts/{alert}", {}),
        ("/v1/silences", {"state": "active"}),
        ("/v1/costs", {"by": ["model"]}),
    ):
        assert source.ask(path, **query, nothing=None) == client.ok(path, **query), path


def test_a_store_is_told_as_a_server_is(source: StoreSource, alert: str) -> None:
    body = {"matchers": [{"label": "a", "value": "b"}], "reason": "r", "author": "ann"}
    made = source.tell("POST", "/v1/silences", body | {"duration_s": 60})
    assert source.tell("DELETE", f"/v1/silences/{made['id']}")["state"] == "expired"
    source.tell("POST", f"/v1/alerts/{alert}/acknowledge", {"who": "ann"})
    assert source.ask(f"/v1/alerts/{alert}")["acknowledged"]["who"] == "ann"
    with pytest.raises(InvalidQuery, match=r"reason: .*; author: "):
        source.tell("POST", "/v1/silences", {"matchers": body["matchers"]})
    with pytest.raises(InvalidQuery, match="state"):
        source.ask("/v1/alerts", state="closed")
    with pytest.raises(NotFound):
        source.tell("DELETE", "/v1/silences/nothing")


def test_a_report_of_a_store(
    api_store: Store, source: StoreSource, clock: Clock, alert: str
) -> None:
    found = gather(source, 3600, "Hour")
    up = found["objectives"][0]
    assert (up["id"], up["history"]["states"]) == ("up", {"met": 1.0})
    assert len(up["curve"]) == 61
    assert [one["id"] for one in found["alerts"]["newest"]] == [alert]
    assert "| up | availability >= 99.9 % | met |" in markdown(found)
    assert "polyline" in html(found)
    without = gather(StoreSource(api_store, None, clock.us), 3600, "Hour")
    assert (without["objectives"][0]["filter"], without["overall"]) == ({}, [])


# ---- the audit log


def chain_of(length: int) -> list[Entry]:
    entries: list[Entry] = []
    start_s = int(T0.timestamp())
    for number in range(length):
        last = entries[-1] if entries else None
        entries.append(append(last, start_s + number, "alert", "penstock", {"n": number}))
    return entries


def write(store: Store, chain: str, entries: list[Entry]) -> None:
    rows: list[dict[str, Any]] = [
        {
            "chain": chain, "seq": entry.index, "at": at(entry.at_s - T0.timestamp()),
            "kind": entry.kind, "who": entry.actor, "body": canonical_json(dict(entry.body)),
            "previous": entry.previous, "hash": entry.hash,
        }
        for entry in entries
    ]  # fmt: skip
    for _ in range(2):  # a writer that was not sure: readers see each entry once
        insert(store, "audit_log_rows", rows)


@pytest.mark.parametrize("length", [1, 4999, 5000, 5001])
def test_a_whole_log_holds(store: Store, api_store: Store, length: int) -> None:
    chain, entries = unique("shard"), chain_of(length)
    write(store, chain, entries)
    assert chain in chains_of(api_store)
    whole = {"chain": chain, "entries": length, "head": entries[-1].hash, "broken": None}
    assert verified(api_store, chain, None) == whole
    assert verified(api_store, chain, entries[0].hash) == whole
    assert verified(api_store, chain, "f" * 64)["broken"]["reason"] == "head"


@pytest.mark.parametrize(
    ("change_it", "index", "reason"),
    [
        (lambda entries: entries[:2] + entries[3:], 2, "index"),
        (lambda entries: [replace(entries[0], actor="bob"), *entries[1:]], 0, "hash"),
        (lambda entries: entries[1:], 0, "index"),
    ],
)
def test_a_log_that_was_changed_does_not(
    store: Store, api_store: Store, change_it: Any, index: int, reason: str
) -> None:
    chain = unique("shard")
    changed = change_it(chain_of(5))
    write(store, chain, changed)
    broken = verified(api_store, chain, None)["broken"]
    assert (broken["index"], broken["reason"]) == (index, reason)
    assert broken["what"]


def test_the_command(store: Store, api_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def opened(url: str) -> Iterator[Store]:
        assert url == "here"
        yield api_store

    def verify(*more: str) -> Result:
        return CliRunner().invoke(main, ["audit-log", "verify", "--store", "here", *more])

    monkeypatch.setattr(audit_log, "opened_store", opened)
    store.command("TRUNCATE TABLE penstock.audit_log_rows")
    assert (verify().exit_code, verify().output) == (0, "the log is empty\n")
    entries = chain_of(3)
    write(store, "shard-0", entries)
    head = entries[-1].hash
    assert verify("--head", f"shard-0={head}").output == f"shard-0: 3 entries hold, head {head}\n"
    assert verify("--head", "nonsense").exit_code == 2
    done = verify("--head", f"shard-1={head}", "--json")
    assert done.exit_code == 1
    told = json.loads(done.output)
    assert [(one["chain"], one["broken"] is None) for one in told["chains"]] == [
        ("shard-0", True),
        ("shard-1", False),
    ]
    assert "shard-1: entry 0: the hash" in verify("--head", f"shard-1={head}").output


def test_damaged_bytes_and_a_lost_end(store: Store, api_store: Store) -> None:
    chain, entries = unique("shard"), chain_of(3)
    write(store, chain, entries[:2])
    broken = verified(api_store, chain, entries[2].hash)["broken"]
    assert (broken["index"], broken["reason"]) == (2, "head")
    assert verified(api_store, unique("gone"), entries[0].hash)["broken"]["reason"] == "head"
    row = {"chain": chain, "seq": 2, "at": at(0), "kind": "a", "who": "b", "body": "{not json"}
    insert(store, "audit_log_rows", [row | {"previous": entries[1].hash, "hash": "0" * 64}])
    broken = verified(api_store, chain, None)["broken"]
    assert (broken["index"], broken["reason"]) == (2, "hash")
    assert json.dumps(broken)
