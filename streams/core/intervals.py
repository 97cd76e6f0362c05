"""Sets of sequence numbers as disjoint ranges."""

from __future__ import annotations

from bisect import bisect_right

Range = tuple[int, int]
"""[low, high) of integers."""


class Intervals:
    """A set of integers as disjoint, ascending ranges [low, high), each with a mark.

    The mark of a range is that of its leftmost part: the clock at which it began.

    >>> seen = Intervals()
    >>> seen.add(0, 10, mark=1), seen.add(5, 20, mark=2), seen.add(30, 40, mark=3)
    ([(0, 10)], [(10, 20)], [(30, 40)])
    >>> seen.holes()
    [(20, 30, 3)]
    """

    def __init__(self) -> None:
        self._lows: list[int] = []
        self._highs: list[int] = []
        self._marks: list[int] = []

    def __len__(self) -> int:
        return sum(self._highs) - sum(self._lows)

    @property
    def end(self) -> int:
        """One past the highest member, 0 when empty."""
        return self._highs[-1] if self._highs else 0

    def ranges(self) -> list[tuple[int, int, int]]:
        """The ranges in ascending order, as (low, high, mark)."""
        return list(zip(self._lows, self._highs, self._marks, strict=True))

    def missing(self, low: int, high: int) -> list[Range]:
        """The parts of [low, high) that are not in the set."""
        found = []
        position = max(bisect_right(self._lows, low) - 1, 0)
        while low < high and position < len(self._lows) and self._lows[position] < high:
            if self._highs[position] > low:
                if self._lows[position] > low:
                    found.append((low, self._lows[position]))
                low = self._highs[position]
            position += 1
        if low < high:
            found.append((low, high))
        return found

    def add(self, low: int, high: int, mark: int) -> list[Range]:
        """Add [low, high); returns the parts that were new."""
        new = self.missing(low, high)
        for part_low, part_high in new:
            self._insert(part_low, part_high, mark)
        return new

    def _insert(self, low: int, high: int, mark: int) -> None:
        position = bisect_right(self._lows, low)
        joins_left = position > 0 and self._highs[position - 1] == low
        joins_right = position < len(self._lows) and self._lows[position] == high
        if joins_left and joins_right:
            self._highs[position - 1] = self._highs.pop(position)
            del self._lows[position], self._marks[position]
        elif joins_left:
            self._highs[position - 1] = high
        elif joins_right:
            self._lows[position], self._marks[position] = low, mark
        else:
            self._lows.insert(position, low)
            self._highs.insert(position, high)
            self._marks.insert(position, mark)

    def holes(self) -> list[tuple[int, int, int]]:
        """What is missing below the end, as (low, high, mark of the range behind it)."""
        lows, highs = [*self._lows], [0, *self._highs]
        return [
            (gap_low, low, mark)
            for gap_low, low, mark in zip(highs, lows, self._marks, strict=False)
            if gap_low < low
        ]
