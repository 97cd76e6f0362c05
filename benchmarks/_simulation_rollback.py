"""Rollback: how soon a change is found after a good time, and what a good month does."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from penstock.benchmarks._simulation_counts import Run
from penstock.benchmarks._simulation_streams import FloatArray, IntArray
from penstock.benchmarks._simulation_table import (
    OURS,
    Row,
    median,
    percent,
    three_errors,
)
from penstock.streams.core.gates.eprocess import BetaPrior, log_e_above
from penstock.streams.core.gates.watch_state import MINUTE_S, REMEMBERED_S
from penstock.streams.core.slo.detector import EDetector

SECTION = "Rollback: a change after a good time"
LIMIT, RATIO, PER_MINUTE = Fraction(1, 100), 4.0, 100
ALPHA = 0.01
HELD = 5
DAYS_30 = 30 * 24 * 60
AFTER = 400
_UNITS = f"{PER_MINUTE} requests a minute"


class Watch:
    """A rollback gate's limit over many streams, minute by minute: the point rule and the e-detector."""

    def __init__(self, streams: int) -> None:
        self._detector = EDetector((LIMIT,), ALPHA)
        self._state = self._detector.initial(streams)
        self._since_alarm = np.full(streams, np.inf)
        self._recent = np.zeros((HELD, streams), np.int64)
        self._minutes = 0

    def add(self, bad: IntArray) -> tuple[FloatArray, FloatArray]:
        """Whether it fails, and whether the point rule alone does, 0 or 1, shape (S,)."""
        units = np.full(len(bad), float(PER_MINUTE))
        self._state, _, alarm = self._detector.step(self._state, bad.astype(np.float64), units)
        self._since_alarm = np.where(alarm, 0.0, self._since_alarm + MINUTE_S)
        self._recent[self._minutes % HELD] = bad
        self._minutes += 1
        limit = float(LIMIT) * PER_MINUTE
        oldest = self._recent[self._minutes % HELD]
        held = (oldest > limit) & (self._recent.sum(axis=0) > HELD * limit) & (bad > limit)
        held &= self._minutes >= HELD
        fails = held & (self._since_alarm < REMEMBERED_S)
        return fails.astype(np.float64), held.astype(np.float64)


def simulate(run: Run) -> Iterator[Row]:
    """Every row of this module."""
    yield from good_month(run)
    for at, good in enumerate((0, 1_000, 10_000)):
        yield from after(run, at, good)


def good_month(run: Run) -> Iterator[Row]:
    """Ever FAIL within 30 days at a rate equal to the limit; a tenth of the streams."""
    streams = max(run.streams // 10, 100)
    rng = run.generator(31)
    watch = Watch(streams)
    ever = np.zeros((2, streams), np.bool_)
    for minute in range(DAYS_30):
        fails, held = watch.add(rng.binomial(PER_MINUTE, float(LIMIT), streams))
        ever |= np.stack([fails > 0, held > 0])
        if minute % 10_000 == 9_999:
            run.progress(f"{SECTION}: day {minute // 1440} of a good month")
    for rule, hit, alpha, bar in (
        (OURS, ever[0], ALPHA, three_errors(ALPHA, streams)),
        ("point rule alone, 5 minutes", ever[1], None, None),
    ):
        value, error = percent(hit)
        yield Row(SECTION, "rate equal to the limit of 1 %", rule, "ever FAIL in 30 days, %", value,
                  error, streams, _UNITS, "30 days, looked at each minute", None, alpha, bar)  # fmt: skip


def after(run: Run, at: int, good: int) -> Iterator[Row]:
    """Bad requests from the change to FAIL: the limit's rate until `good` bad requests, then four times."""
    rng = run.generator(32, at)
    healthy = round(good / (float(LIMIT) * PER_MINUTE))
    watch = Watch(run.streams)
    totals = np.zeros(run.streams, np.int64)
    for _ in range(healthy):
        bad = rng.binomial(PER_MINUTE, float(LIMIT), run.streams)
        totals += bad
        watch.add(bad)
    found = {
        name: np.full(run.streams, np.inf) for name in (OURS, "cumulative e-value", "point rule")
    }
    since = np.zeros(run.streams)
    prior = BetaPrior.around(float(LIMIT))
    for minute in range(healthy + 1, healthy + 1 + AFTER):
        bad = rng.binomial(PER_MINUTE, RATIO * float(LIMIT), run.streams)
        totals += bad
        since += bad
        fails, held = watch.add(bad)
        units = np.full(run.streams, minute * PER_MINUTE)
        cumulative = log_e_above(totals, units, float(LIMIT), prior) >= math.log(1 / ALPHA)
        for name, now in (
            (OURS, fails > 0),
            ("cumulative e-value", cumulative),
            ("point rule", held > 0),
        ):
            first = found[name]
            first[now & np.isinf(first)] = since[now & np.isinf(first)]
    for name, times in found.items():
        value, error = median(times, rng)
        rule = "point rule alone, 5 minutes" if name == "point rule" else name
        yield Row(SECTION, f"rate 1 % until {good:,} bad requests, then 4 %", rule,
                  "median bad requests from the change to FAIL", value, error, run.streams, _UNITS,
                  f"{AFTER} minutes after the change", None, None if name == "point rule" else ALPHA)  # fmt: skip
    run.progress(f"{SECTION}: after {good:,}")
