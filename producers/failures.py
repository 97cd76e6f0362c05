"""From an exception to a status, an error type and one line of text."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Mapping

ErrorTypes = Mapping[type[BaseException], str]

_MAX_MESSAGE = 500
# Names of classes of libraries that workers use but this package does not import.
_OUT_OF_MEMORY = ("OutOfMemoryError", "CudaOutOfMemory")
_TIMEOUT_SUFFIXES = ("Timeout", "TimeoutError", "TimeoutException", "DeadlineExceeded")


def classify(error: BaseException, error_types: ErrorTypes) -> tuple[str, str | None]:
    """Status and error_type of a request that ended with an exception.

    Args:
        error: what was raised.
        error_types: the user's own rules, asked first; they decide the type, not the status.

    Returns:
        (status, error_type); a cancelled request has no error type.
    """
    names = [cls.__name__ for cls in type(error).__mro__]
    if isinstance(error, TimeoutError) or any(n.endswith(_TIMEOUT_SUFFIXES) for n in names):
        status, kind = "timeout", "api_timeout"
    elif isinstance(error, (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt)):
        return "cancelled", None
    elif isinstance(error, MemoryError) or any(name in _OUT_OF_MEMORY for name in names):
        status, kind = "error", "oom"
    elif isinstance(error, ConnectionError):
        status, kind = "error", "upstream"
    elif isinstance(error, ValueError):
        status, kind = "error", "validation"
    else:
        status, kind = "error", "internal"
    for cls, chosen in error_types.items():
        if isinstance(error, cls):
            return status, chosen
    return status, kind


def describe(error: BaseException) -> str:
    """One line about an exception, whatever its `__str__` does."""
    text = "".join(traceback.format_exception_only(error)).strip()
    return text if len(text) <= _MAX_MESSAGE else text[: _MAX_MESSAGE - 1] + "…"
