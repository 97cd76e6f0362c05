"""Text, JSON, CSV and Parquet to rows, with the line in every error."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...schemas.errors import PenstockError

Row = dict[str, Any]


class InvalidFile(PenstockError):
    """A file that is not what its gate needs; the text names file, line and what to do."""

    http_status = 422
    slug = "invalid-file"


class NoFile(InvalidFile):
    """There is no such file, or nothing in it."""

    slug = "no-file"


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a file.

    Attributes:
        path: of the file.
        rows: one dictionary per row, in the order of the file.
        lines: line of each row; its number, where a file has no lines.
    """

    path: Path
    rows: list[Row]
    lines: list[int]

    def where(self, at: int) -> str:
        """File and line of a row."""
        return f"{self.path}:{self.lines[at]}"


def suffix_of(path: Path) -> str:
    """How a file's name ends, without `.gz`: `.json`, `.jsonl`, `.csv`, `.parquet`."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def read_bytes(path: Path) -> bytes:
    """Everything in a file; `.gz` is decompressed.

    Raises:
        NoFile: it is not there, or empty.
        InvalidFile: it cannot be read.
    """
    try:
        body = path.read_bytes()
    except FileNotFoundError:
        raise NoFile(f"{path}: there is no such file; was the run before it successful?") from None
    except OSError as error:
        raise InvalidFile(f"{path}: cannot be read: {error.strerror}") from error
    if path.name.endswith(".gz"):
        try:
            body = gzip.decompress(body)
        except (OSError, EOFError) as error:
            raise InvalidFile(f"{path}: is no whole gzip file: {error}") from error
    if not body.strip():
        raise NoFile(f"{path}: the file is empty; was the run before it successful?")
    return body


def read_text(path: Path) -> str:
    """Everything in a UTF-8 file.

    Raises:
        InvalidFile: see `read_bytes`, or it is not UTF-8.
    """
    body = read_bytes(path)
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = body[: error.start].count(b"\n") + 1
        raise InvalidFile(f"{path}:{line}: is not UTF-8 text; save it as UTF-8") from error


def read_json(path: Path) -> Any:
    """One JSON document; NaN and Infinity become infinity: measured, and not a number.

    Raises:
        InvalidFile: see `read_text`, or it is no JSON.
    """
    return _json(read_text(path), path, 1)


def _json(text: str, path: Path, line: int) -> Any:
    try:
        return json.loads(text, parse_constant=lambda _: math.inf)
    except ValueError as error:
        at = line + getattr(error, "lineno", 1) - 1
        message = getattr(error, "msg", str(error))
        raise InvalidFile(f"{path}:{at}: no JSON: {message}; was the file cut off?") from error
    except RecursionError:
        raise InvalidFile(f"{path}:{line}: JSON that is nested too deep") from None


def read_rows(path: Path) -> Rows:
    """Rows of a CSV, JSONL, JSON (array of objects) or Parquet file, by its name.

    Raises:
        InvalidFile: the name tells none of these, or a row is not what it should be.
    """
    suffix = suffix_of(path)
    if suffix == ".csv":
        found = list(_csv(path))
    elif suffix in (".jsonl", ".ndjson"):
        found = list(_json_lines(path))
    elif suffix == ".parquet":
        found = list(enumerate(_parquet(path), start=1))
    elif suffix == ".json":
        found = list(_json_array(path))
    else:
        raise InvalidFile(f"{path}: rows are read from .csv, .jsonl, .json and .parquet files")
    if not found:
        raise NoFile(f"{path}: the file has no rows; was the run before it successful?")
    return Rows(path, [row for _, row in found], [line for line, _ in found])


def _json_lines(path: Path) -> Iterator[tuple[int, Row]]:
    for line, text in enumerate(read_text(path).split("\n"), start=1):
        if text.strip():
            yield line, _object(_json(text, path, line), f"{path}:{line}")


def _json_array(path: Path) -> Iterator[tuple[int, Row]]:
    found = read_json(path)
    if not isinstance(found, list):
        raise InvalidFile(f"{path}: is one object, and rows are an array of objects")
    for number, row in enumerate(found, start=1):
        yield number, _object(row, f"{path}: row {number}")


def _object(found: Any, where: str) -> Row:
    if not isinstance(found, dict):
        raise InvalidFile(f'{where}: is no object; each row is one, such as {{"item_id": "7"}}')
    return found


def _csv(path: Path) -> Iterator[tuple[int, Row]]:
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    names = reader.fieldnames or []
    if len(set(names)) < len(names):
        raise InvalidFile(f"{path}:1: a column is named twice; rename one of them")
    for row in reader:
        if None in row or None in row.values():
            raise InvalidFile(
                f"{path}:{reader.line_num}: this row does not have the {len(names)} fields of line 1"
            )
        yield reader.line_num, {name: _cell(text) for name, text in row.items()}


def _cell(text: str) -> Any:
    """A number, true or false, nothing, or the text as it is."""
    plain = text.strip()
    if plain.lower() in ("", "null", "none"):
        return None
    if plain.lower() in ("true", "false"):
        return plain.lower() == "true"
    try:
        number = float(plain)
    except ValueError:
        return text
    return number if math.isfinite(number) else math.inf


def _parquet(path: Path) -> list[Row]:
    import pyarrow as pa
    from pyarrow import parquet

    body = read_bytes(path)
    try:
        rows: list[Row] = parquet.read_table(pa.BufferReader(body)).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise InvalidFile(f"{path}: is no whole Parquet file: {error}") from error
    return rows


def number(value: Any, where: str, name: str) -> float:
    """A value as a float; NaN where there is none.

    Raises:
        InvalidFile: it is no number.
    """
    if value is None:
        return math.nan
    if isinstance(value, bool | int | float):
        # NaN was written by somebody: measured, and not a number
        return math.inf if math.isnan(value) else float(value)
    raise InvalidFile(f"{where}: {name} is {str(value)[:40]!r}, and should be a number")
