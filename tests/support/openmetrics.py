"""The reference parser of OpenMetrics."""

from __future__ import annotations

from typing import Any

from prometheus_client.openmetrics import parser


def families(text: str) -> list[Any]:
    """Metric families of a text; raises ValueError where it breaks the specification."""
    parse: Any = parser.text_string_to_metric_families
    return list(parse(text))
