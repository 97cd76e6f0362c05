"""penstock.yaml: one file, validated as a whole, with line numbers in its errors."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .alerts.rules import AlertRule
from .alerts.section import Alerts
from .costs.section import Costs
from .drift.monitors import DriftConfiguration
from .errors import InvalidConfiguration
from .gates import Gate, LiveGate, OfflineGate
from .gates.budget import BudgetGate
from .gates.notify import notify_problems as gate_notify_problems
from .signals import (
    Problem,
    SignalId,
    implied_rules,
    signal_ids,
    signal_of,
    signal_problems,
)
from .slo.notify import notify_problems
from .slo.objective import Composite, Objective
from .slo.section import SloSection, objectives_of

M = TypeVar("M", bound=BaseModel)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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

    gates: tuple[Gate, ...] = ()
    slos: SloSection = ()
    alerts: Alerts = Alerts.model_validate({})
    costs: Costs = Costs.model_validate({})
    drift: DriftConfiguration = DriftConfiguration.model_validate({})
    retention: Retention = Retention.model_validate({})
    limits: Limits = Limits.model_validate({})
    time: Time = Time.model_validate({})

    @cached_property
    def live_gates(self) -> tuple[LiveGate, ...]:
        """Gates that are evaluated on the stream; the others are asked about files."""
        return tuple(gate for gate in self.gates if not isinstance(gate, OfflineGate))

    @cached_property
    def objectives(self) -> tuple[Objective | Composite, ...]:
        """What `slos` asks for, presets and documents written out."""
        return objectives_of(self.slos)

    @cached_property
    def rules(self) -> tuple[AlertRule, ...]:
        """Alert rules: those that are written, and those that other sections bring along."""
        written = (*self.alerts.rules, *self.catalogue_rules)
        brought = implied_rules(self.objectives, self.costs, self.drift, written)
        return (*written, *brought)

    @cached_property
    def signals(self) -> tuple[SignalId, ...]:
        """Kind and id of every signal that is computed."""
        found = signal_ids(self.objectives, self.costs, self.drift)
        return tuple(found)

    @cached_property
    def catalogue_rules(self) -> tuple[AlertRule, ...]:
        """Rules of the catalogue that are evaluated: of those taken, the ones that have their signal."""
        known = set(self.signals)
        return tuple(rule for rule in self._taken if signal_of(rule) in (None, *known))

    @property
    def left_out(self) -> tuple[AlertRule, ...]:
        """Rules of the catalogue whose signal this file does not define."""
        evaluated = {rule.id for rule in self.catalogue_rules}
        return tuple(rule for rule in self._taken if rule.id not in evaluated)

    @property
    def _taken(self) -> tuple[AlertRule, ...]:
        written = {rule.id for rule in self.alerts.rules}
        taken = self.alerts.catalogue.taken if self.alerts.catalogue is not None else ()
        return tuple(rule for rule in taken if rule.id not in written)

    @property
    def has_signals(self) -> bool:
        """Whether there is anything to evaluate beside windows and gates."""
        drift = self.drift.monitors or self.drift.detectors
        return bool(self.rules or self.objectives or self.costs.watches or drift)


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
    configuration, node = read_as(Configuration, text, name)
    wrong = [
        f"{name}:{_line(node, where)}: {'.'.join(map(str, where))}: {what}"
        for where, what in _problems(configuration)
    ]
    if wrong:
        raise InvalidConfiguration("\n".join(wrong))
    return configuration


def read_as(model: type[M], text: str, name: str) -> tuple[M, yaml.Node | None]:
    """Validate YAML text as one model; also its nodes, which know their lines.

    Raises:
        InvalidConfiguration: naming the line and the field of every mistake.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidConfiguration(f"{name} is not YAML: {error}") from error
    try:
        return model.model_validate({} if data is None else data), node
    except ValidationError as error:
        lines = [
            f"{name}:{_line(node, item['loc'])}: {'.'.join(map(str, item['loc']))}: {item['msg']}"
            for item in error.errors()
        ]
        raise InvalidConfiguration("\n".join(lines)) from error


def _problems(configuration: Configuration) -> Iterator[Problem]:
    """What does not fit together between the parts of a file."""
    ids = [gate.id for gate in configuration.gates]
    for at, gate in enumerate(ids):
        if gate in ids[:at]:
            yield ("gates", at, "id"), f"gate ids must be unique: {gate}"
    known = configuration.signals
    promised = {objective.id for objective in configuration.objectives}
    for at, asked in enumerate(configuration.gates):
        if isinstance(asked, BudgetGate) and asked.slo not in promised:
            yield ("gates", at, "slo"), f"there is no objective {asked.slo}"
    yield from signal_problems(configuration.alerts.rules, known)
    yield from notify_problems(configuration.alerts, configuration.objectives)
    yield from gate_notify_problems(configuration.alerts, configuration.gates)
    kept_s = configuration.retention.warm_days * 86_400
    for at, limit in enumerate(configuration.costs.spend_limits):
        if limit.window_s > kept_s:
            where = ("costs", "spend_limits", at, "window_s")
            yield where, f"longer than raw rows are kept: raise retention.warm_days, or {kept_s} s"
    catalogue = configuration.alerts.catalogue
    for rule in configuration.left_out:
        if catalogue is not None and catalogue.is_named(rule.id):
            kind, name = signal_of(rule) or ("", "")
            yield ("alerts", "catalogue"), f"{rule.id} needs a {kind} {name}, which is not there"


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
