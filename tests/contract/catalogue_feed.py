"""Events for every rule of the catalogue, as one long day of a server: by model at once, the rest in turn.

What the recipes of the unit tests send at a fixed time is moved into the hours before now, so that
the hours for which rules hold pass as fast as the events are taken in.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
from penstock.schemas.alerts.metrics import WINDOWS_S
from penstock.schemas.alerts.rules import AlertRule, Change, Signal, Threshold
from penstock.schemas.catalogue import catalogue_rules
from penstock.tests.contract.deployments import Deployment
from penstock.tests.unit.streams.core.alerts.catalogue_recipes import RECIPES, Recipe
from penstock.tests.unit.streams.core.alerts.catalogue_world import START_S, Row, Traffic, rows
from penstock.tests.unit.streams.core.world import Sent

SECOND_US = 1_000_000
WEEK_S, MONDAY_S = 7 * 86_400, 4 * 86_400
CLEAR_S = 310  # windows of five minutes are empty again, after what all models sent
CHUNK, TURN_S = 4000, 120
ALL_MODELS_S = 7260
RULES = {rule.id: rule for rule in catalogue_rules()}
BY_MODEL = [name for name in RECIPES if RULES[name].by is not None]
OF_FLEET = [name for name in RECIPES if RULES[name].by is None]
# Lateness is decided as rows come in: the first frame is closed before the others are posted.
APART = {"events-late"}
CONFIG = """
slos:
  - {id: availability, filter: {model: promised}, sli: {kind: availability}, target: 99.9 %, window: 30d}
costs:
  budgets:  # only what is spent counts: an hour says nothing about a week
    - {id: weekly, filter: {model: spender}, usd: 100, alert_projected_ratio: 1000000}
alerts: {catalogue: all}
time: {boot_timeout_s: 600}
"""


@dataclass(frozen=True)
class Phase:
    """A stretch of event time in which a rule of the fleet must fire, or must not.

    Attributes:
        rule: its id.
        fires: whether it must.
        start_s, end_s: event time, seconds since 1970 UTC.
        bodies: what is posted, a POST each.
    """

    rule: str
    fires: bool
    start_s: int
    end_s: int
    bodies: tuple[tuple[Sent, ...], ...]


def length_s(rule: AlertRule) -> int:
    """How long it takes: the window fills, then the condition holds for as long as it must."""
    condition = rule.condition
    window_s = WINDOWS_S[condition.window] if isinstance(condition, Threshold | Change) else 0
    return window_s + rule.for_s + 60


def begin_s() -> int:
    """Start of everything: long enough ago, and within one week of UTC, as budgets count."""
    last_s = int(time.time()) - 600
    week_s = (last_s - MONDAY_S) // WEEK_S * WEEK_S + MONDAY_S
    lasts_s = ALL_MODELS_S + CLEAR_S + sum(2 * _fleet_length_s(name) for name in OF_FLEET)
    end_s = last_s if last_s - lasts_s >= week_s else week_s
    return (end_s - lasts_s) // 60 * 60


def by_model(at_s: int) -> Iterator[tuple[Sent, ...]]:
    """Every recipe of a rule by model, on and off side by side, from one worker; in bodies."""
    recipes: dict[Recipe, str] = {}
    for name in BY_MODEL:
        recipes.setdefault(RECIPES[name], name)
    found: dict[str, list[Row]] = {"request": _promised() + _spent(), "step": [], "feedback": []}
    for name in recipes.values():
        for on in (True, False):
            for sent in _traffic(name, on).of(_side(name, on)):
                found[sent.kind] += sent.rows
    # All that is sent of two minutes comes together, so that nothing of it is late.
    turns: dict[int, list[tuple[str, Row]]] = {}
    for kind, all_rows in found.items():
        for row in _moved(all_rows, at_s):
            turns.setdefault((row["ts"] // SECOND_US - at_s) // TURN_S, []).append((kind, row))
    seq = 0
    for turn, sent_rows in sorted(turns.items()):
        body, clock_us = [], (at_s + (turn + 1) * TURN_S) * SECOND_US - 1
        for kind in found:
            mine = [row for other, row in sent_rows if other == kind]
            for k in range(0, len(mine), CHUNK):
                part = mine[k : k + CHUNK]
                body.append(Sent(kind, "models", "models", seq, part, clock_us))
                seq += len(part)
        yield tuple(body)
    end_us = (at_s + ALL_MODELS_S) * SECOND_US
    yield (
        Sent("control", "models", "models", seq, [], end_us, closing=True),
        _anchor("first", at_s + ALL_MODELS_S),
    )


def model_of(name: str, on: bool) -> str:
    """Models of a rule: `on` breaks it, `off` does not quite; rules of one recipe share them."""
    first = next(other for other in BY_MODEL if RECIPES[other] is RECIPES[name])
    return f"{_side(first, on)} chat"


def ends_s(name: str) -> int:
    """How long after the begin the models of a rule are followed; then their silence is news."""
    return _traffic(name, True).end_s


def phases(at_s: int) -> Iterator[Phase]:
    """Rules of the fleet one after the other, each first not quite broken, then broken."""
    before = _anchor("first", at_s)
    at_s += CLEAR_S
    for name in OF_FLEET:
        for on in (False, True):
            start_s, at_s = at_s, at_s + _fleet_length_s(name)
            traffic = RECIPES[name](length_s(RULES[name]), on)
            after = _anchor(f"{name} {on}", at_s)
            frames = [_shifted(sent, start_s, f"{name} {on}") for sent in traffic.frames]
            frames.sort(key=lambda sent: sent.clock_us)
            # The old anchor leaves as the phase begins, and its workers leave as the new one comes.
            opening = (*_closing([before]), frames[0])
            others = (*frames[1:], *_closing(frames), after)
            bodies = (opening, others) if name in APART else ((*opening, *others),)
            yield Phase(name, on, start_s, at_s, bodies)
            before = after


def post(running: Deployment, body: tuple[Sent, ...], wait: bool) -> None:
    """POST frames; with `wait` until the watermark has followed their clock."""
    answer = httpx.post(
        f"{running.url}/v1/events",
        content=b"".join(sent.encoded() for sent in body),
        headers={"Content-Type": "application/vnd.penstock.frames"},
        timeout=240,  # hours may be evaluated before it is taken in
    )
    assert answer.status_code == 202, answer.text
    wanted_us = body[-1].clock_us - 3 * SECOND_US
    deadline = time.monotonic() + 120
    while wait and watermark_us(running) < wanted_us:
        assert time.monotonic() < deadline, "the watermark does not follow"
        time.sleep(0.1)


def watermark_us(running: Deployment) -> int:
    """What the server has passed."""
    health = httpx.get(f"{running.url}/health/detailed", timeout=30).json()
    found: int = health["components"]["pipeline"]["watermark_us"]
    return found


def signals_of_catalogue() -> set[str]:
    """Rules that read a signal which this feed brings about."""
    return {
        name
        for name, rule in RULES.items()
        if isinstance(rule.condition, Signal) and rule.condition.kind != "drift"
    }


def _traffic(name: str, on: bool) -> Traffic:
    recipe = RECIPES[name]
    lasts_s = max(length_s(RULES[other]) for other in BY_MODEL if RECIPES[other] is recipe)
    return recipe(lasts_s, on)


def _side(name: str, on: bool) -> str:
    """What a recipe's model, workers and request ids are prefixed with."""
    return f"{name} {'on' if on else 'off'}"


