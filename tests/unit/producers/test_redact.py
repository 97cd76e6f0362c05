from __future__ import annotations

import json
import logging
import re
import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from penstock.producers.redact import KeyedHash
from penstock.schemas.redaction import DEFAULT_PATTERNS, Pattern, Redaction, Redactor
from penstock.schemas.redaction_patterns import luhn_valid

REDACTOR = Redactor(Redaction())
DIGITS = st.text(string.digits, min_size=14, max_size=14)
WORDS = st.text(string.ascii_letters + " .,!?\n", max_size=40)


def check_digit(digits: str) -> str:
    return next(d for d in string.digits if luhn_valid(digits + d))


@st.composite
def cards(draw: st.DrawFn) -> str:
    digits = draw(st.sampled_from("3456")) + draw(DIGITS)
    digits += check_digit(digits)
    separator = draw(st.sampled_from(["", " ", "-"]))
    return separator.join(digits[i : i + 4] for i in range(0, 16, 4))


@given(WORDS, cards(), WORDS)
def test_no_card_survives_in_any_text(before: str, card: str, after: str) -> None:
    redacted = REDACTOR.text(f"{before} {card} {after}")
    assert re.sub(r"\D", "", card) not in re.sub(r"\D", "", redacted)
    assert "[card]" in redacted


@given(cards(), st.sampled_from(["12/26", "12 26", "123", "0042"]))
def test_a_card_is_found_beside_other_numbers(card: str, other: str) -> None:
    assume(len(card) > 16)
    assert "[card]" in REDACTOR.text(f"pay {card} {other} please")
    assert "[card]" in REDACTOR.text(f"pay {other} {card}")


@given(
    st.from_regex(r"[a-zA-Z0-9_.+-]{1,30}@[a-z0-9-]{1,20}\.(com|co\.uk|io)", fullmatch=True), WORDS
)
def test_no_email_survives(email: str, around: str) -> None:
    redacted = REDACTOR.text(f"{around} {email}, {around}")
    assert email not in redacted
    assert "@" not in redacted


@pytest.mark.parametrize(
    "text",
    [
        "call +1 (415) 555-2671",
        "call (415) 555-2671 now",
        "415-555-2671",
        "415.555.2671.",
        "+44 20 7946 0958",
        "1-800-555-0199",
    ],
)
def test_telephone_numbers(text: str) -> None:
    redacted = REDACTOR.text(text)
    assert "[phone]" in redacted
    assert not re.search(r"\d{3}", redacted)


def test_us_social_security_numbers() -> None:
    assert REDACTOR.text("ssn 123-45-6789.") == "ssn [national_id]."
    assert REDACTOR.text("123 45 6789") == "[national_id]"


@pytest.mark.parametrize(
    "text",
    [
        "took 1234567890123 ns at 1700000000.123",
        "0123456789abcdef0123456789abcdef",
        "step 4111111111111112 of 10",
        "2024-01-02 03:04:05 192.168.10.1",
        "000-12-3456 is no number of anybody",
        "float 3.14159265358979",
        "user at example dot com",
    ],
)
def test_ordinary_numbers_stay(text: str) -> None:
    assert REDACTOR.text(text) == text


@given(st.text(max_size=200))
def test_redaction_is_idempotent(text: str) -> None:
    once = REDACTOR.text(text)
    assert REDACTOR.text(once) == once


def test_long_payloads_take_linear_time() -> None:
    """A regex that backtracks would not come back from these within the test's time limit."""
    for text in ("a" * 400_000 + "@", "1 " * 200_000, "a@" * 100_000, "+1-" * 100_000):
        REDACTOR.text(text)


def test_named_fields_in_payloads_at_any_depth_and_spelling() -> None:
    payload = {
        "prompt": "write to ann@example.com",
        "user": [{"E-Mail": "not an address", "Password": "hunter2", "age": 7}],
        "headers": {"Authorization": "Bearer abc"},
        "ssn": 5,
    }
    redactor = Redactor(Redaction(fields=frozenset({"e_mail", "password", "authorization", "ssn"})))
    assert json.loads(redactor.payload(payload)) == {
        "prompt": "write to [email]",
        "user": [{"E-Mail": "[redacted]", "Password": "[redacted]", "age": 7}],
        "headers": {"Authorization": "[redacted]"},
        "ssn": "[redacted]",
    }


def test_a_payload_of_json_text_is_read_before_it_is_redacted() -> None:
    text = '{"password": "x", "prompt": "ann\\u0040example.com"}'
    assert json.loads(REDACTOR.payload(text)) == {"password": "[redacted]", "prompt": "[email]"}


def test_other_payloads() -> None:
    assert REDACTOR.payload("plain ann@example.com") == "plain [email]"
    assert REDACTOR.payload(b"bytes ann@example.com") == "bytes [email]"
    assert REDACTOR.payload("[broken ann@example.com") == "[broken [email]"
    assert json.loads(REDACTOR.payload({"card": 4111111111111111})) == {"card": "[card]"}
    assert json.loads(REDACTOR.payload({"x": object(), "n": None})) == {"x": "<object>", "n": None}
    assert json.loads(REDACTOR.payload({"ann@example.com": 1})) == {"[email]": 1}


def test_payloads_that_contain_themselves_end() -> None:
    payload: dict[str, object] = {}
    payload["self"] = payload
    assert "[too deep]" in REDACTOR.payload(payload)


def test_texts_keep_their_names() -> None:
    given_ = {"note": "call 415-555-2671", "email": "x", "n": 3, "items": ["ann@example.com"]}
    assert REDACTOR.texts(given_) == {
        "note": "call [phone]",
        "email": "[redacted]",
        "n": "3",
        "items": '["[email]"]',
    }


def test_patterns_can_be_added() -> None:
    nino = Pattern("nino", re.compile(r"\b[A-Z]{2}\d{6}[A-D]\b"), re.compile(r"\d"))
    redactor = Redactor(Redaction(patterns=(*DEFAULT_PATTERNS, nino)))
    assert redactor.text("it is QQ123456C") == "it is [nino]"


def test_keyed_hash() -> None:
    assert KeyedHash("k")("ann") == KeyedHash(b"k")("ann")
    assert KeyedHash("k")("ann") != KeyedHash("other")("ann")
    assert re.fullmatch(r"[0-9a-f]{32}", KeyedHash("k")(42))


def test_without_a_key_one_is_made_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    hasher = KeyedHash(None)
    with caplog.at_level(logging.WARNING, "penstock"):
        assert hasher("ann") == hasher("ann")
    assert len(caplog.records) == 1
    assert "PENSTOCK_HASH_KEY" in caplog.text
    assert KeyedHash(None)("ann") != hasher("ann")
