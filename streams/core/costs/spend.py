"""Who and what the money goes to, read off merged tiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from ....schemas.costs.values import Scope
from .. import metrics as m
from ..slices import GROUPINGS, OTHER, Slice, SliceRegistry
from ..tiles import Tile
from ..windows import Ints, Reader
from .prices import usd_per_1k_tokens

By = Literal["fleet", "model", "model_version", "model_route", "model_adapter", "route", "tenant"]


@dataclass(frozen=True, slots=True)
class SpendRow:
    """What one slice used and cost.

    Attributes:
        dimensions: model, route, tenant, as far as the grouping names them.
        requests: completed ones.
        input_tokens, output_tokens: all; cached and reasoning ones are a part of them.
        costed_tokens: input and output tokens of the requests that state a cost.
        cost_nanousd: exact.
        usd_per_1k_tokens: over the costed tokens; None without any.
        share: of the cost of all rows; None if nothing cost anything.
        costed_share: costed tokens over input and output tokens; None without tokens.
    """

    dimensions: Mapping[str, str]
    requests: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    costed_tokens: int
    cost_nanousd: int
    usd_per_1k_tokens: float | None
    share: float | None
    costed_share: float | None

    @property
    def cost_usd(self) -> float:
        """Dollars, for people."""
        return self.cost_nanousd / 1e9

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON holds it, with `cost_usd`."""
        return asdict(self) | {"dimensions": dict(self.dimensions), "cost_usd": self.cost_usd}


def spend_report(tile: Tile, registry: SliceRegistry, by: By) -> list[SpendRow]:
    """Use and cost of every slice of a grouping set, dearest first.

    Args:
        tile: the tiles of any span, merged.
        registry: numbers its slices.
        by: the grouping set: tenant, model, route (the feature), ...
    """
    slices = np.intersect1d(registry.matching(by, {}), tile.slices)
    reader = Reader(tile, slices)
    columns = {
        "requests": reader.counter(m.REQUESTS),
        "input_tokens": reader.counter(m.INPUT_TOKENS),
        "cached_tokens": reader.counter(m.CACHED_TOKENS),
        "output_tokens": reader.counter(m.OUTPUT_TOKENS),
        "reasoning_tokens": reader.counter(m.REASONING_TOKENS),
        "costed_tokens": reader.counter(m.COSTED_TOKENS),
        "cost_nanousd": reader.counter(m.COST_NANOUSD),
    }
    used = np.flatnonzero(sum(columns.values(), np.zeros(len(slices), np.int64)))
    rows = [
        _row(
            registry.slices[int(slices[at])],
            {name: int(column[at]) for name, column in columns.items()},
            int(columns["cost_nanousd"].sum()),
        )
        for at in used.tolist()
    ]
    return sorted(rows, key=lambda row: (-row.cost_nanousd, tuple(row.dimensions.values())))


def _row(owner: Slice, counts: dict[str, int], total_nanousd: int) -> SpendRow:
    tokens = counts["input_tokens"] + counts["output_tokens"]
    rate = usd_per_1k_tokens(counts["cost_nanousd"], counts["costed_tokens"])
    return SpendRow(
        dimensions=dict(zip(GROUPINGS[owner.grouping], owner.values, strict=True)),
        **counts,
        usd_per_1k_tokens=float(rate) if counts["costed_tokens"] else None,
        share=counts["cost_nanousd"] / total_nanousd if total_nanousd else None,
        costed_share=counts["costed_tokens"] / tokens if tokens else None,
    )


def slices_of(registry: SliceRegistry, scope: Scope) -> tuple[Ints, bool]:
    """The slices of a scope, and whether its traffic may hide in `(other)`.

    Returns:
        Slice numbers, shape (0,) or (1,); and True where the slice has not been met although its
        grouping set overflowed, so that what it did cannot be told.
    """
    grouping = scope.grouping or "fleet"
    found = registry.matching(grouping, scope.given())
    overflowed = any(item.grouping == grouping and OTHER in item.values for item in registry.slices)
    return found, overflowed and len(found) == 0
