from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.api.parameters import decode_cursor, encode_cursor, parse_time, parse_wait
from penstock.api.queries import micros_of
from penstock.schemas.errors import InvalidQuery

NEW_YEAR_US = 1_767_225_600_000_000


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00",
        "2026-01-01T01:00:00+01:00",
        "2026-01-01",
        "1767225600000000",
    ],
)
def test_times(text: str) -> None:
    assert parse_time(text) == NEW_YEAR_US


@pytest.mark.parametrize("text", ["yesterday", "-5", "1e9", "1969-12-31", "2200-01-01", "9" * 30])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="time"):
        parse_time(text)


@given(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)), st.integers(-14, 14))
def test_times_keep_every_microsecond(moment: datetime, zone_h: int) -> None:
    zoned = moment.replace(tzinfo=timezone(timedelta(hours=zone_h)))
    utc = zoned.astimezone(UTC).replace(tzinfo=None)
    assert parse_time(zoned.isoformat()) == micros_of(utc)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("25s", 25), ("25", 25), ("0", 0), ("1m", 60), ("1500ms", 1.5), ("9m", 60)],
)
def test_waits(text: str, seconds: float) -> None:
    assert parse_wait(text) == seconds


@pytest.mark.parametrize("text", ["soon", "-1s", "1h", "inf", "nan", "1 s"])
def test_what_is_no_wait(text: str) -> None:
    with pytest.raises(ValueError, match="wait"):
        parse_wait(text)


@given(st.integers(0, 2**63 - 1), st.text(), st.integers(0, 2**63 - 1))
def test_cursors_come_back(ts: int, boot: str, seq: int) -> None:
    assert decode_cursor(encode_cursor((ts, boot, seq)), (int, str, int)) == [ts, boot, seq]


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "!!!",
        "ü",
        encode_cursor((1, "b")),
        encode_cursor(("1", "b", 1)),
        encode_cursor((1, "b", -1)),
        encode_cursor((1, "b", 2**63)),
        base64.urlsafe_b64encode(b'[true,"b",1]').decode(),
        base64.urlsafe_b64encode(b'{"a":1}').decode(),
        base64.urlsafe_b64encode(b"[1.5,").decode(),
    ],
)
def test_other_texts_are_no_cursors(text: str) -> None:
    with pytest.raises(InvalidQuery):
        decode_cursor(text, (int, str, int))
