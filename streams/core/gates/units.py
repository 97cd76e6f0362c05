"""What an absolute gate counts, and the limit of each metric in the scale it is tested in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ....schemas.gates.absolute import AbsoluteGate, CostLimit, LatencyLimit, MetricLimit, RateLimit

IntArray: TypeAlias = npt.NDArray[np.int64]

CELL_US = 1_000_000
"""Length of a cell in microseconds."""


@dataclass(frozen=True, slots=True)
class CellCounts:
    """Closed 1-second cells of the traffic that a gate's filter selects, in event-time order.

    Attributes:
        end_us: end of each cell, int64 microseconds since 1970 UTC, strictly increasing, shape (T,).
        requests: completed requests in each cell, int64, shape (T,).
        bad: metric name -> bad units in each cell: requests above the latency limit (overdue ones
            included, once), errors, safety violations.
        units: metric name -> the units that `bad` or the cost sum is taken over, for example the
            requests that carry the latency; an overdue request is a unit in the cell in which it
            is counted as bad.
        cost_sum_nano: cost metric -> sum over the cell of clip(cost - limit * tokens, -cap, cap),
            in nano-dollars.
    """

    end_us: IntArray
    requests: IntArray
    bad: Mapping[str, IntArray]
    units: Mapping[str, IntArray]
    cost_sum_nano: Mapping[str, IntArray]

    def __len__(self) -> int:
        return len(self.end_us)

    def part(self, start: int, stop: int | None = None) -> CellCounts:
        """Cells from position `start` up to `stop`."""
        cut = slice(start, stop)
        return CellCounts(
            self.end_us[cut],
            self.requests[cut],
            {name: values[cut] for name, values in self.bad.items()},
            {name: values[cut] for name, values in self.units.items()},
            {name: values[cut] for name, values in self.cost_sum_nano.items()},
        )

    def after(self, end_us: int) -> CellCounts:
        """Cells that end after `end_us`: what was counted before is not counted again."""
        return self.part(int(np.searchsorted(self.end_us, end_us, side="right")))

    def check(self, spec: AbsoluteGate) -> None:
        """Refuse arrays that no correct caller sends.

        Raises:
            ValueError: naming the array that is missing, of another length, negative or unsorted.
        """
        if len(self) > 1 and not bool(np.all(np.diff(self.end_us) > 0)):
            raise ValueError("end_us must increase strictly")
        self._check_array("requests", self.requests)
        for limit in spec.metrics:
            self._check_array(f"units[{limit.name}]", self.units.get(limit.name))
            if not isinstance(limit, CostLimit):
                self._check_array(f"bad[{limit.name}]", self.bad.get(limit.name))
            elif len(self.cost_sum_nano.get(limit.name, ())) != len(self):
                raise ValueError(f"cost_sum_nano[{limit.name}] must have {len(self)} cells")

    def _check_array(self, name: str, values: IntArray | None) -> None:
        if values is None or len(values) != len(self):
            raise ValueError(f"{name} must have {len(self)} cells")
        if len(values) and int(values.min()) < 0:
            raise ValueError(f"{name} must not be negative")


def inconsistent(spec: AbsoluteGate, cells: CellCounts) -> npt.NDArray[np.bool_]:
    """Cells that contradict themselves: more bad units than units, or a sum beyond its caps."""
    broken = np.zeros(len(cells), np.bool_)
    for limit in spec.metrics:
        units = cells.units[limit.name]
        if isinstance(limit, CostLimit):
            broken |= np.abs(cells.cost_sum_nano[limit.name]) > units * cap_nano(limit)
        else:
            broken |= cells.bad[limit.name] > units
    return broken


def cap_nano(limit: CostLimit) -> int:
    """The cap of one request in whole nano-dollars."""
    return max(1, round(limit.cap_usd * 1e9))


def allowed_rate(limit: LatencyLimit | RateLimit) -> float:
    """The tested limit: the share of units that may be bad.

    1 - quantile is rounded to 12 digits, so that p95 allows 0.05 and not 0.05 plus rounding.
    """
    if isinstance(limit, LatencyLimit):
        return round(1.0 - limit.quantile, 12)
    return limit.max_ratio


def declared(limit: MetricLimit) -> str:
    """The limit as a person would say it, without the metric's name."""
    if isinstance(limit, LatencyLimit):
        return f"{limit.max_ms:g} ms"
    if isinstance(limit, CostLimit):
        return f"{limit.max_usd:g} USD per 1,000 tokens"
    return f"{limit.max_ratio * 100:g} %"
