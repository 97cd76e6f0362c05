"""Query parameters that several routes share: times, waits, limits, cursors."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema, model_validator

from ..schemas.errors import InvalidQuery

MAX_WAIT_S = 60.0
_WAIT = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m)?")
_WAIT_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0}
# What ClickHouse's DateTime can hold.
_LAST_US = 4_294_967_295_000_000


def parse_time(value: object) -> int:
    """Integer microseconds since 1970 UTC of an ISO 8601 text or of digits.

    Raises:
        ValueError: it is neither, or outside 1970 to 2106.

    >>> parse_time("2026-01-01T00:00:00Z"), parse_time("1767225600000000")
    (1767225600000000, 1767225600000000)
    """
    text = str(value).strip()
    if text.isdecimal():
        time_us = int(text)
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise ValueError(
                "a time is ISO 8601 such as 2026-01-01T00:00:00Z, or integer microseconds"
            ) from error
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
        time_us = (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
    if not 0 <= time_us <= _LAST_US:
        raise ValueError("a time must lie between 1970 and 2106")
    return time_us


def parse_wait(value: object) -> float:
    """Seconds of `25s`, `500ms`, `1m` or `25`, at most 60.

    Raises:
        ValueError: it is none of these.

    >>> parse_wait("25s"), parse_wait("500ms"), parse_wait("10m")
    (25.0, 0.5, 60.0)
    """
    match = _WAIT.fullmatch(str(value).strip())
    if match is None:
        raise ValueError("a wait is a number with ms, s or m, such as 25s")
    return min(float(match[1]) * _WAIT_UNITS_S[match[2] or "s"], MAX_WAIT_S)


Time = Annotated[
    int,
    BeforeValidator(parse_time),
    WithJsonSchema(
        {
            "type": "string",
            "description": "ISO 8601 (UTC where no zone is given), or integer microseconds.",
            "examples": ["2026-01-01T00:00:00Z"],
        }
    ),
]
Wait = Annotated[
    float,
    BeforeValidator(parse_wait),
    WithJsonSchema(
        {"type": "string", "description": "Such as 25s; at most 60s.", "examples": ["25s"]}
    ),
]


class Ask(BaseModel):
    """Parameters of a question. Unknown ones are refused: a typo must not widen the answer."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, given: Any) -> Any:
        """`model=&status=error` asks for no model in particular, as forms send it."""
        if not isinstance(given, Mapping):
            return given
        return {name: value for name, value in given.items() if value not in ("", [""])}


def encode_cursor(values: Sequence[int | str]) -> str:
    """An opaque text for the position after a row."""
    return base64.urlsafe_b64encode(orjson.dumps(list(values))).rstrip(b"=").decode()


def decode_cursor(text: str, kinds: Sequence[type[int] | type[str]]) -> list[Any]:
    """The position that a cursor stands for.

    Args:
        text: what `encode_cursor` gave.
        kinds: type of each value.

    Raises:
        InvalidQuery: it is not one of ours.
    """
    try:
        values: Any = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError as error:
        raise InvalidQuery("cursor must be a next_cursor of an earlier answer") from error
    fits = isinstance(values, list) and len(values) == len(kinds)
    if not fits or any(
        type(value) is not kind or (isinstance(value, int) and not 0 <= value < 2**63)
        for value, kind in zip(values, kinds, strict=True)
    ):
        raise InvalidQuery("cursor must be a next_cursor of an earlier answer")
    return list(values)
