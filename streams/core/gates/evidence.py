"""Evidence of an absolute gate: estimates, confidence sequences, e-values, what is missing."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ....schemas.gates.absolute import AbsoluteGate, CostLimit, LatencyLimit, MetricLimit, RateLimit
from .betting import BettingState
from .boundaries import rate_confidence_sequence
from .forecast import cost_needs, is_noise, rate_needs
from .state import GateState, MetricState
from .units import allowed_rate, cap_nano, declared
from .verdict import Evidence, VerdictName

_LN10 = math.log(10.0)


def thresholds(spec: AbsoluteGate, limit: MetricLimit) -> tuple[float, float]:
    """Natural logs of 1/alpha for FAIL and PASS of one metric.

    alpha_fail is split evenly over the critical metrics; an advisory one has all of it, since it
    does not decide.
    """
    shares = sum(other.critical for other in spec.metrics) if limit.critical else 1
    return math.log(shares / spec.alpha_fail), math.log(1.0 / spec.alpha_pass)


def evidence_of(spec: AbsoluteGate, state: GateState) -> tuple[Evidence, ...]:
    """Evidence per metric, in the order of the specification.

    Also what is known since a verdict was latched: pass the current state, or one with amended
    totals. Numbers are rounded to nine significant digits, so that they and the digest are the
    same on machines whose logarithms differ in the last bit.
    """
    return tuple(_evidence(spec, limit, state.metrics[limit.name]) for limit in spec.metrics)


def _evidence(spec: AbsoluteGate, limit: MetricLimit, metric: MetricState) -> Evidence:
    to_fail, to_pass = thresholds(spec, limit)
    estimate, low, high = _interval(spec, limit, metric)
    needed = (
        None if _decision(metric, to_fail, to_pass) != "UNDECIDED" else _needs(spec, limit, metric)
    )
    is_cost = isinstance(limit, CostLimit)
    return Evidence(
        metric=limit.name,
        declared=declared(limit),
        unit="usd_per_request" if is_cost else "ratio",
        limit=0.0 if isinstance(limit, CostLimit) else allowed_rate(limit),
        estimate=None if estimate is None else _rounded(estimate),
        low=_rounded(low),
        high=_rounded(high),
        confidence=_rounded(1.0 - spec.alpha_fail),
        log10_e_fail=_rounded(metric.log_fail / _LN10),
        log10_e_pass=_rounded(metric.log_pass / _LN10),
        threshold_fail=_rounded(to_fail / _LN10),
        threshold_pass=_rounded(to_pass / _LN10),
        n=metric.units,
        bad=None if is_cost else metric.bad,
        critical=limit.critical,
        decision=_decision(metric, to_fail, to_pass),
        n_needed=None if needed is None else int(abs(needed)),
    )


def _decision(metric: MetricState, to_fail: float, to_pass: float) -> VerdictName:
    if metric.units == 0:
        return "NO_DATA"
    if metric.log_fail >= to_fail:
        return "FAIL"
    return "PASS" if metric.log_pass >= to_pass else "UNDECIDED"


def _interval(
    spec: AbsoluteGate, limit: MetricLimit, metric: MetricState
) -> tuple[float | None, float, float]:
    """Estimate and confidence sequence in the unit of the evidence."""
    if isinstance(limit, CostLimit):
        cap = cap_nano(limit) / 1e9
        low, high = (metric.betting or BettingState()).interval(cap, spec.alpha_fail)
        return (metric.cost_nano / metric.units / 1e9 if metric.units else None), low, high
    low, high = rate_confidence_sequence(
        metric.bad, metric.units, spec.alpha_fail, _t_opt(spec, limit), spec.alpha_fail
    )
    return (metric.bad / metric.units if metric.units else None), low, high


def _t_opt(spec: AbsoluteGate, limit: LatencyLimit | RateLimit) -> float:
    """Where the interval shall be tightest: twenty bad units at the limit."""
    return max(float(spec.min_units), 20.0 / allowed_rate(limit))


def _needs(spec: AbsoluteGate, limit: MetricLimit, metric: MetricState) -> float | None:
    """Units of the metric until FAIL (positive) or PASS (negative); 0 if PASS is shown."""
    to_fail, to_pass = thresholds(spec, limit)
    if metric.log_pass >= to_pass and metric.within:
        return -0.0
    if isinstance(limit, CostLimit):
        return cost_needs(metric.betting or BettingState(), metric.units, to_fail, to_pass)
    return rate_needs(metric.bad, metric.units, allowed_rate(limit), to_fail, to_pass)


@dataclass(frozen=True, slots=True)
class Needs:
    """What an undecided gate is waiting for.

    Attributes:
        n_needed: further requests until the nearer decision, None if unknown.
        eta_s: seconds until then at the current traffic, the rest of the bake included.
        bake_s: seconds of min_bake_s that are left.
        near_limit: a critical metric with data is within noise of its limit.
    """

    n_needed: int | None
    eta_s: float | None
    bake_s: float
    near_limit: bool


def needs_of(spec: AbsoluteGate, state: GateState, requests_per_s: float) -> Needs:
    """What is missing until the nearer decision at the current estimates and traffic."""
    fails: list[int] = []
    passes: list[int] = [max(spec.min_units - state.requests, 0)]
    unknown = near = False
    for limit in spec.metrics:
        if not limit.critical:
            continue
        metric = state.metrics[limit.name]
        need = _needs(spec, limit, metric)
        near = near or _noise(limit, metric)
        if need is None:
            unknown = True
        elif need > 0:
            fails.append(_requests(need, state, metric))
        else:
            units = max(-need, spec.min_units - metric.units)
            passes.append(_requests(units, state, metric))
    n_needed = min(fails) if fails else None if unknown else max(passes)
    since = state.first_us if state.first_us is not None else state.end_us
    bake_s = max(spec.min_bake_s - (state.end_us - since) / 1e6, 0.0)
    return Needs(n_needed, _eta(n_needed, requests_per_s, 0.0 if fails else bake_s), bake_s, near)


def _noise(limit: MetricLimit, metric: MetricState) -> bool:
    if isinstance(limit, CostLimit):
        betting = metric.betting
        return betting is not None and betting.blocks > 0 and betting.is_noise
    return is_noise(metric.bad, metric.units, allowed_rate(limit))


def _requests(units: float, state: GateState, metric: MetricState) -> int:
    """Requests that bring `units` more units of a metric, at its share so far."""
    share = max(state.requests, 1) / max(metric.units, 1)
    return math.ceil(max(units, 0.0) * max(share, 1.0))


def _eta(n_needed: int | None, requests_per_s: float, bake_s: float) -> float | None:
    if n_needed is None or (n_needed > 0 and not requests_per_s > 0):
        return None
    return round(max(n_needed / requests_per_s if n_needed else 0.0, bake_s), 1)


def _rounded(value: float) -> float:
    return float(f"{value:.9g}")
