"""Drift monitors on the real store: what raw rows say, whatever crashes, and what comes late."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from penstock.schemas.config import parse
from penstock.streams.core.drift.binning import binning_of
from penstock.streams.core.drift.labelled import Labelled
from penstock.streams.core.drift.reference_sets import reference_set
from penstock.streams.core.drift.series_counts import SeriesCounts, counts_of_labels
from penstock.streams.core.drift.stored import reference_rows
from penstock.streams.storage.migrate import migrate
from penstock.tests.integration.test_recovery import CrashingStore
from penstock.tests.unit.streams.core.world import SECOND, Sent, World

pytestmark = pytest.mark.slow

# Recent, for sampled columns beyond their retention vanish as they are written.
START_S = int(time.time()) // 3600 * 3600 - 7200
MINUTES, DRIFT_FROM = 6, 3
INSERTS = (
    "panes_rows", "drift_counts_rows", "drift_scores_rows", "drift_states_rows",
    "checkpoints_rows", "alert_transitions_rows",
)  # fmt: skip
CONFIGURATION = parse("""
drift:
  monitors:
    - id: canary
      filter: {model: chat, variant: canary}
      features: [input_tokens, balance]
      categories: [language, route, "it's {odd:String} %s"]
      reference: {kind: control}
      window_s: 120
      every_s: 60
    - id: trained
      filter: {model: chat}
      features: [input_tokens, output_score]
      categories: [output_class]
      reference: {kind: uploaded, name: training}
      window_s: 60
      every_s: 60
      design_effect: 1
  concept: {window_s: 180}
