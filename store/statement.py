"""One statement as it came: its text, and the tree that the engine's parser made of it."""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .engine import Engine
from .errors import QueryFailed
from .lexer import Token, tokens

# ClickHouse reads this much of a request to find the statement; what follows is data.
MAX_QUERY_BYTES = 262_144
_OTHER_SOURCES = ("SELECT", "WITH", "WATCH", "FROM", "EXPLAIN")
_NO_TREE = re.compile(r"AST node of type '([A-Za-z ]+)")
_CACHED = 512
_CACHED_CHARS = 16_384

Tree = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Statement:
    """A single statement that the engine's parser took; nothing of it has run.

    Attributes:
        text: as it was sent, without data.
        canonical: as the parser writes it: one line, keywords in upper case, no comments.
        tree: what the parser made of it; only its `type` where the engine cannot show the tree.
        takes_data: whether it is an INSERT whose rows follow the statement.
    """

    text: str
    canonical: str
    tree: Tree = field(repr=False)
    takes_data: bool = False

    @property
    def kind(self) -> str:
        """The type of the parser's root node, such as SelectWithUnionQuery."""
        return str(self.tree["type"])

    @property
    def form(self) -> str:
        """Its FORMAT: of the answer, or of the data of an INSERT; empty without one."""
        if self.kind == "InsertQuery" and self.takes_data:
            return str(self.tree.get("format", ""))
        found = format_at(self.canonical)
        return found[1] if found else ""

    def insert_from(self, path: str) -> str:
        """An INSERT that takes its data from a file of ours."""
        head = self.canonical[: self.canonical.rindex(" FORMAT ")]
        words = list(tokens(head))
        at = len(head)
        for word, _, equals in zip(words, words[1:], words[2:], strict=False):
            if word.is_word("SETTINGS") and equals.text == "=":  # else it is the name of a table
                at = word.start
                break
        return f"{head[:at].rstrip()} FROM INFILE '{path}' {head[at:]} FORMAT {self.form}"

    def into(self, path: str, form: str) -> str:
        """A SELECT that writes its answer to a file of ours."""
        found = format_at(self.canonical)
        behind = self.canonical[found[2] :] if found else ""
        before = self.canonical[: found[0]].rstrip() if found else self.canonical
        return f"{before} INTO OUTFILE '{path}' TRUNCATE FORMAT {form}{behind}"


def format_at(canonical: str) -> tuple[int, str, int] | None:
    """The FORMAT clause at the end of a canonical statement: start, name, end.

    Example:
        >>> format_at("SELECT 1 FORMAT JSON SETTINGS max_threads = 1")
        (9, 'JSON', 20)
    """
    words = list(tokens(canonical))
    for position in range(len(words) - 2, 0, -1):
        word, name = words[position], words[position + 1]
        if word.kind != "word" or word.text != "FORMAT" or not name.is_name:
            continue
        behind = words[position + 2 : position + 3]
        if behind and not behind[0].is_word("SETTINGS"):
            continue
        # A column of this name at the end of ORDER BY.
        return None if name.is_word("ASC", "DESC") else (word.start, name.text, name.end)
    return None


def split_insert(head: bytes) -> int | None:
    """Where the data of an INSERT begins, None where the bytes hold no INSERT with data.

    Args:
        head: the first bytes of the request, at least as many as the statement has.
    """
    # One character per byte, so that positions are those of the bytes.
    text = head.decode("latin-1")
    stream = tokens(text)
    first = next(stream, None)
    if first is None or not first.is_word("INSERT"):
        return None
    depth = 0
    named = False
    before: Token = first
    for token in stream:
        if token.is_sign("(") or token.is_sign(")"):
            depth += 1 if token.text == "(" else -1
        elif depth or (not named and token.is_word("INTO", "TABLE", "FUNCTION")):
            pass
        elif not named or before.is_sign("."):
            named = named or token.is_name
        elif token.is_word(*_OTHER_SOURCES):
            return None
        elif token.is_word("VALUES"):
            return token.end
        elif token.is_word("FORMAT"):
            name = next(stream, None)
            return None if name is None else _after_format(text, name.end)
        before = token
    return None


def _after_format(text: str, position: int) -> int:
    """Past the spaces behind the name of the format, and past one line end."""
    while text[position : position + 1] in (" ", "\t", "\f"):
        position += 1
    for sign in (";", "\r", "\n"):
        if text[position : position + 1] == sign:
            position += 1
    return position


class Parser:
    """Asks the engine's parser; remembers what it said of short statements."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, bool], Statement] = OrderedDict()

    def parse(self, text: str, takes_data: bool) -> Statement:
        """Read a statement.

        Raises:
            QueryFailed: 62: it is no statement, or more than one.
        """
        key = (text, takes_data)
        with self._lock:
            if found := self._known.get(key):
                self._known.move_to_end(key)
                return found
        canonical, tree = self._read(text)
        statement = Statement(text, canonical, tree, takes_data)
        if len(text) <= _CACHED_CHARS:
            with self._lock:
                self._known[key] = statement
                if len(self._known) > _CACHED:
                    self._known.popitem(last=False)
        return statement

    def _read(self, text: str) -> tuple[str, Tree]:
        if not text.strip().strip(";"):
            raise QueryFailed(62, "Syntax error: empty query")
        asked = {"text": text}
        question = "formatQuerySingleLine({text:String})"
        try:
            answer = self._engine.ask(
                f"SELECT {question}, parseQueryToJSON({{text:String}})", asked
            )
        except QueryFailed as error:
            found = _NO_TREE.search(str(error))
            if found is None:
                raise
            canonical = self._engine.ask(f"SELECT {question}", asked).rstrip("\n")
            return canonical, self._described(found[1], canonical)
        canonical, _, tree = answer.rstrip("\n").rpartition("\t")
        try:
            return canonical, json.loads(tree)
        except RecursionError as error:
            raise QueryFailed(167, "Too deep AST: the expression is nested too deeply") from error

    def _described(self, kind: str, canonical: str) -> Tree:
        """The tree of what has none; DESCRIBE is looked at as a SELECT of what it describes."""
        if kind != "DescribeQuery":
            return {"type": kind}
        described = canonical.removeprefix("DESCRIBE TABLE").removeprefix("DESCRIBE")
        _, tree = self._read(f"SELECT * FROM {described}")
        return {"type": kind, "of": tree}
