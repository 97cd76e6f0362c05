from __future__ import annotations

from typing import Any

from penstock.schemas.alerts.quiet import Inhibition, MaintenanceWindow, Silence
from penstock.streams.core.alerts.suppress import quiet_reasons
from penstock.tests.unit.streams.core.alerts.alerts_world import ended, firing


def label(name: str, value: str) -> dict[str, str]:
    return {"label": name, "value": value}


def silence(name: str, *matchers: dict[str, str]) -> Silence:
    return Silence.model_validate({
        "id": name, "matchers": matchers, "reason": "known", "author": "ann",
        "starts_at": "1970-01-01T00:01:00Z", "ends_at": "1970-01-01T00:02:00Z",
    })  # fmt: skip


def inhibition(source: dict[str, str], target: dict[str, str], *equal: str) -> Inhibition:
    spec: dict[str, Any] = {"source": [source], "target": [target], "equal": equal}
    return Inhibition.model_validate(spec)


A = firing("slow", 10, model="a", severity="critical")
B = firing("errors", 10, model="a")
C = firing("errors2", 10, model="b")


def test_silences_and_maintenance_hold_for_their_time() -> None:
    known = silence("s", label("model", "a"))
    weekly = {"weekday": "thu", "start": "00:02", "duration_s": 60}
    upgrade = MaintenanceWindow.model_validate({"id": "m", "reason": "upgrade", "weekly": weekly})
    alerts = [A, C, ended(B, 20)]
    assert quiet_reasons(alerts, [known], [upgrade], [], 59) == {}
    assert quiet_reasons(alerts, [known], [upgrade], [], 60) == {A.id: "silence:s"}
    both = quiet_reasons(alerts, [known], [upgrade], [], 120)
    assert both == {A.id: "maintenance:m", C.id: "maintenance:m"}


def test_a_worse_alert_inhibits_others_that_agree() -> None:
    rule = inhibition(label("severity", "critical"), label("severity", "warning"), "model")
    assert quiet_reasons([A, B, C], [], [], [rule], 60) == {B.id: f"inhibited:{A.id}"}
    assert quiet_reasons([ended(A, 20), B, C], [], [], [rule], 60) == {}
    anywhere = inhibition(label("severity", "critical"), label("severity", "warning"))
    assert quiet_reasons([A, B, C], [], [], [anywhere], 60).keys() == {B.id, C.id}


def test_alerts_of_both_sides_do_not_quieten_their_like() -> None:
    same = inhibition(label("model", "a"), label("model", "a"))
    assert quiet_reasons([A, B], [], [], [same], 60) == {}
    half = inhibition(label("model", "a"), label("severity", "warning"))
    # B is on both sides: it quietens C, which is a target only, and is quietened by A.
    found = quiet_reasons([B, C], [], [], [half], 60)
    assert found == {C.id: f"inhibited:{B.id}"}
    assert quiet_reasons([A, B, C], [], [], [half], 60).keys() == {B.id, C.id}


def test_a_silence_says_more_than_an_inhibition() -> None:
    rule = inhibition(label("severity", "critical"), label("severity", "warning"), "model")
    found = quiet_reasons([A, B], [silence("s", label("alertname", "errors"))], [], [rule], 60)
    assert found == {B.id: "silence:s"}
