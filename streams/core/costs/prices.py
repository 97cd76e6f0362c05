"""From tokens to nano-dollars, exactly.

A request costs the sum over its classes of tokens times price, rounded once, half up, to a whole
nano-dollar. Prices are integers of 1e-12 USD per token, so nothing else is ever rounded.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ....schemas.costs.prices import ANY_MODEL, Dated, TokenPrice, TrainingPrice, by_model
from ....schemas.costs.values import unix_us
from ..columns import Ints, Mask, dictionary, integers

MAX_TOKENS = 2**32 - 1  # of one class in a valid request
HOUR_US = 3_600_000_000
PICO_PER_NANO = 1000
_CLASSES = ("input", "cached", "output", "reasoning")  # as `TokenPrice.picousd_per_token` has them

P = TypeVar("P", bound=Dated)


class Prices(Generic[P]):
    """Entries of one kind, found by model and time.

    Args:
        entries: in the order of the configuration.

    Raises:
        ValueError: entries of a model overlap or are out of order.

    Example:
        >>> from ....schemas.costs.prices import TokenPrice
        >>> prices = Prices([TokenPrice.model_validate(
        ...     {"valid_from": "2026-01-01", "input_usd": "0.15", "output_usd": "0.6"})])
        >>> prices.price("chat-8b", 1_767_225_600_000_000).input_usd
        Decimal('0.15')
        >>> prices.price("chat-8b", 1_767_225_599_999_999) is None
        True
    """

    def __init__(self, entries: Iterable[P]) -> None:
        self._entries = by_model(entries)
        self._starts_us = {
            model: [unix_us(entry.valid_from) for entry in dated]
            for model, dated in self._entries.items()
        }

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._entries)

    def price(self, model: str, at_us: int) -> P | None:
        """The entry of a model that is valid at a time, else the one of `*`, else None."""
        for name in (model, ANY_MODEL):
            position = bisect_right(self._starts_us.get(name, ()), at_us)
            if position:
                return self._entries[name][position - 1]
        return None

    @cached_property
    def changes_us(self) -> Ints:
        """Times at which the price of any model may change, ascending, distinct."""
        return np.unique(np.array([*chain(*self._starts_us.values())], np.int64))


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of requests by class, shape (n,) each, int64; missing ones are 0.

    Attributes:
        input, output: all of them, as events state them.
        cached: the part of the input that came from the prefix cache.
        reasoning: the part of the output that is not shown.
    """

    input: Ints
    output: Ints
    cached: Ints
    reasoning: Ints


def request_costs(
    prices: Prices[TokenPrice], models: tuple[Ints, Sequence[str]], ts_us: Ints, tokens: Tokens
) -> tuple[Ints, Mask]:
    """Cost of each request at the price that was valid at its `ts`.

    More cached than input tokens (more reasoning than output) are paid as they stand, and no input
    (output) besides. Tokens are taken within 0 and 2^32 - 1, the limits of a valid event.

    Args:
        prices: the table.
        models: code of each request, shape (n,), and the model of each code.
        ts_us: completion, microseconds since 1970 UTC, shape (n,).
        tokens: of the requests.

    Returns:
        Nano-dollars, shape (n,), 0 where there is no price, and whether there is one.
    """
    codes, names = models
    changes = prices.changes_us
    epochs = len(changes) + 1
    # Which prices a row has is a number; there are few of them, and they are looked up once each.
    which = codes * epochs + np.searchsorted(changes, ts_us, side="right")
    used = np.flatnonzero(np.bincount(which, minlength=1)).tolist()
    table = np.zeros((len(_CLASSES), len(names) * epochs), np.int64)
    known = np.zeros(len(names) * epochs, bool)
    for number in used:
        code, epoch = divmod(number, epochs)
        entry = prices.price(names[code], int(changes[epoch - 1])) if epoch else None
        if entry is not None:
            table[:, number], known[number] = entry.picousd_per_token, True
    cost = np.zeros(len(ts_us), np.int64)
    rest = np.zeros(len(ts_us), np.int64)
    # Whole nano-dollars and the rest apart, so that nothing leaves 64 bits.
    for nano, pico, count in zip(*divmod(table, PICO_PER_NANO), _paid(tokens), strict=True):
        cost += count * nano[which]
        rest += count * pico[which]
    return cost + (rest + PICO_PER_NANO // 2) // PICO_PER_NANO, known[which]


def _paid(tokens: Tokens) -> list[Ints]:
    """Tokens as they are paid, each in one class: input, cached, output, reasoning."""

    def valid(values: Ints) -> Ints:
        return np.clip(values, 0, MAX_TOKENS)

    cached, reasoning = valid(tokens.cached), valid(tokens.reasoning)
    return [
        np.maximum(valid(tokens.input) - cached, 0),
        cached,
        np.maximum(valid(tokens.output) - reasoning, 0),
        reasoning,
    ]


def with_costs(table: pa.Table, prices: Prices[TokenPrice]) -> tuple[pa.Table, int]:
    """Requests that ended and state tokens but no cost, with the cost of the price table.

    What a request states itself is never changed. Call it once, at ingestion: the cost is stored
    with the row, so a later price does not reprice it.

    Args:
        table: requests as decoded, with their default status (defaults.with_status).
        prices: the table.

    Returns:
        The table, and how many of these requests have no price, so still no cost.
    """
    stated, costed = integers(table, "cost_nanousd")
    if costed.all():
        return table, 0
    named = {}
    told = np.zeros(table.num_rows, bool)
    for name in _CLASSES:
        named[name], present = integers(table, f"{name}_tokens")
        told |= present
    codes, values = dictionary(table, "status")
    ended = np.array([value != "" for value in values], bool)[codes]
    missing = ended & told & ~costed
    if not missing.any():
        return table, 0
    models = dictionary(table, "model")
    cost, priced = request_costs(prices, models, integers(table, "ts")[0], Tokens(**named))
    fill = missing & priced
    column = pa.array(np.where(fill, cost, stated), pa.int64(), mask=~(fill | costed))
    unpriced = int((missing & ~priced).sum())
    if "cost_nanousd" in table.column_names:
        at = table.column_names.index("cost_nanousd")
        return table.set_column(at, "cost_nanousd", column), unpriced
    return table.append_column("cost_nanousd", column), unpriced


@dataclass(frozen=True, slots=True)
class Training:
    """Training of one model within one hour, from raw rows (docs/costs.md has the query).

    Attributes:
        model: what was trained.
        start_us: start of the hour, microseconds since 1970 UTC; decides the price.
        accelerator_us: time that accelerators worked on it, summed over accelerators.
        tokens: tokens trained on.
    """

    model: str
    start_us: int
    accelerator_us: int
    tokens: int


def training_costs(prices: Prices[TrainingPrice], rows: Iterable[Training]) -> list[int | None]:
    """Nano-dollars of each row, rounded half up; None without a price."""
    return [_training_cost(prices.price(row.model, row.start_us), row) for row in rows]


def _training_cost(price: TrainingPrice | None, row: Training) -> int | None:
    if price is None:
        return None
    units, per = (row.accelerator_us, HOUR_US) if price.is_hourly else (row.tokens, 1000)
    return (2 * units * price.nanousd + per) // (2 * per)


def usd_per_1k_tokens(nanousd: npt.ArrayLike, tokens: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Dollars per 1,000 tokens, NaN where there are none; arrays of one shape."""
    above, below = np.asarray(nanousd) / 1e6, np.asarray(tokens)
    result = np.full(above.shape, np.nan)
    np.divide(above, below, out=result, where=below != 0)
    return result
