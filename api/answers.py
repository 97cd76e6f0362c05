"""JSON answers: encoded once, times as ISO 8601 in UTC, NaN as null."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response

# The store gives times without a zone; they are UTC.
_OPTIONS = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z


class Answer(Response):
    """A JSON response.

    Handlers return it themselves: answers of a thousand rows are not validated again on the way
    out. tests/contract/test_api.py checks each route's answer against its model instead.
    """

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The body."""
        return encode(content)


def encode(content: Any) -> bytes:
    """JSON text of an answer."""
    return orjson.dumps(content, option=_OPTIONS)
