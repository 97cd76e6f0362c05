"""What a person may see of a dead letter: its beginning, redacted, in one line."""

from __future__ import annotations

import codecs
import re
from functools import lru_cache

from ...schemas.redaction import DEFAULT, RAW_IDENTITIES, Redaction, Redactor
from ...schemas.redaction_patterns import is_placeholder

_WINDOW_BYTES = 16 * 2**10
_MARGIN = 300  # characters at the end of the window that may be half of something
_ROUNDS = 4
_PART_OF_ADDRESS = re.compile(r"(?<![\w.%+-])[\w.%+-]++@[\w.-]*+")
_RUN = re.compile(rb"[\x20-\x7e]{6,}")


def redact_preview(body: bytes, limit: int = 500, rules: Redaction = DEFAULT) -> str:
    """What a person may see of a dead letter: one line, redacted, cut short.

    Args:
        body: a row as JSON, or whatever bytes came; the first 16 KiB are looked at.
        limit: most characters of the answer.
        rules: what to look for; previews are redacted even where `enabled` is off.
    """
    text = _decoded(body[:_WINDOW_BYTES], len(body))
    # What cannot be seen must not hide what stands on both sides of it.
    printable = text.isprintable()
    bare = text if printable else "".join([char for char in text if _is_seen(char)])
    clean = _cleaned(bare, rules)
    if printable and clean == text and len(text) <= limit:
        return text
    shown = escape(text if clean == bare else clean)
    if len(body) > _WINDOW_BYTES:
        shown = shown[:-_MARGIN]
    for _ in range(_ROUNDS):
        cut = shown if len(shown) <= limit else f"{shown[: limit - 1]}…"
        shown = _cleaned(cut, rules)
        if shown == cut:
            break
    return shown[:limit]


def _is_seen(char: str) -> bool:
    return char.isprintable() or char.isspace()


@lru_cache(maxsize=1024)  # a worker that goes wrong does so in the same way again and again
def redact_detail(detail: str, rules: Redaction = DEFAULT) -> str:
    """The detail of a rejection, which quotes a value, perhaps cut off in the middle of an address."""
    return redact_preview(
        _PART_OF_ADDRESS.sub("[email]", detail).encode(errors="replace"), 300, rules
    )


def escape(text: str) -> str:
    """Text without control characters: none of them reaches a terminal.

    >>> escape("a\\x1b[31m\\n")
    'a\\\\x1b[31m\\\\n'
    """
    if text.isprintable():
        return text
    return "".join(
        [
            char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
            for char in text
        ]
    )


def _decoded(body: bytes, size: int) -> str:
    try:
        if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return body.decode("utf-16")
        # The window may have cut a character in two; that one is left out.
        return codecs.getincrementaldecoder("utf-8")().decode(body, final=len(body) == size)
    except UnicodeDecodeError:
        runs = b" ".join(_RUN.findall(body)).decode("ascii")
        return f"<binary, {size} bytes> {runs}".rstrip()


def _cleaned(text: str, rules: Redaction) -> str:
    redactor = _redactor(rules)
    named = _mentions(text, rules.fields)
    if named or "\\" in text:  # otherwise nothing is in it that is not as it stands there
        text = redactor.payload(text)
    text = redactor.text(text)
    return _named(rules.fields).sub(_hide_named, text) if named else text


@lru_cache(maxsize=8)
def _redactor(rules: Redaction) -> Redactor:
    # Whatever is redacted at ingestion, a preview is.
    return Redactor(Redaction(patterns=rules.patterns, fields=rules.fields | RAW_IDENTITIES))


def _mentions(text: str, fields: frozenset[str]) -> bool:
    plain = text.casefold().replace("-", "_")
    return any(name in plain for name in (*fields, *RAW_IDENTITIES))


def _hide_named(match: re.Match[str]) -> str:
    return match.group() if is_placeholder(match[2].strip('\\"')) else f"{match[1]}[redacted]"


@lru_cache(maxsize=8)
def _named(fields: frozenset[str]) -> re.Pattern[str]:
    """Named fields where a text is no JSON, perhaps because it was cut off."""
    names = "|".join(
        re.escape(name).replace("_", "[-_]") for name in sorted(fields | RAW_IDENTITIES)
    )
    return re.compile(
        rf"(?i)((?:{names})(?:\\*[\"'])?\s{{0,3}}[:=]\s{{0,3}})"
        r"(\[[a-z]+\]|\"(?:[^\"\\]|\\.)*+\"?|\\+\"[^\"\\]*+(?:\\+\")?|[^\s,;}\]\"\\]++)"
    )
