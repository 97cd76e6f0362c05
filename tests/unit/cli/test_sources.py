"""`penstock alerts` against a server that answers what it is told to, and what every command says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from penstock.cli import COMMANDS, main
from penstock.cli.alerts import parse_matcher

ALERT = {
    "id": "a1", "severity": "critical", "state": "firing", "at": "2026-01-01T00:00:00Z",
    "rule": "slow", "text": "8 %", "quiet": "silence:s-1", "acknowledged": {"who": "ann"},
}  # fmt: skip
SILENCE = {
    "id": "s-1", "state": "active", "ends_at": "2026-01-01T02:00:00Z", "author": "ann",
    "reason": "move", "matchers": [{"label": "model", "op": "=", "value": "chat"}],
}  # fmt: skip


class Server(HTTPServer):
    """Remembers questions; `answers` by method and path without the query."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, Any, str | None]] = []
        self.answers: dict[tuple[str, str], tuple[int, str]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length)) if length else None
        key = self.headers.get("Authorization")
        self.server.asked.append((self.command, self.path, body, key))
        status, text = self.server.answers[self.command, self.path.partition("?")[0]]
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815

    def log_message(self, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    thread = threading.Thread(target=found.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield found
    finally:
        found.shutdown()
        found.server_close()
        thread.join()


def run(*arguments: str) -> Result:
    env = {"PENSTOCK_STORE": None, "PENSTOCK_API_KEY": None, "PENSTOCK_CONFIG": None}
    return CliRunner(env=env).invoke(main, arguments)


def test_alerts_are_listed(server: Server) -> None:
    counts = {"info": 0, "warning": 2, "critical": 1, "emergency": 0}
    found = {"alerts": [ALERT, ALERT | {"quiet": None, "acknowledged": None}], "counts": counts}
    server.answers["GET", "/v1/alerts"] = 200, json.dumps(found)
    shown = run("alerts", "list", "--url", server.url, "--severity", "critical", "--api-key", "k")
    assert shown.exit_code == 0, shown.output
    assert "silence:s-1, taken by ann" in shown.output
    assert "2 listed; firing: 2 warning, 1 critical" in shown.output
    assert server.asked == [
        ("GET", "/v1/alerts?limit=100&state=open&severity=critical", None, "Bearer k")
    ]
    as_json = run("alerts", "list", "--url", server.url, "--since", "2026-01-01T00:00Z", "--json")
    assert json.loads(as_json.output) == found
    assert server.asked[-1][1].endswith("since=1767225600000000")
    assert run("alerts", "list", "--url", server.url, "--since", "soon").exit_code == 2


def test_an_alert_is_shown_with_what_changed(server: Server) -> None:
    change = {"at": "2026-01-01T00:00:00Z", "kind": "firing", "reason": "condition", "text": "8 %"}
    found = ALERT | {
        "labels": {"alertname": "slow", "severity": "critical", "group": "g", "model": "chat"},
        "started": "2026-01-01T00:00:00Z", "ended": None, "amended_text": None,
        "annotations": {"summary": "chat is slow"}, "runbook": "docs/r.md",
        "explained": {"sentences": ["error rate: 8 %", "variant=\x1bcanary explains it"]},
        "transitions": [change],
    }  # fmt: skip
    server.answers["GET", "/v1/alerts/a1"] = 200, json.dumps(found)
    shown = run("alerts", "show", "a1", "--url", server.url)
    assert shown.exit_code == 0, shown.output
    assert shown.output.splitlines()[:9] == [
        "alert         slow: critical, firing",
        "where         model=chat",
        "since         2026-01-01T00:00:00Z",
        "value         8 %",
        "summary       chat is slow",
        "what changed  error rate: 8 %",
        "              variant=\\x1bcanary explains it",
        "notes         silence:s-1, taken by ann",
        "runbook       docs/r.md",
    ]
    assert "firing" in shown.output.splitlines()[-1]
    as_json = run("alerts", "show", "a1", "--url", server.url, "--json")
    assert json.loads(as_json.output) == found
    server.answers["GET", "/v1/alerts/a1"] = 200, json.dumps(found | {"explained": None})
    assert "not found out yet" in run("alerts", "show", "a1", "--url", server.url).output


def test_silences(server: Server) -> None:
    server.answers["POST", "/v1/silences"] = 201, json.dumps(SILENCE)
    server.answers["DELETE", "/v1/silences/s-1"] = 200, json.dumps(SILENCE)
    server.answers["GET", "/v1/silences"] = 200, json.dumps({"silences": [SILENCE]})
    where = ("--url", server.url)
    done = run("alerts", "silence", "model=chat", "--reason", "move", "--author", "ann", *where)
    assert done.exit_code == 0, done.output
    assert "model=chat" in done.output
    body = {"matchers": SILENCE["matchers"], "reason": "move", "author": "ann", "duration_s": 7200}
    assert server.asked[-1][2] == body
    own = ("--id", "mine", "--for", "1h", "--json")
    done = run("alerts", "silence", "a=b", "--reason", "r", "--author", "x", *own, *where)
    assert json.loads(done.output) == SILENCE
    assert (server.asked[-1][2]["id"], server.asked[-1][2]["duration_s"]) == ("mine", 3600)
    assert run("alerts", "silence", "--end", "s-1", *where).exit_code == 0
    assert "1 silences" in run("alerts", "silence", "--list", *where).output


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("a=b",),
        ("a=b", "--list", "--reason", "r"),
        ("a b", "--reason", "r"),
        ("a=b", "--reason", "r", "--for", "ever"),
    ],
)
def test_silences_that_make_no_sense(arguments: tuple[str, ...]) -> None:
    assert run("alerts", "silence", *arguments, "--url", "http://127.0.0.1:9").exit_code == 2


