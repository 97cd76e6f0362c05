"""Works through the outbox in threads of its own: receivers side by side, each by itself in order."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from ...schemas.alerts.routing import Receiver
from .carrier import Carrier, Ways
from .message import Delivery

log = logging.getLogger("penstock")

POLL_S = 1.0
RECEIVERS_AT_ONCE = 16


class Dispatcher:
    """The only one that works on its outbox. A receiver that hangs holds up nobody else.

    Args:
        receivers: of the configuration.
        ways: outbox, sender, clocks.
        poll_s: how often deliveries are looked for that became due.
    """

    def __init__(self, receivers: Iterable[Receiver], ways: Ways, poll_s: float = POLL_S) -> None:
        self._ways = ways
        self._poll_s = poll_s
        self._lock = threading.Lock()
        self._carriers: dict[str, Carrier] = {}
        self._busy: set[str] = set()
        self._wake = threading.Event()
        self._stopping = False
        self._pool = ThreadPoolExecutor(RECEIVERS_AT_ONCE, thread_name_prefix="deliver")
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)
        self.reconfigure(receivers)

    def reconfigure(self, receivers: Iterable[Receiver]) -> None:
        """Use these receivers from now on; those that did not change keep what is known of them."""
        with self._lock:
            before = self._carriers
            self._carriers = {}
            for receiver in receivers:
                carrier = before.get(receiver.name)
                if carrier is None or carrier.receiver != receiver:
                    carrier = Carrier(receiver, self._ways)
                self._carriers[receiver.name] = carrier
        self._wake.set()

    @property
    def alive(self) -> bool:
        """Whether it works: started, not stopped, and not ended by a defect."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin, with what an earlier life left."""
        self._thread.start()

    def wake(self) -> None:
        """Messages were put in: look for them now."""
        self._wake.set()

    def stop(self) -> None:
        """End after the attempts under way; what waits stays in the outbox."""
        self._stopping = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            # Asked first: what a carrier finishes meanwhile must not be taken for due.
            with self._lock:
                busy = frozenset(self._busy)
            due = sorted(self._ways.outbox.due(self._ways.clock()), key=_receiver)
            for name, deliveries in itertools.groupby(due, _receiver):
                if name not in busy:
                    self._submit(name, list(deliveries))
            self._wake.wait(self._poll_s)

    def _submit(self, name: str, deliveries: list[Delivery]) -> None:
        with self._lock:
            self._busy.add(name)
            carrier = self._carriers.get(name) or Carrier(None, self._ways)
        self._pool.submit(self._carry, name, carrier, deliveries)

    def _carry(self, name: str, carrier: Carrier, deliveries: list[Delivery]) -> None:
        finished = False
        try:
            finished = carrier.carry(itertools.takewhile(lambda _: not self._stopping, deliveries))
        except Exception:
            # A defect of ours: nobody reads the future, and the deliveries are tried again.
            log.exception("%s: deliveries failed", name)
            raise
        finally:
            with self._lock:
                self._busy.discard(name)
            if finished:
                self._wake.set()


def _receiver(delivery: Delivery) -> str:
    return delivery.message.receiver
