"""Redaction of personal data and secrets in texts. Pure.

The emitter applies it before anything leaves a worker, ingestion before anything is stored, and the
dead letters before anything is shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .redaction_patterns import DEFAULT_PATTERNS, Pattern, Place

__all__ = [
    "DEFAULT",
    "DEFAULT_FIELDS",
    "DEFAULT_PATTERNS",
    "RAW_IDENTITIES",
    "Pattern",
    "Place",
    "Redaction",
    "Redactor",
]

_MAX_DEPTH = 32
_MAX_ROUNDS = (
    4  # a replacement may lay bare what it stood beside; twice was enough for all we tried
)

DEFAULT_FIELDS = frozenset(
    {
        "email", "phone", "ssn", "password", "passwd", "authorization", "cookie", "set_cookie",
        "api_key", "apikey", "x_api_key", "access_token", "refresh_token", "client_secret",
        "private_key", "credit_card", "card_number",
    }
)  # fmt: skip
# The emitter hashes these; a foreign producer's come as they are, as attributes.
RAW_IDENTITIES = frozenset({"user_id", "client_ip"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Redaction:
    """What is redacted.

    Attributes:
        enabled: off, nothing is.
        patterns: kinds of data found by their form, applied in order.
        fields: names whose values are replaced whole wherever they occur in payloads and
            attributes, in any case and with `-` or `_`.
    """

    enabled: bool = True
    patterns: tuple[Pattern, ...] = DEFAULT_PATTERNS
    fields: frozenset[str] = DEFAULT_FIELDS


DEFAULT = Redaction()


class Redactor:
    """Applies `Redaction` to text, mappings and payloads. Pure: the same input, the same output.

    What it has done once it leaves as it is when it is done again.

    Args:
        redaction: what to look for.
        place: patterns that are looked for elsewhere only are left out.
    """

    def __init__(self, redaction: Redaction, place: Place = "text") -> None:
        active = redaction.enabled
        self.patterns = tuple(p for p in redaction.patterns if active and place in p.places)
        self._fields = frozenset(_plain(name) for name in redaction.fields if active)

    def text(self, text: str) -> str:
        """Text without what the patterns find."""
        for _ in range(_MAX_ROUNDS):
            before = text
            for pattern in self.patterns:
                text = pattern.apply(text)
            if text == before:
                break
        return text

    def names(self, name: Any) -> bool:
        """Whether a field of this name is replaced whole."""
        return _plain(name) in self._fields

    def texts(self, mapping: Mapping[str, Any]) -> dict[str, str]:
        """A flat mapping (attributes, categories): names kept, values redacted and as text."""
        return {
            str(name): "[redacted]" if self.names(name) else self.text(_as_text(value))
            for name, value in mapping.items()
        }

    def payload(self, payload: Any) -> str:
        """A payload as JSON text (or as it is, when it is a string that is no JSON), redacted.

        JSON text in which there is nothing to redact comes back as it was written.
        """
        if isinstance(payload, bytes):
            payload = payload.decode("utf-8", "replace")
        if isinstance(payload, str):
            return self._string(payload, 0)
        return _dump(self._walk(payload, 0))

    def _string(self, text: str, depth: int) -> str:
        """A text, looked into where it is JSON itself, as the arguments of a tool call are."""
        if text.lstrip()[:1] not in ("{", "["):
            return self.text(text)
        try:
            parsed = json.loads(text, object_pairs_hook=_object)
        except (ValueError, RecursionError):
            return self.text(text)
        walked = self._walk(parsed, depth)
        return text if walked == parsed else _dump(walked)

    def _walk(self, value: Any, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            return "[too deep]"
        if isinstance(value, str):
            return self._string(value, depth + 1)
        if isinstance(value, Mapping):
            return {
                self.text(_as_text(name)): (
                    "[redacted]" if self.names(name) else self._walk(item, depth + 1)
                )
                for name, item in value.items()
            }
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self._walk(item, depth + 1) for item in value]
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, (int, float)):
            return self._number(value)
        return f"<{type(value).__name__}>"

    def _number(self, value: int | float) -> int | float | str:
        """A card number is one whether it is written as a string or as a number."""
        if isinstance(value, float):
            text = str(int(value)) if abs(value) < 1e19 and value.is_integer() else ""
        else:
            text = str(value) if value.bit_length() < 128 else hex(value)
        redacted = self.text(text)
        return value if redacted == text else redacted


def _plain(name: Any) -> str:
    return str(name).lower().replace("-", "_") if isinstance(name, str) else ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):  # one of them would not be looked at, and stay in the text
        raise ValueError("a name occurs twice")
    return found


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


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
