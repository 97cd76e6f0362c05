"""SQL of features and categories: every name finds its column, whatever it is called."""

from __future__ import annotations

import pytest
from penstock.schemas.drift.monitors import WATCHED_CATEGORIES, WATCHED_FEATURES
from penstock.streams.core.drift.columns import (
    LABELS,
    NUMBERS,
    bin_sql,
    category_items,
    feature_items,
    quoted,
    text_sql,
)


def test_what_is_a_column_and_what_a_key() -> None:
    maps = {name for name in WATCHED_FEATURES if name not in NUMBERS}
    assert maps == {"toxicity"}
    assert {name for name in WATCHED_CATEGORIES if name not in LABELS} == {"language"}
    assert NUMBERS["latency_ms"] == "t.latency_us / 1000"
    assert NUMBERS["cost_usd"] == "t.cost_nanousd / 1000000000"
    assert "seq" not in NUMBERS
    assert "t.features['toxicity']" in bin_sql("toxicity")
    assert text_sql("route") == "toString(t.route)"
    assert "t.categories['language']" in text_sql("language")


@pytest.mark.parametrize(
    ("text", "literal"),
    [("a", "'a'"), ("it's", r"'it\'s'"), ("a\\", r"'a\\'"), ("{x:Y}", "'{x:Y}'")],
)
def test_names_cannot_leave_their_literal(text: str, literal: str) -> None:
    assert quoted(text) == literal
    assert literal in bin_sql(text)


def test_items_are_numbered() -> None:
    assert feature_items(["latency_ms", "x"]).count("toUInt8(") == 2
    assert category_items(["route"]).startswith("[(toUInt8(0), multiIf(")
