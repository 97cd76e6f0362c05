"""From a POST to a real webhook: `penstock up` and `penstock notify` as processes, killed and silenced."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from penstock.schemas.alerts.section import Alerts
from penstock.schemas.ports import StoreReader
from penstock.streams.core.alerts.audit import Entry, append, entry_rows
from penstock.streams.core.alerts.transition import Transition
from penstock.streams.delivery.secret import Secrets
from penstock.streams.delivery.sender import Sender
from penstock.streams.delivery.signing import verify
from penstock.streams.notify.feed import AlertFeed
from penstock.streams.notify.lease import LeaseLost, StoreLease
from penstock.streams.notify.notifier import Notifier
from penstock.streams.signals.rows import transition_rows
from penstock.streams.storage.store import Store
from penstock.tests.support.hook_server import HookServer, Reply
from penstock.tests.support.server import Server
from penstock.tests.support.store import insert, opened_store
from penstock.tests.unit.streams.core.alerts.alerts_world import item

SECRET = "correct horse"
CONFIG = """
gates:
  - id: limits
    filter: {{model: chat}}
    metrics: [{{metric: error_rate, max_ratio: 0.01}}]
    notify: [hook]
alerts:
  rules:
    - id: errors
      by: model
      condition: {{kind: threshold, metric: error_rate, window: 1m, op: ">", value: 0.5}}
      min_requests: 5
  receivers:
    - {{kind: webhook, name: hook, url: "{url}", signing_secret: "file:{secret}"}}
  route: {{receivers: [hook], group_by: [alertname, model], group_wait_s: 0, group_interval_s: 1}}
