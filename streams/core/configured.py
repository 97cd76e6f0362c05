"""Every counter that the configuration asks tiles to hold: of gates, alert rules and objectives."""

from __future__ import annotations

from collections.abc import Iterator

from ...schemas.config import Configuration
from ...schemas.errors import InvalidConfiguration
from . import metrics as m
from .alerts.watch import Watch
from .gating import counters_for
from .slo.readings import counters_for_slos

Counter = m.Threshold | m.CostScore


def configured_counters(configuration: Configuration) -> tuple[Counter, ...]:
    """The counters of a configuration, each once.

    Raises:
        InvalidConfiguration: two of them have the same number, which is a hash of 15 bits.
    """
    known: dict[int, tuple[str, Counter]] = {}
    for who, counter in _wanted(configuration):
        other, taken = known.setdefault(counter.number, (who, counter))
        if taken != counter:
            raise InvalidConfiguration(
                f"{who} counts {_named(counter)} under the same number as {other} counts"
                f" {_named(taken)}: move one of the limits a little (a latency by 0.001 ms)"
            )
    return tuple(counter for _, counter in known.values())


def _wanted(configuration: Configuration) -> Iterator[tuple[str, Counter]]:
    """Who asks for which counter."""
    for gate in configuration.gates:
        yield from ((f"gate {gate.id}", counter) for counter in counters_for([gate]))
    for rule in configuration.alerts.rules:
        yield from ((f"alert rule {rule.id}", counter) for counter in Watch(rule).counters())
    for slo in configuration.objectives:
        yield from ((f"objective {slo.id}", counter) for counter in counters_for_slos([slo]))


def _named(counter: Counter) -> str:
    if isinstance(counter, m.Threshold):
        return f"{counter.column} > {counter.limit_us} us"
    return (
        f"cost above {counter.limit_nanousd_per_1k_tokens} nano-USD per 1k tokens,"
        f" capped at {counter.cap_nanousd}"
    )