""")
FEATURES = ("input_tokens", "balance", "output_score")


def requests(minute: int) -> list[dict[str, Any]]:
    """Three a second for either arm; from some minute on the canary's prompts are longer, and half of
    its requests lack a feature."""
    rng = random.Random(minute)
    rows = []
    for second in range(60):
        for number in range(6):
            arm = "canary" if number % 2 else "control"
            drifts = arm == "canary" and minute >= DRIFT_FROM
            ts = (START_S + minute * 60 + second) * SECOND + number
            rows.append(
                {
                    "ts": ts,
                    "request_id": f"r-{ts}",
                    "model": "chat",
                    "variant": arm,
                    "route": "/v1" if rng.random() < 0.7 else "/v2",
                    "status": "error" if number == 5 and second % 20 == 0 else "ok",
                    "input_tokens": round(rng.lognormvariate(6 if drifts else 5, 0.5)),
                    "output_score": rng.random(),
                    "output_class": rng.choice(["cat", "dog"]),
                    "features": {} if drifts and second < 30 else {"balance": rng.gauss(0, 100)},
                    "categories": {"language": rng.choice(["en", "en", "de"])},
                }
            )
    return rows


def labels(minute: int) -> list[dict[str, Any]]:
    """For every request of the minute before: right nine times of ten, of the canary later four."""
    found = []
    for number, row in enumerate(requests(minute - 1) if minute else []):
        worse = minute > DRIFT_FROM and row["variant"] == "canary"
        other = "dog" if row["output_class"] == "cat" else "cat"
        right = number // 6 % 10 < (4 if worse else 9)
        label = row["output_class"] if right else other
        found.append(
            {"ts": row["ts"] + 60 * SECOND, "request_id": row["request_id"], "label": label}
        )
    return found


def markers(minute: int) -> list[dict[str, Any]]:
    """A release at the start; in the third minute another, whose importances are the other way round."""
    weights = {0: (3, 2, 1), 2: (1, 2, 3)}.get(minute)
    if weights is None:
        return []
    told = dict(zip("abc", map(float, weights), strict=True))
    ts = (START_S + minute * 60 + 1) * SECOND
    return [{"ts": ts, "release": f"r{minute}", "model": "chat", "feature_importance": told}]


@contextmanager
def opened(folder: Path) -> Iterator[CrashingStore]:
    """A migrated store with a training distribution."""
    store = CrashingStore(f"chdb://{folder / 'db'}")
    try:
        migrate(store)
        upload(store)
        yield store
    finally:
        store.close()


def counted(rows: list[dict[str, Any]], name: str) -> SeriesCounts:
    """Counts of a feature or a category, without SQL."""
    values = [row.get(name, row["features"].get(name)) for row in rows]
    known = [value for value in values if value is not None]
    if name not in FEATURES:
        return SeriesCounts(len(rows), Counter(map(str, known)))
    bins = binning_of(name).bins_of(np.array(known, np.float64))
    return SeriesCounts(len(rows), Counter(map(str, bins.tolist())))


def upload(store: CrashingStore) -> None:
    """A training distribution as the first minutes are."""
    rows = [row for minute in range(3) for row in requests(minute)]
    names = ("input_tokens", "output_score", "output_class")
    piece = {name: counted(rows, name) for name in names}
    made = reference_set("training", {"kind": "uploaded"}, {0: piece}, names[:2], names[2:])
    rows_of_it = reference_rows("uploaded", "training", made.revised(None), 1)
    store.insert("drift_references_rows", rows_of_it, "training")


def tell(store: CrashingStore, crash: Callable[[], str | None] = lambda: None) -> None:
    """The story in flushes of 30 s; `crash` names the insert before which the process dies."""
    world = World(store, CONFIGURATION)
    seq = {"request": 0, "feedback": 0, "release": 0}
    for minute in range(MINUTES):
        for part in range(2):
            frames = []
            for kind, rows in (
                ("request", requests(minute)),
                ("feedback", labels(minute)),
                ("release", markers(minute)),
            ):
                rows = rows[part * len(rows) // 2 : (part + 1) * len(rows) // 2]
                if rows:
                    clock_us = rows[-1]["ts"] + SECOND // 2
                    frames.append(Sent(kind, "w", kind, seq[kind], rows, clock_us))
                    seq[kind] += len(rows)
            world.deliver(frames, frames[0].clock_us)
            world.tick(world.now_us + 1000, crash())
        if minute == 3:  # a row that comes two looks late
            late = requests(1)[0] | {"request_id": "late", "input_tokens": 10**9}
            world.deliver([Sent("request", "w", "late", 0, [late], world.now_us)], world.now_us)
    for kind, number in (*seq.items(), ("late", 1)):
        ended = Sent("control", "w", kind, number, (), world.now_us, number, True)
        world.deliver([ended], world.now_us)
    world.tick(world.now_us + 30 * SECOND)


@dataclass(frozen=True)
class Stored:
    """What a story left in the store."""

    looks: list[dict[str, Any]]
    counts: list[dict[str, Any]]
    changes: list[dict[str, Any]]

    def series(self, monitor: str, name: str) -> list[dict[str, Any]]:
        return [row for row in self.looks if (row["monitor"], row["series"]) == (monitor, name)]


def stored(store: CrashingStore) -> Stored:
    return Stored(
        store.query(
            "SELECT * EXCEPT (version) FROM penstock.drift_scores ORDER BY monitor, series, end"
        ),
        store.query(
            "SELECT counting, series, filter, toUnixTimestamp(start) AS at, rows, keys, counts"
            " FROM penstock.drift_counts ORDER BY counting, start"
        ),
        store.query(
            "SELECT id, rule_id, kind, at, labels, value, text FROM penstock.alert_transitions"
            " ORDER BY at, id"
        ),
    )


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """What an uninterrupted story leaves."""
    with opened(tmp_path_factory.mktemp("calm")) as store:
        tell(store)
        return stored(store)


def test_counts_are_those_of_the_rows(calm: Stored) -> None:
    seen = set()
    for row in calm.counts:
        minute, arm = (row["at"] - START_S) // 60, dict(row["filter"]).get("variant")
        sent = [r for r in requests(minute) if arm in (None, r["variant"])] if minute >= 0 else []
        if row["series"] == "(labels)":
            told = {r["request_id"]: r["label"] for r in labels(minute)} if minute > 0 else {}
            before = requests(minute - 1) if minute > 0 else []
            wanted = counts_of_labels(
                Labelled.of(
                    (told[r["request_id"]], r["output_class"], r["output_score"])
                    for r in before
                    if arm in (None, r["variant"])
                )
            )
        else:
            wanted = counted([r | r["categories"] for r in sent], row["series"])
        assert dict(zip(row["keys"], row["counts"], strict=True)) == dict(wanted.counts), row
        assert row["rows"] == wanted.rows
        seen.add((row["series"], arm, minute))
    assert {minute for _, _, minute in seen} == {-1, *range(MINUTES)}
    assert {(name, arm) for name, arm, _ in seen} >= {
        ("balance", "canary"), ("balance", "control"), ("output_class", None), ("(labels)", None),
    }  # fmt: skip


def test_the_story(calm: Stored) -> None:
    told: dict[str, list[str]] = {}
    for row in calm.changes:
        told.setdefault(row["rule_id"], []).append(row["kind"])
    assert told == {
        "canary.drift": ["firing"],
        "canary.missing": ["firing"],
        "canary.missing-high": ["firing"],
        "canary.concept": ["firing"],
        "trained.drift": ["firing"],
    }
    assert {row["labels"]["model"] for row in calm.changes} == {"chat"}
    for monitor in ("canary", "trained"):
        states = [row["state"] for row in calm.series(monitor, "input_tokens")]
        assert states[:DRIFT_FROM] == ["ok"] * DRIFT_FROM
        assert set(states[DRIFT_FROM:]) == {"drift"}
        assert calm.series(monitor, "input_tokens")[-1]["confirmed"] is not None
    assert {row["confirmed"] for row in calm.series("canary", "route")} == {None}
    assert calm.series("canary", "balance")[-1]["missing_state"] == "critical"
    assert calm.series("canary", "(concept)")[-1]["state"] == "drift"
    known = [json.loads(row["figures"])["details"] for row in calm.series("trained", "(concept)")]
    assert [item.get("importance") for item in known] == [None, None] + [-1.0] * (MINUTES - 2)
    last = calm.series("trained", "input_tokens")[-1]
    assert sum(bar["current"] for bar in json.loads(last["bars"])) == last["n_current"] == 360


def test_crashes_and_restarts_change_nothing(calm: Stored, tmp_path: Path) -> None:
    rng = random.Random(5)
    with opened(tmp_path) as store:
        tell(store, lambda: rng.choice(INSERTS) if rng.random() < 0.4 else None)
        found = stored(store)
    assert found.changes == calm.changes
    assert found.looks == calm.looks
    assert found.counts == calm.counts
