"""The part `drift:` of penstock.yaml."""

import pytest
import yaml
from penstock.schemas.drift.monitors import DriftConfiguration, DriftMonitor
from penstock.schemas.drift.references import PeriodReference, StableReference
from pydantic import ValidationError

TEXT = """
monitors:
  - id: chat
    filter: {model: chat-8b}
    reference: {kind: uploaded, name: training, version: 2}
  - id: canary
    filter: {model: chat-8b, variant: canary}
    features: [output_tokens]
    categories: []
    reference: {kind: control}
    window_s: 1800
    every_s: 600
  - id: spring
    reference: {kind: period, start: 2026-03-01T00:00:00Z, end: 2026-03-15T00:00:00Z}
prediction: {psi: 0.15, hold_s: 21600}
"""


def test_reads_every_kind_of_reference() -> None:
    read = DriftConfiguration.model_validate(yaml.safe_load(TEXT))
    kinds = [monitor.reference.kind for monitor in read.monitors]
    assert kinds == ["uploaded", "control", "period"]
    assert read.monitors[1].filter.given() == {"model": "chat-8b", "variant": "canary"}
    assert read.monitors[1].looks_per_30d == 4320


def test_counts_are_kept_by_look_or_by_hour() -> None:
    for every_s, piece_s in ((600, 600), (3600, 3600), (7200, 3600)):
        assert DriftMonitor(id="m", window_s=7200, every_s=every_s).piece_s == piece_s
    monitor = DriftMonitor(id="m", features=("output_score",), categories=("language",))
    assert (monitor.series, monitor.outputs) == (("output_score", "language"), ("output_score",))


def test_defaults_are_those_users_asked_for() -> None:
    monitor = DriftMonitor(id="m")
    assert monitor.reference == StableReference(days=7)
    limits = monitor.thresholds
    assert (limits.psi_moderate, limits.psi, limits.ks_p, limits.ks_d) == (0.1, 0.2, 0.01, 0.1)
    assert (monitor.missing.warning, monitor.missing.critical) == (0.01, 0.05)
    whole = DriftConfiguration()
    assert (whole.prediction.psi, whole.prediction.hold_s) == (0.15, 6 * 3600)
    assert (whole.concept.drop, whole.concept.drop_high) == (0.05, 0.10)


@pytest.mark.parametrize(
    ("monitor", "message"),
    [
        ({"features": ["a"], "categories": ["a"]}, "watched twice"),
        ({"features": [], "categories": []}, "must watch"),
        ({"every_s": 65}, "whole panes"),
        ({"window_s": 900, "every_s": 600}, "multiple"),
        ({"window_s": 5400, "every_s": 5400}, "divide an hour"),
        ({"window_s": 3500, "every_s": 70}, "divide an hour"),
        ({"features": [f"f{n}" for n in range(200)]}, "at most 200 series"),
        ({"thresholds": {"psi": 0.05}}, "psi_moderate"),
        ({"missing": {"warning": 0.2}}, "warning must not"),
        ({"unknown": 1}, "Extra inputs"),
    ],
)
def test_mistakes_in_a_monitor(monitor: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DriftMonitor.model_validate({"id": "m", **monitor})


@pytest.mark.parametrize(
    ("whole", "message"),
    [
        ({"monitors": [{"id": "a"}, {"id": "a"}]}, "unique: a"),
        ({"concept": {"drop": 0.2}}, "drop must not"),
    ],
)
def test_mistakes_in_the_whole(whole: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DriftConfiguration.model_validate(whole)


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("2026-03-02T00:00:00Z", "2026-03-01T00:00:00Z", "before end"),
        ("2026-03-01T00:30:00Z", "2026-03-02T00:00:00Z", "whole hours"),
        ("2026-03-01T00:00:00", "2026-03-02T00:00:00Z", "timezone"),
    ],
)
def test_mistakes_in_a_period(start: str, end: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PeriodReference.model_validate({"start": start, "end": end})
