"""Every counter that the configuration asks tiles to hold: of gates, alert rules and objectives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ...schemas.alerts.rules import AlertRule
from ...schemas.config import Configuration
from ...schemas.errors import InvalidConfiguration
from ...schemas.gates.absolute import AbsoluteGate
from . import metrics as m
from .alerts.watch import Watch
from .detectors.keeper import check_detectors
from .gates.canonical import sha256
from .gating import counters_for
from .slices import CELL_GROUPINGS, GROUPINGS
from .slo.readings import counters_for_slos

Counter = m.Threshold | m.CostScore
RECOUNT_S = 600
"""A new counter is counted into cells that closed so long ago: twice the longest window that alerts read
off cells, for what is not evaluated yet."""


def configured_counters(configuration: Configuration) -> tuple[Counter, ...]:
    """The counters of a configuration, each once.

    Raises:
        InvalidConfiguration: two of them have the same number, which is a hash of 30 bits; or a
            detector cannot be made, which is told here as well, before anything runs.
    """
    check_detectors(configuration)
    known: dict[int, tuple[str, Counter]] = {}
    for who, counter in _wanted(configuration):
        other, taken = known.setdefault(counter.number, (who, counter))
        if taken != counter:
            raise InvalidConfiguration(
                f"{who} counts {named(counter)} under the same number as {other} counts"
                f" {named(taken)}: move one of the limits a little (a latency by 0.001 ms)"
            )
    return tuple(counter for _, counter in known.values())


def counting_of(configuration: Configuration) -> str:
    """Hash of what decides how rows are counted: counters, and the slices that gates ask for.

    Deltas that were counted by another one lack some of it.
    """
    counters = sorted(repr(counter) for counter in configured_counters(configuration))
    return sha256(
        [counters, [gate.model_dump(mode="json") for gate in _counting_gates(configuration)]]
    )[:16]


def cell_groupings(rules: Iterable[AlertRule]) -> tuple[str, ...]:
    """The grouping sets that cells are kept by: the usual ones, and those that alert rules ask for."""
    watches = map(Watch, rules)
    asked = {watch.grouping for watch in watches if watch.uses_cells}
    return tuple(name for name in GROUPINGS if name in asked or name in CELL_GROUPINGS)


def _counting_gates(configuration: Configuration) -> list[AbsoluteGate]:
    """Gates that are read off cells; the others count raw rows."""
    return [gate for gate in configuration.live_gates if isinstance(gate, AbsoluteGate)]


def _wanted(configuration: Configuration) -> Iterator[tuple[str, Counter]]:
    """Who asks for which counter."""
    for gate in _counting_gates(configuration):
        yield from ((f"gate {gate.id}", counter) for counter in counters_for([gate]))
    for rule in configuration.rules:
        yield from ((f"alert rule {rule.id}", counter) for counter in Watch(rule).counters())
    for slo in configuration.objectives:
        yield from ((f"objective {slo.id}", counter) for counter in counters_for_slos([slo]))


def named(counter: Counter) -> str:
    """What a counter counts, for people."""
    if isinstance(counter, m.Threshold):
        return f"{counter.column} > {counter.limit_us} us"
    return (
        f"cost above {counter.limit_nanousd_per_1k_tokens} nano-USD per 1k tokens,"
        f" capped at {counter.cap_nanousd}"
    )
