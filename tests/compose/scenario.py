"""What is done to the running stack, and what must be true of it."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from penstock.tests.compose.dashboards import queries
from penstock.tests.compose.progress import Failed, say, step
from penstock.tests.compose.stack import Api, Container, Reader, Stack

T = TypeVar("T")
_SETTLE_S = 120.0
_GATE = "canary-limits"
# View of each kind of event.
_VIEWS = {"request": "requests", "step": "steps", "feedback": "feedback", "release": "releases"}
_METRICS = (
    "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9187/metrics').read().decode())"
)
_FORBIDDEN = (
    "INSERT INTO penstock.probe SELECT now64(6)",
    "DROP TABLE penstock.probe",
    "SELECT * FROM file('/etc/passwd', 'LineAsString')",
    "SELECT 1 SETTINGS max_execution_time = 0",
)


class Traffic(threading.Thread):
    """Demo traffic beside whatever else is done.

    Args:
        stack: to send to.
        head_s: how much of the trace is replayed, in seconds of its own time; 40 take one.
        seed: of what is drawn.
    """

    def __init__(self, stack: Stack, head_s: int, seed: int) -> None:
        super().__init__(name="traffic")
        self._stack = stack
        self._flags = (f"--head={head_s}", f"--seed={seed}", "--json")
        self._sent: Counter[str] | None = None
        self._error: Failed | None = None
        self.start()

    def run(self) -> None:
        try:
            command = self._stack.configuration()["services"]["demo"]["command"]
            told = self._stack.run("demo", *command, *self._flags)
            document = json.loads(told.splitlines()[-1])
            if document["undelivered"]:
                raise Failed(f"not everything was delivered: {document}")
            self._sent = Counter(document["emitted"])
        except Failed as error:
            self._error = error

    def sent(self) -> Counter[str]:
        """Events by kind, once all is sent.

        Raises:
            Failed: the traffic broke off.
        """
        self.join()
        if self._error is not None or self._sent is None:
            raise self._error or Failed("the traffic ended without a word")
        return self._sent


class Scenario:
    """One run through everything.

    Args:
        stack: not yet up.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._sent: Counter[str] = Counter()
        self._rejected = 0

    def play(self) -> None:
        """Everything, in order.

        Raises:
            Failed: at the first thing that is not as it should be.
        """
        with step("docker compose up, until everything is healthy"):
            self._stack.up()
        self._meet()
        with step("demo traffic"):
            self._sent += Traffic(self._stack, 900, 1).sent()
        self._everything_once()
        self._answers()
        self._json_over_http()
        self._everything_once()
        self._reader()
        self._death_of_a_worker()
        self._everything_once()
        self._verdict_on_the_canary()
        with step("starting it again"):
            self._stack.up(workers=2)
        self._everything_once()
        self._commands()

    def _meet(self) -> None:
        """With what `init-secrets --show` tells people, and a key that they make."""
        show = ("init-secrets", "--dir", "/run/penstock", "--show")
        told = self._stack.run("secrets", *show).splitlines()
        found = dict(line.split(": ", 1) for line in told if ": " in line)
        self._store = Reader(self._stack.store_url, found["clickhouse reader"])
        self._api = Api(self._stack.api_url, found["api key"])
        make = ("penstock", "keys", "create", "--data", "/run/penstock", "--name", "ci")
        key = self._stack.exec("api", *make, "--scope", "gate").strip()
        Api(self._stack.api_url, key).get(f"/v1/gates/{_GATE}/verdict")

    def _everything_once(self) -> None:
        """Every event once: count == unique identities == sent, by plain queries of Grafana's user."""

        def settled() -> bool | None:
            found = {kind: self._counts(_VIEWS[kind]) for kind in self._sent}
            if any(found[kind][0] > count for kind, count in self._sent.items()):
                raise Failed(f"sent {dict(self._sent)}, stored as (count, unique): {found}")
            self._seen = found
            return all(found[kind] == (n, n) for kind, n in self._sent.items()) or None

        with step("every event in the store, once"):
            try:
                _until(settled, "every event stored")
            except Failed as error:
                raise Failed(f"{error}: sent {dict(self._sent)}, stored {self._seen}") from error
            rejected = self._store.number("SELECT count() FROM penstock.quarantine")
            if rejected != self._rejected:
                raise Failed(f"{rejected} rows are in quarantine, not {self._rejected}")
        say(f"sent and stored: {dict(self._sent)}; in quarantine: {rejected}")

    def _counts(self, view: str) -> tuple[int, int]:
        sql = f"SELECT count() AS count, uniqExact(boot_id, seq) AS unique FROM penstock.{view}"
        row = self._store.query(sql)[0]
        return int(row["count"]), int(row["unique"])

    def _answers(self) -> None:
        """A verdict and a window over the API."""

        def verdict() -> Any:
            found = self._api.get(f"/v1/gates/{_GATE}/verdict")
            return found if found["verdict"] in ("PASS", "FAIL", "UNDECIDED") else None

        def window() -> Any:
            start = (datetime.now(UTC) - timedelta(hours=3)).isoformat()
            asked = {"window": "1m", "metric": "requests,latency_ms_p95", "start": start}
            answer = self._api.get("/v1/windows", **asked)
            values = [point["values"] for one in answer["series"] for point in one["points"]]
            return next((value for value in values if value["requests"]), None)

        with step("a verdict and a window from the API"):
            say(f"gate {_GATE}: {_until(verdict, 'a verdict')['verdict']}")
            say(f"a window: {_until(window, 'a window with requests')}")

    def _commands(self) -> None:
        """What people run beside the stack; each ends with an error where something is wrong."""
        with step("penstock doctor, dead-letters, audit"):
            self._stack.run("topics", "doctor")
            told = self._stack.run("topics", "dead-letters", "list", "--json")
            (letter,) = json.loads(told)["dead_letters"]
            opened = self._stack.run("topics", "dead-letters", "show", letter["id"], "--reveal")
            if "splendid" not in opened:
                raise Failed(f"what was sealed is not what is opened: {opened}")
            say(self._stack.run("topics", "audit").strip().splitlines()[-1])

    def _verdict_on_the_canary(self) -> None:
        """The demo's canary is too slow, whatever happened to the workers meanwhile."""

        def failed() -> bool | None:
            verdict: str = self._api.get(f"/v1/gates/{_GATE}/verdict")["verdict"]
            return verdict == "FAIL" or None

        with step("the verdict on the slow canary is FAIL"):
            _until(failed, "FAIL")

    def _json_over_http(self) -> None:
        """Foreign JSON by way of the API, twice with one key; one of its rows is wrong."""
        good = {"event": "request", "ts": time.time_ns() // 1000, "model": "m", "latency_ms": 5}
        rows = [good, good | {"status": "splendid"}, good | {"status": "timeout"}]
        with step("JSON over HTTP, twice, with a bad row"):
            for _ in range(2):
                self._api.post("/v1/events", rows, key="compose-1")
        self._sent["request"] += 2
        self._rejected += 1

    def _reader(self) -> None:
        """Grafana's user sees every panel and can change nothing."""
        with step("the dashboards' queries, and what the reader may not do"):
            empty = [title for title, sql in queries() if not self._store.query(sql)]
            if empty:
                raise Failed(f"panels without rows: {', '.join(empty)}")
            for sql in _FORBIDDEN:
                if (answer := self._store.send(sql)).status_code == 200:
                    raise Failed(f"the reader may {sql}: {answer.text[:200]}")

    def _death_of_a_worker(self) -> None:
        traffic = Traffic(self._stack, 3500, 2)
        with step("scaling to two workers under traffic"):
            self._stack.up(workers=2)
            shares = _until(self._shares, "two workers with partitions each")
        if not traffic.is_alive():  # a slow machine; what is killed must have work
            self._sent += traffic.sent()
            traffic = Traffic(self._stack, 3500, 3)
            time.sleep(10)
        victim = max(shares, key=lambda one: shares[one])
        with step(f"killing the one with {shares[victim]} partitions, and traffic to its end"):
            self._stack.kill(victim)
            if not traffic.is_alive():
                raise Failed("the traffic was over before the worker was killed")
            self._sent += traffic.sent()

    def _shares(self) -> dict[Container, int] | None:
        """Partitions of the events topic by worker, once two have some."""
        workers = [one for one in self._stack.containers() if one.service == "worker"]
        told = {one: self._stack.inside(one, "python", "-c", _METRICS) for one in workers}
        shares = {one: text.count('topic="penstock.events"') for one, text in told.items()}
        return shares if len(shares) == 2 and all(shares.values()) else None


def _until(ask: Callable[[], T | None], what: str) -> T:
    until = time.monotonic() + _SETTLE_S
    while time.monotonic() < until:
        found = ask()
        if found is not None:
            return found
        time.sleep(1)
    raise Failed(f"not within {_SETTLE_S:g} s: {what}")
