"""Counts of stretches that are not over yet: they grow as rows are applied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..delta import Cuts, Source
from .columns import OTHER
from .series_counts import NOTHING, SeriesCounts
from .stored import Counting, Piece

MOST_CATEGORIES = 300  # of one category in one stretch, the most frequent; the rest counts as one
MOST_MET = 10 * MOST_CATEGORIES  # told apart while it lasts


@dataclass(slots=True)
class OpenCounts:
    """The open stretches of one kind of traffic. How rows are spread over calls changes nothing.

    (Only where a category has more than `MOST_MET` names, it decides which of the rare ones are told
    apart.)

    Attributes:
        counting: what is counted.
        since_s: start of the first open stretch.
        cuts: rows at or below them are counted.
    """

    counting: Counting
    since_s: int
    cuts: Mapping[Source, int]
    _pieces: dict[int, Piece] = field(default_factory=dict)

    def add(self, counted: Mapping[int, Piece], cuts: Cuts) -> None:
        """Take in counts of the rows above the former cuts, up to new ones.

        Args:
            counted: by start of each stretch, none before `since_s`.
            cuts: the new ones. After a restart they may be lower than what was counted before it.
        """
        for at, piece in counted.items():
            mine = self._pieces.setdefault(at, {})
            for series, counts in piece.items():
                mine[series] = self._most(series, mine.get(series, NOTHING) + counts, MOST_MET)
        self.cuts = {
            source: max(cut, self.cuts.get(source, cut))
            for source, cut in {**self.cuts, **cuts}.items()
        }

    def finish(self, end_s: int) -> dict[int, Piece]:
        """Take out every stretch that ends at or before `end_s`, empty ones too, by its start."""
        piece_s = self.counting.piece_s
        over = range(self.since_s, end_s // piece_s * piece_s, piece_s)
        self.since_s = max(self.since_s, over.stop)
        return {at: self._finished(self._pieces.pop(at, {})) for at in over}

    def _finished(self, piece: Piece) -> Piece:
        return {
            series: self._most(series, piece.get(series, NOTHING), MOST_CATEGORIES)
            for series in self.counting.series
        }

    def _most(self, series: str, counts: SeriesCounts, most: int) -> SeriesCounts:
        """The most frequent names of a category, the rest as one; everything of other series."""
        if len(counts.counts) <= most or series not in self.counting.categories:
            return counts
        named = sorted(
            ((name, n) for name, n in counts.counts.items() if name != OTHER),
            key=lambda item: (-item[1], item[0]),
        )
        kept = dict(named[:most])
        if rest := counts.present - sum(kept.values()):
            kept[OTHER] = rest
        return SeriesCounts(counts.rows, kept)

    def to_dict(self) -> dict[str, Any]:
        """The state as JSON has it."""
        return {
            "keys": self._keys,
            "since_s": self.since_s,
            "cuts": [[*source, cut] for source, cut in sorted(self.cuts.items())],
            "pieces": [
                [at, {series: [counts.rows, counts.counts] for series, counts in piece.items()}]
                for at, piece in sorted(self._pieces.items())
            ],
        }

    @classmethod
    def from_dict(cls, counting: Counting, data: Mapping[str, Any]) -> OpenCounts | None:
        """The state of which `data` is the JSON, parsed; None where something else was counted."""
        cuts = {(incarnation, partition): cut for incarnation, partition, cut in data["cuts"]}
        pieces = {
            at: {series: SeriesCounts(*parts) for series, parts in piece.items()}
            for at, piece in data["pieces"]
        }
        found = cls(counting, data["since_s"], cuts, pieces)
        return found if found._keys == data["keys"] else None

    @property
    def _keys(self) -> list[str]:
        return [self.counting.key(series) for series in self.counting.series]
