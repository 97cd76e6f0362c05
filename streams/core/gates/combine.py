"""Several metrics, one verdict.

FAIL is shown where any critical metric is: alpha_fail is split evenly over them (Bonferroni), so the
gate's false-alarm rate is at most alpha_fail over its whole life. PASS is intersection-union: every
critical metric must be shown to be within its margin, each at alpha_pass without a split. Advisory
metrics are told at the undivided levels and never decide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from .verdict import HasLevels


class Weighed(Protocol):
    """A metric that decides or does not."""

    @property
    def name(self) -> str:
        """Of the metric."""

    @property
    def critical(self) -> bool:
        """Whether it decides."""


def thresholds(spec: HasLevels, metrics: Sequence[Weighed], critical: bool) -> tuple[float, float]:
    """Natural logs of 1/alpha for FAIL and PASS of one metric of a gate.

    Args:
        spec: error rates of the gate.
        metrics: all of its metrics.
        critical: whether this one decides.
    """
    shares = sum(metric.critical for metric in metrics) if critical else 1
    return math.log(shares / spec.alpha_fail), math.log(1.0 / spec.alpha_pass)


def contributions(log_fail: Mapping[str, float], metrics: Sequence[Weighed]) -> dict[str, float]:
    """Share of the evidence for FAIL that each critical metric holds, by name; 0 for others.

    Args:
        log_fail: log e-value per metric.
        metrics: all of the gate.
    """
    held = {m.name: max(log_fail[m.name], 0.0) if m.critical else 0.0 for m in metrics}
    total = sum(held.values())
    return {name: value / total if total > 0 else 0.0 for name, value in held.items()}
