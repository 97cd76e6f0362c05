"""What a canary gate tests, worked out of its specification: one record per metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ....schemas.gates.canary import CanaryGate
from ....schemas.gates.metrics import (
    LatencyMetric,
    MeanMetric,
    Metric,
    RateMetric,
    ratio_of,
    whole_bins,
)
from .interface import WantedMetric
from .means import Margin

_RATE_FIELDS = {
    "error_rate": "error",
    "timeout_rate": "timeout",
    "safety_rate": "safety",
    "unaccepted_rate": "unaccepted",
}


@dataclass(frozen=True, slots=True)
class RatioTest:
    """A rate by ratio, with a floor below which the treatment passes anyway."""

    name: str
    declared: str
    critical: bool
    margin: float
    floor: float | None
    wanted: WantedMetric


@dataclass(frozen=True, slots=True)
class MeanTest:
    """A mean, a ratio of means, or a rate by difference (`is_rate`).

    Attributes:
        margin: in caps.
        plain: whether weights are 1.
        blocks: whether observations are block means.
        swapped: whether more is better, so that the arms change places.
        cap: the unit of values; per 1,000 tokens where there are weights.
    """

    name: str
    declared: str
    critical: bool
    margin: Margin
    plain: bool
    blocks: bool
    swapped: bool
    cap: float
    is_rate: bool
    wanted: WantedMetric


@dataclass(frozen=True, slots=True)
class QuantileTest:
    """A latency quantile by ratio, in whole bins."""

    name: str
    declared: str
    critical: bool
    quantile: float
    bins: int
    blocks: bool
    wanted: WantedMetric


Tested: TypeAlias = RatioTest | MeanTest | QuantileTest


def metrics_tested(spec: CanaryGate) -> tuple[Tested, ...]:
    """The tests in the order of the metrics, each mean followed by the rate of what it caps."""
    found: list[Tested] = []
    for metric in spec.metrics:
        found += _tests(metric)
    return tuple(found)


def _tests(metric: Metric) -> list[Tested]:
    if isinstance(metric, RateMetric):
        return [_rate(metric)]
    if isinstance(metric, LatencyMetric):
        return [_quantile(metric)]
    return [_mean(metric), *_above_cap(metric)]


def _rate(metric: RateMetric) -> Tested:
    wanted = WantedMetric(metric.name, "rate", _RATE_FIELDS[metric.metric], "unit")
    if metric.margin_ratio is not None:
        return RatioTest(
            metric.name,
            _times(metric.margin_ratio),
            metric.critical,
            metric.margin_ratio,
            metric.floor_ratio,
            wanted,
        )
    allowed = metric.margin_absolute or 0.0
    return MeanTest(
        metric.name, f"control + {allowed * 100:g} %", metric.critical, Margin(absolute=allowed),
        plain=True, blocks=False, swapped=False, cap=1.0, is_rate=True, wanted=wanted,
    )  # fmt: skip


def _quantile(metric: LatencyMetric) -> QuantileTest:
    bins = whole_bins(metric.margin_ratio or 1.0)
    return QuantileTest(
        metric.name,
        _times(ratio_of(bins)),
        metric.critical,
        metric.quantile,
        bins,
        metric.unit == "worker_block",
        WantedMetric(metric.name, "bins", metric.field, "request"),
    )


def _mean(metric: MeanMetric) -> MeanTest:
    plain = metric.cap_tokens is None or metric.metric != "cost_per_1k_tokens_usd"
    ratio, absolute = metric.margin_ratio, metric.margin_absolute
    if ratio is not None:
        declared = f"control / {ratio:g}" if metric.higher_is_better else _times(ratio)
        margin = Margin(ratio=ratio)
    else:
        declared = f"control {'-' if metric.higher_is_better else '+'} {absolute:g}"
        margin = Margin(absolute=(absolute or 0.0) / metric.cap)
    field = {"quality": "quality", "cost_usd": "cost"}.get(metric.metric, "cost_tokens")
    tokens = metric.cap_tokens if not plain else None
    return MeanTest(
        metric.name, declared, metric.critical, margin,
        plain=plain, blocks=metric.unit == "worker_block", swapped=metric.higher_is_better,
        cap=metric.cap if tokens is None else metric.cap / tokens * 1000, is_rate=False,
        wanted=WantedMetric(
            metric.name, "moments", field, "request", cap=metric.cap, cap_tokens=tokens
        ),
    )  # fmt: skip


def _above_cap(metric: MeanMetric) -> list[Tested]:
    """The share of requests whose value (or tokens) the cap hides; a score cannot be above its own."""
    if metric.metric == "quality":
        return []
    margin = metric.cap_margin_ratio or metric.margin_ratio or 1.0
    name = f"{metric.name}_above_cap"
    wanted = WantedMetric(
        name, "rate", "above_cap", "request", cap=metric.cap, cap_tokens=metric.cap_tokens
    )
    floor = metric.cap_floor_ratio
    return [RatioTest(name, _times(margin), metric.critical, margin, floor, wanted)]


def _times(ratio: float) -> str:
    return f"{ratio:.4g} times control"
