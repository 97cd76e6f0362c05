"""What was found out about an alert: a value that is stored, shown and told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..alerts.transition import shown
from ..gates.canonical import canonical_json
from .contribution import Floats, Sums, change
from .evidence import Gauge, Kind, Part, parts_of_kinds, parts_of_phases
from .measures import Measure
from .question import SLICED_BY, Question, Stretch
from .ranking import Dimension, Finding, findings

_ORDER = SLICED_BY["requests"]


@dataclass(frozen=True, slots=True)
class Release:
    """A release marker near the breach.

    Attributes:
        at_s: event time, seconds.
        after_s: how long after it the breach began; negative where it began before.
        release, model, variant, stage, note: of the marker; empty where it has none.
    """

    at_s: int
    after_s: int
    release: str
    model: str
    variant: str
    stage: str
    note: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What one query over raw rows gave.

    Attributes:
        total: of all rows that the filter lets pass.
        dimensions: sums by value, in the order in which names are preferred.
        releases: nearest first.
        kinds: of the rows that the measure counts, where they have kinds.
        phases: of a latency, means per request: itself first, then what it consists of.
        requests: other means per request.
        engine: means per step.
        limit: what rows were compared with; None where nothing was.
    """

    total: Sums
    dimensions: Sequence[Dimension]
    releases: Sequence[Release] = ()
    kinds: Sequence[Kind] = ()
    phases: Sequence[Gauge] = ()
    requests: Sequence[Gauge] = ()
    engine: Sequence[Gauge] = ()
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """What changed when an alert fired.

    Attributes:
        note: why there is no more to tell; empty where there is.
        words: what is measured, for people.
        unit: of values.
        now, before: the stretches compared.
        value, value_before: over them; sums are scaled to the length of `now`. None without rows.
        slices: those that explain the change, best first; empty where none stands out.
        parts_of: what parts are: `phase`, `error type`, `safety flag`, or the series that drifted.
        parts: those that explain the change, best first; empty where no few of them do.
        releases: the nearest release markers, at most three.
        requests: evidence of the requests, of latencies and costs.
        engine: evidence of engine steps, of latencies and of what steps state.
    """

    note: str
    words: str = ""
    unit: str = "number"
    now: Stretch | None = None
    before: Stretch | None = None
    value: float | None = None
    value_before: float | None = None
    slices: tuple[Finding, ...] = ()
    parts_of: str = ""
    parts: tuple[Part, ...] = ()
    releases: tuple[Release, ...] = ()
    requests: tuple[Gauge, ...] = ()
    engine: tuple[Gauge, ...] = ()

    def to_json(self) -> str:
        """Canonical JSON; the same explanation gives the same text."""
        return canonical_json(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Explanation:
        """The explanation that `to_json` wrote.

        Raises:
            ValueError: if the text is none.
        """
        try:
            found: dict[str, Any] = json.loads(text)
            for name in ("now", "before"):
                found[name] = None if found[name] is None else Stretch(**found[name])
            for item in found["slices"]:  # JSON has them by the alphabet
                item["slice"] = {n: item["slice"][n] for n in _ORDER if n in item["slice"]}
            for name, kind in _LISTS.items():
                # Those of an earlier Penstock have fewer.
                found[name] = tuple(kind(**item) for item in found.get(name, ()))
            return cls(**found)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not an explanation of an alert: {error}") from error


_LISTS: Mapping[str, type] = {
    "slices": Finding, "parts": Part, "releases": Release, "requests": Gauge, "engine": Gauge,
}  # fmt: skip


def explain(question: Question, answer: Answer) -> Explanation:
    """Which slices explain the change that a question is about."""
    measure, total = question.measure, answer.total
    quotient = measure.kind in ("ratio", "above")
    value = _value(total.n, total.d, quotient)
    before = _value(total.n0, total.d0, quotient)
    slices: tuple[Finding, ...] = ()
    if value is not None:
        slices = tuple(findings(answer.dimensions, total, quotient, measure.sample))
    parts_of, parts = _parts(measure, answer, quotient)
    note = ""
    if value is None:
        note = "no row of the time that the alert is about tells"
    elif not total.d0[0]:
        note = "there are no rows before to compare with"
    elif change(total, quotient) == 0:
        note = "it was the same before"
    elif not total.n[0]:
        note = "nothing is left of it, in any slice"
    elif not slices:
        note = "no slice stands out"
    return Explanation(
        note,
        _words(measure, answer.limit),
        measure.unit,
        question.now,
        question.before,
        value,
        before if total.d0[0] else None,
        slices,
        parts_of if parts else "",
        tuple(parts),
        tuple(answer.releases),
        tuple(answer.requests),
        tuple(answer.engine),
    )


def _parts(measure: Measure, answer: Answer, quotient: bool) -> tuple[str, list[Part]]:
    if (
        answer.phases and answer.phases[0].name == measure.name
    ):  # else nobody states how long it took
        return "phase", parts_of_phases(answer.phases[0], answer.phases[1:])
    if answer.kinds and answer.total.d[0]:
        return measure.kinds, parts_of_kinds(answer.kinds, answer.total, quotient)
    return "", []


def _value(n: Floats, d: Floats, quotient: bool) -> float | None:
    if not quotient:
        return float(n[0])
    return float(n[0] / d[0]) if d[0] else None


def _words(measure: Measure, limit: float | None) -> str:
    if measure.kind != "above":
        return measure.words
    unit = "ms" if measure.name.endswith("_ms") else "number"
    return f"share of {measure.words} above {shown(limit, unit)}"
