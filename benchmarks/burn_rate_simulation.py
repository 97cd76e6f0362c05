"""Burn-rate alerts by simulation: false pages of a healthy service, and how soon a fault pages.

A 99.9 % objective over 30 days; requests arrive as a Poisson stream, evaluated at every minute. The
rival is what most tools do: the point rules of the SRE Workbook alone. Seeded; `--quick` takes a
tenth of the runs.
"""

from __future__ import annotations

import argparse
import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from penstock.schemas.slo.burn import WORKBOOK, BurnRule, rule_of
from penstock.streams.core.slo.detector import EDetector

BUDGET = Fraction(1, 1000)
RULES = tuple(rule_of(rate, "30d") for rate in WORKBOOK)
PAGES = tuple(rule for rule in RULES if rule.severity == "critical")
DAY = 1440
CHUNK = 1000  # runs in memory at once

Ints = npt.NDArray[np.int64]
Small = npt.NDArray[np.int16]
Flags = npt.NDArray[np.bool_]


def traffic(
    rng: np.random.Generator, per_h: float, rates: npt.NDArray[np.float64], runs: int
) -> tuple[Small, Small]:
    """Bad and all requests of each run and minute, shape (runs, minutes)."""
    total = rng.poisson(per_h / 60, (runs, len(rates))).astype(np.int16)
    bad = np.empty_like(total)
    for at, rate in enumerate(rates.tolist()):
        bad[:, at] = rng.binomial(total[:, at], rate)
    return bad, total


def alarms(bad: Small, total: Small) -> Flags:
    """Minutes at which the e-detector alarmed, shape (runs, minutes)."""
    detector = EDetector((BUDGET,))
    state = detector.initial(len(bad))
    found = np.zeros(bad.shape, np.bool_)
    for at in range(bad.shape[1]):
        x, n = bad[:, at].astype(np.float64), total[:, at].astype(np.float64)
        state, _, found[:, at] = detector.step(state, x, n)
    return found


def last_minutes(counts: npt.NDArray[np.integer], minutes: int) -> Ints:
    """Sums over the minutes up to each, shape (minutes,)."""
    sums = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
    ends = np.arange(1, len(sums))
    return np.asarray(sums[ends] - sums[np.maximum(ends - minutes, 0)])


def points(rule: BurnRule, bad: Small, total: Small) -> Flags:
    """Minutes of one run at which a rule's point condition holds, in exact integers."""
    limit = rule.factor * BUDGET
    holds = np.ones(len(bad), np.bool_)
    for length_s in (rule.long_s, rule.short_s):
        x, n = last_minutes(bad, length_s // 60), last_minutes(total, length_s // 60)
        holds &= x * limit.denominator > limit.numerator * n
    return holds


def fires(rules: tuple[BurnRule, ...], bad: Small, total: Small, alarm: Flags | None) -> Flags:
    """Minutes of one run at which some rule fires: by its point condition alone where there is no
    `alarm`, else with an alarm of the e-detector within its long window.
    """
    found = np.zeros(len(bad), np.bool_)
    for rule in rules:
        holds = points(rule, bad, total)
        if alarm is not None:
            holds &= last_minutes(alarm.astype(np.int64), rule.long_s // 60) > 0
        found |= holds
    return found


def standard_error(share: float, runs: int) -> float:
    return math.sqrt(max(share * (1 - share), 1 / runs) / runs)


def false_pages(runs: int) -> None:
    print(f"\nRate equal to the budget, {runs} runs of 30 days: ever fired, % ± standard error")
    print(f"{'requests/h':>10} {'pages':>14} {'or tickets':>14} {'point pages':>14}")
    rng = np.random.default_rng(1)
    for per_h in (10, 60, 600):
        counted = np.zeros(3)
        for start in range(0, runs, CHUNK):
            size = min(CHUNK, runs - start)
            bad, total = traffic(rng, per_h, np.full(30 * DAY, float(BUDGET)), size)
            alarm = alarms(bad, total)
            for x, n, seen in zip(bad, total, alarm, strict=True):
                if seen.any():
                    counted[0] += fires(PAGES, x, n, seen).any()
                    counted[1] += fires(RULES, x, n, seen).any()
                counted[2] += fires(PAGES, x, n, None).any()
        told = [f"{100 * s:.2f} ± {100 * standard_error(s, runs):.2f}" for s in counted / runs]
        print(f"{per_h:>10} {told[0]:>14} {told[1]:>14} {told[2]:>14}")


def delays(runs: int) -> None:
    print(
        f"\nMinutes from the fault to the page, {runs} runs, a day at a tenth of the budget before"
    )
    print(
        f"{'requests/h':>10} {'errors':>7} {'median':>7} {'p99':>7} {'<= 15 min %':>11} {'point median':>12} {'point p99':>9}"
    )
    rng = np.random.default_rng(2)
    for per_h, rate, minutes in (
        (10, 1.0, 240), (60, 1.0, 90), (60, 0.2, 240), (600, 0.15, 90), (6000, 0.15, 30), (6000, 0.02, 120),
    ):  # fmt: skip
        rates = np.concatenate([np.full(DAY, float(BUDGET) / 10), np.full(minutes, rate)])
        bad, total = traffic(rng, per_h, rates, runs)
        alarm = alarms(bad, total)
        # A page before the fault is a false one; it is not counted as finding it.
        alarm[:, :DAY] = False
        joined = [
            first(fires(PAGES, x, n, seen)[DAY:])
            for x, n, seen in zip(bad, total, alarm, strict=True)
        ]
        alone = [first(fires(PAGES, x, n, None)[DAY:]) for x, n in zip(bad, total, strict=True)]
        soon = 100 * np.mean(np.array(joined) <= 15)
        told = [*np.quantile(joined, (0.5, 0.99)), soon, *np.quantile(alone, (0.5, 0.99))]
        print(
            f"{per_h:>10} {rate:>7.0%} {told[0]:>7.0f} {told[1]:>7.0f} {told[2]:>11.1f}"
            f" {told[3]:>12.0f} {told[4]:>9.0f}"
        )
    print("(a run that never pages counts as infinite)")


def first(found: Flags) -> float:
    """Minutes until the end of the first one at which something fired; infinite without one."""
    return float(found.argmax() + 1) if found.any() else math.inf


def slow_burns(runs: int) -> None:
    print(f"\nA burn that lasts, {runs} runs of 10 days: fired as a ticket or page within them, %")
    print(f"{'requests/h':>10} {'burn rate':>9} {'fired %':>8} {'median h':>9}")
    rng = np.random.default_rng(3)
    for per_h, factor in ((60, 3), (600, 2), (600, 3), (6000, 2), (6000, 3), (6000, 5)):
        bad, total = traffic(rng, per_h, np.full(10 * DAY, factor * float(BUDGET)), runs)
        alarm = alarms(bad, total)
        at = [
            first(fires(RULES, x, n, seen)) / 60 if seen.any() else math.inf
            for x, n, seen in zip(bad, total, alarm, strict=True)
        ]
        print(
            f"{per_h:>10} {factor:>9} {100 * np.mean(np.isfinite(at)):>8.1f} {np.median(at):>9.1f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the runs")
    scale = 10 if parser.parse_args().quick else 1
    false_pages(3000 // scale)
    delays(2000 // scale)
    slow_burns(200 // scale)


if __name__ == "__main__":
    main()
