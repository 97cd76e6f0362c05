"""The configuration in force, as every process finds it in the store."""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import dataclass

from ..schemas.config import Configuration
from ..schemas.config_versions import CHAIN, RUNTIME, ConfigVersion, in_force
from ..schemas.errors import InvalidConfiguration, StoreError
from .core.configured import configured_counters
from .storage.store import Store

log = logging.getLogger("penstock")

POLL_S = 2.0
_NEWEST = (
    "SELECT seq, toUnixTimestamp(at) AS at_s, who, body FROM penstock.audit_log"
    f" WHERE chain = '{CHAIN}' ORDER BY seq DESC LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class InForce:
    """A version and what it means here; version 0 is penstock.yaml."""

    number: int
    configuration: Configuration


class ConfigurationFeed:
    """Follows the newest stored version. `current` may be read from any thread.

    A version that cannot be understood here (it was made by a newer Penstock) changes nothing; the log
    and `failure` say so.

    Args:
        store: migrated; it may be away later.
        base: what this process's penstock.yaml says.

    Attributes:
        current: version and configuration.
        failure: why the newest version is not in force here; empty where it is.
    """

    def __init__(self, store: Store, base: Configuration) -> None:
        self._store = store
        self._base = base
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._seen = 0
        self._looked = False
        self.current = InForce(0, base)
        self.failure = ""

    def configuration(self) -> Configuration:
        """The configuration in force: the same object for as long as the version is the same."""
        return self.current.configuration

    def look(self) -> None:
        """Take up the newest version.

        Raises:
            StoreError: the store is away; what was in force stays.
        """
        with self._lock:
            rows = self._store.query(_NEWEST)
            first, self._looked = not self._looked, True
            if not rows or int(rows[0]["seq"]) + 1 == self._seen:
                return
            row = rows[0]
            self._seen = int(row["seq"]) + 1
            try:
                version = ConfigVersion.of_entry(
                    int(row["seq"]), int(row["at_s"]), row["who"], json.loads(row["body"])
                )
                configuration = in_force(self._base, version.text)
                configured_counters(configuration)
            except (InvalidConfiguration, ValueError) as error:
                self.failure = f"version {self._seen} of the configuration is not understood here"
                log.error("%s: %s", self.failure, error)
                return
            self.failure = ""
            self.current = InForce(version.number, configuration)
            log.info(
                "configuration: version %d, by %s: %s", version.number, row["who"], version.why
            )
            if first:
                self._warn(configuration)

    def _warn(self, configuration: Configuration) -> None:
        """Say so where the file says something else: who changed it would wait in vain."""
        names = [
            name for name in RUNTIME if getattr(configuration, name) != getattr(self._base, name)
        ]
        if names:
            log.warning(
                "penstock.yaml says something else about %s: `penstock config apply` puts it in "
                "force, `penstock config rollback 0` goes back to it",
                ", ".join(names),
            )

    def start(self, poll_s: float = POLL_S) -> None:
        """Look now and from then on, in a thread.

        Raises:
            StoreError: the store is away.
        """
        self.look()
        self.follow(poll_s)

    def follow(self, poll_s: float = POLL_S) -> None:
        """Look from now on, in a thread; a store that is away is waited for."""
        self._thread = threading.Thread(
            target=self._run, args=(poll_s,), name="configuration", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=10)

    def _run(self, poll_s: float) -> None:
        while not self._stopping.wait(poll_s):
            try:
                self.look()
            except StoreError as error:
                log.debug("configuration: %s", error)  # whoever needs the store says it louder
