from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from penstock.streams.delivery.signing import InvalidSignature, signature, verify

NOW_S = 1_767_225_600


def test_a_signature_as_the_documentation_describes_it() -> None:
    digest = hmac.new(b"whsec", b'1767225600.{"a":1}', hashlib.sha256).hexdigest()
    assert signature("whsec", b'{"a":1}', NOW_S) == f"t=1767225600,v1={digest}"


@given(st.text(), st.binary(), st.integers(-300, 300))
@settings(deadline=None)
def test_what_was_signed_just_now_is_valid(secret: str, body: bytes, late_s: int) -> None:
    secret = secret.encode(errors="ignore").decode()
    verify([secret], signature(secret, body, NOW_S), body, NOW_S + late_s)


@given(st.binary(min_size=1), st.integers(0), st.integers(1, 255))
@settings(deadline=None)
def test_a_changed_body_is_not(body: bytes, position: int, change: int) -> None:
    changed = bytearray(body)
    changed[position % len(body)] ^= change
    with pytest.raises(InvalidSignature, match="not signed"):
        verify(["s"], signature("s", body, NOW_S), bytes(changed), NOW_S)


def test_old_and_new_secret_while_it_is_replaced() -> None:
    header = signature("new", b"x", NOW_S)
    verify(["old", "new"], header, b"x", NOW_S)
    verify(["new"], f"{signature('old', b'x', NOW_S)},{header.partition(',')[2]}", b"x", NOW_S)
    with pytest.raises(InvalidSignature, match="not signed"):
        verify(["old"], header, b"x", NOW_S)
    with pytest.raises(InvalidSignature, match="not signed"):
        verify([], header, b"x", NOW_S)


@pytest.mark.parametrize("late_s", [-301, 301, 10**9])
def test_a_signature_is_valid_for_five_minutes(late_s: int) -> None:
    with pytest.raises(InvalidSignature, match="too long ago"):
        verify(["s"], signature("s", b"x", NOW_S), b"x", NOW_S + late_s)


@pytest.mark.parametrize("header", ["", "t=", "t=x,v1=00", "v1=00", "t=-5", "t=1,t=2", "t=²", "é"])
def test_headers_that_are_none(header: str) -> None:
    with pytest.raises(InvalidSignature, match="no time"):
        verify(["s"], header, b"x", NOW_S)


@given(st.text())
@settings(deadline=None)
def test_any_header_is_an_answer(header: str) -> None:
    header = header.encode(errors="ignore").decode()
    with pytest.raises(InvalidSignature):
        verify(["s"], f"{header},v1={header}", b"x", NOW_S)
    with pytest.raises(InvalidSignature):
        verify(["s"], f"t={NOW_S},v1={header}", b"x", NOW_S)
