from __future__ import annotations

import numpy as np
import pytest
from penstock.schemas.events import STATUSES
from penstock.schemas.gates.absolute import AbsoluteGate
from penstock.streams.core import metrics as m
from penstock.streams.core.gating import (
    Epoch,
    GateKeeper,
    Marker,
    cell_counts,
    counters_for,
    current_epoch,
    epoch_of,
    keeper_for,
)
from penstock.streams.core.slices import Slice, SliceRegistry
from penstock.streams.core.tiles import Span, Tile, tile_of

S = 1_000_000
GATE = AbsoluteGate.model_validate({
    "id": "g", "filter": {"release": "r2"}, "min_bake_s": 0,
    "metrics": [
        {"metric": "latency", "field": "ttft_ms", "quantile": 0.95, "max_ms": 1200},
        {"metric": "error_rate", "max_ratio": 0.01},
        {"metric": "safety_rate", "max_ratio": 0.01},
        {"metric": "cost_per_1k_tokens_usd", "max_usd": 0.01, "cap_usd": 0.02},
    ],
})  # fmt: skip


def cell(number: int, values: dict[int, int]) -> Tile:
    codes = np.array([number << 32 | key for key in values], np.uint64)
    return tile_of(codes, np.array([*values.values()], np.int64))


def markers(*items: tuple[int, str]) -> list[Marker]:
    return [Marker(at * S + 5, {"release": name}) for at, name in items]


def test_an_epoch_begins_with_each_new_release_that_matches() -> None:
    wanted = {"release": "r2"}
    assert current_epoch([], wanted) == Epoch()
    assert current_epoch(markers((5, "r1")), wanted) == Epoch()
    assert current_epoch(markers((9, "r2"), (5, "r2")), wanted) == Epoch(5, 5 * S)
    both = current_epoch(markers((5, "r1"), (9, "r2")), {})
    assert both == Epoch(9, 9 * S)


def test_numbers_stay_when_older_markers_expire_or_come_late_and_only_grow() -> None:
    ordered = markers((5, "r1"), (9, "r2"), (9, "r3"), (20, "r4"))
    # Two in one second are two epochs: who waits for a higher number gets one.
    assert current_epoch(ordered[:3], {}) == Epoch(10, 9 * S)
    for first in range(4):
        assert current_epoch(ordered[first:], {}) == Epoch(20, 20 * S)
    assert epoch_of(GATE, [], stored=7) == Epoch(7, 7 * S)
    assert epoch_of(GATE, markers((5, "r2")), stored=7) == Epoch(7, 7 * S)
    assert epoch_of(GATE, markers((9, "r2")), stored=7) == Epoch(9, 9 * S)


def test_counters_are_those_that_the_limits_need() -> None:
    threshold, score = counters_for([GATE, GATE])
    assert threshold == m.Threshold("ttft_us", 1_200_000)
    assert isinstance(score, m.CostScore)


def test_cells_give_what_each_limit_counts() -> None:
    threshold, score = counters_for([GATE])
    tile = cell(0, {
        m.key(m.REQUESTS): 10, m.key(m.STATUS, STATUSES.index("error")): 2,
        m.key(m.STATUS, STATUSES.index("timeout")): 1, m.key(m.SAFETY_VIOLATIONS): 4,
        m.key(threshold.number): 9, m.key(threshold.number, 1): 5,
        m.key(score.number): -7, m.key(score.number, 1): 8,
    })  # fmt: skip
    counts = cell_counts(GATE, [(Span(1, 4), tile), (Span(1, 6), cell(0, {}))])
    assert counts.end_us.tolist() == [5 * S, 7 * S]
    assert counts.requests.tolist() == [10, 0]
    latency, errors, safety, cost = (limit.name for limit in GATE.metrics)
    assert counts.bad[latency].tolist() == [5, 0]
    assert counts.units[latency].tolist() == [9, 0]
    assert counts.bad[errors].tolist() == [3, 0]
    assert counts.bad[safety].tolist() == [4, 0]
    assert counts.cost_sum_nano[cost].tolist() == [-7, 0]
    assert counts.units[cost].tolist() == [8, 0]


def test_a_keeper_counts_its_own_cells_once_and_within_its_epoch() -> None:
    registry = SliceRegistry(10, 10)
    mine = registry.number(Slice("release", ("m", "1", "r2", "canary")))
    other = registry.number(Slice("release", ("m", "1", "r1", "control")))
    keeper = GateKeeper(GATE)
    assert keeper.begin(Epoch(1, 3 * S))
    assert not keeper.begin(Epoch(1, 3 * S))
    assert keeper.counted_to_s == 0
    cells = [
        (Span(1, at), cell(number, {m.key(m.REQUESTS): 10}))
        for at, number in ((2, mine), (3, mine), (3, other), (4, mine))
    ]
    first = keeper.evaluate(cells, registry, 5 * S, 1.0, "ok")
    assert first.n == 20
    assert keeper.counted_to_s == 5
    again = keeper.evaluate(cells, registry, 5 * S, 1.0, "ok")
    assert again.n == 20


def test_a_keeper_without_traffic_starts_at_the_watermark_or_the_first_cell() -> None:
    registry = SliceRegistry(10, 10)
    number = registry.number(Slice("release", ("m", "1", "r2", "canary")))
    idle = GateKeeper(GATE)
    assert idle.evaluate([], registry, 9 * S, None, "no_data").verdict == "NO_DATA"
    assert idle.counted_to_s == 9
    busy = GateKeeper(GATE)
    busy.evaluate([(Span(1, 4), cell(number, {m.key(m.REQUESTS): 1}))], registry, 9 * S, 1.0, "ok")
    assert busy.counted_to_s == 5


def test_a_keeper_goes_on_from_its_stored_state_of_the_same_specification() -> None:
    registry = SliceRegistry(10, 10)
    number = registry.number(Slice("release", ("m", "1", "r2", "canary")))
    keeper = GateKeeper(GATE)
    keeper.evaluate(
        [(Span(1, 4), cell(number, {m.key(m.REQUESTS): 7}))], registry, 9 * S, 1.0, "ok"
    )
    assert keeper.state is not None
    saved = keeper.state.to_json()
    assert keeper_for(GATE, saved, Epoch()).counted_to_s == 5
    assert keeper_for(GATE, None, Epoch()).state is None
    assert keeper_for(GATE, saved, Epoch(1, 0)).state is None
    changed = GATE.model_copy(update={"min_units": 7})
    assert keeper_for(changed, saved, Epoch()).state is None


def test_a_record_tells_what_the_one_that_it_replaces_told() -> None:
    """Rows of one event time replace each other: where coverage changed, or a shard was taken over."""
    registry = SliceRegistry(10, 10)
    number = registry.number(Slice("release", ("m", "1", "r2", "canary")))
    keeper = GateKeeper(GATE)
    cells = [(Span(1, at), cell(number, {m.key(m.REQUESTS): 10})) for at in (3, 4)]
    told = [keeper.evaluate(cells[:1], registry, 9 * S, None, "unknown")]
    first = keeper.take_record()
    told.append(keeper.evaluate(cells[1:], registry, 9 * S, 1.0, "ok"))
    second = keeper.take_record(first)
    again = GateKeeper(GATE)
    assert again.replay(second) == told
    assert (again.state, again.verdict) == (keeper.state, told[-1])
    assert again.replay(first)[-1].n == 20  # what is counted already is passed over


@pytest.mark.parametrize("text", ["{}", "[]", "no", '{"start_us": 1, "evaluations": [{}]}'])
def test_a_record_that_is_none(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        GateKeeper(GATE).replay(text)
