"""Drift monitors: what is watched, against what, and how often a false alarm is accepted."""

from __future__ import annotations

from pydantic import Field, model_validator

from .detectors import SeriesDetector
from .references import ReferenceSource, StableReference
from .thresholds import (
    ConceptThresholds,
    MissingThresholds,
    Model,
    PredictionThresholds,
    Thresholds,
)

WATCHED_FEATURES = ("input_tokens", "output_tokens", "latency_ms", "output_score", "toxicity")
WATCHED_CATEGORIES = ("language", "route", "finish_reason", "output_class")

OUTPUTS = ("output_score", "output_class")  # what prediction shift is about
HOUR_S = 3600
MOST_SERIES = 200
MONTH_S = 30 * 86400


class DriftFilter(Model):
    """Which traffic: every dimension that is given must match exactly."""

    model: str | None = None
    model_version: str | None = None
    adapter: str | None = None
    route: str | None = None
    release: str | None = None
    variant: str | None = None
    tenant: str | None = None

    def given(self) -> dict[str, str]:
        """The dimensions that are named."""
        return {name: value for name, value in self if value is not None}


class DriftMonitor(Model):
    """Features and categories of some traffic, looked at every `every_s` of event time.

    `alarms_per_30d` is the expected number of false alarms of the sequential monitor, per
    feature; a share of false alarms among all alarms of the monitors is `false_discovery_rate`.
    """

    id: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    filter: DriftFilter = DriftFilter()
    features: tuple[str, ...] = WATCHED_FEATURES
    categories: tuple[str, ...] = WATCHED_CATEGORIES
    reference: ReferenceSource = StableReference()
    window_s: int = Field(3600, ge=60, description="Length of the window of a look.")
    every_s: int = Field(3600, ge=10, description="Event time between looks.")
    same_hour_of_week: bool = Field(
        True, description="Where the reference is long enough, compare with the same hours."
    )
    alarms_per_30d: float = Field(0.01, gt=0, le=30)
    design_effect: float | None = Field(
        None,
        ge=1,
        description="Values that weigh as one. Absent: measured on the reference's hours; an upload"
        " has none, and without this is compared at single looks only.",
    )
    thresholds: Thresholds = Thresholds.model_validate({})
    missing: MissingThresholds = MissingThresholds.model_validate({})

    @property
    def looks_per_30d(self) -> int:
        """Looks of the sequential monitor in 30 days."""
        return -(-MONTH_S // self.every_s)

    @property
    def piece_s(self) -> int:
        """Length of the stretches that counts are kept by: a look, at most an hour."""
        return min(self.every_s, HOUR_S)

    @property
    def series(self) -> tuple[str, ...]:
        """Features, then categories."""
        return (*self.features, *self.categories)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The predictions among them."""
        return tuple(name for name in self.series if name in OUTPUTS)

    @model_validator(mode="after")
    def _sensible(self) -> DriftMonitor:
        names = self.series
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"watched twice: {', '.join(repeated)}")
        if not names:
            raise ValueError("a monitor must watch a feature or a category")
        if len(names) > MOST_SERIES:
            raise ValueError(f"a monitor watches at most {MOST_SERIES} series: make it two")
        if self.every_s % 10 or self.window_s % self.every_s:
            raise ValueError("every_s must be whole panes of 10 s, and window_s a multiple of it")
        if max(self.every_s, HOUR_S) % self.piece_s:
            raise ValueError("every_s must divide an hour, or be whole hours")
        return self


class DriftConfiguration(Model):
    """The part `drift:` of penstock.yaml."""

    monitors: tuple[DriftMonitor, ...] = ()
    detectors: tuple[SeriesDetector, ...] = ()
    prediction: PredictionThresholds = PredictionThresholds.model_validate({})
    concept: ConceptThresholds = ConceptThresholds.model_validate({})
    false_discovery_rate: float = Field(0.1, gt=0, lt=1, description="Over all series of a look.")

    @model_validator(mode="after")
    def _unique(self) -> DriftConfiguration:
        for kind, items in (("monitor", self.monitors), ("detector", self.detectors)):
            ids = [item.id for item in items]
            repeated = sorted({name for name in ids if ids.count(name) > 1})
            if repeated:
                raise ValueError(f"{kind} ids must be unique: {', '.join(repeated)}")
        return self
