"""Two `penstock notify` beside one store: one works, the other waits; the first is killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from penstock.streams.storage.migrate import migrate
from penstock.streams.storage.store import Store
from penstock.tests.integration.test_notifier import change, eventually
from penstock.tests.support.chstore import StoreServer
from penstock.tests.support.hook_server import HookServer
from penstock.tests.support.ports import free_port
from penstock.tests.unit.streams.core.alerts.alerts_world import item

pytestmark = pytest.mark.slow

CONFIG = """
alerts:
  rules: [{{id: silent, condition: {{kind: absence, absent_s: 60}}}}]
  receivers: [{{kind: webhook, name: hook, url: "{url}"}}]
  route: {{receivers: [hook], group_wait_s: 0, group_interval_s: 1}}
"""


class Process:
    """One `penstock notify`."""

    def __init__(self, store_url: str, config: Path, log: Path) -> None:
        self.url, self._log = f"http://127.0.0.1:{(port := free_port())}", log
        command = [sys.executable, "-m", "penstock", "notify", "--store", store_url]
        command += ["--config", str(config), "--metrics-port", str(port)]
        with log.open("wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out)
        eventually(lambda: self.answers("/healthz") is not None)

    def answers(self, path: str) -> httpx.Response | None:
        assert self.process.poll() is None, self._log.read_text()
        try:
            return httpx.get(self.url + path, timeout=5)
        except httpx.HTTPError:
            return None

    def says(self, status: int, words: str) -> bool:
        answer = self.answers("/readyz")
        return answer is not None and answer.status_code == status and words in answer.text

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def world(folder: Path) -> Iterator[tuple[Store, HookServer, Process, Process]]:
    """A store behind HTTP with two shards, a hook, and two notifiers."""
    server = StoreServer(folder / "store")
    server.start()
    with ExitStack() as stack:
        stack.callback(server.stop)
        store = Store(server.url)
        stack.callback(store.close)
        migrate(store)
        store.command("INSERT INTO penstock.settings VALUES ('shards', '2', now64(6))")
        hook = stack.enter_context(HookServer())
        config = folder / "penstock.yaml"
        config.write_text(CONFIG.format(url=hook.url))
        first = Process(server.url, config, folder / "first.log")
        stack.callback(first.end)
        eventually(lambda: first.says(200, "ready"))
        second = Process(server.url, config, folder / "second.log")
        stack.callback(second.end)
        yield store, hook, first, second


def test_the_second_waits_and_goes_on_when_the_first_was_killed(tmp_path: Path) -> None:
    now_s = int(time.time())
    with world(tmp_path) as (store, hook, first, second):
        eventually(lambda: second.says(503, "works already"))
        change(store, 1, None, item("a", "firing", now_s))
        eventually(lambda: hook.seen)
        eventually(lambda: "deliveries_total 1" in str(first.answers("/metrics").text))  # type: ignore[union-attr] # it answers
        first.end()
        change(store, 0, None, item("b", "firing", now_s))
        eventually(lambda: second.says(200, "ready"))
        eventually(lambda: len(hook.seen) > 1)
        time.sleep(2)
        found = store.query(
            "SELECT alert_id, text FROM penstock.alert_explanations_rows ORDER BY 1"
        )
        told = [[alert["id"] for alert in json.loads(seen.body)["alerts"]] for seen in hook.seen]
    assert told == [["a"], ["b"]]
    # Both processes looked into the first one; it is stored once.
    why = "the rule was changed before it was looked into"
    assert [(row["alert_id"], row["text"]) for row in found] == [("a", why), ("b", why)]
