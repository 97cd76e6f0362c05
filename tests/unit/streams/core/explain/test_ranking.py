"""Which slices are told, and in what order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from penstock.streams.core.explain.contribution import Sums
from penstock.streams.core.explain.ranking import Dimension, findings


def dimension(name: str, rows: Mapping[str, Sequence[float]]) -> Dimension:
    columns = np.array(list(rows.values()), float).T
    return Dimension(name, list(rows), Sums(*columns))


TOTAL = Sums(*(np.array([value]) for value in (60.0, 1000.0, 10.0, 1000.0)))
VARIANT = dimension("variant", {"control": (9, 900, 9, 900), "canary": (51, 100, 1, 100)})
VERSION = dimension("model_version", {"1": (9, 900, 9, 900), "2": (51, 100, 1, 100)})
EVEN = dimension("route", {"/a": (30, 500, 5, 500), "/b": (30, 500, 5, 500)})
ONE = dimension("model", {"chat": (60, 1000, 10, 1000)})


def test_the_slice_that_explains_it_is_told_once_under_all_its_names() -> None:
    (found,) = findings([EVEN, VARIANT, VERSION, ONE], TOTAL, True)
    assert list(found.slice.items()) == [("variant", "canary"), ("model_version", "2")]
    assert found.power == pytest.approx(1.0)
    assert (found.now, found.before) == (0.51, 0.01)
    assert (found.traffic, found.traffic_before) == (0.1, 0.1)


def test_what_is_spread_evenly_or_has_one_value_explains_nothing() -> None:
    assert findings([EVEN, ONE], TOTAL, True) == []


def test_two_of_five_are_told_and_four_of_five_are_not() -> None:
    rows = {f"w{n}": (2.0, 200.0, 2.0, 200.0) for n in range(5)}
    rows["w1"], rows["w3"] = (32, 200, 2, 200), (22, 200, 2, 200)
    found = findings([dimension("worker_id", rows)], TOTAL, True)
    assert [item.slice["worker_id"] for item in found] == ["w1", "w3"]
    assert [item.power for item in found] == pytest.approx([0.6, 0.4])
    wide = {f"w{n}": (14.5, 200.0, 2.0, 200.0) for n in range(4)} | {"w9": (2.0, 200, 2, 200)}
    assert findings([dimension("worker_id", wide)], TOTAL, True) == []


def test_slices_that_have_as_much_of_the_traffic_are_not_told() -> None:
    total = Sums(*(np.array([value]) for value in (6000.0, 10_000.0, 1000.0, 10_000.0)))
    most = {
        "w1": (1700, 2000, 200, 2000),
        "w2": (1600, 2000, 200, 2000),
        "w3": (1500, 2000, 200, 2000),
    }
    rows = most | {"w4": (700, 2000, 200, 2000), "w5": (500, 2000, 200, 2000)}
    # Three of five workers have 84 % of the change and 60 % of the traffic.
    assert findings([dimension("worker_id", rows)], total, True) == []


def test_the_dimension_that_is_least_like_before_comes_first() -> None:
    half = dimension("route", {"/a": (48, 500, 5, 500), "/b": (12, 500, 5, 500)})
    found = findings([half, VARIANT], TOTAL, True)
    assert [next(iter(item.slice)) for item in found] == ["variant", "route"]


def test_what_chance_brings_is_not_told() -> None:
    total = Sums(*(np.array([value]) for value in (20.0, 1000.0, 10.0, 1000.0)))
    tenants = {
        "a": (9, 250, 1, 250),
        "b": (6, 250, 3, 250),
        "c": (3, 250, 3, 250),
        "d": (2, 250, 3, 250),
    }
    assert findings([dimension("tenant", tenants)], total, True) == []
    more = {name: tuple(10 * v for v in row) for name, row in tenants.items()}
    ten_times = Sums(*(np.array([10 * value]) for value in (20.0, 1000.0, 10.0, 1000.0)))
    found = findings([dimension("tenant", more)], ten_times, True)
    assert [item.slice["tenant"] for item in found] == ["a"]
    # Dollars count no rows: all rows stand for them.
    assert findings([dimension("tenant", tenants)], total, True, "all")


def test_one_slice_comes_before_two_that_say_the_same() -> None:
    rows = {"w1": (9, 900, 9, 900), "w2": (26, 50, 0.5, 50), "w3": (25, 50, 0.5, 50)}
    found = findings([dimension("worker_id", rows), VARIANT], TOTAL, True)
    told = [item.slice for item in found]
    assert told == [{"variant": "canary"}, {"worker_id": "w2"}, {"worker_id": "w3"}]


def test_a_sum_that_fell_has_what_it_lost() -> None:
    total = Sums(*(np.array([value]) for value in (500.0, 500.0, 1000.0, 1000.0)))
    workers = dimension("worker_id", {"w1": (500, 500, 500, 500), "w2": (0, 0, 500, 500)})
    (found,) = findings([workers], total, False)
    assert (found.slice, found.power, found.now, found.before) == ({"worker_id": "w2"}, 1.0, 0, 500)


def test_no_change_has_no_slices() -> None:
    same = Sums(*(np.array([value]) for value in (10.0, 1000.0, 10.0, 1000.0)))
    assert findings([VARIANT], same, True) == []
