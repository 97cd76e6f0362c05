"""Text of OpenMetrics 1.0: a pure renderer.

https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of the closed list.

    Attributes:
        name: without `_total`; ends in its unit where it has one.
        kind: counter, gauge or info.
        unit: base unit, such as seconds; empty for counts.
        help: one line of meaning.
    """

    name: str
    kind: Literal["counter", "gauge", "info"]
    unit: str
    help: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A value of a metric under some labels; None is left out."""

    metric: Metric
    value: float | None
    labels: Mapping[str, str]


_SUFFIX = {"counter": "_total", "gauge": "", "info": "_info"}


def render(samples: Iterable[Sample]) -> str:
    """The whole text: samples of a metric together, metrics in the order they first come.

    >>> print(render([Sample(Metric("lag_seconds", "gauge", "seconds", "Lag."), 0.5, {"a": "b"})]))
    # TYPE lag_seconds gauge
    # UNIT lag_seconds seconds
    # HELP lag_seconds Lag.
    lag_seconds{a="b"} 0.5
    # EOF
    <BLANKLINE>
    """
    families: dict[Metric, list[str]] = {}
    for sample in samples:
        lines = families.setdefault(sample.metric, [])
        if sample.value is not None:
            name = sample.metric.name + _SUFFIX[sample.metric.kind]
            lines.append(f"{name}{_labels(sample.labels)} {_number(sample.value)}")
    text: list[str] = []
    for metric, lines in families.items():
        if lines:
            text += _head(metric) + lines
    return "\n".join([*text, "# EOF", ""])


def _head(metric: Metric) -> list[str]:
    head = [f"# TYPE {metric.name} {metric.kind}"]
    if metric.unit:
        head.append(f"# UNIT {metric.name} {metric.unit}")
    return [*head, f"# HELP {metric.name} {_escaped(metric.help)}"]


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if float(value).is_integer() and abs(value) < 2**53 else repr(value)
