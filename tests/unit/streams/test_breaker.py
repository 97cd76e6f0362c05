"""The circuit breaker, on a clock of its own."""

from __future__ import annotations

import pytest
from penstock.streams.breaker import Breaker, CircuitOpen


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(threshold=2, rest_s=5, monotonic_s=clock)


def fail(breaker: Breaker) -> None:
    with pytest.raises(OSError, match="away"), breaker.call(OSError):
        raise OSError("away")


def test_failures_in_a_row_open_it(breaker: Breaker) -> None:
    fail(breaker)
    with breaker.call(OSError):
        pass
    fail(breaker)
    assert breaker.state == "closed"
    fail(breaker)
    assert breaker.state == "open"
    with pytest.raises(CircuitOpen, match="away"), breaker.call(OSError):
        pytest.fail("the call was made")


def test_one_probe_at_a_time_closes_it(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    fail(breaker)
    clock.now_s = 5
    with breaker.call(OSError):
        assert breaker.state == "half-open"
        with pytest.raises(CircuitOpen), breaker.call(OSError):
            pytest.fail("a second probe")
    assert breaker.state == "closed"
    assert breaker.reason == ""


def test_a_probe_that_fails_opens_it_for_another_rest(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    fail(breaker)
    clock.now_s = 5
    fail(breaker)
    clock.now_s = 9
    with pytest.raises(CircuitOpen), breaker.call(OSError):
        pytest.fail("the call was made")
    clock.now_s = 10
    with breaker.call(OSError):
        pass
    assert breaker.state == "closed"


def test_an_error_that_says_nothing_of_it_lets_the_next_one_probe(
    breaker: Breaker, clock: Clock
) -> None:
    breaker.trip("seen from outside")
    clock.now_s = 5
    with pytest.raises(ValueError, match="bad body"), breaker.call(OSError):
        raise ValueError("bad body")
    assert breaker.state == "open"
    with breaker.call(OSError):
        assert breaker.state == "half-open"
    assert breaker.state == "closed"


def test_who_sees_more_may_open_and_close_it(breaker: Breaker) -> None:
    breaker.trip("no broker answers")
    with pytest.raises(CircuitOpen, match="no broker answers"), breaker.call(OSError):
        pytest.fail("the call was made")
    breaker.close()
    with breaker.call(OSError):
        assert breaker.state == "closed"


def test_calls_that_were_under_way_when_it_opened_count(breaker: Breaker, clock: Clock) -> None:
    with breaker.call(OSError):
        breaker.trip("seen from outside")
    assert breaker.state == "closed", "it was answered after all"
