"""Forecasts of load and of saturation: how far off, beside naive ones.

    python benchmarks/capacity_forecast.py [--quick]

First the bundled trace (58 minutes of a real service, one-minute steps): the mean absolute error of
the load 1 to 10 minutes ahead, from every minute on that has half an hour behind it. Then simulated
fleets whose load ramps up: the error of the load, and of the time until they are full. Seeded.

Naive forecasts: the last value; the mean of the history; the same hour of the last day. The naive time to
saturation is where a least-squares line through the same history reaches the true capacity.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import numpy.typing as npt
from penstock.producers.traces import bundled_trace
from penstock.schemas.costs.capacity import CapacityForecast
from penstock.streams.core.costs.capacity import forecast, load_forecast
from penstock.streams.core.costs.series import LOAD, Series
from penstock.streams.core.tiles import Span
from penstock.tests.unit.streams.core.costs.fleet import START_S, Fleet

Floats = npt.NDArray[np.float64]
AHEAD = 10
BEHIND = 30
SPEC = CapacityForecast(
    id="fleet", load="requests_per_s", max_batch_fill=None, max_gpu_utilization=None
)


def trace_series(column: str) -> tuple[Series, Floats]:
    """The bundled trace by minute, as a series and as load per second."""
    trace = bundled_trace()
    minute = trace.arrival_us // 60_000_000
    weights = (
        np.ones(len(trace)) if column == "requests" else trace.input_tokens + trace.output_tokens
    )
    counts = np.bincount(minute, weights)[:-1]
    series = Series(LOAD)
    for at, count in enumerate(counts.astype(np.int64).tolist()):
        values = [count if name == column else 0 for name in LOAD]
        series.put(Span(60, START_S + at * 60), values)
    return series, counts / 60


def real_trace() -> None:
    print("Bundled trace, load 1 to 10 minutes ahead: mean absolute error, % of the mean load")
    print(f"{'load':>16} {'ours':>8} {'last value':>11} {'mean':>8} {'origins':>8}")
    for column in ("requests", "tokens"):
        spec = SPEC.model_copy(update={"load": f"{column}_per_s"})
        series, load = trace_series(column)
        errors = []
        for now in range(BEHIND, len(load) - AHEAD + 1):
            truth = load[now : now + AHEAD]
            ours = load_forecast(spec, series, START_S + now * 60, AHEAD, 0)
            rivals = (ours, load[now - 1], load[:now].mean())
            errors.append([np.abs(rival - truth).mean() for rival in rivals])
        ours_, last, mean = 100 * np.mean(errors, axis=0) / load.mean()
        print(f"{column:>16} {ours_:8.1f} {last:11.1f} {mean:8.1f} {len(errors):8}")


def real_saturation() -> None:
    """Fleets that would be full at some multiple of the mean load of the trace."""
    print("\nBundled trace, fleets full at a multiple of its mean load, within 10 minutes")
    print(f"{'full at':>16} {'reached':>8} {'covered':>8} {'promised and not reached':>25}")
    _, load = trace_series("requests")
    spec = SPEC.model_copy(update={"horizon_s": AHEAD * 60})
    for multiple in (1.2, 1.5, 2.0):
        capacity = multiple * load.mean()
        reached, covered, promised, n = 0, 0, 0, 0
        for now in range(BEHIND, len(load) - AHEAD + 1):
            found = forecast(spec, with_usage(load[:now], capacity), START_S + now * 60, 0)
            above = np.flatnonzero(load[now : now + AHEAD] >= capacity)
            truth_s = 60 * above[0] if len(above) else np.inf
            low_s, high_s = (np.inf if v is None else v for v in (found.low_s, found.high_s))
            if found.state == "saturated":
                continue
            n += 1
            reached += bool(len(above))
            covered += low_s <= truth_s <= high_s
            promised += bool(np.isfinite(high_s) and np.isinf(truth_s))
        print(f"{multiple:15.1f}x {reached:5}/{n} {covered:5}/{n} {promised:22}/{n}")


def with_usage(load: Floats, capacity: float) -> Series:
    """A series whose KV-cache usage is 0.9 at the capacity."""
    series = Series(LOAD)
    for at, value in enumerate(load.tolist()):
        usage = min(0.05 + 0.85 * value / capacity, 1.0)
        named = {
            "requests": round(value * 60),
            "kv_cache_usage_sum": round(1e8 * usage),
            "kv_cache_usage_count": 100,
        }
        series.put(Span(60, START_S + at * 60), [named.get(name, 0) for name in LOAD])
    return series


def ramp_loads(runs: int) -> None:
    print("\nSimulated ramps, load ahead: root mean square error of the expected load, %")
    print(f"{'fleet':>24} {'ours':>8} {'last value':>11} {'mean':>8} {'last day':>9}")
    for name, fleet, steps, ahead in RAMPS:
        rng = np.random.default_rng(1)
        truth = fleet.expected(steps + np.arange(ahead))
        errors = []
        for _ in range(runs):
            series = fleet.series(rng, steps)
            end_s = START_S + steps * fleet.step_s
            load = series.bins(START_S, end_s, fleet.step_s).columns["requests"] / fleet.step_s
            ours = load_forecast(SPEC, series, end_s, ahead, 0)
            day = np.resize(load[-24:], ahead) if fleet.step_s == 3600 else np.full(ahead, np.nan)
            rivals = (ours, load[-1], load.mean(), day)
            errors.append([np.square(rival / truth - 1).mean() for rival in rivals])
        found = 100 * np.sqrt(np.mean(errors, axis=0))
        print(f"{name:>24} {found[0]:8.1f} {found[1]:11.1f} {found[2]:8.1f} {found[3]:9.1f}")


def saturation(runs: int) -> None:
    print("\nTime to saturation, 90 % intervals; least squares beside it (no cycle, no interval)")
    print(
        f"{'fleet':>24} {'truth':>8} {'covered':>8} {'too late':>9} {'too early':>10} "
        f"{'median':>8} {'width':>8} {'line':>8} {'ms each':>8}"
    )
    for name, fleet, steps, _ in RAMPS:
        rng = np.random.default_rng(7)
        rows, lines, took = [], [], 0.0
        for seed in range(runs):
            series = fleet.series(rng, steps)
            begun = time.perf_counter()
            found = forecast(SPEC, series, START_S + steps * fleet.step_s, seed)
            took += time.perf_counter() - begun
            horizon = found.horizon_s // fleet.step_s
            truth_s = fleet.crossing(steps, horizon) * fleet.step_s
            low_s, middle_s, high_s = (
                np.inf if value is None else value
                for value in (found.low_s, found.estimate_s, found.high_s)
            )
            rows.append((low_s > truth_s, high_s < truth_s, middle_s, high_s - low_s))
            lines.append(naive_line(series, fleet, steps))
        late, early, middle, width = np.array(rows, np.float64).T
        width = np.where(np.isnan(width), np.inf, width)  # no interval, or none that ends
        print(
            f"{name:>24} {fleet.crossing(steps, 10**4) * fleet.step_s / 3600:7.1f}h "
            f"{100 * (1 - late.mean() - early.mean()):7.1f}% {100 * late.mean():8.1f}% "
            f"{100 * early.mean():9.1f}% {np.median(middle) / 3600:7.1f}h "
            f"{np.median(width) / 3600:7.1f}h {np.median(lines) / 3600:7.1f}h "
            f"{1000 * took / runs:8.1f}"
        )


def naive_line(series: Series, fleet: Fleet, steps: int) -> float:
    """Seconds until a least-squares line reaches the true capacity."""
    end_s = START_S + steps * fleet.step_s
    load = series.bins(START_S, end_s, fleet.step_s).columns["requests"] / fleet.step_s
    slope, level = np.polyfit(np.arange(steps), load, 1)
    if slope <= 0:
        return float(np.inf)
    return float(max((fleet.capacity - level) / slope - steps, 0) * fleet.step_s)


RAMPS = (
    ("1 h by minute", Fleet(step_s=60, slope=0.12, capacity=30, autocorrelation=0.0), 60, 60),
    ("1 h by minute, AR .5", Fleet(step_s=60, slope=0.12, capacity=30), 60, 60),
    ("2 h by minute, AR .8", Fleet(step_s=60, slope=0.06, capacity=30, autocorrelation=0.8), 120, 120),
    ("2 days, cycle", Fleet(slope=0.15, swing=0.4, capacity=40, noise=0.05), 48, 48),
    ("3 days, cycle", Fleet(slope=0.1, swing=0.4, capacity=45), 72, 72),
    ("7 days, cycle", Fleet(slope=0.05, swing=0.4, capacity=50), 168, 168),
    ("14 days, cycle, AR .8", Fleet(slope=0.03, swing=0.4, capacity=55, autocorrelation=0.8), 336, 168),
    ("7 days, no growth", Fleet(slope=0.0, swing=0.4, capacity=50), 168, 168),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the runs")
    runs = 20 if parser.parse_args().quick else 200
    real_trace()
    real_saturation()
    ramp_loads(runs)
    saturation(runs)


if __name__ == "__main__":
    main()
