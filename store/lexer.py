"""The words of a statement: where its strings, names and comments begin and end.

It decides nothing on its own. It finds where the data of an INSERT begins, and walks over text that
the engine's parser has written itself (see statement.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["word", "quoted", "string", "number", "sign"]

_TOKEN = re.compile(
    r"""
      (?P<space>\s+|--[^\n]*|\#[ !][^\n]*|/\*.*?(?:\*/|\Z))
    | (?P<string>'(?:[^'\\]|\\.|'')*'|\$(?P<tag>[A-Za-z0-9_]*)\$.*?\$(?P=tag)\$)
    | (?P<quoted>`(?:[^`\\]|\\.|``)*`|"(?:[^"\\]|\\.|"")*")
    | (?P<word>[A-Za-z_][A-Za-z0-9_$]*)
    | (?P<number>\d(?:[A-Za-z0-9_.]|(?<=[eEpP])[+-])*)
    | (?P<sign>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"b": "\b", "f": "\f", "r": "\r", "n": "\n", "t": "\t", "0": "\0", "a": "\a", "v": "\v"}
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|(.))", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Token:
    """One word of a statement.

    Attributes:
        kind: word (keyword or plain name), quoted (name in quotes), string, number or sign.
        text: as written; a quoted name or a string without its quotes and escapes.
        start: position of its first character.
        end: position behind its last character.
    """

    kind: Kind
    text: str
    start: int
    end: int

    @property
    def is_name(self) -> bool:
        """Whether it can name something: a table, a column, a function."""
        return self.kind in ("word", "quoted")

    def is_word(self, *words: str) -> bool:
        """Whether it is one of these keywords, in upper case."""
        return self.kind == "word" and self.text.upper() in words

    def is_sign(self, sign: str) -> bool:
        """Whether it is this sign."""
        return self.kind == "sign" and self.text == sign


def tokens(sql: str) -> Iterator[Token]:
    """The tokens of a statement, without comments and spaces.

    Example:
        >>> [token.text for token in tokens("SELECT 'it''s', `a b` -- so")]
        ['SELECT', "it's", ',', 'a b']
    """
    for match in _TOKEN.finditer(sql):
        kind = match.lastgroup if match.lastgroup != "tag" else "string"
        if kind == "space":
            continue
        text = match[0]
        if kind == "string" and text[0] == "$":
            text = text.split("$", 2)[2][: -len(match["tag"]) - 2]
        elif kind in ("string", "quoted"):
            text = unquoted(text)
        yield Token(kind, text, match.start(), match.end())  # type: ignore[arg-type]


def unquoted(text: str) -> str:
    r"""The content of a string or name in quotes.

    Example:
        >>> unquoted(r"'a\'b\x41'")
        "a'bA"
    """
    quote, inner = text[0], text[1:-1].replace(text[0] * 2, text[0])
    del quote
    return _ESCAPE.sub(
        lambda found: chr(int(found[1], 16)) if found[1] else _ESCAPES.get(found[2], found[2]),
        inner,
    )
