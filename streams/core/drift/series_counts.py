"""What arrived of one series: rows that could carry a value, and how often each value was there.

Keys are texts, so that features (sketch bins), categories (names) and labels (coded) are kept alike.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .labelled import Labelled

LABELS = "(labels)"  # name of the series of labels
_ROWS, _MICRO, _CORRECT = "rows", "micro", "correct"


@dataclass(frozen=True, slots=True)
class SeriesCounts:
    """Counts of one series over some stretch; adding them is the sum over both stretches.

    Attributes:
        rows: that carry a value or could have done.
        counts: by key, none negative.

    >>> (SeriesCounts(3, {"7": 2}) + SeriesCounts(1, {"7": 1})).bins
    {7: 3}
    """

    rows: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: SeriesCounts) -> SeriesCounts:
        total = Counter(self.counts)
        total.update(other.counts)
        return SeriesCounts(self.rows + other.rows, dict(total))

    @property
    def present(self) -> int:
        """Rows that carry a value."""
        return sum(self.counts.values())

    @property
    def bins(self) -> dict[int, int]:
        """Counts by sketch bin, of a feature."""
        return {int(key): count for key, count in self.counts.items()}


NOTHING = SeriesCounts()


def total(parts: Iterable[SeriesCounts]) -> SeriesCounts:
    """The sum over stretches."""
    rows, counts = 0, Counter[str]()
    for part in parts:
        rows += part.rows
        counts.update(part.counts)
    return SeriesCounts(rows, dict(counts))


def counts_of_labels(labels: Labelled) -> SeriesCounts:
    """Labels as counts by coded key, to be stored and added as others are.

    >>> counts_of_labels(Labelled.of([("cat", "dog", None)])).counts
    {'["cat","dog"]': 1}
    """
    coded: dict[str, int] = {}
    for (label, predicted), rows in labels.confusion.items():
        coded[_key(label, predicted)] = rows
    for at, numbers in labels.confidence.items():
        for name, number in zip((_ROWS, _MICRO, _CORRECT), numbers, strict=True):
            coded[_key(at, name)] = number
    return SeriesCounts(labels.rows, coded)


def labels_of_counts(counts: SeriesCounts) -> Labelled:
    """The labels that `counts_of_labels` coded."""
    confusion: dict[tuple[str, str], int] = {}
    confidence: dict[int, dict[str, int]] = {}
    for key, number in counts.counts.items():
        first, second = json.loads(key)
        if isinstance(first, int):
            confidence.setdefault(first, {})[second] = number
        else:
            confusion[first, second] = number
    bins = {
        at: (n.get(_ROWS, 0), n.get(_MICRO, 0), n.get(_CORRECT, 0)) for at, n in confidence.items()
    }
    return Labelled(confusion, bins)


def _key(first: str | int, second: str) -> str:
    return json.dumps([first, second], ensure_ascii=False, separators=(",", ":"))