def _promised() -> list[Row]:
    """99.9 % promised: 7 of 10,000 fail in the first hour, the eighth and three more later, then many."""
    few = {1500, 3000, 4500, 6000, 7500, 9000, 9900}  # never more than 71 % of the budget so far
    good = rows(0, 3600, 0.36, error_type=lambda number: "internal" if number in few else None)
    bad = rows(3700, 3701, 1, error_type="internal") + rows(4300, 4310, 2, error_type="internal")
    later = rows(5000, 6000, 2, error_type="internal")
    return [row | {"model": "promised"} for row in (*good, *bad, *later)]


def _spent() -> list[Row]:
    """99 USD in the first half hour; the hundredth an hour after the beginning."""
    paid = rows(0, 1800, 18, cost_usd=0.99, input_tokens=1000) + rows(3660, 3661, 1, cost_usd=1.0)
    return [row | {"model": "spender"} for row in paid]


def _fleet_length_s(name: str) -> int:
    return RECIPES[name](length_s(RULES[name]), True).end_s


def _moved(some: list[Row], at_s: int) -> Iterator[dict[str, Any]]:
    for row in some:
        yield row | {"ts": row["ts"] + (at_s - START_S) * SECOND_US}


def _shifted(sent: Sent, at_s: int, boot: str) -> Sent:
    return replace(
        sent,
        boot_id=f"{boot} {sent.boot_id}",
        rows=[*_moved([*sent.rows], at_s)],
        clock_us=sent.clock_us + (at_s - START_S) * SECOND_US,
    )


def _closing(frames: list[Sent]) -> list[Sent]:
    """The last word of each boot among frames."""
    last = {sent.boot_id: sent for sent in frames}
    return [
        replace(sent, kind="control", seq0=end, rows=[], closing=True, gaps=())
        for sent in last.values()
        for end in [sent.seq0 + len(sent.rows)]
    ]


def _anchor(name: str, at_s: int) -> Sent:
    """A worker that is only there, so that event time stands still until more comes."""
    return Sent("control", "anchor", f"anchor {name}", 0, [], at_s * SECOND_US)
