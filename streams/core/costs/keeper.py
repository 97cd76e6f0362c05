"""Budgets on a running stream: closed tiles in, the status of every budget out.

Everything is rebuilt from stored tiles: there is no other state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ....schemas.costs.budgets import Budget
from .. import metrics as m
from ..shards import group_of
from ..slices import COVERAGE_GROUPING, Slice, SliceRegistry
from ..slo.ledger import Ledger
from ..slo.readings import Reading, Term, coverage_reading
from ..slo.tile_reader import TileReader
from ..tiles import Span, Tile
from .budget import BudgetStatus, budget_status
from .periods import period_of
from .series import DAY_S, HOUR_S, MINUTE_S, SPEND, Series
from .spend import slices_of

KEPT_S = 28 * DAY_S  # what projections look back at
COVERED = Slice(COVERAGE_GROUPING, ())
# What SPEND is, in pairs: cost and costed tokens, tokens and nothing.
SPENT = (
    Reading((Term(m.key(m.COST_NANOUSD)),), (Term(m.key(m.COSTED_TOKENS)),)),
    Reading((Term(m.key(m.INPUT_TOKENS)), Term(m.key(m.OUTPUT_TOKENS))), ()),
)


def slice_of_budget(budget: Budget) -> Slice:
    """The slice that a budget is about."""
    return Slice(budget.filter.grouping or "fleet", tuple(budget.filter.given().values()))


def group_of_budget(budget: Budget) -> str:
    """The group whose shard evaluates a budget (see `shards.shard_of`)."""
    return group_of(slice_of_budget(budget))


class BudgetKeeper:
    """The budgets of one shard.

    Args:
        budgets: what is evaluated.
        registry: numbers the slices of the tiles that will be fed.

    After a restart, feed the stored tiles of `needs` first.
    """

    def __init__(self, budgets: Iterable[Budget], registry: SliceRegistry) -> None:
        self.budgets = tuple(budgets)
        self._registry = registry
        self._series = [Series(SPEND) for _ in self.budgets]
        self._lost = Ledger()
        readings = [
            (slice_of_budget(budget), reading) for budget in self.budgets for reading in SPENT
        ]
        self._reader = TileReader([*readings, (COVERED, coverage_reading())], registry)
        self._trimmed_s = 0

    def feed(self, tiles: Mapping[Span, Tile]) -> None:
        """Take in closed tiles of 60 and 3600 s, new or amended, in any order; others are passed over."""
        for span, tile in tiles.items():
            if span.length_s not in (MINUTE_S, HOUR_S):
                continue
            pairs = self._reader.read(tile).tolist()
            for at, series in enumerate(self._series):
                (cost, costed), (tokens, _) = pairs[2 * at : 2 * at + 2]
                series.put(span, (cost, costed, tokens))
            self._lost.put(span, *pairs[-1])

    def evaluate(self, now_s: int, vanished: bool = False) -> dict[str, BudgetStatus]:
        """The status of every budget, by id.

        Args:
            now_s: a full minute that is closed; earlier calls had no later one.
            vanished: whether a worker fell silent, so that nobody knows how much is missing.
        """
        statuses: dict[str, BudgetStatus] = {}
        for budget, series in zip(self.budgets, self._series, strict=True):
            start_s, _ = period_of(budget.period, now_s)
            missing, sent = self._lost.total(start_s, now_s)
            coverage = None if vanished or not sent else 1 - missing / sent
            _, hidden = slices_of(self._registry, budget.filter)
            statuses[budget.id] = budget_status(budget, series, now_s, coverage, hidden)
        self._trim(now_s)
        return statuses

    def needs(self, since_s: int, end_s: int) -> tuple[tuple[int, int, int], ...]:
        """Which stored tiles to feed after a restart, in any order.

        Args:
            since_s: what was evaluated last.
            end_s: what is closed.

        Returns:
            Tile length, and first start and end of the stretch, in seconds, for each length.
        """
        hour_s = end_s // HOUR_S * HOUR_S
        minute_s = end_s // MINUTE_S * MINUTE_S
        return (HOUR_S, self._reach(since_s), hour_s), (MINUTE_S, _minutes(since_s), minute_s)

    def _reach(self, now_s: int) -> int:
        """Start of the first hour that is looked at."""
        starts = [period_of(budget.period, now_s)[0] for budget in self.budgets]
        return max(min([now_s // HOUR_S * HOUR_S - KEPT_S, *starts]), 0)

    def _trim(self, now_s: int) -> None:
        """Forget what is not looked at any more, once an hour."""
        if now_s < self._trimmed_s + HOUR_S:
            return
        self._trimmed_s = now_s
        for series in self._series:
            series.forget_before(self._reach(now_s), HOUR_S)
            series.forget_before(_minutes(now_s), MINUTE_S)
        self._lost.trim(_minutes(now_s), self._reach(now_s))


def _minutes(now_s: int) -> int:
    """Start of the first minute that is looked at: of the hour before the last full one."""
    return max(now_s // HOUR_S * HOUR_S - HOUR_S, 0)
