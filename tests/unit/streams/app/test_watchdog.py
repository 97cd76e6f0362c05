"""When a processor is ended, and when it is left alone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from penstock.schemas.errors import InvalidConfiguration, StoreError
from penstock.schemas.kafka import KafkaAddress
from penstock.streams.app.ports import Lease, LeaseExpired, WorkerSettings
from penstock.streams.app.watchdog import START_AGAIN, STUCK, Judge, Limits, Look, Verdict, Watchdog

LIMITS = Limits(pause_s=8.0, loop_s=60.0, progress_s=120.0)
STEP_S = 0.25


def seen(
    seconds: float,
    start_s: float = 1000.0,
    turning: bool = True,
    done: int = 5,
    lag: int = 3,
    connected: bool = True,
) -> Iterator[Look]:
    """Looks at a processor that stays as it is."""
    for step in range(round(seconds / STEP_S) + 1):
        now_s = start_s + step * STEP_S
        turned_s = now_s if turning else start_s
        yield Look(now_s, turned_s, {"events": (done, lag)}, connected)


def judged(judge: Judge, looks: Iterator[Look]) -> Verdict:
    """The first verdict that says to do something, else the last."""
    verdict = Verdict()
    for look in looks:
        verdict = judge.see(look)
        if verdict.code:
            break
    return verdict


def test_no_progress() -> None:
    judge = Judge(LIMITS)
    assert judged(judge, seen(119.75)).code == 0
    verdict = judged(judge, seen(0.5, 1119.75))
    assert (verdict.code, verdict.unless_store_away) == (STUCK, True)
    assert "events: no progress for 120 s with a lag of 3 messages" in verdict.reason


@pytest.mark.parametrize(
    "looks",
    [
        pytest.param(lambda: seen(300, lag=0), id="nothing to do"),
        pytest.param(lambda: seen(300, connected=False), id="broker away"),
    ],
)
def test_idle_for_a_reason(looks: object) -> None:
    assert callable(looks)
    assert judged(Judge(LIMITS), looks()).code == 0


def test_progress_counts_anew() -> None:
    judge = Judge(LIMITS)
    for number in range(4):
        assert judged(judge, seen(100, 1000 + 100 * number, done=number)).code == 0


def test_each_topic_for_itself() -> None:
    judge = Judge(LIMITS)
    looks = (
        Look(look.now_s, look.turned_s, {"events": (number, 9), "panes": (1, 9)}, True)
        for number, look in enumerate(seen(121))
    )
    assert judged(judge, looks).reason.startswith("panes: no progress")


def test_store_away_is_an_excuse() -> None:
    judge = Judge(LIMITS)
    assert judged(judge, seen(121)).unless_store_away
    judge.excuse()
    assert judged(judge, seen(119, 1121)).code == 0
    assert judged(judge, seen(5, 1240)).code == STUCK


def test_stuck_loop() -> None:
    judge = Judge(LIMITS)
    assert judged(judge, seen(60, turning=False)).code == 0
    stuck = judge.see(Look(1060.5, 1000.0, {}, connected=True))
    assert (stuck.code, stuck.unless_store_away) == (STUCK, False)
    assert "did not turn for 60 s" in stuck.reason


def test_long_pause_starts_again() -> None:
    judge = Judge(LIMITS)
    judged(judge, seen(100))
    verdict = judge.see(Look(1200.0, 1100.0, {"events": (5, 3)}, connected=True))
    assert verdict == Verdict(START_AGAIN, "the process did not run for 100.0 s")


def test_short_pauses_cost_no_time() -> None:
    """Stopped for seven seconds again and again: neither the loop nor the flushes had that time."""
    judge = Judge(LIMITS)
    turned_s = now_s = 1000.0
    for _ in range(40):
        now_s += 7.0
        assert judge.see(Look(now_s, turned_s, {"events": (5, 3)}, connected=True)).code == 0
        turned_s = now_s = now_s + STEP_S
        assert judge.see(Look(now_s, turned_s, {"events": (5, 3)}, connected=True)).code == 0


def test_thread_asks_the_store_first() -> None:
    answers = [StoreError("away"), None]
    ended: list[int] = []
    over = threading.Event()
    clock = iter(range(0, 10_000, 2))

    def ping() -> None:
        answer = answers.pop(0) if answers else None
        if answer is not None:
            raise answer

    def look() -> Look:
        now_s = float(next(clock))
        return Look(now_s, now_s, {"events": (1, 1)}, connected=True)

    def end(code: int) -> None:
        ended.append(code)
        over.set()

    watchdog = Watchdog(Judge(Limits(pause_s=8.0, progress_s=3.0)), look, ping, end)
    watchdog.start()
    assert over.wait(20)
    watchdog.stop()
    assert ended[0] == STUCK
    assert answers == [], "the first time the store was away"


def test_stuck_process_ends_with_stacks() -> None:
    program = """
from penstock.streams.app.ports import Lease
from penstock.streams.app.watchdog import *
import time
turned_s = Lease.now_s()
look = lambda: Look(Lease.now_s(), turned_s, {}, True)
Watchdog(Judge(Limits(pause_s=30.0, loop_s=1.0)), look, lambda: None).start()
time.sleep(20)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, env=os.environ
    )
    assert done.returncode == STUCK
    assert "Current thread" in done.stderr
    assert "time.sleep" not in done.stdout


def test_lease() -> None:
    lease = Lease(0.2)
    lease.check()
    time.sleep(0.25)
    assert lease.valid is False
    with pytest.raises(LeaseExpired, match=r"no heartbeat for \d\.\d s"):
        lease.check()
    lease.renew(Lease.now_s() - 0.1)
    assert lease.age_s >= 0.1
    lease.renew(Lease.now_s() - 5)  # an answer that was overtaken
    lease.check()


def test_settings_that_cannot_work() -> None:
    with pytest.raises(InvalidConfiguration, match="at least three heartbeats"):
        WorkerSettings(KafkaAddress(("a:9092",)), session_timeout_s=6, heartbeat_s=3)
