"""Signatures of webhooks: who receives one can tell that we sent it, and that it is not an old one.

    Penstock-Signature: t=1767225600,v1=5257a869e7ec...

`v1` is the HMAC-SHA256 of `<t>.<body>` in hexadecimal digits, where t is when it was sent, seconds since
1970 UTC, and body are the bytes as they came. Only the standard library is needed, so that receivers may
copy `verify`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

HEADER = "Penstock-Signature"
TOLERANCE_S = 300


class InvalidSignature(ValueError):
    """The bytes were not signed with the secret, or too long ago."""


def signature(secret: str, body: bytes, at_s: int) -> str:
    """The value of the header."""
    return f"t={at_s},v1={_digest(secret, body, at_s)}"


def verify(
    secrets: Iterable[str], header: str, body: bytes, now_s: float, tolerance_s: float = TOLERANCE_S
) -> None:
    """Return if the bytes were signed with one of the secrets just now.

    What came twice within the tolerance has the same `key` in its body.

    Args:
        secrets: all that are valid: while one is being replaced, the old and the new one.
        header: the value of `Penstock-Signature`.
        body: the bytes as they came, before they are parsed.
        now_s: the time, seconds since 1970 UTC.
        tolerance_s: how far the time of signing may be from `now_s`, either way.

    Raises:
        InvalidSignature: otherwise.
    """
    parts = [part.strip().partition("=") for part in header.split(",")]
    stamps = [value for name, _, value in parts if name == "t"]
    if len(stamps) != 1 or not (stamps[0].isascii() and stamps[0].isdigit()):
        raise InvalidSignature("the header has no time")
    at_s = int(stamps[0][:16])
    if abs(now_s - at_s) > tolerance_s:
        raise InvalidSignature("signed too long ago, or in the future")
    wanted = [_digest(secret, body, at_s) for secret in secrets]
    given = [value for name, _, value in parts if name == "v1"]
    # Every pair is compared, so that the time it takes tells nothing.
    found = [hmac.compare_digest(w.encode(), g.encode()) for w in wanted for g in given]
    if not any(found):
        raise InvalidSignature("not signed with the secret")


def _digest(secret: str, body: bytes, at_s: int) -> str:
    return hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
