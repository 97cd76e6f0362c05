"""Takes deliveries to one receiver, one after another, and notes what became of them."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ...schemas.alerts.routing import Receiver
from ..breaker import Breaker, CircuitOpen
from ..core.tiles import SECOND_US
from .errors import DeliveryDelayed, DeliveryRefused, ReceiverAway
from .message import Delivery, Message
from .outbox import Outbox
from .schedule import Policy, is_too_old, next_try_us

log = logging.getLogger("penstock")

BREAKER_THRESHOLD, BREAKER_REST_S = 3, 30.0
Send = Callable[[Receiver, Message, float], None]


@dataclass(frozen=True, slots=True)
class Ways:
    """What all carriers share.

    Attributes:
        outbox: where deliveries come from.
        send: a `Sender`, or what stands in for one.
        totals: counters of the process, added to: deliveries, deliveries_retried, deliveries_dead.
        clock: integer microseconds UTC.
        policy: when failed deliveries are tried again.
        draw: uniform numbers in [0, 1).
        monotonic_s: clock of the circuit breakers.
        lock: of the totals.
    """

    outbox: Outbox
    send: Send
    totals: Counter[str]
    clock: Callable[[], int]
    policy: Policy = field(default_factory=Policy)
    draw: Callable[[], float] = random.random
    monotonic_s: Callable[[], float] = time.monotonic
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, name: str) -> None:
        """Add one to a total; carriers work side by side."""
        with self.lock:
            self.totals[name] += 1


class Carrier:
    """For one receiver. Not for several threads at once.

    Args:
        receiver: where to; None where the configuration no longer has it.
        ways: shared with the other carriers.
    """

    def __init__(self, receiver: Receiver | None, ways: Ways) -> None:
        self.receiver = receiver
        self._ways = ways
        self._breaker = Breaker(BREAKER_THRESHOLD, BREAKER_REST_S, ways.monotonic_s)
        self._paused_until_us = 0

    def carry(self, deliveries: Iterable[Delivery]) -> bool:
        """Try deliveries that are due, in their order, until the receiver wants a pause.

        Returns:
            Whether something was finished, so that what came after it in its lane may be due.
        """
        finished = False
        for delivery in deliveries:
            now_us = self._ways.clock()
            if is_too_old(self._ways.policy, delivery, now_us):
                reason = f"older than {self._ways.policy.age_s} s; last: {delivery.reason}"
                self._give_up(delivery, reason, now_us)
            elif now_us < self._paused_until_us or not self._try(delivery, now_us):
                continue
            finished = True
        return finished

    def _try(self, delivery: Delivery, now_us: int) -> bool:
        """Whether the delivery is finished."""
        ways = self._ways
        if self.receiver is None:
            self._give_up(delivery, "no receiver of this name in the configuration", now_us)
            return True
        try:
            with self._breaker.call(ReceiverAway):
                ways.send(self.receiver, delivery.message, now_us / SECOND_US)
        except CircuitOpen:
            return False
        except DeliveryRefused as error:
            self._give_up(delivery, str(error), ways.clock())
        except (LookupError, TypeError, ValueError) as error:
            # Stored by another version, or a defect of ours: it must not hold up the others.
            log.exception("%s: cannot be sent", delivery.key)
            self._give_up(delivery, f"cannot be sent: {type(error).__name__}", ways.clock())
        except DeliveryDelayed as error:
            return self._put_off(delivery, error, ways.clock())
        else:
            ways.outbox.mark_delivered(delivery.key, ways.clock())
            ways.count("deliveries")
        return True

    def _put_off(self, delivery: Delivery, error: DeliveryDelayed, now_us: int) -> bool:
        ways, reason = self._ways, str(error)
        if error.retry_after_s:
            pause_s = min(error.retry_after_s, ways.policy.longest_s)
            self._paused_until_us = now_us + round(pause_s * SECOND_US)
        next_us = next_try_us(ways.policy, delivery, now_us, ways.draw(), error.retry_after_s)
        if next_us is None:
            self._give_up(delivery, f"tried {delivery.attempts + 1} times; last: {reason}", now_us)
            return True
        ways.count("deliveries_retried")
        if delivery.attempts < 3 or delivery.attempts % 10 == 0:
            log.warning("%s: not delivered yet: %s", delivery.message.receiver, reason)
        ways.outbox.mark_failed(delivery.key, reason, now_us, next_us)
        return False

    def _give_up(self, delivery: Delivery, reason: str, now_us: int) -> None:
        self._ways.count("deliveries_dead")
        log.error("%s: %s is never delivered: %s", delivery.message.receiver, delivery.key, reason)
        self._ways.outbox.mark_failed(delivery.key, reason, now_us, None)
