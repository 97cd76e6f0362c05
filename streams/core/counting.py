"""What stored rows add to the tiles: the same for new rows, and for rows read back from the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...schemas.events import EventName
from .columns import dictionary, integers
from .metrics import CostScore, Threshold
from .slices import DIMENSIONS, GROUPINGS, STEP_GROUPINGS, Combos, combinations
from .tally import Measured, measure_requests, measure_steps, place
from .tiles import CELL_S, Span, Tile

Ints = npt.NDArray[np.int64]


def groupings_of(kind: EventName) -> Sequence[str]:
    """The grouping sets in which rows of a kind count."""
    return STEP_GROUPINGS if kind == "step" else tuple(GROUPINGS)


def dimensions_of(table: pa.Table) -> dict[str, tuple[Ints, Sequence[str]]]:
    """Dimension columns of a table as codes and values."""
    return {name: dictionary(table, name) for name in DIMENSIONS}


def counted(
    combos: Combos,
    kind: EventName,
    table: pa.Table,
    configured: Sequence[Threshold | CostScore],
    measured: Measured | None = None,
) -> Mapping[Span, Tile]:
    """What stored rows add to the tiles; the same for new rows and for rows read back.

    Args:
        combos: numbers the combinations.
        kind: request or step; feedback rows come with their request's `ts`, dimensions and
            `overflow`, as kind request, and what they add as `measured`.
        table: with the column `overflow`.
        configured: counters that the configuration asks for.
        measured: what the rows add, where that is known already.
    """
    feedback = measured is not None
    if measured is None:
        measured = measure_steps(table) if kind == "step" else measure_requests(table, configured)
    found = combinations(dimensions_of(table), table.num_rows)
    overflow = integers(table, "overflow")[0].astype(np.uint16)
    numbers = combos.number(found, groupings_of(kind), overflow)
    placed = place(measured, numbers, integers(table, "ts")[0])
    if feedback:  # it comes long after verdicts were read off the cells
        placed = {span: tile for span, tile in placed.items() if span.length_s > CELL_S}
    return placed
