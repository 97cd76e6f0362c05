"""What must not leave a worker's memory: keyed hashes of identities, redaction of personal data."""

from __future__ import annotations

import hmac
import json
import logging
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_LOG = logging.getLogger("penstock")
_HASH_BYTES = 16  # 32 hex digits
_MAX_DEPTH = 32


def luhn_valid(digits: str) -> bool:
    """Whether a string of digits passes the check of ISO/IEC 7812-1 (payment cards).

    >>> luhn_valid("4111111111111111"), luhn_valid("4111111111111112")
    (True, False)
    """
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


@dataclass(frozen=True, slots=True)
class Pattern:
    """A kind of personal data found by its form.

    Attributes:
        name: what stands in its place, in square brackets.
        regex: what it looks like; mind its worst case, payloads are long and a match holds the
            interpreter lock.
        hint: a character class that a text must contain for the regex to be tried.
        replace: turns a match into its replacement; None replaces the whole match.
    """

    name: str
    regex: re.Pattern[str]
    hint: re.Pattern[str]
    replace: Callable[[re.Match[str]], str] | None = None

    def apply(self, text: str) -> str:
        """The text without this kind of data."""
        if not self.hint.search(text):
            return text
        return self.regex.sub(self.replace or f"[{self.name}]", text)


_DIGIT = re.compile(r"\d")
_GROUP = re.compile(r"\d+")
_ISSUER = re.compile(r"[3-6]|2[2-7]")  # first digits that card issuers use


def _is_card(digits: str) -> bool:
    return 13 <= len(digits) <= 19 and bool(_ISSUER.match(digits)) and luhn_valid(digits)


def _hide_card(match: re.Match[str]) -> str:
    """Replace the card within a run of digit groups; other groups (a date, a code) stay."""
    run = match.group()
    groups = list(_GROUP.finditer(run))
    for first, start in enumerate(groups):
        digits = ""
        for end in groups[first:]:
            digits += end.group()
            if _is_card(digits):
                tail = run[end.end() :]
                # What is left may hold a second card.
                rest = _CARD_RUN.sub(_hide_card, tail)
                return f"{run[: start.start()]}[card]{rest}"
            if len(digits) > 19:
                break
    return run


_CARD_RUN = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,120}(?!\d)")

EMAIL = Pattern(
    "email",
    # Possessive, and begun at the start of a run only: linear on whatever text.
    re.compile(r"(?<![\w.%+'-])[\w.%+'-]++@[\w-]++(?:\.[\w-]++)++"),
    re.compile("@"),
)
CARD = Pattern("card", _CARD_RUN, _DIGIT, _hide_card)
US_SSN = Pattern(
    "national_id",
    re.compile(r"(?<![\d-])(?!000|666|9\d\d)\d{3}([ -])(?!00)\d{2}\1(?!0000)\d{4}(?![\d-])"),
    _DIGIT,
)
PHONE = Pattern(
    "phone",
    re.compile(
        r"(?<![\w+])\+\d(?:[ .()-]{0,2}\d){7,14}(?!\d)"
        r"|(?<![\w.-])(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-])"
    ),
    _DIGIT,
)
# Cards and national ids before telephone numbers, which look like parts of them.
DEFAULT_PATTERNS = (EMAIL, CARD, US_SSN, PHONE)
DEFAULT_FIELDS = frozenset({"email", "phone", "ssn", "password", "authorization"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Redaction:
    """What is redacted.

    Attributes:
        patterns: kinds of data found by their form, applied in order.
        fields: names whose values are replaced whole wherever they occur in payloads and
            attributes, in any case and with `-` or `_`.
    """

    patterns: tuple[Pattern, ...] = DEFAULT_PATTERNS
    fields: frozenset[str] = DEFAULT_FIELDS


class Redactor:
    """Applies `Redaction` to text, mappings and payloads. Pure: the same input, the same output."""

    def __init__(self, redaction: Redaction) -> None:
        self._patterns = redaction.patterns
        self._fields = frozenset(_plain(name) for name in redaction.fields)

    def text(self, text: str) -> str:
        """Text without personal data of the known forms."""
        for pattern in self._patterns:
            text = pattern.apply(text)
        return text

    def texts(self, mapping: Mapping[str, Any]) -> dict[str, str]:
        """A flat mapping (attributes, categories): names kept, values redacted and as text."""
        return {
            str(name): "[redacted]" if _plain(name) in self._fields else self.text(_as_text(value))
            for name, value in mapping.items()
        }

    def payload(self, payload: Any) -> str:
        """A payload as JSON text (or as it is, when it is a string that is no JSON), redacted."""
        if isinstance(payload, bytes):
            payload = payload.decode("utf-8", "replace")
        if isinstance(payload, str):
            try:
                parsed = json.loads(payload) if payload.lstrip()[:1] in ("{", "[") else None
            except (ValueError, RecursionError):
                parsed = None
            if parsed is None:
                return self.text(payload)
            payload = parsed
        return json.dumps(self._walk(payload, 0), ensure_ascii=False, separators=(",", ":"))

    def _walk(self, value: Any, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            return "[too deep]"
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {
                self.text(_as_text(name)): (
                    "[redacted]" if _plain(name) in self._fields else self._walk(item, depth + 1)
                )
                for name, item in value.items()
            }
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self._walk(item, depth + 1) for item in value]
        if value is None or isinstance(value, (bool, float)):
            return value
        if isinstance(value, int):
            # A card number is one whether it is written as a string or as a number.
            text = str(value) if value.bit_length() < 128 else hex(value)
            redacted = self.text(text)
            return value if redacted == text else redacted
        return f"<{type(value).__name__}>"


def _plain(name: Any) -> str:
    return str(name).lower().replace("-", "_") if isinstance(name, str) else ""


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, (bool, int, float)):
        return str(value)
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(
            value, ensure_ascii=False, default=lambda item: f"<{type(item).__name__}>"
        )
    return f"<{type(value).__name__}>"


class KeyedHash:
    """HMAC-SHA256 of identities, shortened to 32 hex digits.

    Without a key a random one is made when the first value comes, so that hashes differ from
    process to process; a warning says so once.
    """

    def __init__(self, key: str | bytes | None) -> None:
        self._key = key.encode() if isinstance(key, str) else key

    def __call__(self, value: Any) -> str:
        """Hash of the value's text, 32 hex digits."""
        if not self._key:
            self._key = secrets.token_bytes(32)
            _LOG.warning(
                "no hash key: user ids and addresses are hashed with a key of this process only; "
                "set PENSTOCK_HASH_KEY so that the same user has the same hash everywhere"
            )
        return hmac.digest(self._key, str(value).encode(), "sha256")[:_HASH_BYTES].hex()
