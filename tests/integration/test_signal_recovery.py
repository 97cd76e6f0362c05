"""Alerts on the real store: a process that dies between inserts tells each change once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from penstock.streams.audit.alerts import check_alerts
from penstock.streams.audit.report import Report, Scope
from penstock.streams.core.alerts.audit import Entry, verify
from penstock.streams.storage.migrate import migrate
from penstock.tests.integration.test_recovery import CrashingStore
from penstock.tests.unit.streams.core.world import SECOND, Sent, World
from penstock.tests.unit.streams.signals.test_signals import CONFIGURATION, traffic_of

MINUTES = 5
INSERTS = ("checkpoints_rows", "alert_transitions_rows", "audit_log_rows")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CrashingStore]:
    opened = CrashingStore(f"chdb://{tmp_path / 'db'}")
    try:
        migrate(opened)
        for table in opened.query("SHOW TABLES FROM penstock LIKE '%\\_rows'"):
            created = opened.query(f"SHOW CREATE TABLE penstock.{table['name']}")[0]["statement"]
            if "\nTTL " in created:  # the story is of last year
                opened.command(f"ALTER TABLE penstock.{table['name']} REMOVE TTL")
        yield opened
    finally:
        opened.close()


def tell(store: CrashingStore, crash: str | None) -> World:
    """Errors that fire an alert and end; the process dies at the first insert of a kind, again and again."""
    world = World(store, CONFIGURATION)
    seq = 0
    for part in traffic_of(MINUTES, 20):
        clock_us = part[-1]["ts"] + SECOND // 2
        world.deliver([Sent("request", "w", "boot", seq, part, clock_us)], clock_us)
        seq += len(part)
        world.tick(clock_us + 1000, crash)
    world.restart()
    world.tick(world.now_us + SECOND)
    return world


def changes(store: CrashingStore) -> list[dict[str, object]]:
    return store.query(
        "SELECT id, alert_id, sequence, kind, at, labels, value, text"
        " FROM penstock.alert_transitions ORDER BY at, id"
    )


@pytest.mark.slow
def test_each_change_is_told_once(store: CrashingStore) -> None:
    tell(store, None)
    expected = changes(store)
    kinds = {row["kind"] for row in expected}
    assert {"pending", "firing"} <= kinds
    every = [row["name"] for row in store.query("SHOW TABLES FROM penstock LIKE '%\\_rows'")]
    for crash in INSERTS:
        for name in every:
            store.command(f"TRUNCATE TABLE penstock.{name}")
        tell(store, crash)
        assert changes(store) == expected, crash
        rows = store.query(
            "SELECT seq, toUnixTimestamp(at) AS at_s, kind, who, body, previous, hash"
            " FROM penstock.audit_log ORDER BY seq"
        )
        log = [
            Entry(r["seq"], r["at_s"], r["kind"], r["who"], json.loads(r["body"]), r["previous"], r["hash"])
            for r in rows
        ]  # fmt: skip
        assert verify(log) is None, crash
        assert sorted(entry.body["id"] for entry in log) == sorted(
            str(row["id"]) for row in expected
        )
        alerts = store.query(
            "SELECT count() AS n, countIf(state = 'firing') AS f FROM penstock.alerts"
        )
        assert alerts[0]["n"] == len({row["alert_id"] for row in expected})


def looked_at(store: CrashingStore) -> Report:
    report = Report()
    scope = Scope(
        now_us=0, edge_us=0, low_us=0, cuts={}, checkpoints={}, shards=1, topics=frozenset(), since=False
    )  # fmt: skip
    check_alerts(store, scope, report)
    return report


@pytest.mark.slow
def test_the_audit_recomputes_alerts(store: CrashingStore) -> None:
    tell(store, None)
    report = looked_at(store)
    assert report.checked["changes of alerts"] == len(changes(store)) > 2
    assert report.findings == []
    store.command("DELETE FROM penstock.audit_log_rows WHERE seq = 1")
    (lost,) = looked_at(store).findings
    assert (lost.check, lost.expected, lost.found) == ("alerts", "one entry of the audit log", "0")
    store.command(
        "ALTER TABLE penstock.alert_transitions_rows UPDATE rule_hash = 'other' WHERE kind = 'firing'"
        " SETTINGS mutations_sync = 1"
    )
    assert any("rule, labels or start differ" in str(one) for one in looked_at(store).findings)
