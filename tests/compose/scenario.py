"""What is done to the running stack, and what must be true of it."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from typing import Any

from penstock.tests.compose.dashboards import queries
from penstock.tests.compose.progress import Failed, say, step
from penstock.tests.compose.stack import Api, Reader, Stack, demo_command

_SETTLE_S = 120.0
_GATE = "canary-limits"
# View of each kind of event.
_VIEWS = {"request": "requests", "step": "steps", "feedback": "feedback", "release": "releases"}
_FIRST = ("--head=900", "--seed=1", "--json")
_SECOND = ("--head=1800", "--seed=2", "--json")


class Traffic(threading.Thread):
    """Demo traffic beside whatever else is done.

    Args:
        stack: to send to.
        command: of the service `demo`.
    """

    def __init__(self, stack: Stack, command: list[str]) -> None:
        super().__init__(name="traffic")
        self._stack, self._command = stack, command
        self._sent: Counter[str] | None = None
        self._error: Failed | None = None

    def run(self) -> None:
        try:
            document = json.loads(self._stack.run("demo", *self._command).splitlines()[-1])
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


def play(stack: Stack) -> None:
    """Everything, in order.

    Raises:
        Failed: at the first thing that is not as it should be.
    """
    configuration = stack.configuration()
    with step("docker compose up, until everything is healthy"):
        stack.up()
    api, reader = _clients(stack)
    with step("demo traffic"):
        first = Traffic(stack, demo_command(configuration, _FIRST))
        first.start()
        sent = first.sent()
    _expect_once(reader, sent)
    _expect_answers(api)
    _expect_reader(reader)
    second = Traffic(stack, demo_command(configuration, _SECOND))
    second.start()
    with step("scaling to two workers under traffic"):
        stack.up(workers=2)
    with step("killing one of them, and traffic to its end"):
        victim = next(one for one in stack.containers() if one.service == "worker")
        stack.kill(victim)
        sent += second.sent()
    _expect_once(reader, sent)
    with step("starting it again"):
        stack.up(workers=2)
    _expect_once(reader, sent)


def _clients(stack: Stack) -> tuple[Api, Reader]:
    """With what `init-secrets --show` tells people."""
    told = stack.run("secrets", "init-secrets", "--dir", "/run/penstock", "--show")
    found = dict(line.split(": ", 1) for line in told.splitlines() if ": " in line)
    reader = Reader(stack.store_url, found["clickhouse reader"])
    return Api(stack.api_url, found["api key"]), reader


def _expect_once(reader: Reader, sent: Counter[str]) -> None:
    """Every event once: count == unique identities == sent, by a plain query of Grafana's user."""
    until = time.monotonic() + _SETTLE_S
    with step("every event in the store, once"):
        while True:
            found = {kind: _counts(reader, _VIEWS[kind]) for kind in sent}
            if all(found[kind] == (count, count) for kind, count in sent.items()):
                break
            over = any(found[kind][0] > count for kind, count in sent.items())
            if over or time.monotonic() > until:
                raise Failed(f"sent {dict(sent)}, stored as (count, unique): {found}")
            time.sleep(1)
    say(f"sent and stored: {dict(sent)}")
    if quarantined := reader.number("SELECT count() FROM penstock.quarantine"):
        raise Failed(f"{quarantined} rows are in quarantine")


def _counts(reader: Reader, view: str) -> tuple[int, int]:
    sql = f"SELECT count() AS count, uniqExact(boot_id, seq) AS unique FROM penstock.{view}"
    row = reader.query(sql)[0]
    return int(row["count"]), int(row["unique"])


def _expect_answers(api: Api) -> None:
    """A verdict and a window over the API."""

    def verdict() -> Any:
        found = api.get(f"/v1/gates/{_GATE}/verdict")
        return found if found["verdict"] in ("PASS", "FAIL", "UNDECIDED") else None

    def window() -> Any:
        series = api.get("/v1/windows", window="1m", metric="requests,latency_ms_p95")["series"]
        values = [point["values"] for one in series for point in one["points"]]
        return next((value for value in values if value["requests"]), None)

    with step("a verdict and a window from the API"):
        say(f"gate {_GATE}: {_until(verdict, 'a verdict')['verdict']}")
        say(f"a window: {_until(window, 'a window with requests')}")


def _until(ask: Any, what: str) -> Any:
    until = time.monotonic() + _SETTLE_S
    while time.monotonic() < until:
        found = ask()
        if found is not None:
            return found
        time.sleep(1)
    raise Failed(f"the API does not give {what} within {_SETTLE_S:g} s")


def _expect_reader(reader: Reader) -> None:
    """Grafana's user sees every panel and can change nothing."""
    with step("the dashboards' queries, and what the reader may not do"):
        empty = [title for title, sql in queries() if not reader.query(sql)]
        say(f"panels without rows: {', '.join(empty) or 'none'}")
        for sql in (
            "INSERT INTO penstock.probe SELECT now64(6)",
            "DROP TABLE penstock.probe",
            "SELECT * FROM file('/etc/passwd', 'LineAsString')",
            "SELECT 1 SETTINGS max_execution_time = 0",
        ):
            if (answer := reader.send(sql)).status_code == 200:
                raise Failed(f"the reader may {sql}: {answer.text[:200]}")