"""
Told = dict[str, list[str]]
"""By model, what the hook was told."""


def eventually(holds: Callable[[], Any], seconds: float = 40.0) -> Any:
    # Counted in looks: the process itself may be paused meanwhile.
    for _ in range(int(seconds * 100)):
        if found := holds():
            return found
        time.sleep(0.01)
    raise AssertionError("not in time")


def messages(hook: HookServer) -> list[dict[str, Any]]:
    """Each message once; every one of them is signed."""
    found = []
    for seen in {seen.headers["Idempotency-Key"]: seen for seen in hook.seen}.values():
        header = seen.headers["Penstock-Signature"]
        verify([SECRET], header, seen.body, float(header[2:].partition(",")[0]))
        found.append(json.loads(seen.body))
    return found


def told(hook: HookServer) -> Told:
    """What the hook was told of alerts."""
    found: Told = {}
    for message in messages(hook):
        for alert in message.get("alerts", ()):
            found.setdefault(alert["labels"]["model"], []).append(alert["status"])
    return found


class Running:
    """A server and the hook that it tells."""

    def __init__(self, folder: Path, hook: HookServer) -> None:
        secret = folder / "hook.secret"
        secret.write_text(SECRET)
        self.hook = hook
        self.server = Server(folder / "data", CONFIG.format(url=hook.url, secret=secret))
        self.config = folder / "data" / "penstock.yaml"

    def requests(self, model: str, status: str, count: int) -> None:
        row = {"event": "request", "ts": time.time_ns() // 1000, "model": model, "status": status}
        answer = httpx.post(f"{self.server.url}/v1/events", json=[row] * count, timeout=30)
        assert answer.json()["accepted"] == count, answer.text

    def fires(self, model: str) -> float:
        """Errors of a model; seconds from the POST to the message at the hook."""
        began_s = time.monotonic()
        self.requests(model, "error", 10)
        eventually(lambda: told(self.hook).get(model))
        return time.monotonic() - began_s

    def delivered(self) -> int:
        """Messages that the server has noted as taken."""
        text = httpx.get(f"{self.server.url}/metrics", timeout=30).text
        found = re.search(r'penstock_pipeline_work_total\{kind="deliveries"\} (\d+)', text)
        return int(found[1]) if found else 0

    def alert(self, model: str) -> dict[str, Any]:
        """The open alert of a model, once there is one."""

        def found() -> dict[str, Any] | None:
            alerts = self.server.get("/v1/alerts").json()["alerts"]
            return next((one for one in alerts if one["labels"]["model"] == model), None)

        one: dict[str, Any] = eventually(found)
        return one

    def explained(self, model: str) -> Any:
        """What was found out about the last alert of a model; None while nothing is."""
        alerts = self.server.get("/v1/alerts", state="all").json()["alerts"]
        last = next(one["id"] for one in alerts if one["labels"]["model"] == model)
        return self.server.get(f"/v1/alerts/{last}").json()["explained"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with HookServer() as hook:
        made = Running(tmp_path_factory.mktemp("notify"), hook)
        made.server.start()
        yield made
        made.server.stop()


def test_fires_survives_a_kill_and_resolves(running: Running) -> None:
    """The alert, and the verdict of the gate that it breaks too."""
    running.fires("chat")
    # Killed before it is noted, the same message with the same key would come once more.
    eventually(lambda: running.delivered() == 2)
    running.server.kill()
    running.server.start()
    running.requests("chat", "ok", 30)
    eventually(lambda: len(told(running.hook)["chat"]) > 1)
    time.sleep(2)  # whatever would be told twice has been told by now
    assert told(running.hook)["chat"] == ["firing", "resolved"]
    assert len(running.hook.seen) == 3
    (verdict,) = (m for m in messages(running.hook) if m.get("kind") == "verdict")
    assert (verdict["gate"], verdict["verdict"], verdict["action"]) == (
        "limits",
        "FAIL",
        "rollback",
    )
    stored = running.server.get("/v1/gates/limits/verdict").json()
    assert (stored["verdict"], stored["epoch"]) == ("FAIL", verdict["epoch"])
    assert "people are told of alerts, by 1 receivers" in running.server.log.read_text()
    explained = eventually(lambda: running.explained("chat"))
    assert explained["sentences"][0].startswith("error rate: 100 %")
    assert explained["note"] == "there are no rows before to compare with"


def test_a_silence_of_the_api_keeps_it_quiet_until_it_ends(running: Running) -> None:
    body = {
        "id": "s1",
        "matchers": [{"label": "model", "value": "quiet"}],
        "reason": "moving",
        "author": "ann",
        "duration_s": 600,
    }
    url = f"{running.server.url}/v1/silences"
    assert httpx.post(url, json=body).status_code == 201
    running.requests("quiet", "error", 10)
    assert running.alert("quiet")["quiet"] == "silence:s1"
    time.sleep(2)
    assert "quiet" not in told(running.hook)
    assert httpx.delete(f"{url}/s1").status_code == 200
    eventually(lambda: told(running.hook).get("quiet"))
    assert told(running.hook)["quiet"] == ["firing"]


def test_how_long_it_takes(running: Running) -> None:
    """Measured, not judged: other work on the machine is not ours to judge."""
    took_s = [running.fires(f"model-{number}") for number in range(3)]
    shown = ", ".join(f"{seconds:.2f}" for seconds in took_s)
    print(f"\nPOST to message at the hook, embedded, s: {shown}")  # noqa: T201
    eventually(lambda: running.delivered() >= 3)


def notify(running: Running, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "penstock", "notify", "--store", running.server.store_url]
    command += ["--config", str(running.config), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_once_from_a_shell(running: Running) -> None:
    """The server has ended with an alert that nobody was told of: its receiver was away."""
    hook = running.hook
    hook.replies = [Reply(503)]
    running.requests("last", "error", 10)
    eventually(lambda: told(hook).get("last"))
    running.server.stop()
    hook.replies, before = [Reply()], len(hook.seen)
    time.sleep(2)  # the longest pause after a first failure
    done = notify(running, "--once")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("1 messages delivered, 0 given up, 0 wait for the next time\n")
    assert told(hook)["last"] == ["firing"]
    again = notify(running, "--once")
    assert again.stdout.startswith("0 notifications, 0 messages delivered")
    assert len(hook.seen) == before + 1


# -- the store itself: what the unit tests take for granted


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with opened_store(tmp_path_factory.mktemp("store")) as opened:
        insert(
            opened,
            "settings",
            [{"name": "shards", "value": "2", "updated_at": "2026-01-01 00:00:00"}],
        )
        yield opened


def change(store: Store, shard: int, last: Entry | None, *items: Transition) -> Entry | None:
    """Changes as an evaluator stores them."""
    entries = []
    for one in items:
        last = append(last, one.at_s, "alert", "penstock", json.loads(one.to_json()))
        entries.append(last)
    store.insert("alert_transitions_rows", transition_rows(items, shard, 0), items[0].id)
    store.insert("audit_log_rows", entry_rows(entries, f"shard-{shard}"), items[0].id)
    return last


def test_of_two_inserts_with_one_term_the_first_counts(store: Store) -> None:
    one, two = StoreLease(store, "race", "one"), StoreLease(store, "race", "two")
    assert one.take()
    one._insert(2, "one")
    two._insert(2, "two")
    assert two._read() == (2, "one")
    assert not two.take()
    assert two.other == "one"
    one.renew()
    two._alone = True
    assert two.take()
    with pytest.raises(LeaseLost):
        one.renew()
    two.give_back()
    assert one.take()


def test_what_is_read_of_the_store(store: Store) -> None:
    feed, reader = AlertFeed(store), AlertFeed(store)
    assert feed.start([], 10) == []
    now_s = int(time.time())
    first = item("a", "pending", now_s - 9, 0)
    told_of = [
        first,
        item("a", "firing", now_s - 5, 1, model="it's"),
        item("old", "firing", now_s - 99, 0),
        item("old", "resolved", now_s - 90, 1),
    ]
    last = change(store, 0, None, *told_of)
    change(store, 1, None, item("b", "firing", now_s - 5, 0))
    assert [one.alert_id for one in feed.news()] == ["a", "a", "old", "old", "b"]
    assert feed.news() == []
    change(store, 0, last, item("a", "amended", now_s - 3, 1))
    assert [one.kind for one in feed.news()] == ["amended"]
    assert {one.alert_id for one in reader.start([], 0)} == {"a", "b"}
    assert reader.news() == []
    assert {one.alert_id for one in reader.start(["old"], 0)} == {"a", "b", "old"}
    assert {one.alert_id for one in reader.start([], 10)} == {"a", "b", "old"}
    history = reader.history(["a"])
    assert history[:2] == told_of[:2]
    assert [one.kind for one in history] == ["pending", "firing", "amended"]
    taken = {"alert_id": "a", "who": "ann", "at": now_s, "until": None, "reason": "", "version": 1}
    insert(store, "acknowledgements_rows", [taken])
    assert reader.acknowledged(["a", "b"], now_s) == {"a"}


def test_a_notifier_goes_on_where_another_one_ended(store: Store) -> None:
    insert(
        store,
        "silences_rows",
        [
            {
                "id": "s",
                "matchers": '[{"label": "alertname", "op": "=", "value": "a"}]',
                "reason": "r",
                "author": "ann",
                "starts_at": 0,
                "ends_at": int(time.time()) + 600,
                "version": 1,
            }
        ],
    )
    with HookServer() as hook:
        section = Alerts.model_validate(
            {
                "receivers": [{"kind": "webhook", "name": "hook", "url": hook.url}],
                "route": {"receivers": ["hook"], "group_wait_s": 0, "group_interval_s": 1},
            }
        )
        for _ in range(2):
            running = Notifier(store, section, Sender(Secrets({})))
            running.start()
            eventually(lambda: deliveries(store) == DELIVERED)
            works(running)
            running.stop()
    (seen,) = hook.seen
    assert [alert["id"] for alert in json.loads(seen.body)["alerts"]] == ["b"]


def works(notifier: Notifier) -> None:
    eventually(lambda: not notifier.failure)


DELIVERED = [{"receiver": "hook", "state": "delivered", "attempts": 1}]


def deliveries(store: StoreReader) -> list[dict[str, Any]]:
    return store.query("SELECT receiver, state, attempts FROM penstock.deliveries")
