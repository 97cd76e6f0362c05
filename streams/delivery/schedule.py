"""Which deliveries may be tried now, and when a failed one is tried again. Time and chance are arguments."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..core.tiles import SECOND_US
from .message import Delivery


@dataclass(frozen=True, slots=True)
class Policy:
    """How long a delivery is tried.

    Attributes:
        first_s: longest pause after the first failure; it doubles with each further one.
        longest_s: what pauses grow to, and what a receiver may ask for.
        tries: a delivery is given up after so many.
        age_s: or when it is older than this.
    """

    first_s: float = 2.0
    longest_s: float = 900.0
    tries: int = 50
    age_s: int = 86400


def ready(deliveries: Iterable[Delivery], now_us: int) -> list[Delivery]:
    """Those that may be tried now, in order: none before an earlier one of the same lane is through.

    Args:
        deliveries: all that wait, in any order.
        now_us: the time.
    """
    taken: set[tuple[str, str]] = set()
    found = []
    for delivery in sorted(deliveries, key=lambda item: item.order):
        receiver = delivery.message.receiver
        lanes = {(receiver, lane) for lane in delivery.message.lanes}
        if not lanes & taken and delivery.next_us <= now_us:
            found.append(delivery)
        # One that has to wait holds back whatever comes after it in any of its lanes.
        taken |= lanes
    return found


def backoff_s(policy: Policy, attempts: int, draw: float) -> float:
    """Seconds to wait after so many failures: exponential, with full jitter.

    The pause is uniform between 0 and min(longest, first * 2^(attempts - 1)), so that deliveries that
    failed together do not come back together (Brooker, "Exponential Backoff And Jitter", AWS
    Architecture Blog, 2015).

    Args:
        policy: bounds.
        attempts: failures so far, at least 1.
        draw: uniform in [0, 1).

    >>> backoff_s(Policy(first_s=2), 3, 0.5)
    4.0
    """
    return draw * min(policy.longest_s, policy.first_s * 2.0 ** min(attempts - 1, 32))


def is_too_old(policy: Policy, delivery: Delivery, now_us: int) -> bool:
    """Whether it is to be given up because of its age."""
    return now_us - delivery.created_us > policy.age_s * SECOND_US


def next_try_us(
    policy: Policy,
    delivery: Delivery,
    now_us: int,
    draw: float,
    retry_after_s: float | None = None,
) -> int | None:
    """When a delivery that failed just now is tried again; None where it is given up.

    Args:
        policy: bounds.
        delivery: before this failure.
        now_us: the time.
        draw: uniform in [0, 1).
        retry_after_s: what the receiver asked for; the jitter comes on top.
    """
    attempts = delivery.attempts + 1
    asked_s = min(max(retry_after_s or 0.0, 0.0), policy.longest_s)
    at_us = now_us + round((asked_s + backoff_s(policy, attempts, draw)) * SECOND_US)
    if attempts >= policy.tries or is_too_old(policy, delivery, at_us):
        return None
    return at_us
