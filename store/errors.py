"""Errors of the store: ClickHouse's codes, the HTTP status of each, the text that clients parse."""

from __future__ import annotations

import re

from ..schemas.errors import PenstockError

_CODE = re.compile(r"\bCode: (\d+)\. ")
# What the embedded engine puts before its message.
_WRAPPERS = re.compile(r"^(?:Streaming (?:query|insert \w+) failed: |Query execution failed: )+")
# A message that it wraps in itself.
_TWICE = re.compile(r"(?:Code: \d+\. DB::Exception: )+(Code: \d+\. DB::Exception: )")
_VERSION = re.compile(r" \(version [\d.]+(?: \(\w+ build\))?\)\.?(?: \([A-Z_]+\))?")
# Where its parser was asked by us, the question is no part of the message.
_ASKED = ": In scope SELECT formatQuerySingleLine("

# The names of the codes that are raised here; the engine writes its own.
_NAMES = {
    48: "NOT_IMPLEMENTED",
    62: "SYNTAX_ERROR",
    78: "UNKNOWN_TYPE_OF_QUERY",
    115: "UNKNOWN_SETTING",
    164: "READONLY",
    194: "REQUIRED_PASSWORD",
    202: "TOO_MANY_SIMULTANEOUS_QUERIES",
    210: "NETWORK_ERROR",
    216: "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING",
    229: "QUERY_IS_TOO_LARGE",
    271: "CANNOT_DECOMPRESS",
    358: "INTO_OUTFILE_NOT_ALLOWED",
    372: "SESSION_NOT_FOUND",
    373: "SESSION_IS_LOCKED",
    374: "INVALID_SESSION_TIMEOUT",
    394: "QUERY_WAS_CANCELLED",
    497: "ACCESS_DENIED",
    516: "AUTHENTICATION_FAILED",
}

# The HTTP status of each code as ClickHouse answers it; what is not listed is 500.
_STATUS = {
    **dict.fromkeys((6, 8, 15, 25, 26, 27, 36, 37, 38, 41, 44, 53, 62, 72, 117, 123), 400),
    **dict.fromkeys((167, 168, 223, 321, 376, 427, 441, 675, 676), 400),
    194: 401,
    **dict.fromkeys((192, 193, 497, 512, 516), 403),
    **dict.fromkeys((46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511), 404),
    159: 408,
    381: 411,
    229: 413,
    779: 415,
    48: 501,
    **dict.fromkeys((76, 209, 439), 503),
}


class QueryFailed(PenstockError):
    """A statement that failed or was refused.

    Attributes:
        code: ClickHouse's error code.
    """

    slug = "query-failed"

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def status(self) -> int:
        """The HTTP status that ClickHouse answers with this code."""
        return _STATUS.get(self.code, 500)

    @property
    def text(self) -> str:
        """What the client reads: `Code: N. DB::Exception: message. (NAME)`."""
        message = str(self)
        if message.startswith("Code: "):
            return message
        name = _NAMES.get(self.code)
        end = "" if message.endswith(".") else "."
        return f"Code: {self.code}. DB::Exception: {message}{end}" + (f" ({name})" if name else "")


class ClientGone(PenstockError):
    """Nobody waits for the answer any more."""


def from_engine(error: Exception) -> QueryFailed:
    """The engine's exception as ours: wrappers removed, the code read from the text."""
    text = _WRAPPERS.sub("", str(error).strip())
    found = _CODE.search(text)
    if found is None:
        return QueryFailed(1000, text or type(error).__name__)
    text = _TWICE.sub(r"\1", text[found.start() :], count=1)
    before, asked, _ = text.partition(_ASKED)
    if asked:
        text = f"{before}. (SYNTAX_ERROR)"
    return QueryFailed(int(found[1]), _VERSION.sub("", text))
