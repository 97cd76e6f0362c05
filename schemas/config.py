"""penstock.yaml: one file, validated as a whole, with line numbers in its errors."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .alerts.rules import AlertRule
from .alerts.section import Alerts
from .costs.section import Costs
from .drift.monitors import DriftConfiguration
from .errors import InvalidConfiguration
from .signals import Problem, implied_rules, signal_ids, signal_problems
from .slo.objective import Composite, Objective
from .slo.section import SloSection, objectives_of


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SliceFilter(_Model):
    """Which traffic: every dimension that is given must match exactly."""

    model: str | None = None
    model_version: str | None = None
    release: str | None = None
    variant: str | None = None

    def given(self) -> dict[str, str]:
        """The dimensions that are named, in the order of the grouping set `release`."""
        return {name: value for name, value in self if value is not None}


class LatencyLimit(_Model):
    """A latency quantile must not exceed a limit: `p95 of ttft_ms <= 1200`.

    Tested as a rate: the share of requests above the limit is at most 1 - quantile.
    """

    metric: Literal["latency"] = "latency"
    field: str = Field("latency_ms", pattern=r"^[a-z_]+_ms$")
    quantile: float = Field(0.95, ge=0.001, le=0.999999)
    max_ms: float = Field(gt=0)
    critical: bool = True

    @property
    def name(self) -> str:
        """Name of the metric in evidence, such as `ttft_ms_p95`."""
        return f"{self.field}_p{self.quantile * 100:g}"


class RateLimit(_Model):
    """A share of requests must not exceed a limit: errors, or safety violations."""

    metric: Literal["error_rate", "safety_rate"]
    max_ratio: float = Field(gt=0, lt=1)
    critical: bool = True

    @property
    def name(self) -> str:
        """Name of the metric in evidence."""
        return self.metric


class CostLimit(_Model):
    """Cost per 1,000 tokens (input and output) must not exceed a limit.

    Tested as the mean of cost - limit * tokens per request, each value capped at +- cap_usd.
    """

    metric: Literal["cost_per_1k_tokens_usd"] = "cost_per_1k_tokens_usd"
    max_usd: float = Field(gt=0)
    cap_usd: float = Field(
        gt=0, description="No request is taken to cost more than this above plan."
    )
    critical: bool = True

    @property
    def name(self) -> str:
        """Name of the metric in evidence."""
        return self.metric


MetricLimit = Annotated[LatencyLimit | RateLimit | CostLimit, Field(discriminator="metric")]


class AbsoluteGate(_Model):
    """Limits on one release, each with a confidence statement (docs/gates.md).

    FAIL splits alpha_fail over the critical metrics and needs no minimum; PASS needs every
    critical metric at alpha_pass, min_units, min_bake_s and min_coverage.
    """

    id: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    kind: Literal["absolute"] = "absolute"
    filter: SliceFilter = SliceFilter()
    metrics: tuple[MetricLimit, ...] = Field(min_length=1)
    alpha_fail: float = Field(0.01, gt=0, lt=0.5)
    alpha_pass: float = Field(0.05, gt=0, lt=0.5)
    min_units: int = Field(
        100, ge=1, description="Requests below which the answer is NO_DATA, or FAIL if shown."
    )
    min_coverage: float = Field(0.99, ge=0, le=1)
    min_bake_s: int = Field(60, ge=0, description="Event time from the first request to a PASS.")
    deadline_s: int | None = Field(None, gt=0, description="Event time after which policies apply.")
    on_no_data: Literal["block", "allow", "hold"] = "block"
    on_undecided_at_deadline: Literal["block", "allow", "hold"] = "hold"

    @model_validator(mode="after")
    def _decidable(self) -> AbsoluteGate:
        names = [limit.name for limit in self.metrics]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"one limit per metric: {', '.join(repeated)}")
        if not any(limit.critical for limit in self.metrics):
            raise ValueError("at least one metric must be critical: advisory ones never decide")
        return self


class Retention(_Model):
    """Days that data is kept: three tiers."""

    hot_days: int = Field(7, ge=1, description="Payloads, features and categories.")
    warm_days: int = Field(30, ge=1, description="Raw rows, and panes of a minute.")
    cold_days: int = Field(365, ge=31, description="Panes of an hour and a day, windows, verdicts.")


class Limits(_Model):
    """Bounds that keep one sender from hurting the others."""

    max_body_mb: int = Field(32, ge=1, description="Largest body of POST /v1/events.")
    max_pending_events: int = Field(500_000, ge=1, description="Beyond this, 429 with Retry-After.")
    max_slices: int = Field(500, ge=1, description="Slices per grouping set; the rest is (other).")
    max_tenants: int = Field(1000, ge=1, description="Tenants told apart; the rest is (other).")


class Time(_Model):
    """How event time is closed."""

    lateness_s: float = Field(2.0, ge=0, description="How long a pane waits behind the watermark.")
    boot_timeout_s: float = Field(
        30.0, gt=0, description="Silence after which a boot has vanished."
    )
    feedback_days: int = Field(7, ge=1, description="How long feedback may come after its request.")


class Configuration(_Model):
    """The whole of penstock.yaml."""

    gates: tuple[AbsoluteGate, ...] = ()
    slos: SloSection = ()
    alerts: Alerts = Alerts.model_validate({})
    costs: Costs = Costs.model_validate({})
    drift: DriftConfiguration = DriftConfiguration.model_validate({})
    retention: Retention = Retention.model_validate({})
    limits: Limits = Limits.model_validate({})
    time: Time = Time.model_validate({})

    @cached_property
    def objectives(self) -> tuple[Objective | Composite, ...]:
        """What `slos` asks for, presets and documents written out."""
        return objectives_of(self.slos)

    @cached_property
    def rules(self) -> tuple[AlertRule, ...]:
        """Alert rules: those that are written, and those that objectives and budgets bring along."""
        written = self.alerts.rules
        return (*written, *implied_rules(self.objectives, self.costs.budgets, written))

    @property
    def has_signals(self) -> bool:
        """Whether there is anything to evaluate beside windows and gates."""
        return bool(self.rules or self.objectives or self.costs.budgets)


def load(path: Path | None) -> Configuration:
    """Read and validate a configuration file; without one, the defaults.

    Raises:
        InvalidConfiguration: naming the file, the line and the field of every mistake.
    """
    if path is None:
        return Configuration()
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidConfiguration(f"cannot read {path}: {error.strerror}") from error
    return parse(text, str(path))


def parse(text: str, name: str = "penstock.yaml") -> Configuration:
    """Validate configuration text; `name` stands for the file in errors.

    Raises:
        InvalidConfiguration: naming the line and the field of every mistake.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidConfiguration(f"{name} is not YAML: {error}") from error
    try:
        configuration = Configuration.model_validate({} if data is None else data)
    except ValidationError as error:
        lines = [
            f"{name}:{_line(node, item['loc'])}: {'.'.join(map(str, item['loc']))}: {item['msg']}"
            for item in error.errors()
        ]
        raise InvalidConfiguration("\n".join(lines)) from error
    wrong = [
        f"{name}:{_line(node, where)}: {'.'.join(map(str, where))}: {what}"
        for where, what in _problems(configuration)
    ]
    if wrong:
        raise InvalidConfiguration("\n".join(wrong))
    return configuration


def _problems(configuration: Configuration) -> Iterator[Problem]:
    """What does not fit together between the parts of a file."""
    ids = [gate.id for gate in configuration.gates]
    for at, gate in enumerate(ids):
        if gate in ids[:at]:
            yield ("gates", at, "id"), f"gate ids must be unique: {gate}"
    known = signal_ids(
        configuration.objectives, configuration.costs.budgets, configuration.drift.monitors
    )
    yield from signal_problems(configuration.alerts.rules, known)


def _line(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    """Line of the deepest part of `location` that the document has."""
    line = 1
    for part in location:
        child: Any = None
        if isinstance(node, yaml.MappingNode):
            child = next((v for k, v in node.value if k.value == part), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            child = node.value[part] if part < len(node.value) else None
        if node is not None:
            line = node.start_mark.line + 1
        if child is None:
            continue
        node = child
        line = child.start_mark.line + 1
    return line
