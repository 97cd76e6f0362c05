"""The audit log as API processes write it: several at once, one chain, everything that people do."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from penstock.api.app import build_app
from penstock.api.auth import Access
from penstock.api.journal import ATTEMPTS, Journal
from penstock.api.keys import create_key
from penstock.cli.audit_log import verified
from penstock.schemas.errors import Conflict, StoreError
from penstock.streams.core.alerts.audit import Entry
from penstock.streams.storage.store import Store
from penstock.tests.contract.signal_rows import CONFIGURATION, change, post
from penstock.tests.support.api import Client, Ingest
from penstock.tests.support.store import insert, unique

SILENCE = {
    "matchers": [{"label": "team", "value": "a"}],
    "reason": "moving",
    "author": "ann",
    "duration_s": 600,
}


def now_us() -> int:
    return time.time_ns() // 1000


@pytest.mark.slow
def test_many_writers_of_one_chain(api_store: Store) -> None:
    chain, writers, each = unique("chain"), 4, 6

    def write(writer: int) -> list[Entry]:
        journal = Journal(api_store, now_us, chain)
        return [journal.write("note", f"w{writer}", {"n": n}) for n in range(each)]

    with ThreadPoolExecutor(writers) as pool:
        mine = [*pool.map(write, range(writers))]
    told = verified(api_store, chain, None)
    assert (told["entries"], told["broken"]) == (writers * each, None)
    entries = Journal(api_store, now_us, chain).latest(1000)
    assert {entry.hash for entries in mine for entry in entries} == {e.hash for e in entries}
    for number, written in enumerate(mine):
        of = [e for e in entries[::-1] if e.actor == f"w{number}"]
        assert of == written
        assert [entry.body["n"] for entry in of] == [*range(each)]


def test_an_entry_at_one_place_or_none(api_store: Store) -> None:
    journal = Journal(api_store, now_us, unique("chain"))
    assert journal.newest() is None
    first = journal.write_at(0, "note", "ann", {})
    with pytest.raises(Conflict):
        journal.write_at(0, "note", "bob", {})
    with pytest.raises(Conflict):
        journal.write_at(2, "note", "bob", {})
    second = journal.write_at(1, "note", "bob", {"b": [1, "x"]})
    assert (second.previous, journal.newest(), journal.at(0)) == (first.hash, second, first)
    assert journal.at(2) is None


class Slow:
    """A store in which somebody else always was faster, or whose replica lags."""

    def __init__(self, store: Store, faster: bool) -> None:
        self._store = store
        self._faster = faster
        self.inserts = 0

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        return self._store.query(sql, parameters)

    def ping(self) -> None:
        raise AssertionError("nobody asks")

    def free_bytes(self) -> int | None:
        raise AssertionError("nobody asks")

    def insert(self, name: str, rows: pa.Table, token: str) -> None:
        self.inserts += 1
        if self._faster:
            other = rows.set_column(rows.column_names.index("hash"), "hash", [["f" * 64]])
            self._store.insert(name, other, token)


def test_it_gives_up_and_says_so(api_store: Store) -> None:
    slow = Slow(api_store, faster=True)
    with pytest.raises(StoreError, match="at the same time"):
        Journal(slow, now_us, unique("chain")).write("note", "ann", {})
    assert slow.inserts == ATTEMPTS
    with pytest.raises(Conflict):
        Journal(slow, now_us, unique("chain")).write_at(0, "note", "ann", {})
    with pytest.raises(StoreError, match="replica"):
        Journal(Slow(api_store, faster=False), now_us, unique("chain")).write("note", "ann", {})


@pytest.fixture
def key(tmp_path: Path) -> tuple[Path, str]:
    path = tmp_path / "keys.json"
    return path, create_key(path, "night shift", ["admin"])


def test_what_people_do_is_in_the_log(
    store: Store, api_store: Store, key: tuple[Path, str]
) -> None:
    path, token = key
    access = Access(required=True, keys_path=path)
    app = build_app(Ingest(), api_store, CONFIGURATION, access)
    client = Client(app, {"Authorization": f"Bearer {token}"})
    alert, silence = unique("alert"), unique("s")
    insert(store, "alert_transitions_rows", [change(alert, 0, "firing", 100)])
    journal = Journal(api_store, now_us)
    before = journal.newest()
    post(client, "/v1/silences", SILENCE | {"id": silence})
    assert client.request("DELETE", f"/v1/silences/{silence}").status_code == 200
    assert client.request("DELETE", f"/v1/silences/{silence}").status_code == 200  # nothing new
    post(client, f"/v1/alerts/{alert}/acknowledge", {"who": "ann", "reason": "on it"}, 200)
    post(client, "/v1/silences", SILENCE | {"id": "fixed"}, 422)  # refused: not in the log
    entries = journal.latest(10)[::-1]
    entries = [e for e in entries if before is None or e.index > before.index]
    assert [entry.kind for entry in entries] == ["silence", "silence_ended", "acknowledge"]
    assert {entry.actor for entry in entries} == {f"night shift (key {token.split('_')[1]})"}
    made, ended, taken = (dict(entry.body) for entry in entries)
    assert (made["id"], made["reason"], made["author"]) == (silence, "moving", "ann")
    assert ended["id"] == silence
    assert (taken["alert_id"], taken["who"], taken["reason"]) == (alert, "ann", "on it")
    assert verified(api_store, "api", None)["broken"] is None


def test_nothing_is_in_force_that_is_not_in_the_log(api_store: Store) -> None:
    app = build_app(Ingest(), Slow(api_store, faster=False), CONFIGURATION, Access(required=False))
    silence = unique("s")
    post(Client(app), "/v1/silences", SILENCE | {"id": silence}, 503)
    rows = api_store.query("SELECT id FROM penstock.silences")
    assert silence not in {row["id"] for row in rows}
