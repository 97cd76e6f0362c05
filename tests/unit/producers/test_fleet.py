from __future__ import annotations

import math

import numpy as np
import pytest
from penstock.producers.engine import EngineConfig
from penstock.producers.fleet import (
    CANARIES,
    MAX_SPEED,
    CanaryFate,
    Fleet,
    Rehearsal,
    VirtualClock,
    fitted,
    plan_fleet,
    rehearse,
)
from penstock.producers.traces import Trace, bundled_trace
from penstock.producers.traffic import make_traffic

HOUR_US = 3_600_000_000
NOW_NS = 1_760_000_000_000_000_000


def make_fleet(canary: CanaryFate | None = None, seed: int = 1, workers: int = 5) -> Fleet:
    traffic = make_traffic(bundled_trace(), seed)
    return plan_fleet(traffic, workers=workers, canary=canary, seed=seed)


@pytest.fixture(scope="module")
def rehearsals() -> dict[str, Rehearsal]:
    fates: tuple[CanaryFate, ...] = ("good", "slow")
    return {fate: rehearse(make_fleet(fate)) for fate in fates}


@pytest.mark.parametrize("speed", [1.0, 40.0, 1000.0])
def test_a_replay_ends_now_and_is_never_ahead_of_the_wall_clock(speed: float) -> None:
    clock = VirtualClock.ending_now(NOW_NS, HOUR_US, speed)
    lasts_ns = int(HOUR_US / speed * 1000)
    for part in np.linspace(0, 1, 11):
        wall_ns = NOW_NS + int(lasts_ns * part)
        assert clock.event_us(wall_ns) <= wall_ns // 1000 + 1
    end_us = clock.event_us(NOW_NS + lasts_ns)
    behind_us = (NOW_NS + lasts_ns) // 1000 - end_us
    if speed == 1:
        assert behind_us == 0
    else:  # a second before a full minute
        assert (
            -1 <= (end_us + 1_000_000) % 60_000_000 <= 1 or (end_us + 1_000_001) % 60_000_000 <= 2
        )
        assert 10_000_000 < behind_us <= 71_000_001
    assert clock.event_us(NOW_NS) == clock.origin_event_us
    assert clock.seconds_until(clock.origin_event_us + 40_000_000, NOW_NS) == pytest.approx(
        40 / speed
    )


def test_at_full_speed_everything_is_in_the_past() -> None:
    clock = VirtualClock.ending_now(NOW_NS, HOUR_US, MAX_SPEED)
    end_us = clock.origin_event_us + HOUR_US
    assert (end_us + 1_000_000) % 60_000_000 == 0
    assert 10_000_000 < NOW_NS // 1000 - end_us <= 71_000_000


@pytest.mark.parametrize("canary", [None, "good", "slow", "errors"])
def test_every_request_has_one_worker(canary: CanaryFate | None) -> None:
    fleet = make_fleet(canary)
    served = np.sort(np.concatenate([plan.requests for plan in fleet.workers]))
    assert (served == np.arange(19_366)).all()
    assert len(fleet.workers) == (6 if canary else 5)


def test_the_canary_takes_the_place_of_one_worker() -> None:
    fleet = make_fleet("slow")
    arrival_us = fleet.traffic.trace.arrival_us
    assert fleet.canary_from_us == fleet.traffic.trace.duration_us // 2
    canary, leaving = fleet.workers[-1], fleet.workers[-2]
    assert canary.arm is CANARIES["slow"]
    assert canary.boot_us < fleet.canary_from_us <= arrival_us[canary.requests].min()
    assert arrival_us[leaving.requests].max() < fleet.canary_from_us
    later = [
        int((arrival_us[plan.requests] >= fleet.canary_from_us).sum()) for plan in fleet.workers
    ]
    assert later[4] == 0
    assert max(later) < 1.15 * min(later[:4] + later[5:]), "every engine has a fifth"


def test_with_few_workers_the_canary_comes_on_top() -> None:
    fleet = make_fleet("good", workers=2)
    assert [plan.arm.variant for plan in fleet.workers] == ["control", "control", "canary"]
    last_us = [fleet.traffic.trace.arrival_us[plan.requests].max() for plan in fleet.workers]
    assert min(last_us) > 3_400_000_000


@pytest.mark.slow
def test_numbers_are_of_the_size_of_a_70b_model(rehearsals: dict[str, Rehearsal]) -> None:
    good = rehearsals["good"]
    assert 100 < good.quantile("control", "ttft_ms", 0.5) < 300
    assert 20 < good.quantile("control", "tpot_ms", 0.5) < 40
    assert 50 < good.quantile("control", "queue_ms", 0.95) < 1000
    assert good.steps > 400_000
    assert good.end_us < 3_600_000_000


@pytest.mark.slow
def test_a_good_canary_differs_from_control_by_chance_only(
    rehearsals: dict[str, Rehearsal],
) -> None:
    fleet = make_fleet("good")
    assert fleet.canary_from_us is not None
    good = rehearsals["good"]
    for name in ("ttft_ms", "tpot_ms", "latency_ms"):
        control = good.quantile("control", name, 0.95, fleet.canary_from_us)
        assert good.quantile("canary", name, 0.95) == pytest.approx(control, rel=0.08)
    # The very same requests on an engine of the control arm give the very same answers.
    canary, (control_plan, *_) = fleet.workers[-1], fleet.workers
    assert CANARIES["good"].slowdown == control_plan.arm.slowdown
    assert CANARIES["good"].error_ratio == control_plan.arm.error_ratio
    assert len(good.column("canary", "latency_ms")) == len(canary.requests)


@pytest.mark.slow
def test_a_slow_canary_is_shown_slow(rehearsals: dict[str, Rehearsal]) -> None:
    good, slow = rehearsals["good"], rehearsals["slow"]
    for q in (0.5, 0.95):
        ratio = slow.quantile("canary", "tpot_ms", q) / good.quantile("canary", "tpot_ms", q)
        assert 1.3 < ratio < 1.6
    same = [r.quantile("control", "latency_ms", 0.95) for r in (good, slow)]
    assert same[0] == same[1]


def test_an_engine_is_made_large_enough_for_the_trace() -> None:
    one = np.array([0])
    short = Trace("short", one, one + 1000, one + 10)
    long = Trace("long", one, one + 120_000, one + 10)
    assert fitted(EngineConfig(), short) == EngineConfig()
    large = fitted(EngineConfig(), long)
    assert large.kv_tokens >= 4 * 120_010
    assert large.weights_bytes + large.kv_tokens * large.kv_bytes_per_token < large.memory_bytes
    assert math.isclose(large.base_ms, EngineConfig().base_ms)
