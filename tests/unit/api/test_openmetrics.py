from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.api.metrics import METRICS
from penstock.api.openmetrics import Metric, Sample, render
from penstock.tests.support.openmetrics import families

GAUGE = Metric("a_seconds", "gauge", "seconds", 'Line with "quotes", \\ and\nbreak.')
COUNTER = Metric("b", "counter", "", "Count.")
INFO = Metric("c", "info", "", "Version.")


def test_metrics_stay_together_and_the_text_ends() -> None:
    text = render(
        [
            Sample(GAUGE, 1.0, {}),
            Sample(COUNTER, 3.0, {"x": "1"}),
            Sample(GAUGE, 2.5, {"q": "z"}),
            Sample(INFO, 1.0, {"version": "1"}),
        ]
    )
    found = families(text)
    assert [(f.name, f.type) for f in found] == [
        ("a_seconds", "gauge"),
        ("b", "counter"),
        ("c", "info"),
    ]
    assert [s.value for s in found[0].samples] == [1.0, 2.5]
    assert found[1].samples[0].name == "b_total"
    assert text.endswith("# EOF\n")


def test_what_cannot_be_told_is_left_out() -> None:
    assert render([Sample(GAUGE, None, {})]) == "# EOF\n"


@given(
    st.floats(allow_nan=True),
    st.text(
        st.characters(codec="utf-8", exclude_characters="\r\x85\u2028\u2029\x0b\x0c\x1c\x1d\x1e")
    ),
)
def test_the_reference_parser_reads_back_what_was_written(value: float, label: str) -> None:
    (family,) = families(render([Sample(GAUGE, value, {"l": label})]))
    sample = family.samples[0]
    assert sample.labels == {"l": label}
    assert sample.value == value or (math.isnan(sample.value) and math.isnan(value))


def test_names_are_a_closed_list_that_the_documentation_has() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    text = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(penstock_\w+)` \|", text, re.MULTILINE))
    suffix = {"counter": "_total", "gauge": "", "info": "_info"}
    assert documented == {metric.name + suffix[metric.kind] for metric in METRICS}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_says_what_it_means_and_ends_in_its_unit(metric: Metric) -> None:
    assert metric.help.endswith(".")
    assert metric.name.endswith(metric.unit)
    assert re.fullmatch(r"[a-z0-9_]+", metric.name)