def test_an_alert_is_taken(server: Server) -> None:
    taken = {"who": "ann", "at": "t", "until": None, "reason": ""}
    server.answers["POST", "/v1/alerts/a1/acknowledge"] = 200, json.dumps(taken)
    where = ("--url", server.url, "--who", "ann")
    assert run("alerts", "ack", "a1", *where).output == "ann has taken a1 until it ends\n"
    assert server.asked[-1][2] == {"who": "ann", "reason": ""}
    until = "2026-01-01T02:00:00Z"
    assert (
        json.loads(run("alerts", "ack", "a1", "--until", until, "--json", *where).output) == taken
    )
    assert server.asked[-1][2]["until"] == until


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((404, '{"detail": "there is no alert a1"}'), "there is no alert a1"),
        ((502, "<html>"), "the server answered 502"),
        ((200, "<html>"), "answers no JSON"),
    ],
)
def test_what_went_wrong_is_told(server: Server, answer: tuple[int, str], words: str) -> None:
    server.answers["GET", "/v1/alerts"] = answer
    done = run("alerts", "list", "--url", server.url)
    assert done.exit_code == 1
    assert words in done.output


def test_where_to_ask() -> None:
    assert "--url of a server, or --store" in run("alerts", "list").output
    assert "http(s) address" in run("alerts", "list", "--url", "localhost:8080").output
    assert "did not answer" in run("alerts", "list", "--url", "http://127.0.0.1:9").output
    assert "there is no folder" in run("slo", "report", "--store", "chdb:///nowhere/db").output


def test_matchers() -> None:
    for text, parts in {
        "a=b": ("a", "=", "b"),
        'a!="b c"': ("a", "!=", "b c"),
        "a=~x|y": ("a", "=~", "x|y"),
        "a!~=": ("a", "!~", "="),
        "a=": ("a", "=", ""),
    }.items():
        assert parse_matcher(text) == dict(zip(("label", "op", "value"), parts, strict=True))
    with pytest.raises(click.BadParameter):
        parse_matcher("1=b")


def test_every_new_command_has_an_example_and_json() -> None:
    context = click.Context(main)
    for name in ("slo", "alerts", "audit-log", "export", "check"):
        assert name in COMMANDS
        command = main.get_command(context, name)
        commands = command.commands.values() if isinstance(command, click.Group) else [command]
        for one in commands:
            assert one is not None
            assert "Example:" in (one.help or ""), one.name
            assert "--json" in {option for item in one.params for option in item.opts}
