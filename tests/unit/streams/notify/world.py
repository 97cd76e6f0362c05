"""A store in memory with the tables that the notifier needs, and a notifier that ends where it is told to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import pyarrow as pa
from penstock.schemas.alerts.routing import Receiver
from penstock.schemas.alerts.section import Alerts
from penstock.schemas.errors import StoreError
from penstock.schemas.gates import LiveGate
from penstock.streams.core.alerts.audit import Entry, append
from penstock.streams.core.alerts.transition import Transition
from penstock.streams.core.gates.canonical import canonical_json, spec_hash
from penstock.streams.core.gates.verdict import iso
from penstock.streams.delivery.carrier import Send
from penstock.streams.delivery.message import Message
from penstock.streams.delivery.schedule import Policy
from penstock.streams.notify.notifier import Notifier, Timing
from penstock.tests.unit.streams.core.alerts.alerts_world import item

SECOND = 1_000_000
START_S = 1_767_225_600
SECTION = Alerts.model_validate(
    {
        "alert_url": "https://penstock.example.org/alerts/{id}",
        "explanation_wait_s": 0,
        "receivers": [
            {"kind": "webhook", "name": "hook", "url": "https://example.org/hook"},
            {"kind": "pagerduty", "name": "pager", "routing_key_secret": "KEY"},
            {"kind": "webhook", "name": "boss", "url": "https://example.org/boss"},
        ],
        "route": {
            "receivers": ["hook", "pager"],
            "group_by": ["alertname"],
            "group_wait_s": 0,
            "group_interval_s": 1,
            "escalate": [{"after_s": 60, "receivers": ["boss"]}],
        },
    }
)
TIMING = Timing(poll_s=0.005, ttl_s=15.0, deliver_s=0.005, policy=Policy(first_s=0.001))


class Ended(BaseException):
    """The process ended here."""


class FakeStore:
    """Rows as they were inserted; the ones with the highest version count, as in ClickHouse.

    Attributes:
        operations: of the thread that made it.
        end_at: the operation at which the process ends.
        end_after: whether what is inserted there is stored.
        away: every call fails.
        between: called before each insert, with the table.
    """

    folder: Any = None

    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.tokens: set[tuple[str, str]] = set()
        self.operations = 0
        self.end_at = -1
        self.end_after = False
        self.away = False
        self.between: Callable[[str], None] = lambda _: None
        self._last: Entry | None = None
        self._thread = threading.current_thread()

    def _ends(self) -> bool:
        if self.away:
            raise StoreError("away", 210, True)
        if threading.current_thread() is not self._thread:
            return False
        self.operations += 1
        return self.operations - 1 == self.end_at

    def insert(self, name: str, rows: pa.Table, token: str) -> None:
        ends = self._ends()
        self.between(name)
        if ends and not self.end_after:
            raise Ended
        if (name, token) not in self.tokens:
            self.tokens.add((name, token))
            self.rows.setdefault(name, []).extend(rows.to_pylist())
        if ends:
            raise Ended

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        if self._ends():
            raise Ended
        given = dict(parameters or {})
        if "penstock.leases" in sql:
            rows = self._newest("leases_rows", "name", "term")
            return [row for row in rows if row["name"] == given["name"]]
        if "penstock.signal_states" in sql:
            rows = self._newest("signal_states_rows", "id", "version")
            return [row for row in rows if row["id"] == given["id"]]
        if "penstock.verdicts" in sql:
            return self._verdicts(sql, given)
        if "penstock.deliveries_rows" in sql:
            return self._deliveries(sql, given)
        if "penstock.settings" in sql:
            return [{"value": "1"}]
        if "penstock.audit_log" in sql:
            return self._audit(sql, given)
        if "penstock.drift_scores" in sql:
            looks = self.rows.get("drift_scores", [])
            return [row for row in looks if row["series"] in given["series"]]
        if "penstock.silences" in sql:
            now = given["now"]
            return [row for row in self.rows.get("silences", []) if row["ends_at"] > now]
        if "penstock.acknowledgements" in sql:
            taken = self.rows.get("acknowledgements", [])
            return [row for row in taken if row["alert_id"] in given["ids"]]
        if "penstock.alert_explanations" in sql:
            known = self._newest("alert_explanations_rows", "alert_id", "recorded_at")
            return [row for row in known if row["alert_id"] in given["ids"]]
        return self._alerts(sql, given)

    def _newest(self, name: str, key: str, version: str) -> list[dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for row in self.rows.get(name, []):
            if row[key] not in found or row[version] >= found[row[key]][version]:
                found[row[key]] = row
        return [*found.values()]

    def _deliveries(self, sql: str, given: Mapping[str, Any]) -> list[dict[str, Any]]:
        rows = self._newest("deliveries_rows", "key", "version")
        if "keys" in given:
            rows = [row for row in rows if row["key"] in given["keys"]]
        else:
            rows = [row for row in rows if row["state"] == "waiting"]
        return [
            row | {"created_us": micros(row["created"]), "next_us": micros(row["next_try"])}
            for row in rows
        ]

    def _audit(self, sql: str, given: Mapping[str, Any]) -> list[dict[str, Any]]:
        log = self.rows.get("audit_log", [])
        if "GROUP BY" in sql:
            return [{"chain": "shard-0", "next": max(r["seq"] for r in log) + 1}] if log else []
        return sorted((r for r in log if r["seq"] >= given["seq0"]), key=lambda r: int(r["seq"]))

    def _alerts(self, sql: str, given: Mapping[str, Any]) -> list[dict[str, Any]]:
        rows = self.rows.get("alert_transitions", [])
        if "ids" in given:
            rows = [row for row in rows if row["alert_id"] in given["ids"]]
            return sorted(
                rows, key=lambda r: (r["alert_id"], r["kind"] == "amended", r["sequence"])
            )
        states = {r["alert_id"]: r["kind"] for r in rows if r["kind"] != "amended"}
        return [
            {"alert_id": name}
            for name, state in states.items()
            if "newest DESC" in sql or state in ("pending", "firing")
        ]

    def _verdicts(self, sql: str, given: Mapping[str, Any]) -> list[dict[str, Any]]:
        """More rows than were asked for: what is old is passed over anyway."""
        rows = sorted(
            self.rows.get("verdicts", []), key=lambda r: (r["gate_id"], r["epoch"], r["us"])
        )
        if "evidence" in sql:
            wanted = given["gate"], given["epoch"], given["verdict"], given["us"]
            return [r for r in rows if (r["gate_id"], r["epoch"], r["verdict"], r["us"]) == wanted]
        if "gates" in given:
            newest = {row["gate_id"]: row for row in rows}
            return [row for gate, row in newest.items() if gate in given["gates"]]
        asked = {value for name, value in given.items() if name.startswith("gate")}
        return [r for r in rows if r["gate_id"] in asked or "known" in given]

    # -- what evaluation and people write

    def judge(self, gate: LiveGate, at_s: int, verdict: str, epoch: int = 0) -> None:
        """A verdict as the streams store it."""
        name, digits = spec_hash(gate), iso(at_s * SECOND)
        said = {
            "verdict": verdict,
            "action": "hold",
            "reasons": ["no_data"],
            "text": f"{verdict}: told",
            "n": 10,
            "n_needed": None,
            "epoch": epoch,
            "watermark": digits,
            "spec_hash": name,
            "engine": "gates-2",
            "digest": "d" * 64,
        }
        row = {"gate_id": gate.id, "epoch": epoch, "us": at_s * SECOND, "verdict": verdict}
        row |= {"spec_hash": name, "kind": gate.kind, "evidence": json.dumps(said)}
        self.rows.setdefault("verdicts", []).append(row)

    def change(self, *items: Transition) -> None:
        """Changes of alerts, and their entries of the log."""
        for change in items:
            row = asdict(change)
            row["limit_value"] = row.pop("limit")
            self.rows.setdefault("alert_transitions", []).append(row)
            entry = self._last = append(
                self._last, change.at_s, "alert", "penstock", asdict(change)
            )
            self.rows.setdefault("audit_log", []).append(
                {
                    "chain": "shard-0",
                    "seq": entry.index,
                    "kind": entry.kind,
                    "body": canonical_json(dict(entry.body)),
                }
            )

    def silence(self, label: str, value: str, ends_at: datetime) -> None:
        """Somebody sets a silence."""
        row = {
            "id": "s",
            "matchers": json.dumps([{"label": label, "op": "=", "value": value}]),
            "reason": "r",
            "author": "ann",
            "starts_at": datetime(2020, 1, 1),
            "ends_at": ends_at,
        }
        self.rows["silences"] = [row]

    def acknowledge(self, alert_id: str) -> None:
        """Somebody takes an alert."""
        self.rows.setdefault("acknowledgements", []).append({"alert_id": alert_id})


def micros(moment: datetime) -> int:
    return round(moment.timestamp() * SECOND)


def fires(name: str, at_s: int) -> Transition:
    return item(name, "firing", at_s)


def ends(name: str, at_s: int) -> Transition:
    return item(name, "resolved", at_s, 1)


class Town:
    """A store, a clock, and what receivers were sent: each key once, in order."""

    def __init__(self, section: Alerts = SECTION, gates: Sequence[LiveGate] = ()) -> None:
        self.store = FakeStore()
        self.section = section
        self.gates = gates
        self.now_s = START_S
        self.sent: dict[str, Message] = {}
        self.attempts = 0
        self.notifier = self.new()

    def new(self, send: Send | None = None) -> Notifier:
        """A new process."""
        return Notifier(
            self.store,  # type: ignore[arg-type] # all of a store that it uses
            self.section,
            send or self.send,
            TIMING,
            lambda: self.now_s * SECOND,
            self.gates,
        )

    def send(self, receiver: Receiver, message: Message, _: float) -> None:
        self.attempts += 1
        assert self.sent.setdefault(message.key, message) == message

    def turn(self, times: int = 2) -> None:
        """Look, and deliver."""
        for _ in range(times):
            self.notifier.turn()
            self.settle()

    def settle(self) -> None:
        outbox = self.notifier._outbox
        until = time.monotonic() + 60
        while outbox is not None and outbox.waiting():
            assert time.monotonic() < until
            time.sleep(0.001)

    def kill(self) -> None:
        """The process ends; nothing is given back, and what it sent is sent."""
        self.notifier._put_down()
        self.store.end_at = -1
        self.notifier = self.new()
        self.store.folder = "a folder"  # of one process at a time, so that nobody has to wait
        self.notifier._lease._alone = True

    def told(self) -> dict[tuple[str, str], list[str]]:
        """What each receiver was told of each alert."""
        found: dict[tuple[str, str], list[str]] = {}
        for message in self.sent.values():
            body = json.loads(message.body)
            if message.receiver == "pager":
                told = [(body["dedup_key"], body["event_action"])]
            else:
                told = [(alert["id"], alert["status"]) for alert in body["alerts"]]
            for alert_id, what in told:
                found.setdefault((message.receiver, alert_id), []).append(what)
        return found


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.002)
