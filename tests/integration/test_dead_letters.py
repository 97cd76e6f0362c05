"""`penstock dead-letters` against real processes: a store over HTTP, an embedded server, a broker."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from penstock import cli
from penstock.schemas.frames import FrameHeader, encode_frame
from penstock.schemas.topics import EVENTS
from penstock.streams.dead_letters.letters import seal_rows
from penstock.streams.dead_letters.seal import Sealer
from penstock.streams.storage.publish import quarantine_rows
from penstock.tests.support.letters import NAME, World, now_us, opened_world, quarantined, request
from penstock.tests.support.store import unique

KEY = bytes(range(32))


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.COMMANDS, NAME, ("dead_letters", "dead_letters"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with opened_world(tmp_path_factory.mktemp("letters")) as found:
        yield found


# ---- list and show


def test_what_was_rejected_is_listed_without_what_must_not_be_seen(world: World) -> None:
    letter = world.rejected(request(latency_ms="ann@example.com", attributes={"password": "pw1x"}))
    assert letter["reason"] == "bad_value"
    assert letter["redriven"] is None
    assert "[email]" in letter["detail"]
    shown = world.ok("show", letter["id"]).output
    table = world.ok("list", "--reason", "bad_value", "--since", "1h").output
    assert f"{letter['id']} " in table
    assert re.search(r"\d+ of \d+ dead letters", table)
    for text in (json.dumps(letter), shown, table):
        assert "ann@" not in text
        assert "pw1x" not in text
    assert "[redacted]" in shown


def test_bytes_are_shown_only_when_asked_for(world: World) -> None:
    row = request(latency_ms="ann@example.com", model="\x1b[31m")
    letter = world.rejected(row)
    revealed = world.ok("show", letter["id"], "--reveal").output
    assert "ann@example.com" in revealed
    assert "\x1b" not in revealed
    assert json.loads(world.ok("show", letter["id"], "--raw").stdout_bytes) == row


def test_filters(world: World) -> None:
    offset = now_us()
    row = quarantined(offset, b"\x00", reason="undecodable", topic="t-1", sealed=False, preview="")
    letter = world.quarantine(row)
    for wanted in (["--topic", "t-1"], ["--partition", "3"], ["--reason", "undecodable"]):
        assert letter in [one["id"] for one in world.letters(*wanted, "--since", "5m")]
    for other in (
        ["--topic", ""],
        ["--partition", "4"],
        ["--reason", "bad"],
        ["--since", "2100-01-01"],
    ):
        assert letter not in [one["id"] for one in world.letters(*other)]
    assert len(world.letters("--limit", "1")) == 1
    assert "age such as" in world.run("list", "--since", "soon").output


def test_what_is_not_there_is_told_in_a_sentence(world: World) -> None:
    for arguments, text in (
        (["show", "1-0-999999-0"], "there is no dead letter 1-0-999999-0"),
        (["show", "17"], "such as 1-0-17-3"),
        (["redrive", "1-0-999999-0"], "there is no dead letter"),
        (["redrive", "--set", "seq=3"], "stored once"),
    ):
        result = world.run(*arguments)
        assert result.exit_code == 1
        assert text in result.output
        assert "Traceback" not in result.output


# ---- redrive


def test_a_row_that_is_still_wrong_is_not_sent(world: World) -> None:
    letter = world.rejected(row := request(status="okay"))
    result = world.redrive(letter["id"])
    assert result.exit_code == 1
    assert f"{letter['id']}  refused: unknown_value: status = 'okay'" in result.output
    assert world.stored(row["worker_id"]) == []
    # So its number is not used up: mended, it is stored.
    assert "1 stored" in world.redrive(letter["id"], "--set", "status=error").output
    assert [one["status"] for one in world.stored(row["worker_id"])] == ["error"]


def test_a_mended_row_is_stored_once_however_often_it_is_sent(world: World) -> None:
    row = request(
        request_id=unique("r"),
        model="chat",
        latency_ms=-812.345,  # out of range, so that its body is a row of columns
        cost_usd=0.00123,
        attributes={"plan": "pro"},
        features={"x": 1.5},
        safety_flags=["pii"],
        unknown_field="kept",
    )
    letter = world.rejected(row)
    assert letter["reason"] == "out_of_range"
    for outcome in ("1 stored", "1 stored before", "1 stored before"):
        result = world.redrive(letter["id"], "--set", "latency_ms=812.345")
        assert result.exit_code == 0, result.output
        assert outcome in result.output
    (stored,) = world.stored(row["worker_id"])
    assert stored["latency_ms"] == 812.345
    assert stored["cost_usd"] == 0.00123
    assert stored["attributes"] == {"plan": "pro", "unknown_field": "kept"}
    assert stored["features"] == {"x": 1.5}
    assert stored["safety_flags"] == ["pii"]
    assert (stored["request_id"], stored["model"]) == (row["request_id"], "chat")
    assert (stored["boot_id"], stored["seq"]) == (f"redrive-{letter['id']}", 0)
    (again,) = [one for one in world.letters() if one["id"] == letter["id"]]
    assert again["redriven"] is not None
    assert letter["id"] not in [one["id"] for one in world.letters("--waiting")]
    assert re.search(rf"{letter['id']} .* 20\d\d-", world.ok("list").output)


def test_the_boot_of_what_was_sent_again_is_closed_and_holds_nothing_back(world: World) -> None:
    letter = world.rejected(request(status="okay"))
    assert world.redrive(letter["id"], "--set", "status=ok").exit_code == 0
    until = time.monotonic() + 20
    while time.monotonic() < until:
        rows = world.store.query(
            "SELECT state, expected, received FROM penstock.coverage WHERE boot_id = {boot:String}",
            {"boot": f"redrive-{letter['id']}"},
        )
        if rows:
            break
        time.sleep(0.1)
    assert rows == [{"state": "closed", "expected": 1, "received": 1}]


@pytest.mark.slow
def test_all_that_match_after_a_question(world: World) -> None:
    mark = unique("reason")
    rows = []
    for number in range(70):  # more than are sent together
        worker = unique("w")
        body = json.dumps({"event": "request", "ts": now_us(), "worker_id": worker, "model": "m"})
        about = {"kind": "request", "worker_id": worker, "reason": mark, "detail": ""}
        rows.append(quarantined(now_us() + number, body.encode(), **about))
    world.store.insert("quarantine_rows", quarantine_rows(rows), mark)
    workers = [row["worker_id"] for row in rows]

    def stored() -> int:
        sql = "SELECT count() AS n FROM penstock.requests WHERE has({workers:Array(String)}, worker_id)"
        return int(world.store.query(sql, {"workers": workers})[0]["n"])

    rehearsed = world.redrive("--reason", mark, "--dry-run")
    assert "70 would be sent" in rehearsed.output
    refused = world.redrive("--reason", mark, input="n\n")
    assert "Send 70 dead letters to http" in refused.output
    assert refused.exit_code == 1
    assert stored() == 0
    assert "70 stored" in world.redrive("--reason", mark, input="y\n").output
    assert "none" in world.redrive("--reason", mark, "--yes").output
    assert "70 stored before" in world.redrive("--reason", mark, "--yes", "--again").output
    assert stored() == 70


def test_what_was_rejected_again_is_another_dead_letter_from_then_on(world: World) -> None:
    """Its number is used up, so that it would be taken for a duplicate and be stored nowhere."""
    row = request(status="okay")
    letter = world.rejected(row)
    again = {**row, "boot_id": f"redrive-{letter['id']}", "seq": 0, "worker_id": unique("w")}
    newer = world.rejected(again)
    result = world.redrive(letter["id"], "--set", "status=ok")
    assert f"it is dead letter {newer['id']} now" in result.output
    assert f"rejected_as {newer['id']}" in world.ok("show", letter["id"]).output
    assert "1 stored" in world.redrive(newer["id"], "--set", "status=ok").output
    assert len(world.stored(again["worker_id"])) == 1


def test_where_nobody_listens_nothing_is_marked(world: World) -> None:
    letter = world.rejected(request(status="okay"))
    result = world.run("redrive", letter["id"], "--set", "status=ok", "--url", "http://127.0.0.1:1")
    assert result.exit_code == 1
    assert "1 not sent" in result.output
    assert letter["id"] in [one["id"] for one in world.letters("--waiting", "--limit", "1000")]
    nowhere = world.run("redrive", letter["id"], "--set", "status=ok")
    assert nowhere.exit_code == 2
    assert "--url of a server, or --kafka" in nowhere.output


def test_what_is_no_row_says_how_to_get_at_it(world: World) -> None:
    world.post(request(), broken := '{"broken": ' + unique("x"))
    letter = next(one for one in world.letters() if one["preview"] == broken)
    result = world.redrive(letter["id"])
    assert "refused: its bytes are no JSON" in result.output
    assert world.ok("show", letter["id"], "--raw").stdout == broken


# ---- sealed


def test_sealed_bytes_need_their_key(world: World, tmp_path: Path) -> None:
    row = quarantined(now_us(), b"secret of ann@example.com")
    letter = world.quarantine(seal_rows([row], Sealer(KEY), EVENTS)[0])
    shown = world.ok("show", letter).output
    assert "secret of [email]" in shown
    assert re.search(r"sealed +yes", shown)
    assert "give the key" in world.run("show", letter, "--reveal").output
    other = tmp_path / "other.key"
    other.write_bytes(bytes(32))
    other.chmod(0o600)
    wrong = world.run("show", letter, "--raw", "--sealing-key", str(other))
    assert "sealed with key" in wrong.output
    assert "secret" not in wrong.output
    env = {
        "PENSTOCK_SEALING_KEY": base64.b64encode(KEY).decode(),
        "PENSTOCK_SEALING_KEY_FILE": None,
    }
    assert world.ok("show", letter, "--raw", env=env).stdout == "secret of ann@example.com"
    held = world.store.query(
        "SELECT base64Encode(body) AS held FROM penstock.quarantine WHERE sealed"
    )
    assert all(b"ann@" not in base64.b64decode(one["held"]) for one in held)


def test_a_sealed_frame_is_stored_once(world: World, tmp_path: Path) -> None:
    worker = unique("w")
    header = FrameHeader(
        kind="request", worker_id=worker, boot_id=unique("b"),
        seq0=0, count=3, next_seq=3, clock_us=now_us(), closing=True,
    )  # fmt: skip
    frame = encode_frame(header, [{"ts": now_us(), "model": "m"}] * 3)
    row = quarantined(now_us(), frame)
    letter = world.quarantine(seal_rows([row], Sealer(KEY), EVENTS)[0])
    key = tmp_path / "sealing.key"
    key.write_bytes(KEY)
    key.chmod(0o600)
    assert "give the key" in world.redrive(letter).output
    for outcome in ("1 stored", "1 stored before"):
        assert outcome in world.redrive(letter, "--sealing-key", str(key)).output
    assert len(world.stored(worker)) == 3
    assert world.ok("show", letter, "--raw", "--sealing-key", str(key)).stdout_bytes == frame
