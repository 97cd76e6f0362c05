"""The explainer: finds out what changed when an alert fired. A thread beside the notifier.

It follows changes of alerts as the store has them: evaluation knows nothing of it, and the first message
about an alert waits for it a moment at most (streams/core/alerts/awaited.py). Each alert is asked about
once, by one query. The row is keyed by the alert and inserted with a token of it: what an end
before the insert lost is found out again, what was stored stays as it was stored first, and a second
explainer changes nothing.

It leaves the store alone for as long as its last query took, so that a storm of alerts takes half of one
query's time at most; the highest severity comes first.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import pyarrow as pa

from ...schemas.alerts.rules import AlertRule, Signal
from ...schemas.config import Configuration
from ...schemas.errors import PenstockError, StoreError
from ..core.alerts.transition import Transition
from ..core.alerts.watch import Watch
from ..core.explain.drifted import explain_drift
from ..core.explain.explanation import Answer, Explanation, explain
from ..core.explain.question import Question, question_of
from ..core.explain.words import one_line
from ..core.gates.canonical import sha256
from ..notify.feed import AlertFeed
from ..storage.publish import timestamps
from ..storage.store import Store
from .drift import looks_at
from .query import MAX_S, ask

log = logging.getLogger("penstock")

POLL_S = 0.25
AGAIN_S = 5.0  # after a failure
NEWEST = 100  # alerts that changed last are looked at at the start, also where they have ended
TOO_LONG = frozenset({159, 160, 241, 307})  # time, estimated time, memory, rows
SEVERITIES = ("emergency", "critical", "warning", "info")


Ask = Callable[[Store, Question], Answer]


class Explainer:
    """Runs from `start` to `stop`.

    Args:
        store: migrated; it may be away.
        newest: the configuration in force; without alert rules, the store is not asked.
        ask: asks the store.
        clock: integer microseconds UTC.

    Attributes:
        explained: alerts that were explained.
        failure: why it does not work; empty while it does.
    """

    def __init__(
        self,
        store: Store,
        newest: Callable[[], Configuration],
        ask: Ask = ask,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._store = store
        self._newest = newest
        self._ask = ask
        self._clock = clock
        self._feed: AlertFeed | None = None
        self._waiting: dict[str, Transition] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="penstock-explain", daemon=True)
        self.explained = 0
        self.failure = ""

    def start(self) -> None:
        """Begin; a store that is away is waited for."""
        self._thread.start()

    def stop(self) -> None:
        """End after the query under way."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(MAX_S + 5)

    def turn(self) -> bool:
        """Look for alerts that fired, and explain one of them.

        Returns:
            Whether there was one.

        Raises:
            StoreError: the store is away; the next turn goes on.
        """
        configuration = self._newest()
        if configuration.rules:
            self._follow()
        if not self._waiting:
            return False
        fired = min(self._waiting.values(), key=_order)
        self._keep(fired, self._explanation(fired, configuration))
        del self._waiting[fired.alert_id]
        self.explained += 1
        return True

    def _follow(self) -> None:
        """Take in what has fired and is not explained yet."""
        if self._feed is None:
            feed = AlertFeed(self._store)
            changes = feed.start((), NEWEST)
            self._feed = feed
        else:
            changes = self._feed.news()
        fired = {item.alert_id: item for item in changes if item.kind == "firing"}
        known = self._feed.explanations(fired)
        self._waiting |= {name: item for name, item in fired.items() if name not in known}

    def _explanation(self, fired: Transition, configuration: Configuration) -> Explanation:
        rule = next((rule for rule in configuration.rules if rule.id == fired.rule_id), None)
        if rule is None or Watch(rule).rule_hash != fired.rule_hash:
            return Explanation("the rule was changed before it was looked into")
        try:
            return self._found_out(fired, rule, configuration)
        except StoreError as error:
            if error.code in TOO_LONG:
                return Explanation(f"the query needed more than {MAX_S} s or too much memory")
            if error.retryable:
                raise
            log.error("alert %s cannot be explained: %s", fired.alert_id, error)
        except (ArithmeticError, LookupError, TypeError, ValueError):
            # A defect of ours; the next alert must not wait for it.
            log.exception("alert %s cannot be explained", fired.alert_id)
        return Explanation("it could not be found out; the log of the process tells why")

    def _found_out(
        self, fired: Transition, rule: AlertRule, configuration: Configuration
    ) -> Explanation:
        series = _drifting(rule, configuration)
        if series is not None:
            return explain_drift(looks_at(self._store, *series, fired.at_s))
        question = question_of(fired, rule, configuration)
        if question is None:
            return Explanation(f"{_condition(rule)} is not broken down by slice")
        return explain(question, self._ask(self._store, question))

    def _keep(self, fired: Transition, found: Explanation) -> None:
        row = {
            "alert_id": [fired.alert_id],
            "at": pa.array([fired.at_s], pa.int64()).cast(pa.timestamp("s", "UTC")),
            "text": [one_line(found)],
            "body": [found.to_json()],
            "recorded_at": timestamps([self._clock()]),
        }
        token = sha256(["explanation", fired.alert_id])
        self._store.insert("alert_explanations_rows", pa.table(row), token)

    def _run(self) -> None:
        while not self._stopping.is_set():
            started_s, failure, pause_s = time.monotonic(), "", POLL_S
            try:
                if self.turn():
                    pause_s = time.monotonic() - started_s
            except PenstockError as error:
                failure, pause_s = str(error), AGAIN_S
            except Exception as error:
                # A defect must not end it in silence: say so once, and begin anew from the store.
                if not self.failure:
                    log.exception("the explainer failed")
                failure, pause_s = repr(error), AGAIN_S
            if failure:
                self._feed = None
                if not self.failure:
                    log.warning("alerts are not explained until this has ended: %s", failure)
            self.failure = failure
            self._stopping.wait(pause_s)


def _order(fired: Transition) -> tuple[int, int, str]:
    severity = fired.labels.get("severity", "")
    rank = SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)
    return rank, fired.at_s, fired.alert_id


def _condition(rule: AlertRule) -> str:
    condition = rule.condition
    return getattr(condition, "metric", None) or condition.kind.replace("_", " ")


def _drifting(rule: AlertRule, configuration: Configuration) -> tuple[str, tuple[str, ...]] | None:
    """The monitor that a rule watches, and its series; None where it watches something else."""
    condition = rule.condition
    if not isinstance(condition, Signal) or condition.kind != "drift":
        return None
    for monitor in configuration.drift.monitors:
        if condition.id == monitor.id:
            return monitor.id, monitor.series
        if condition.id == f"{monitor.id}.prediction":
            return monitor.id, monitor.outputs
    return None
