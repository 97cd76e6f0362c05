"""Cases: a situation, its data, its gate, and the right answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CASES = Path(__file__).parent / "cases"
LIVE_KINDS = ("canary", "absolute", "rollback")


@dataclass(frozen=True)
class Case:
    """One file of cases/.

    Attributes:
        id: its name, and that of its gate and of the model that its events carry.
        what: the situation, and why the answer is right.
        recorded: where its data comes from, if it is recorded; None if all of it is drawn.
        seed: of what is drawn.
        gate: specification, without `id`.
        traffic: recipe of a live gate's events (traffic.py).
        files: recipes of a file gate's run and baseline (files.py).
        verdict, reasons: the right answer; other reasons may be told beside these.
        action: what follows, where the case states it.
        core_only: why a server cannot be shown it, if so.
        after_s: event time after the last event at which it is asked.
    """

    id: str
    what: str
    seed: int
    gate: Mapping[str, Any]
    verdict: str
    reasons: tuple[str, ...]
    recorded: str | None = None
    traffic: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Any] = field(default_factory=dict)
    action: str | None = None
    core_only: str | None = None
    after_s: int = 300

    @property
    def live(self) -> bool:
        """Whether it is asked of a running server."""
        return self.gate["kind"] in LIVE_KINDS

    def specification(self) -> dict[str, Any]:
        """The gate with its id, and with this case's model in every arm."""
        spec = {"id": self.id, **self.gate}
        for arm in ("control", "treatment", "baseline", "filter"):
            if arm in spec:
                spec[arm] = {"model": self.id, **spec[arm]}
        return spec


def wrong(case: Case, verdict: str, reasons: Sequence[str], action: str) -> list[str]:
    """What is wrong with an answer, nothing where it is right."""
    found = []
    if verdict != case.verdict:
        found.append(f"{verdict} instead of {case.verdict}")
    if missing := set(case.reasons) - set(reasons):
        found.append(f"reasons {list(reasons)} without {sorted(missing)}")
    if case.action not in (None, action):
        found.append(f"action {action} instead of {case.action}")
    return found


def load() -> list[Case]:
    """Every case, by name."""
    found = []
    for path in sorted(CASES.glob("*.yaml")):
        told = yaml.safe_load(path.read_text())
        answer = told.pop("answer")
        case = Case(
            id=path.stem,
            verdict=answer.pop("verdict"),
            reasons=tuple(answer.pop("reasons")),
            action=answer.pop("action", None),
            **told,
        )
        assert not answer, f"{path.name}: {answer}"
        found.append(case)
    return found
