from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from penstock.schemas.redaction import DEFAULT, Redactor
from penstock.streams.core.preview import escape, redact_detail, redact_preview
from penstock.tests.support.private_texts import SECRETS, TEXTS

REDACTOR = Redactor(DEFAULT)


@settings(deadline=None)
@given(TEXTS | st.binary(max_size=200), st.integers(20, 200))
def test_a_preview_is_short_printable_and_holds_nothing(body: str | bytes, limit: int) -> None:
    data = body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")
    preview = redact_preview(data, limit)
    assert len(preview) <= limit
    assert preview.isprintable()
    assert REDACTOR.text(preview) == preview


@settings(deadline=None)
@given(st.dictionaries(TEXTS, TEXTS, max_size=4), st.sampled_from(sorted(SECRETS)))
def test_a_preview_of_a_row_shows_no_secret(row: dict[str, str], secret: str) -> None:
    body = json.dumps({**row, "password": "hunter2hunter2", "note": secret}).encode()
    for cut in (len(body), len(body) - 1, len(body) // 2):
        preview = redact_preview(body[:cut])
        assert "hunter2hunter2" not in preview
        assert secret not in preview or secret in json.dumps(row)


def test_previews() -> None:
    row = {"event": "request", "latency_ms": "fast", "email": 5, "client_ip": "10.0.0.1"}
    assert json.loads(redact_preview(json.dumps(row).encode())) == {
        **row,
        "email": "[redacted]",
        "client_ip": "[redacted]",
    }
    assert redact_preview(b'{"email": "not an address", "n": 1') == '{"email": [redacted], "n": 1'
    assert redact_preview(b"a\x1b[31mred\r\n\x00") == "a\\x1b[31mred\\r\\n\\x00"
    assert redact_preview(b"x" * 1000, 10) == "xxxxxxxxx…"
    assert redact_preview(b"") == ""
    assert (
        redact_preview(b"\xff\xfe" + "call ann@example.com".encode("utf-16-le")) == "call [email]"
    )
    frame = b"PSF1\x01\xff\xff worker of ann@example.com \x80\x81"
    assert redact_preview(frame) == "<binary, 36 bytes>  worker of [email]"


@pytest.mark.parametrize(
    "hidden", ["ann\u200b@example.com", "ann@exa\x00mple.com", "4111\x0011111111\x001111"]
)
def test_what_cannot_be_seen_does_not_hide_what_can(hidden: str) -> None:
    preview = redact_preview(f"to {hidden}".encode())
    assert preview in ("to [email]", "to [card]")


def test_a_preview_of_much_is_made_of_its_beginning() -> None:
    body = b"ann@example.com " * 200_000
    before = time.process_time()
    preview = redact_preview(body)
    assert time.process_time() - before < 1
    assert preview.startswith("[email] [email]")
    assert "ann" not in preview
    assert redact_preview("é".encode() * 9000 + b"x", 20) == "é" * 19 + "…"


@pytest.mark.parametrize(
    ("detail", "expected"),
    [
        ("latency_ms = -5", "latency_ms = -5"),
        ("status = 'okay'", "status = 'okay'"),
        ("status = 'ann@exam' is wrong", "status = '[email]' is wrong"),
        ('attributes = {"password":"hunter2","x":', 'attributes = {"password":"[secret]","x":'),
        ("ts = '4111 1111 1111 1111'", "ts = '[card]'"),
    ],
)
def test_details_quote_no_personal_data(detail: str, expected: str) -> None:
    assert redact_detail(detail) == expected


def test_escape() -> None:
    assert escape("plain é ✓") == "plain é ✓"
    assert escape("\t\x9b\u202e\ud800") == "\\t\\x9b\\u202e\\ud800"
