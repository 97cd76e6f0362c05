"""Audit of alerts: identities recomputed from what they are of, and each change in the audit log once."""

from __future__ import annotations

from ..core.alerts.transition import alert_id, transition_id
from ..storage.store import Store
from .ledger import LIMIT
from .report import Report, Scope

_COLUMNS = (
    "id, alert_id, sequence, kind, rule_id, rule_hash, labels, toUnixTimestamp(started) AS start_s"
)


def check_alerts(store: Store, scope: Scope, report: Report) -> None:
    """Ids of alerts and of their changes follow from rule, labels and beginning; the log has each once.

    Raises:
        StoreError: the store is away or refuses.
    """
    rows = store.query(
        f"SELECT {_COLUMNS} FROM penstock.alert_transitions WHERE {scope.low_sql('recorded_at')}"
    )
    for row in rows:
        report.checked["changes of alerts"] += 1
        rule, digest, labels = str(row["rule_id"]), str(row["rule_hash"]), dict(row["labels"])
        alert = alert_id(rule, digest, labels, int(row["start_s"]))
        subject = f"alert {row['alert_id']} of {rule}"
        if alert != row["alert_id"]:
            report.add("alerts", subject, alert, row["alert_id"], "rule, labels or start differ")
        # What late rows say of a change is told again with other numbers, so its id is of those, too.
        if row["kind"] != "amended":
            change = transition_id(str(row["alert_id"]), int(row["sequence"]), row["kind"])
            if change != row["id"]:
                report.add("alerts", f"{subject}: {row['kind']}", change, row["id"])
    _check_logged(store, scope, report)


def _check_logged(store: Store, scope: Scope, report: Report) -> None:
    """Each change has one entry of the audit log, by the id in its body."""
    logged = (
        "SELECT JSONExtractString(body, 'id') AS change, count() AS n FROM penstock.audit_log"
        " WHERE kind = 'alert' GROUP BY change"
    )
    rows = store.query(
        f"SELECT t.id AS change, t.rule_id AS rule_id, l.n AS n FROM penstock.alert_transitions AS t"
        f" LEFT JOIN ({logged}) AS l ON l.change = t.id"
        f" WHERE {scope.low_sql('t.recorded_at')} AND l.n != 1 LIMIT {LIMIT}"
    )
    for row in rows:
        subject = f"change {row['change']} of {row['rule_id']}"
        report.add("alerts", subject, "one entry of the audit log", row["n"])
