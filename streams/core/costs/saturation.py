"""Forecasts of capacity on a running stream: closed tiles in, every forecast out.

Everything is rebuilt from stored tiles: there is no other state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ....schemas.costs.capacity import CapacityForecast
from ..gates.canonical import sha256
from ..shards import group_of
from ..slices import Slice, SliceRegistry
from ..tiles import Span, Tile
from .capacity import Saturation, forecast
from .history import MOST_DAYS, SHORT_S
from .series import DAY_S, HOUR_S, LOAD, MINUTE_S, Series, metrics_of
from .spend import slices_of


def slice_of_forecast(spec: CapacityForecast) -> Slice:
    """The slice that a forecast is about."""
    return Slice(spec.filter.grouping or "fleet", tuple(spec.filter.given().values()))


def group_of_forecast(spec: CapacityForecast) -> str:
    """The group whose shard evaluates a forecast (see `shards.shard_of`)."""
    return group_of(slice_of_forecast(spec))


def forecast_hash(spec: CapacityForecast) -> str:
    """Hash of what a forecast follows from."""
    return sha256(spec.model_dump(mode="json", exclude={"id"}))[:16]


def read_metrics() -> list[int]:
    """Metric numbers of what forecasts are read off, sketches with all their bins."""
    return sorted({number for name in LOAD for number in metrics_of(name)})


class ForecastKeeper:
    """The forecasts of one shard.

    Args:
        specs: what is forecast.
        registry: numbers the slices of the tiles that will be fed.

    After a restart, feed the stored tiles of `needs` first.
    """

    def __init__(self, specs: Iterable[CapacityForecast], registry: SliceRegistry) -> None:
        self._registry = registry
        self._held = [(spec, Series(LOAD)) for spec in specs]
        self._trimmed_s = 0

    def feed(self, tiles: Mapping[Span, Tile]) -> None:
        """Take in closed tiles of 60 and 3600 s, new or amended, in any order; others are passed over."""
        for spec, series in self._held:
            slices, _ = slices_of(self._registry, spec.filter)
            for span, tile in tiles.items():
                series.take(span, tile, slices)

    def evaluate(self, now_s: int) -> dict[str, Saturation]:
        """Every forecast, by id.

        Args:
            now_s: a full minute that is closed; earlier calls had no later one.
        """
        found = {
            spec.id: forecast(spec, series, now_s, int(forecast_hash(spec), 16))
            for spec, series in self._held
        }
        self._trim(now_s)
        return found

    def needs(self, since_s: int, end_s: int) -> tuple[tuple[int, int, int], ...]:
        """Which stored tiles to feed after a restart, in any order.

        Args:
            since_s: what was evaluated last.
            end_s: what is closed.

        Returns:
            Tile length, and first start and end of the stretch, in seconds, for each length.
        """
        hour_s, minute_s = end_s // HOUR_S * HOUR_S, end_s // MINUTE_S * MINUTE_S
        return (HOUR_S, _hours(since_s), hour_s), (MINUTE_S, _minutes(since_s), minute_s)

    def _trim(self, now_s: int) -> None:
        """Forget what is not looked at any more, once an hour."""
        if now_s < self._trimmed_s + HOUR_S:
            return
        self._trimmed_s = now_s
        for _, series in self._held:
            series.forget_before(_hours(now_s), HOUR_S)
            series.forget_before(_minutes(now_s), MINUTE_S)


def _hours(now_s: int) -> int:
    """Start of the first hour that is looked at."""
    return max(now_s // HOUR_S * HOUR_S - MOST_DAYS * DAY_S, 0)


def _minutes(now_s: int) -> int:
    """Start of the first minute that is looked at; two make one step in a long history."""
    return max(now_s // MINUTE_S * MINUTE_S - SHORT_S - MINUTE_S, 0)
