"""What may become of an attempt, and what the answers of HTTP and SMTP say of it."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import NoReturn

from ...schemas.errors import PenstockError

_LATER = frozenset({408, 425, 429})
_SHOWN = 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class DeliveryDelayed(PenstockError):
    """Not taken now; the same may be taken later.

    Attributes:
        retry_after_s: what the receiver asked for; None where it did not.
    """

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class ReceiverAway(DeliveryDelayed):
    """The receiver does not answer, or answers that it does not work; others fare no better."""


class DeliveryRefused(PenstockError):
    """The receiver will never take this."""


def check_http(status: int, answer: str, retry_after_s: float | None = None) -> None:
    """Return if a status says that the message was taken.

    Args:
        status: of HTTP.
        answer: what came with it.
        retry_after_s: of the header Retry-After.

    Raises:
        DeliveryDelayed: 408, 425, 429.
        ReceiverAway: 5xx.
        DeliveryRefused: everything else; redirects are not followed.
    """
    if 200 <= status < 300:
        return
    reason = shown(f"HTTP {status}: {answer}")
    if status >= 500:
        raise ReceiverAway(reason, retry_after_s)
    if status in _LATER:
        raise DeliveryDelayed(reason, retry_after_s)
    raise DeliveryRefused(reason)


def check_smtp(code: int, answer: str) -> NoReturn:
    """Raise what a negative reply of SMTP means.

    Raises:
        DeliveryDelayed: 4xx.
        DeliveryRefused: 5xx.
        ReceiverAway: 421, which closes the connection, and what is no reply of SMTP.
    """
    reason = shown(f"SMTP {code}: {answer}")
    if 400 <= code < 500 and code != 421:
        raise DeliveryDelayed(reason)
    if 500 <= code < 600:
        raise DeliveryRefused(reason)
    raise ReceiverAway(reason)


def retry_after_s(header: str | None, now_s: float) -> float | None:
    """Seconds to wait by the header Retry-After, which gives seconds or a date.

    Returns:
        At least 0; None where the header is absent or says nothing.

    >>> retry_after_s("30", 0.0)
    30.0
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(parsedate_to_datetime(text).timestamp() - now_s, 0.0)
    except (ValueError, OverflowError):
        return None


def shown(text: str) -> str:
    """A foreign text as it may stand in a log: one line, not long."""
    return _CONTROL.sub(" ", text).strip()[:_SHOWN]
