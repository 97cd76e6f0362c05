"""What was found out about an alert: a value that is stored, shown and told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..alerts.transition import shown
from ..gates.canonical import canonical_json
from .contribution import Floats, Sums, change
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
class Engine:
    """What the engine's steps say: mean per step now and before; None where no step states it."""

    name: str
    unit: str
    now: float | None
    before: float | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What one query over raw rows gave.

    Attributes:
        total: of all rows that the filter lets pass.
        dimensions: sums by value, in the order in which names are preferred.
        releases: nearest first.
        engine: empty where nothing is said.
        limit: what rows were compared with; None where nothing was.
    """

    total: Sums
    dimensions: Sequence[Dimension]
    releases: Sequence[Release] = ()
    engine: Sequence[Engine] = ()
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
        releases: the nearest release markers, at most three.
        engine: evidence of engine steps, of latencies only.
    """

    note: str
    words: str = ""
    unit: str = "number"
    now: Stretch | None = None
    before: Stretch | None = None
    value: float | None = None
    value_before: float | None = None
    slices: tuple[Finding, ...] = ()
    releases: tuple[Release, ...] = ()
    engine: tuple[Engine, ...] = ()

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
            parts = (("slices", Finding), ("releases", Release), ("engine", Engine))
            for name, kind in parts:
                found[name] = tuple(kind(**item) for item in found[name])
            return cls(**found)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not an explanation of an alert: {error}") from error


def explain(question: Question, answer: Answer) -> Explanation:
    """Which slices explain the change that a question is about."""
    measure, total = question.measure, answer.total
    quotient = measure.kind != "sum"
    value = _value(total.n, total.d, quotient)
    before = _value(total.n0, total.d0, quotient)
    slices = (
        () if value is None else tuple(findings(answer.dimensions, total, quotient, measure.counts))
    )
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
        tuple(answer.releases),
        tuple(answer.engine),
    )


def _value(n: Floats, d: Floats, quotient: bool) -> float | None:
    if not quotient:
        return float(n[0])
    return float(n[0] / d[0]) if d[0] else None


def _words(measure: Measure, limit: float | None) -> str:
    if measure.kind != "above":
        return measure.words
    unit = "ms" if measure.name.endswith("_ms") else "number"
    return f"share of {measure.words} above {shown(limit, unit)}"
