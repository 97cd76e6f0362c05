"""Where the values of a feature or a category stand in the raw rows, as SQL over requests `t`.

A name is a column of requests, or else a key of the maps `features` and `categories`. Maps are sampled
where they are emitted: rows that were chosen by trace (`head`), and rows of whoever does not sample, are
an unbiased part of all; errors and the like that are kept beside them would bend every distribution.

Each series becomes one integer or text per row, so that one query counts them all and the requests
behind a bin are found by the same expression.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ....schemas.events import fields_of
from ..metrics import SKETCHES
from ..sketch import LOG_GAMMA, OFFSET

ABSENT = -1  # of a row that could have carried a value
NOT_ASKED = -2  # of a row that could not: sampled out, or failed before it had one
OTHER = "(other)"

_UNITS = {"ms": ("_ms", "_us", 1000), "usd": ("_usd", "_nanousd", 1_000_000_000)}
_SKIPPED = frozenset({"seq", "sample_rate", "first_step", "last_step", "http_status"})


def _numbers() -> dict[str, str]:
    found = {}
    for spec in fields_of("request"):
        kind, name = spec.doc.kind, spec.name
        if kind in _UNITS:
            ours, stored, scale = _UNITS[kind]
            found[name] = f"t.{name.removesuffix(ours)}{stored} / {scale}"
        elif kind in ("int", "float") and name not in _SKIPPED:
            found[name] = f"toFloat64(t.{name})"
    return found


NUMBERS = _numbers()
"""Numeric columns of requests by the name that a monitor uses -> SQL of the value, NULL without one."""

LABELS = tuple(spec.name for spec in fields_of("request") if spec.doc.kind == "label")
"""Columns of requests that are categories."""

_SAMPLED = "(t.sample_reason IN ('', 'head') AND (notEmpty(t.features) OR notEmpty(t.categories)))"
_ENDED_WELL = "t.status = 'ok'"


def quoted(text: str) -> str:
    """A string literal of SQL.

    >>> quoted("it's")
    "'it\\\\'s'"
    """
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def bin_sql(feature: str) -> str:
    """SQL of the sketch bin of a row's value (`binning_of`), `ABSENT` or `NOT_ASKED` without one."""
    if feature in NUMBERS:
        value, held = f"ifNull({NUMBERS[feature]}, nan)", "1"
        asked = _ENDED_WELL
    else:
        key = quoted(feature)
        value, held = f"t.features[{key}]", f"{_SAMPLED} AND mapContains(t.features, {key})"
        asked = _SAMPLED
    known = f"{held} AND isFinite({value})"
    return f"multiIf({known}, {_binned(feature, value)}, {asked}, {ABSENT}, {NOT_ASKED})"


def _binned(feature: str, value: str) -> str:
    if feature in SKETCHES:
        return f"if({value} > 0, {_log_bin(value, 1, 65534)}, 0)"
    size = f"if({value} = 0, 0, {_log_bin(f'abs({value})', 0, 32767)})"
    return f"toInt32(32768 + sign({value}) * {size})"


def _log_bin(value: str, low: int, high: int) -> str:
    place = f"ceil(log({value}) / {LOG_GAMMA!r}) + {OFFSET}"
    return f"toInt32(greatest({low}, least({high}, {place})))"


def text_sql(category: str) -> str:
    """SQL of a row's category; empty without one."""
    if category in LABELS:
        return f"toString(t.{category})"
    return f"if({_SAMPLED}, t.categories[{quoted(category)}], '')"


def asked_sql(category: str) -> str:
    """SQL of whether a row without a category could have carried one."""
    return _ENDED_WELL if category in LABELS else _SAMPLED


def in_bin_sql(feature: str, low: int, high: int) -> str:
    """SQL condition: the value of a row lies in some sketch bins, both inclusive."""
    return f"{bin_sql(feature)} BETWEEN {low} AND {high}"


def feature_items(features: Sequence[str]) -> str:
    """SQL of an array of (position, bin), one for each feature."""
    return _array(f"(toUInt8({at}), {bin_sql(name)})" for at, name in enumerate(features))


def category_items(categories: Sequence[str]) -> str:
    """SQL of an array of (position, `ABSENT`, `NOT_ASKED` or 0, text), one for each category."""
    return _array(
        f"(toUInt8({at}), multiIf({text_sql(name)} != '', 0, {asked_sql(name)}, {ABSENT}, {NOT_ASKED}),"
        f" {text_sql(name)})"
        for at, name in enumerate(categories)
    )


def _array(items: Iterable[str]) -> str:
    return f"[{', '.join(items)}]"
