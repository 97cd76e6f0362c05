"""Raw rows counted step by step on the real store: the same as at once, whatever came in which order."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from penstock.streams.core.delta import Cuts
from penstock.streams.core.drift.open_counts import OpenCounts
from penstock.streams.core.drift.series_counts import LABELS, labels_of_counts
from penstock.streams.core.drift.stored import Counting, Piece
from penstock.streams.drift.counts import count_rows, first_cuts, next_cuts
from penstock.streams.storage.migrate import migrate
from penstock.streams.storage.store import Store
from penstock.tests.support.store import insert

START_S = int(time.time()) // 3600 * 3600 - 7200
MINUTES, FRAMES, FRAME_ROWS = 3, 60, 10
COUNTING = Counting({"model": "chat"}, ("input_tokens", "balance"), ("route", "language"), 60)
SOURCES = ((1, 0), (1, 1))
UPTO: Cuts = dict.fromkeys(SOURCES, FRAMES // 2 - 1)


def request(rng: random.Random, number: int) -> dict[str, Any]:
    second = rng.randrange(MINUTES * 60)
    return {
        "ts": _ts(second), "boot_id": "b", "seq": number, "request_id": f"r{number}",
        "model": rng.choice(["chat", "chat", "other"]), "status": rng.choice(["ok", "ok", "error", ""]),
        "route": rng.choice(["/a", "/b"]), "input_tokens": rng.randrange(1, 1000),
        "output_class": rng.choice(["cat", "dog"]), "output_score": rng.random(),
        "features": {} if rng.random() < 0.3 else {"balance": rng.gauss(0, 9)},
        "categories": {"language": rng.choice(["en", "de"])},
    }  # fmt: skip


def label(rng: random.Random, number: int) -> dict[str, Any]:
    return {
        "ts": _ts(rng.randrange(MINUTES * 60)), "boot_id": "f", "seq": number,
        "request_id": f"r{number}", "label": rng.choice(["cat", "dog"]),
    }  # fmt: skip


def _ts(second: int) -> datetime:
    return datetime.fromtimestamp(START_S + second, UTC)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Requests and labels of most of them in any order, as two sources brought them."""
    opened = Store(f"chdb://{tmp_path_factory.mktemp('counts') / 'db'}")
    try:
        migrate(opened)
        rng = random.Random(3)
        total = FRAMES * FRAME_ROWS
        events = [("requests_rows", request(rng, n)) for n in range(total * 2 // 3)]
        events += [("feedback_rows", label(rng, n)) for n in range(total // 3)]
        rng.shuffle(events)
        placed: dict[str, list[dict[str, Any]]] = {"requests_rows": [], "feedback_rows": []}
        for at, (name, row) in enumerate(events):
            (incarnation, partition), offset = SOURCES[at % 2], at // (2 * FRAME_ROWS)
            arrival = {"incarnation": incarnation, "partition": partition, "offset": offset}
            placed[name].append(row | arrival | {"append_ts": _ts(MINUTES * 60 + offset)})
        for name, rows in placed.items():
            insert(opened, name, rows)
        frames = [
            {
                "incarnation": i, "partition": p, "offset": offset, "kind": "request",
                "boot_id": "b", "stored": FRAME_ROWS, "append_ts": _ts(MINUTES * 60 + offset),
            }
            for i, p in SOURCES
            for offset in range(FRAMES // 2)
        ]  # fmt: skip
        insert(opened, "frames_rows", frames)
        yield opened
    finally:
        opened.close()


def finished(store: Store, steps: list[Cuts]) -> dict[int, Piece]:
    counts = OpenCounts(COUNTING, START_S, {})
    for upto in steps:
        counts.add(count_rows(store, COUNTING, counts.since_s, counts.cuts, upto), upto)
    return counts.finish(START_S + MINUTES * 60)


def test_steps_are_the_whole(store: Store) -> None:
    whole = finished(store, [UPTO])
    assert sum(piece["input_tokens"].rows for piece in whole.values()) > 100
    assert sum(labels_of_counts(piece[LABELS]).rows for piece in whole.values()) > 50
    assert all(piece["balance"].present < piece["balance"].rows for piece in whole.values())
    rng = random.Random(4)
    for _ in range(4):
        bounds = [sorted(rng.sample(range(FRAMES // 2), 3)) for _ in SOURCES]
        steps: list[Cuts] = [
            dict(zip(SOURCES, cuts, strict=True)) for cuts in zip(*bounds, strict=True)
        ]
        assert finished(store, [*steps, UPTO]) == whole


def test_rows_before_the_first_open_stretch_are_left_out(store: Store) -> None:
    later = count_rows(store, COUNTING, START_S + 60, {}, UPTO)
    assert min(later) == START_S + 60
    whole = finished(store, [UPTO])
    for at, piece in later.items():
        assert piece == {series: counts for series, counts in whole[at].items() if series in piece}


def test_a_step_has_so_many_rows_and_at_least_a_frame(store: Store) -> None:
    cuts, rows = next_cuts(store, {}, UPTO, 100)
    assert (cuts, rows) == (dict.fromkeys(SOURCES, 4), 100)
    assert next_cuts(store, cuts, UPTO, 1) == (dict.fromkeys(SOURCES, 5), 2 * FRAME_ROWS)
    assert next_cuts(store, cuts, UPTO, 10**9)[0] == UPTO
    assert next_cuts(store, UPTO, UPTO, 10) == (UPTO, 0)


def test_what_arrived_before_a_time_is_not_of_a_time_after_it(store: Store) -> None:
    since_s = START_S + MINUTES * 60 + 7
    assert first_cuts(store, since_s, UPTO) == dict.fromkeys(SOURCES, 6)
    assert first_cuts(store, START_S, UPTO) == dict.fromkeys(SOURCES, -1)
    assert first_cuts(store, since_s + 3600, UPTO) == UPTO
