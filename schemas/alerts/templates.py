"""Texts of alerts: `{{ value }}` and nothing more. No expressions, so nothing to evaluate.

A name is replaced by its text. `value` and `limit` carry their unit; `| number` gives the bare number.
Prometheus' `$value` and `$labels.model` mean the same without the dollar sign.

>>> render("p95 of {{ $labels.model }}: {{ value }}", {"labels.model": "chat", "value": "1.4 s"})
'p95 of chat: 1.4 s'
"""

from __future__ import annotations

import re
from collections.abc import Mapping

NAMES = frozenset(
    {"value", "limit", "n", "metric", "window", "rule", "group", "severity", "started", "runbook"}
)
_FIELD = re.compile(r"\{\{\s*\$?([a-z]+(?:\.[A-Za-z_][A-Za-z0-9_]*)?)\s*(\|\s*number\s*)?\}\}")


def check_template(text: str) -> str:
    """The text, if every field of it can be filled.

    Raises:
        ValueError: naming the first field that is unknown or malformed.
    """
    for name, number in _FIELD.findall(text):
        if name not in NAMES and not name.startswith("labels."):
            raise ValueError(
                f"unknown field {{{{ {name} }}}}: {', '.join(sorted(NAMES))}, labels.*"
            )
        if number and name not in ("value", "limit"):
            raise ValueError(f"{{{{ {name} }}}} is no number")
    rest = _FIELD.sub("", text)
    if "{{" in rest or "}}" in rest:
        raise ValueError(f"only {{{{ name }}}} and {{{{ name | number }}}} are filled: {rest!r}")
    return text


def render(text: str, values: Mapping[str, str]) -> str:
    """Fill a checked template; what is not known is left empty. Values are never read as templates.

    Args:
        text: checked.
        values: text of each name; of the bare numbers under `value | number` and `limit | number`.
    """

    def fill(found: re.Match[str]) -> str:
        name = found[1] + (" | number" if found[2] else "")
        return values.get(name, "")

    return _FIELD.sub(fill, text)
