"""Forecasts kept up from tiles say what they say from a series of all tiles at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from penstock.schemas.costs.capacity import CapacityForecast
from penstock.streams.core import metrics as m
from penstock.streams.core.costs.saturation import (
    ForecastKeeper,
    forecast_hash,
    group_of_forecast,
    read_metrics,
)
from penstock.streams.core.costs.series import HOUR_S, MINUTE_S
from penstock.streams.core.slices import Slice, SliceRegistry
from penstock.streams.core.tiles import SLICE_BITS, Span, Tile, merge, tile_of

START_S = 1_767_571_200
CHAT = Slice("model", ("chat",))


def spec(**fields: Any) -> CapacityForecast:
    given = {"id": "f", "load": "requests_per_s", "filter": {"model": "chat"}, "horizon_s": 7200}
    return CapacityForecast.model_validate(given | fields)


def minute(slices: SliceRegistry, at: int) -> Tile:
    """Requests that grow, and a KV cache that is full at 200 of them."""
    requests = 60 + at + (at * 7) % 5
    usage = round(0.0045 * requests * 1_000_000)
    sketch = m.SKETCHES["kv_cache_usage"]
    head = slices.number(CHAT) << SLICE_BITS
    counts = {
        head | m.key(m.REQUESTS): requests,
        head | m.key(m.STEPS): 1,
        head | m.key(sketch.number, 700): 1,
        head | m.key(sketch.number + m.SUM_OFFSET): usage,
    }
    return tile_of(
        np.array(sorted(counts), np.uint64), np.array([counts[k] for k in sorted(counts)])
    )


def tiles(slices: SliceRegistry, minutes: int) -> dict[Span, Tile]:
    """Minutes, and the hours that they fill."""
    found = {Span(MINUTE_S, START_S + 60 * at): minute(slices, at) for at in range(minutes)}
    for hour in range(minutes // 60):
        start_s = START_S + hour * HOUR_S
        parts = [found[Span(MINUTE_S, start_s + 60 * at)] for at in range(60)]
        found[Span(HOUR_S, start_s)] = merge(parts)
    return found


def registry() -> SliceRegistry:
    found = SliceRegistry(10, 10)
    found.number(CHAT)
    return found


def test_the_time_is_told_and_no_other_slice_counts() -> None:
    slices = registry()
    keeper = ForecastKeeper([spec(), spec(id="other", filter={"model": "other"})], slices)
    keeper.feed(tiles(slices, 100) | {Span(10, START_S): minute(slices, 9)})
    found = keeper.evaluate(START_S + 100 * 60)
    assert (found["other"].state, found["other"].reason) == ("unknown", "no_history")
    answer = found["f"]
    assert (answer.state, answer.signal, answer.steps) == ("saturates", "kv_cache_usage", 100)
    assert answer.estimate_s == pytest.approx(38 * 60, abs=180)  # 60 + 138 + 2 requests


def test_a_restart_with_what_is_needed_changes_nothing() -> None:
    slices = registry()
    whole, minutes = ForecastKeeper([spec()], slices), 8 * 60
    every = tiles(slices, minutes)
    for span in sorted(every):
        whole.feed({span: every[span]})
    for at in (400, minutes - 10):
        whole.evaluate(START_S + at * 60)
    expected = whole.evaluate(START_S + minutes * 60)
    again = ForecastKeeper([spec()], slices)
    since_s, end_s = START_S + (minutes - 10) * 60, START_S + minutes * 60 + 7
    for length_s, low_s, high_s in again.needs(since_s, end_s):
        again.feed(
            {
                s: t
                for s, t in every.items()
                if s.length_s == length_s and low_s <= s.start_s < high_s
            }
        )
    assert again.evaluate(START_S + minutes * 60) == expected
    assert expected["f"].state == "saturated"


def test_a_forecast_is_evaluated_where_its_slice_is() -> None:
    assert group_of_forecast(spec()) == "model:chat"
    assert group_of_forecast(spec(filter={})) == "fleet"


def test_what_is_read_of_a_stored_tile_is_all_that_counts() -> None:
    slices = registry()
    tile = minute(slices, 3)
    wanted = np.isin(tile.keys >> m.BIN_BITS, read_metrics())
    assert wanted.all()
    assert m.LATE not in read_metrics()


def test_another_horizon_is_another_forecast() -> None:
    assert forecast_hash(spec(id="g")) == forecast_hash(spec())
    assert forecast_hash(spec(horizon_s=60)) != forecast_hash(spec())
