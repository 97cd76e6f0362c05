"""The ledger of one objective: bad and total by minute and hour, whatever order they came in.

A closed tile says what its span holds, and a later version of it replaces that. The pipeline gives
every tier of what closed or was amended, so the ledger never derives a minute from panes: panes
stand in for the current minute, minutes for the current hour and the edges of short windows.
"""

from __future__ import annotations

from ..tiles import PANE_S, Span
from .readings import MINUTE_S, MinuteRule

HOUR_S = 3600
TIERS_S = (PANE_S, MINUTE_S, HOUR_S)
Pair = tuple[int, int]
NOTHING: Pair = (0, 0)


class Ledger:
    """Integers by span, and their sums.

    Args:
        rule: how a minute is judged, where minutes are counted; None where events are.

    >>> ledger = Ledger()
    >>> ledger.put(Span(60, 0), 1, 10)
    >>> ledger.put(Span(10, 60), 0, 5)
    >>> ledger.put(Span(60, 0), 2, 10)
    >>> ledger.total(0, 70)
    (2, 15)
    """

    def __init__(self, rule: MinuteRule | None = None) -> None:
        self._rule = rule
        self._said: dict[int, dict[int, Pair]] = {length_s: {} for length_s in TIERS_S}
        self.judges = rule is not None
        self._judged: dict[int, Pair] = {}  # hours of minutes, where a rule judges them
        self._sums: dict[tuple[int, int], Pair] = {}
        self.since_s: int | None = None  # start of the earliest span that held something

    def put(self, span: Span, left: int, right: int) -> None:
        """Take in what a closed tile says of its span, instead of what was said of it before.

        Where minutes are counted, other tiles than those of a minute say nothing.
        """
        if self._rule is not None and span.length_s != MINUTE_S:
            return
        said = self._said[span.length_s]
        if left or right:
            said[span.start_s] = (left, right)
            self.begin(span.start_s)
        else:
            said.pop(span.start_s, None)
        if self._rule is None:
            if span.length_s == HOUR_S:
                self._sums.clear()
            return
        # A minute is judged by the ones before it too, so it may change the hour that follows.
        last_s = span.start_s + (self._rule.minutes - 1) * MINUTE_S
        for hour in {span.start_s // HOUR_S, last_s // HOUR_S}:
            if self._judged.pop(hour * HOUR_S, None) is not None:
                self._sums.clear()

    def begin(self, since_s: int) -> None:
        """Say that there was data at a time: minutes without any count from there on."""
        if self.since_s is None or since_s < self.since_s:
            self.since_s = since_s
            self._sums.clear()
            self._judged.clear()

    def total(self, start_s: int, end_s: int) -> Pair:
        """Bad and total of [start_s, end_s), all of it closed.

        Args:
            start_s: a full minute; a full hour where minutes were trimmed.
            end_s: a full pane. Where minutes are counted, the unfinished one is left out.
        """
        minute_s = end_s // MINUTE_S * MINUTE_S
        low_s, high_s = -(-start_s // HOUR_S) * HOUR_S, minute_s // HOUR_S * HOUR_S
        if low_s >= high_s:
            parts = [self._minutes(start_s, minute_s)]
        else:
            parts = [
                self._minutes(start_s, low_s),
                self._hours(low_s, high_s),
                self._minutes(high_s, minute_s),
            ]
        if self._rule is None:
            panes = self._said[PANE_S]
            low = max(minute_s, start_s)
            parts += [panes.get(at, NOTHING) for at in range(low, end_s, PANE_S)]
        return _within(_sum(parts))

    def minute(self, start_s: int) -> Pair:
        """Bad and total of a closed minute."""
        minutes = self._said[MINUTE_S]
        if self._rule is None:
            return minutes.get(start_s, NOTHING)
        if self.since_s is None or start_s < self.since_s // MINUTE_S * MINUTE_S:
            return NOTHING
        first_s = start_s - (self._rule.minutes - 1) * MINUTE_S
        seen = [minutes.get(at, NOTHING) for at in range(first_s, start_s + 1, MINUTE_S)]
        return self._rule.judge(*_sum(seen))

    def minutes_from(self, start_s: int, end_s: int) -> list[tuple[int, Pair]]:
        """Start, and bad and total, of each closed minute in [start_s, end_s) that holds a unit."""
        if self.since_s is None:
            return []
        start_s = max(start_s, self.since_s // MINUTE_S * MINUTE_S)
        found = ((at, self.minute(at)) for at in range(start_s, end_s - MINUTE_S + 1, MINUTE_S))
        return [(at, _within(pair)) for at, pair in found if pair[1] > 0]

    def settle(self, minute_s: int) -> None:
        """Forget panes that start before a time up to which minutes are closed."""
        panes = self._said[PANE_S]
        for at in [at for at in panes if at < minute_s]:
            del panes[at]

    def trim(self, minutes_s: int, hours_s: int) -> None:
        """Forget minutes that start before the one time, and hours before the other.

        Where minutes are counted they are kept as long as hours: an hour cannot be judged as a whole.
        """
        before = {MINUTE_S: minutes_s if self._rule is None else hours_s, HOUR_S: hours_s}
        for length_s, low_s in before.items():
            self._said[length_s] = {
                at: pair for at, pair in self._said[length_s].items() if at >= low_s
            }
        self._judged = {at: pair for at, pair in self._judged.items() if at >= hours_s}

    def _minutes(self, start_s: int, end_s: int) -> Pair:
        return _sum([self.minute(at) for at in range(start_s, end_s, MINUTE_S)])

    def _hours(self, low_s: int, high_s: int) -> Pair:
        known = self._sums.get((low_s, high_s))
        if known is None:
            if len(self._sums) > 16:  # a few windows, and room for the hour that ends
                self._sums.clear()
            known = _sum([self._hour(at) for at in range(low_s, high_s, HOUR_S)])
            self._sums[low_s, high_s] = known
        return known

    def _hour(self, start_s: int) -> Pair:
        if self._rule is None:
            return self._said[HOUR_S].get(start_s, NOTHING)
        known = self._judged.get(start_s)
        if known is None:
            known = self._judged[start_s] = self._minutes(start_s, start_s + HOUR_S)
        return known


def _within(pair: Pair) -> Pair:
    """Differences of counters may leave 0..total where a late row is in one of them only."""
    total = max(pair[1], 0)
    return min(max(pair[0], 0), total), total


def _sum(pairs: list[Pair]) -> Pair:
    return sum(left for left, _ in pairs), sum(right for _, right in pairs)
