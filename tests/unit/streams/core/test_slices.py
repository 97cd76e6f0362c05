from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.streams.core.slices import (
    FLEET,
    GROUPINGS,
    OTHER,
    STEP_GROUPINGS,
    Combos,
    Slice,
    SliceRegistry,
    combinations,
    slice_of,
    stored_slice,
)
from penstock.streams.core.tiles import tile_of


def columns(rows: list[dict[str, str]]) -> dict:  # type: ignore[type-arg]
    found = {}
    for name in ("model", "route", "tenant"):
        values = sorted({row.get(name, "") for row in rows}) or [""]
        codes = np.array([values.index(row.get(name, "")) for row in rows], np.int64)
        found[name] = (codes, values)
    return found


names = st.sampled_from(["a", "b", "c", ""])
rows_of = st.lists(
    st.fixed_dictionaries({"model": names, "route": names, "tenant": names}), max_size=40
)


@given(rows_of)
def test_combinations_are_the_distinct_rows(rows: list[dict[str, str]]) -> None:
    found = combinations(columns(rows), len(rows))
    assert [dict(found.values[at]) for at in found.index.tolist()] == rows
    if rows:
        assert len(found.values) == len({tuple(sorted(row.items())) for row in rows})


def test_many_values_are_told_apart_too() -> None:
    codes = np.arange(2000, dtype=np.int64)
    wide = [str(n) for n in range(2000)]
    found = combinations({"model": (codes, wide), "tenant": (codes[::-1].copy(), wide)}, 2000)
    assert len(found.values) == 2000
    assert found.values[int(found.index[3])] == {"model": "3", "tenant": "1996"}


def test_the_fleet_is_number_zero_and_numbers_are_kept() -> None:
    registry = SliceRegistry(10, 10)
    assert registry.number(Slice("fleet", ())) == FLEET
    first = registry.number(Slice("model", ("m",)))
    assert registry.number(Slice("model", ("m",))) == first
    assert registry.matching("model", {"model": "m"}).tolist() == [first]
    assert registry.matching("model", {"model": "x"}).tolist() == []
    assert stored_slice("model", {"model": "m", "tenant": "t"}) == Slice("model", ("m",))


def test_a_full_grouping_set_counts_in_other_and_stays_so() -> None:
    registry = SliceRegistry(max_slices=500, max_tenants=2)
    combos = Combos(registry)
    bit = 1 << list(GROUPINGS).index("tenant")
    rows = [{"model": "m", "tenant": t} for t in ("a", "b", "c", "a", "d")]
    found = combinations(columns(rows), len(rows))
    bits = combos.decide(found, tuple(GROUPINGS))
    assert bits.tolist() == [0, 0, bit, 0, bit]
    # Another registry replays the decision, whatever it holds by then.
    other = Combos(SliceRegistry(500, 100))
    for again in (combos, other):
        assert len(set(again.number(found, tuple(GROUPINGS), bits).tolist())) == 3
    assert Slice("tenant", (OTHER,)) in registry.slices
    assert Slice("tenant", ("c",)) not in registry.slices
    # What was admitted stays admitted; `(other)` takes no room.
    assert combos.decide(found, tuple(GROUPINGS)).tolist() == bits.tolist()


def test_steps_have_no_route_and_no_tenant() -> None:
    registry = SliceRegistry(500, 500)
    combos = Combos(registry)
    found = combinations(columns([{"model": "m", "route": "r", "tenant": "t"}]), 1)
    bits = combos.decide(found, STEP_GROUPINGS)
    number = combos.number(found, STEP_GROUPINGS, bits)
    built = tile_of((number.astype(np.uint64) << np.uint64(32)) | np.uint64(9), np.array([1]))
    projected = combos.project(built)
    groupings = {registry.slices[n].grouping for n in projected.slices.tolist()}
    assert groupings == set(STEP_GROUPINGS)
    assert len(combos.project(built, ("fleet",))) == 1
    assert len(combos.project(tile_of(np.empty(0, np.uint64), np.empty(0, np.int64)))) == 0


def test_dimensions_of_a_slice() -> None:
    found = slice_of("model_route", {"model": "m", "route": "r", "tenant": "t"})
    assert found.dimensions()["route"] == "r"
    assert found.dimensions()["tenant"] == ""
    assert found.matches({"model": "m"})
    assert not found.matches({"route": "x"})
    with pytest.raises(KeyError):
        slice_of("nonsense", {})
