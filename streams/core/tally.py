"""Counting: from decoded rows to what they add to the cells and panes of event time.

The result is kept by combination (see slices.Combos), not by slice. Everything is integers: counts,
sums in the columns' own integer unit, log bins. So the order of rows never matters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ...schemas.events import BACKEND_FALLBACKS, ERROR_TYPES, SAFETY_FLAGS, STATUSES
from . import metrics as m
from .columns import booleans, codes_in, floats, integers, list_members
from .sketch import INFINITE_BIN, bins_of
from .tiles import CELL_S, PANE_S, SECOND_US, SLICE_BITS, Span, Tile, tile_of

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Counter = tuple[int, Ints]
"""A key and what each row adds to it, shape (n,)."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """Rows that carry a value of a sketch.

    Attributes:
        sketch: which.
        rows: indices of the rows, shape (k,).
        bins: bin of each, shape (k,).
    """

    sketch: m.Sketch
    rows: Ints
    bins: npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Measured:
    """What the rows of a batch add, before it is known where."""

    counters: Sequence[Counter]
    distributions: Sequence[Distribution]


Configured = Sequence[m.Threshold | m.CostScore]


def measure_requests(table: pa.Table, configured: Configured = ()) -> Measured:
    """What request rows add; columns as decoded, absent ones count nothing."""
    n = table.num_rows
    status = codes_in(table, "status", STATUSES)
    done = status >= 0
    failed = (status == STATUSES.index("error")) | (status == STATUSES.index("timeout"))
    announced = ~done
    overdue, _ = booleans(table, "overdue")
    counters = [(m.key(m.REQUESTS), done.astype(np.int64)), (m.key(m.OVERDUE), _ones(announced))]
    counters += _typed(m.STATUS, status, done)
    errors = codes_in(table, "error_type", ERROR_TYPES)
    errors = np.where(failed & (errors < 0), ERROR_TYPES.index("other"), errors)
    counters += _typed(m.ERROR_TYPE, errors, failed)
    tokens = np.zeros(n, np.int64)
    for metric, name in (
        (m.INPUT_TOKENS, "input_tokens"),
        (m.OUTPUT_TOKENS, "output_tokens"),
        (m.CACHED_TOKENS, "cached_tokens"),
        (m.REASONING_TOKENS, "reasoning_tokens"),
    ):
        values, _ = integers(table, name)
        counters.append((m.key(metric), values))
        if name in ("input_tokens", "output_tokens"):
            tokens += values
    cost, costed = integers(table, "cost_nanousd")
    counters += [(m.key(m.COST_NANOUSD), cost), (m.key(m.COSTED_TOKENS), tokens * costed)]
    hit, said = booleans(table, "cache_hit")
    counters += [(m.key(m.CACHE_KNOWN), _ones(said)), (m.key(m.CACHE_HITS), _ones(hit & said))]
    counters += _safety(table)
    counters += _micro(table, "quality", m.QUALITY_MICRO, m.QUALITY_COUNT)
    counters += _scores(configured, tokens, cost, costed)
    counters += _thresholds(table, configured, announced, overdue)
    distributions = list(_request_distributions(table, announced, overdue))
    counters += _sums(table, distributions)
    return Measured([c for c in counters if c[1].any()], distributions)


def measure_steps(table: pa.Table) -> Measured:
    """What step rows add."""
    n = table.num_rows
    counters: list[Counter] = [(m.key(m.STEPS), np.ones(n, np.int64))]
    for metric, name in (
        (m.PREEMPTIONS, "preemptions"),
        (m.DECODE_TOKENS, "decode_tokens"),
        (m.PREFILL_TOKENS, "prefill_tokens"),
        (m.CACHE_EVICTIONS, "cache_evictions"),
    ):
        counters.append((m.key(metric), integers(table, name)[0]))
    size, has_size = integers(table, "batch_size")
    capacity, has_capacity = integers(table, "batch_capacity")
    both = has_size & has_capacity
    counters += [(m.key(m.BATCH_SIZE), size * both), (m.key(m.BATCH_CAPACITY), capacity * both)]
    counters += [(m.key(m.BATCHED), _ones(has_size)), (m.key(m.BATCHED_SIZE), size)]
    counters += _gauges(table)
    fallback = codes_in(table, "backend_fallback", BACKEND_FALLBACKS)
    counters += _typed(m.BACKEND_FALLBACK, fallback, fallback >= 0)
    distributions = []
    for sketch in m.STEP_SKETCHES:
        values, valid = _step_column(table, sketch.column)
        if valid.any():
            rows = np.flatnonzero(valid)
            bins = bins_of(values[rows] / sketch.scale)
            distributions.append(Distribution(sketch, rows, bins))
            counters.append((m.key(sketch.number + m.SUM_OFFSET), np.where(valid, values, 0)))
    return Measured([c for c in counters if c[1].any()], distributions)


def _gauges(table: pa.Table) -> Iterator[Counter]:
    """What steps state now and then: requests in flight, retries, replicas."""
    running, has_running = integers(table, "running")
    if has_running.any():
        yield m.key(m.RUNNING_COUNT), _ones(has_running)
        yield m.key(m.RUNNING), running
    yield from _micro(table, "retry_rate", m.RETRY_MICRO, m.RETRY_COUNT)
    healthy, has_healthy = integers(table, "healthy_replicas")
    expected, has_expected = integers(table, "expected_replicas")
    both = has_healthy & has_expected
    if both.any():
        yield m.key(m.HEALTHY_REPLICAS), healthy * both
        yield m.key(m.EXPECTED_REPLICAS), expected * both


def measure_feedback(table: pa.Table) -> Measured:
    """What feedback rows add to the panes of the requests that they judge."""
    n = table.num_rows
    accepted, said = booleans(table, "accepted")
    labels, predicted = _texts(table, "label"), _texts(table, "predicted")
    labelled = np.array(
        [a is not None and b is not None for a, b in zip(labels, predicted, strict=True)], bool
    )
    correct = np.array([a == b for a, b in zip(labels, predicted, strict=True)], bool) & labelled
    counters: list[Counter] = [
        (m.key(m.FEEDBACK), np.ones(n, np.int64)),
        (m.key(m.ACCEPTED_KNOWN), _ones(said)),
        (m.key(m.ACCEPTED), _ones(accepted & said)),
        (m.key(m.LABELLED), _ones(labelled)),
        (m.key(m.LABEL_CORRECT), _ones(correct)),
        *_micro(table, "quality", m.QUALITY_MICRO, m.QUALITY_COUNT),
        *_micro(table, "satisfaction", m.SATISFACTION_MICRO, m.SATISFACTION_COUNT),
        *_micro(table, "value", m.VALUE_MICRO, m.VALUE_COUNT),
    ]
    return Measured([c for c in counters if c[1].any()], [])


def place(measured: Measured, combos: Ints, ts_us: Ints) -> dict[Span, Tile]:
    """Put what rows add into the panes and cells of their event time.

    Args:
        measured: of n rows.
        combos: combination of each row, shape (n,).
        ts_us: event time of each row, shape (n,).

    Returns:
        Tiles by combination: 10 s panes with everything, 1 s cells with counters only.
    """
    if len(ts_us) == 0:
        return {}
    result: dict[Span, Tile] = {}
    seconds = ts_us // SECOND_US
    for span, codes, counts in _place_counters(measured.counters, combos, seconds):
        result[span] = tile_of(codes, counts)
    panes: dict[Span, list[Tile]] = {}
    for span, tile in result.items():
        panes.setdefault(span.parent(PANE_S), []).append(tile)
    for span, codes, counts in _place_distributions(measured.distributions, combos, seconds):
        panes.setdefault(span, []).append(Tile(codes, counts))
    for span, tiles in panes.items():
        result[span] = tile_of(
            np.concatenate([tile.codes for tile in tiles]),
            np.concatenate([tile.counts for tile in tiles]),
        )
    return result


def _place_counters(
    counters: Sequence[Counter], combos: Ints, seconds: Ints
) -> Iterator[tuple[Span, npt.NDArray[np.uint64], Ints]]:
    """Counters of each second: one sort of the rows serves all of them."""
    if not counters:
        return
    order = np.lexsort((combos, seconds))
    combos, seconds = combos[order], seconds[order]
    first = np.empty(len(order), bool)
    first[0] = True
    first[1:] = (combos[1:] != combos[:-1]) | (seconds[1:] != seconds[:-1])
    starts = np.flatnonzero(first)
    sums = np.stack([np.add.reduceat(values[order], starts) for _, values in counters])
    keys = np.array([key for key, _ in counters], np.uint64)
    heads = combos[starts].astype(np.uint64) << np.uint64(SLICE_BITS)
    at = seconds[starts]
    for second in np.unique(at).tolist():
        columns = np.flatnonzero(at == second)
        which, column = np.nonzero(sums[:, columns])
        codes = heads[columns[column]] | keys[which]
        yield Span(CELL_S, second), codes, sums[which, columns[column]]


def _place_distributions(
    distributions: Sequence[Distribution], combos: Ints, seconds: Ints
) -> Iterator[tuple[Span, npt.NDArray[np.uint64], Ints]]:
    """Bins of each pane, by table where they are few and by sorting where they are not."""
    panes, pane_of = np.unique(seconds // PANE_S, return_inverse=True)
    width = int(combos.max()) + 1
    place = pane_of * width + combos
    for item in distributions:
        lowest = int(item.bins.min())
        bins = np.int64(int(item.bins.max()) - lowest + 1)
        flat = place[item.rows] * bins + (item.bins - lowest)
        size = len(panes) * width * int(bins)
        if size <= 8 * len(flat) + 4096:
            counted = np.bincount(flat, minlength=size)
            found = np.flatnonzero(counted)
            counts = counted[found]
        else:
            found, counts = np.unique(flat, return_counts=True)
        bin_of = (found % bins + lowest).astype(np.uint64)
        rest = found // bins
        codes = ((rest % width).astype(np.uint64) << np.uint64(SLICE_BITS)) | (
            np.uint64(item.sketch.number << m.BIN_BITS) | bin_of
        )
        for position, pane in enumerate(panes.tolist()):
            here = slice(*np.searchsorted(rest // width, [position, position + 1]))
            if here.start < here.stop:
                yield Span(PANE_S, pane * PANE_S), codes[here], counts[here].astype(np.int64)


def _ones(mask: Mask) -> Ints:
    return mask.astype(np.int64)


def _typed(metric: int, positions: Ints, where: Mask) -> Iterator[Counter]:
    """One counter for each type that occurs."""
    for position in np.unique(positions[where]).tolist():
        yield m.key(metric, position), _ones(where & (positions == position))


def _micro(table: pa.Table, name: str, total: int, count: int) -> Iterator[Counter]:
    """A float column as an exact sum of millionths and a count."""
    values, valid = floats(table, name)
    if valid.any():
        yield m.key(total), _millionths(values, valid)
        yield m.key(count), _ones(valid)


def _millionths(values: npt.NDArray[np.float64], valid: Mask) -> Ints:
    """Floats as integers, bounded to what a float64 tells apart; missing ones as zero."""
    bounded = np.clip(np.where(valid, values, 0.0) * 1e6, -(2.0**53), 2.0**53)
    return np.asarray(np.floor(bounded + 0.5), np.int64)


def _safety(table: pa.Table) -> Iterator[Counter]:
    rows, flags = list_members(table, "safety_flags")
    if len(rows) == 0:
        return
    n = table.num_rows
    yield m.key(m.SAFETY_VIOLATIONS), _ones(np.bincount(rows, minlength=n) > 0)
    known = {name: position for position, name in enumerate(SAFETY_FLAGS)}
    positions = np.array([known.get(flag, len(SAFETY_FLAGS)) for flag in flags], np.int64)
    for position in np.unique(positions).tolist():
        hit = np.bincount(rows[positions == position], minlength=n) > 0
        yield m.key(m.SAFETY_FLAG, position), _ones(hit)


def _scores(configured: Configured, tokens: Ints, cost: Ints, costed: Mask) -> Iterator[Counter]:
    for item in configured:
        if isinstance(item, m.CostScore):
            plan = item.limit_nanousd_per_1k_tokens * tokens // 1000
            score = np.clip(cost - plan, -item.cap_nanousd, item.cap_nanousd)
            yield m.key(item.number), score * costed
            yield m.key(item.number, 1), _ones(costed)


def _thresholds(
    table: pa.Table, configured: Configured, announced: Mask, overdue: Mask
) -> Iterator[Counter]:
    """An overdue request is above every limit of latency_ms, once: when it is announced."""
    for item in configured:
        if isinstance(item, m.Threshold):
            values, valid = integers(table, item.column)
            above = valid & (values > item.limit_us)
            if item.column == "latency_us":
                valid, above = (valid & ~overdue) | announced, (above & ~overdue) | announced
            yield m.key(item.number), _ones(valid)
            yield m.key(item.number, 1), _ones(above)


def _request_distributions(
    table: pa.Table, announced: Mask, overdue: Mask
) -> Iterator[Distribution]:
    """An overdue request counts once, when it is announced, as longer than anything."""
    for sketch in m.REQUEST_SKETCHES:
        values, valid = integers(table, sketch.column)
        end_to_end = sketch.name == "latency_ms"
        if end_to_end:
            valid = (valid & ~overdue) | announced
        rows = np.flatnonzero(valid)
        if len(rows) == 0:
            continue
        bins = bins_of(values[rows] / sketch.scale)
        if end_to_end:
            bins[announced[rows]] = INFINITE_BIN
        yield Distribution(sketch, rows, bins)


def _sums(table: pa.Table, distributions: Iterable[Distribution]) -> Iterator[Counter]:
    for item in distributions:
        values, _ = integers(table, item.sketch.column)
        yield m.key(item.sketch.number + m.SUM_OFFSET), values


_SHARES = {
    "gpu_memory_ratio_ppm": ("gpu_memory_used_bytes", "gpu_memory_total_bytes"),
    "host_memory_ratio_ppm": ("host_memory_bytes", "host_memory_total_bytes"),
}


def _step_column(table: pa.Table, name: str) -> tuple[Ints, Mask]:
    """A step's integer column, or one derived from others."""
    if name == "queue_depth":
        prefill, has_prefill = integers(table, "queue_prefill")
        decode, has_decode = integers(table, "queue_decode")
        return prefill + decode, has_prefill | has_decode
    if name in _SHARES:
        used, has_used = integers(table, _SHARES[name][0])
        total, has_total = integers(table, _SHARES[name][1])
        valid = has_used & has_total & (total > 0)
        # Above 8 TiB both are taken in MiB, so that the product fits into 64 bits.
        shift = np.where(np.maximum(used, total) >= 2**43, 20, 0)
        return (used >> shift) * 1_000_000 // np.maximum(total >> shift, 1), valid
    if name.endswith("_ppm"):
        values, valid = floats(table, name.removesuffix("_ppm"))
        return _millionths(values, valid), valid
    return integers(table, name)


def _texts(table: pa.Table, name: str) -> list[str | None]:
    """Values of a label column; the store holds a missing one as the empty string."""
    if name not in table.column_names:
        return [None] * table.num_rows
    column = table[name]
    text = pc.cast(column, pa.string()) if pa.types.is_dictionary(column.type) else column
    return [value or None for value in text.to_pylist()]
