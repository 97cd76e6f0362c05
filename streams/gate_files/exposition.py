"""Samples as Prometheus writes them: the text of /metrics, and answers of its HTTP API.

The text format 0.0.4 and OpenMetrics 1.0, as far as samples go: comments are not looked at, and
timestamps and exemplars are left out. https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .frames import is_frames
from .reading import InvalidFile, NoFile, read_bytes, read_json, read_text, suffix_of

_ROWS = (".jsonl", ".ndjson", ".csv", ".parquet")
_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_QUOTED = r'"((?:[^"\\]|\\.)*)"'
_SAMPLE = re.compile(
    rf"({_NAME})[ \t]*(?:\{{((?:[^\"}}]|{_QUOTED})*)\}})?[ \t]*(?<=[ \t}}])([-+]?(?:[0-9.][^\s#]*|[Ii]nf|NaN))"
    r"(?:[ \t]+[-+.0-9eE]+)?(?:[ \t]+#.*)?"
)
_LABEL = re.compile(rf"[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*{_QUOTED}[ \t]*(,|$)")
_ESCAPED = re.compile(r"\\(.)")
_PLAIN = {"n": "\n"}


@dataclass(frozen=True, slots=True)
class Sample:
    """One number.

    Attributes:
        name: of the metric; empty in an answer that keeps none.
        labels: its labels, by name.
        text: the number as it is written.
        where: file and line.
    """

    name: str
    labels: Mapping[str, str]
    text: str
    where: str

    @property
    def value(self) -> float:
        """The number; NaN and infinity are numbers here.

        Raises:
            InvalidFile: it is none.
        """
        try:
            # Python alone reads 1_000 as a number
            return float(self.text.replace("_", "?"))
        except ValueError:
            raise InvalidFile(f"{self.where}: {self.text[:40]!r} is no number") from None


def is_exposition(path: Path) -> bool:
    """Whether a file holds such samples, by its content.

    Raises:
        InvalidFile: it cannot be read.
    """
    suffix = suffix_of(path)
    if suffix == ".prom":
        return True
    if suffix in _ROWS or is_frames(path):
        return False
    if suffix == ".json":
        return b'"resultType"' in read_bytes(path) and _is_answer(read_json(path))
    lines = (line.strip() for line in read_bytes(path).decode(errors="replace").splitlines())
    first = next((line for line in lines if line), "")
    return first.startswith(("# HELP ", "# TYPE ")) or _SAMPLE.fullmatch(first) is not None


def _is_answer(document: Any) -> bool:
    return isinstance(document, dict) and isinstance(document.get("data"), dict)


def read_samples(path: Path) -> list[Sample]:
    """Every sample of a file.

    Raises:
        InvalidFile: naming the line that is no sample, or what the answer of the API should be.
        NoFile: there are none.
    """
    if suffix_of(path) == ".json":
        found = list(_of_answer(read_json(path), path))
        hint = "Prometheus found no series; is the query right, and is the server scraped?"
    else:
        found = list(_of_text(read_text(path), path))
        hint = "the file has no samples; was the server up?"
    if not found:
        raise NoFile(f"{path}: {hint}")
    return found


def _of_text(text: str, path: Path) -> Iterator[Sample]:
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        where = f"{path}:{number}"
        found = _SAMPLE.fullmatch(line)
        if found is None:
            raise InvalidFile(f"{where}: is no sample of Prometheus' text format: {line[:60]!r}")
        yield Sample(found[1], _labels(found[2] or "", where), found[4], where)


def _labels(text: str, where: str) -> dict[str, str]:
    labels: dict[str, str] = {}
    at = 0
    while text[at:].strip():
        found = _LABEL.match(text, at)
        if found is None or found[1] in labels:
            raise InvalidFile(f'{where}: labels are no name="value" list: {text[:60]!r}')
        labels[found[1]] = _ESCAPED.sub(lambda m: _PLAIN.get(m[1], m[1]), found[2])
        at = found.end()
    return labels


def _of_answer(document: Any, path: Path) -> Iterator[Sample]:
    """`{"status": "success", "data": {"resultType": "vector", "result": [...]}}`."""
    if not _is_answer(document) or document.get("status") != "success":
        told = document.get("error") if isinstance(document, dict) else None
        raise InvalidFile(f"{path}: Prometheus did not answer the query: {told or 'no data'}")
    data = document["data"]
    if data.get("resultType") != "vector" or not isinstance(data.get("result"), list):
        raise InvalidFile(
            f"{path}: is a {data.get('resultType')}, and buckets are read from a vector: make it an "
            "instant query (/api/v1/query) without a range"
        )
    for number, one in enumerate(data["result"], start=1):
        where = f"{path}: result {number}"
        if isinstance(one, dict) and "histogram" in one:
            raise InvalidFile(f"{where}: is a native histogram; query the classic `..._bucket`")
        try:
            labels = {str(name): str(value) for name, value in one["metric"].items()}
            yield Sample(labels.pop("__name__", ""), labels, str(one["value"][1]), where)
        except (KeyError, TypeError, AttributeError, IndexError):
            raise InvalidFile(f"{where}: has no metric and value") from None
