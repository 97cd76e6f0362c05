"""The notifier under the configuration in force: a new one takes over when that changes."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping

from ...schemas.config import Configuration
from ...schemas.errors import InvalidConfiguration
from ...schemas.gates.notify import telling
from ...schemas.slo.notify import notified
from ..storage.store import Store
from .notifier import Notifier, notifier_of

log = logging.getLogger("penstock")

LOOK_S = 1.0


class LiveNotifier:
    """Runs the notifier that the configuration asks for, from `start` to `stop`.

    A notifier stores what it planned before it acts on it, and its successor goes on from there
    (streams/notify/notifier.py): going over to another configuration is the same as a restart. Where a new
    section names a secret that is not there, the former one stays, and the log says so.

    Args:
        store: migrated; it may be away.
        newest: the configuration in force.
        environment: of the process, for secrets.

    Raises:
        InvalidConfiguration: secrets are missing at the start.
    """

    def __init__(
        self, store: Store, newest: Callable[[], Configuration], environment: Mapping[str, str]
    ) -> None:
        self._store = store
        self._newest = newest
        self._environment = environment
        configuration = newest()
        self._followed = _followed(configuration)
        self._refused: object = None
        self._past: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notifier-follow", daemon=True)
        self.notifier: Notifier | None = notifier_of(store, configuration, environment)

    @property
    def totals(self) -> Counter[str]:
        """Counters of all notifiers since the start."""
        with self._lock:
            return self._past + Counter(self.notifier.totals if self.notifier else {})

    def start(self) -> None:
        """Begin."""
        if self.notifier is not None:
            self.notifier.start()
        self._thread.start()

    def stop(self) -> None:
        """End; what is planned and not delivered is delivered after the next start."""
        self._stopping.set()
        self._thread.join(timeout=60)
        if self.notifier is not None:
            self.notifier.stop()

    def follow(self) -> None:
        """Go over to the configuration in force, where what it says of telling people is another."""
        configuration = self._newest()
        followed = _followed(configuration)
        if followed in (self._followed, self._refused):
            return
        try:
            follower = notifier_of(self._store, configuration, self._environment)
        except InvalidConfiguration as error:
            self._refused = followed
            log.error("alerts are told by the former configuration: %s", error)
            return
        former = self.notifier
        if former is not None:
            former.stop()  # it gives the lease back, so that the next one need not wait for it
        with self._lock:
            self._past.update(former.totals if former is not None else {})
            self.notifier, self._followed, self._refused = follower, followed, None
        if follower is not None:
            follower.start()

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_S):
            self.follow()


def _followed(configuration: Configuration) -> object:
    """What a notifier follows: the alerts, and the gates that tell somebody."""
    alerts = notified(configuration.alerts, configuration.objectives)
    return alerts, telling(configuration.live_gates)
