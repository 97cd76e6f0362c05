"""Prometheus' text format and answers of its API; the text against the reference parser."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from penstock.streams.gate_files.exposition import is_exposition, read_samples
from penstock.streams.gate_files.reading import InvalidFile, NoFile
from prometheus_client import parser

DATA = Path(__file__).parents[3] / "data" / "gates"
AWKWARD = r"""# HELP x A "quoted" text, with {braces} and a \ backslash
# TYPE x histogram
x_bucket{le="0.1",path="a } b, c=\"d\" \\ \n e"} 3
x_bucket { le = "1.0" , path = "" , } 4.5e+00 1395066363000
x_bucket{le="+Inf"} +Inf
  y 7

z{} NaN
a:b_c{d="# no comment"} -1e-3
"""


def written(tmp_path: Path, text: str, name: str = "metrics.prom") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def plain(value: float) -> float | str:
    return "NaN" if math.isnan(value) else float(value)


def reference(text: str) -> list[Any]:
    families: Any = parser.text_string_to_metric_families(text)
    return [(s.name, s.labels, plain(s.value)) for family in families for s in family.samples]


@pytest.mark.parametrize("name", ["awkward", "vllm_after.prom"])
def test_the_same_samples_as_the_reference_parser(name: str, tmp_path: Path) -> None:
    text = AWKWARD if name == "awkward" else (DATA / name).read_text()
    samples = read_samples(written(tmp_path, text))
    found = [(one.name, dict(one.labels), plain(one.value)) for one in samples]
    assert len(found) > 5
    # the parser groups what it reads by family, so the order differs
    assert sorted(map(repr, found)) == sorted(map(repr, reference(text)))


def test_openmetrics_has_exemplars_and_an_end(tmp_path: Path) -> None:
    text = 'x_bucket{le="1"} 3 1520879607.789 # {trace_id="a } b"} 0.67 1520879607\ny 1 # {} 2\n# EOF\n'
    samples = read_samples(written(tmp_path, text))
    assert [(one.name, one.value) for one in samples] == [("x_bucket", 3.0), ("y", 1.0)]
    assert samples[0].labels == {"le": "1"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x", "metrics.prom:2: is no sample"),
        ("<html>502 Bad Gateway</html>", "metrics.prom:2: is no sample"),
        ('x{le="1" 3', "is no sample"),
        ('x{le="1"} 3 soon', "is no sample"),
        ("x{le=1} 3", "labels are no name"),
        ('x{le="1" a="2"} 3', "labels are no name"),
        ('x{le="1",le="2"} 3', "labels are no name"),
    ],
)
def test_a_line_that_is_no_sample(line: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=message):
        read_samples(written(tmp_path, f"y 1\n{line}\n"))


@pytest.mark.parametrize("text", ["1_000", "0x1", "1.2.3"])
def test_a_value_that_is_no_number(text: str, tmp_path: Path) -> None:
    [sample] = read_samples(written(tmp_path, f"x {text}\n"))
    with pytest.raises(InvalidFile, match=r"metrics.prom:1: .* is no number"):
        assert sample.value


def answer(result: Any, kind: str = "vector") -> str:
    return json.dumps({"status": "success", "data": {"resultType": kind, "result": result}})


def test_an_answer_of_the_api(tmp_path: Path) -> None:
    result = [
        {"metric": {"le": "0.05"}, "value": [1767225600.1, "12.5"]},
        {"metric": {"__name__": "x_bucket", "le": "+Inf"}, "value": [1767225600.1, "NaN"]},
    ]
    path = written(tmp_path, answer(result), "a.json")
    assert is_exposition(path)
    first, second = read_samples(path)
    assert (first.name, first.labels, first.value) == ("", {"le": "0.05"}, 12.5)
    assert (second.name, math.isnan(second.value)) == ("x_bucket", True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (answer([], "matrix"), "is a matrix, .* instant query"),
        (answer([{"metric": {}, "histogram": [0, {}]}]), "result 1: is a native histogram"),
        (answer([{"metric": {}}]), "result 1: has no metric and value"),
        (answer([{"value": [0, "1"]}]), "result 1: has no metric and value"),
        ('{"status": "error", "error": "parse error", "data": {"resultType": 1}}', "parse error"),
    ],
)
def test_an_answer_that_holds_no_buckets(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=message):
        read_samples(written(tmp_path, text, "a.json"))


def test_nothing_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(NoFile, match="found no series"):
        read_samples(written(tmp_path, answer([]), "a.json"))
    with pytest.raises(NoFile, match="has no samples"):
        read_samples(written(tmp_path, "# EOF\n"))


def test_files_are_told_apart_by_their_content(tmp_path: Path) -> None:
    told = {
        "a.prom": ("", True),
        "a.txt": ("\n# HELP x y\n", True),
        "metrics": ('x{le="1"} 2\n', True),
        "b.txt": ("hello world\n", False),
        "rows.csv": ("x 1\n", False),
        "a.json": ('{"resultType": 1}', False),
        "b.json": ('{"series": {}}', False),
        "a.frames": ("x 1\n", False),
    }
    for name, (text, expected) in told.items():
        assert is_exposition(written(tmp_path, text, name)) is expected, name
