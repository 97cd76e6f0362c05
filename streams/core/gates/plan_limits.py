"""How long an absolute gate will take, before the release starts: as plan.py, for rates against limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np

from ....schemas.gates.absolute import AbsoluteGate, CostLimit, LatencyLimit, RateLimit
from .combine import thresholds
from .eprocess import log_e_above, log_e_below
from .plan import Plan, PlanLine
from .state import prior_of
from .units import allowed_rate

_UNITS = np.geomspace(1.0, 1e12, 1400)  # 2 % apart


def plan_limits(
    spec: AbsoluteGate, requests_per_s: float, rates: Mapping[str, float], worse: float = 2.0
) -> Plan:
    """How many requests and seconds each verdict needs.

    Args:
        spec: the gate; a cost has no line, for its time depends on how costs scatter.
        requests_per_s: of the release, above 0.
        rates: bad share per metric by name (of a latency, the share above its limit); half of what
            is allowed where not given.
        worse: how many times what is allowed FAIL must find, above 1.

    Raises:
        ValueError: no traffic, or nothing worse to find.
    """
    if not requests_per_s > 0 or not worse > 1:
        raise ValueError("a plan needs requests_per_s above 0 and worse above 1")
    lines: list[PlanLine] = []
    problems: list[str] = []
    for limit in spec.metrics:
        if isinstance(limit, CostLimit):
            continue
        found = _lines(spec, limit, requests_per_s, rates, worse)
        lines += found
        if limit.critical:
            problems += [_problem(spec, line) for line in found if not line.reachable]
    return Plan(tuple(lines), tuple(problems))


def _lines(
    spec: AbsoluteGate,
    limit: LatencyLimit | RateLimit,
    requests_per_s: float,
    rates: Mapping[str, float],
    worse: float,
) -> tuple[PlanLine, PlanLine]:
    allowed = allowed_rate(limit)
    good = rates.get(limit.name, allowed / 2.0)
    bad = min(worse * allowed, 1.0)
    to_fail, to_pass = thresholds(spec, spec.metrics, limit.critical)
    prior = prior_of(allowed)
    passes = log_e_below(good * _UNITS, _UNITS, allowed, prior) >= to_pass
    fails = log_e_above(bad * _UNITS, _UNITS, allowed, prior) >= to_fail
    # Above its limit a release is on its way to FAIL, and never passes.
    passed = None if good >= allowed or not passes.any() else _UNITS[int(np.argmax(passes))]
    failed = _UNITS[int(np.argmax(fails))] if fails.any() else None
    least_s = max(spec.min_bake_s, spec.min_units / requests_per_s)
    return (
        _line(spec, limit.name, "PASS", good / allowed, passed, requests_per_s, least_s),
        _line(spec, limit.name, "FAIL", bad / allowed, failed, requests_per_s, 0.0),
    )


def _line(
    spec: AbsoluteGate,
    name: str,
    verdict: Literal["PASS", "FAIL"],
    ratio: float,
    units: float | None,
    requests_per_s: float,
    least_s: float,
) -> PlanLine:
    if units is None:
        return PlanLine(name, verdict, ratio, None, None, spec.deadline_s is None)
    seconds = max(math.ceil(units / requests_per_s), least_s)
    reachable = spec.deadline_s is None or seconds <= spec.deadline_s
    return PlanLine(name, verdict, ratio, math.ceil(units), float(seconds), reachable)


def _problem(spec: AbsoluteGate, line: PlanLine) -> str:
    when = "is out of reach" if line.seconds is None else f"takes about {line.seconds:,.0f} s"
    return (
        f"{line.metric}: {line.verdict} at {line.ratio:.3g} times its limit {when}, and the deadline "
        f"is {spec.deadline_s} s: give it more traffic, a wider limit, or make it advisory"
    )
