"""The references of all series of a monitor, made together and versioned together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..gates.canonical import sha256
from .keeper import References
from .labelled import Labelled
from .references import HOUR_S, Reference
from .series_counts import LABELS, SeriesCounts, labels_of_counts, total

AnyReference = Reference[int] | Reference[str]


@dataclass(frozen=True, slots=True)
class ReferenceSet:
    """What one monitor is compared with, by series; that of labels under `LABELS`.

    Attributes:
        series: name -> reference, all of one revision.
        revision: counts up whenever the content changes; 0 of what is not stored.
    """

    series: Mapping[str, AnyReference] = field(default_factory=dict)
    revision: int = 0

    @property
    def digest(self) -> str:
        """SHA-256 of the content of all series."""
        return sha256({name: item.digest for name, item in self.series.items()})

    def of(self, features: Sequence[str], categories: Sequence[str]) -> References:
        """Those that some features and categories are compared with.

        A name that was taken as a feature here and as a category there is in neither.
        """
        found = self.series
        return References(
            {name: _of_bins(found[name]) for name in features if _is(found.get(name), int)},
            {name: _of_names(found[name]) for name in categories if _is(found.get(name), str)},
        )

    @property
    def labels(self) -> Labelled:
        """The labels among them."""
        found = self.series.get(LABELS)
        if found is None:
            return Labelled()
        counts = {str(key): count for key, count in found.counts().items()}
        return labels_of_counts(SeriesCounts(found.rows, counts))

    def revised(self, newest: ReferenceSet | None) -> ReferenceSet:
        """This set with its revision: that of an equal newest one, or the next."""
        if newest is None:
            return self._with(1)
        return self._with(newest.revision + (newest.digest != self.digest))

    def _with(self, revision: int) -> ReferenceSet:
        series: dict[str, AnyReference] = {
            name: replace(item, version=revision) for name, item in self.series.items()
        }
        return ReferenceSet(series, revision)


def reference_set(
    name: str,
    source: Mapping[str, Any],
    pieces: Mapping[int, Mapping[str, SeriesCounts]],
    features: Sequence[str],
    categories: Sequence[str],
) -> ReferenceSet:
    """References by the hour from counts of stretches.

    Args:
        name: of the upload, or the monitor.
        source: where the counts come from, as JSON holds it.
        pieces: start in seconds -> series -> counts; stretches within an hour are added.
        features, categories: names; labels are taken along.
    """
    made: dict[str, AnyReference] = {}
    for series in features:
        hours, rows = _hours(pieces, series)
        bins = {at: part.bins for at, part in hours.items()}
        made[series] = Reference(f"{name}/{series}", source, bins, rows=rows)
    for series in (*categories, LABELS):
        hours, rows = _hours(pieces, series)
        names = {at: part.counts for at, part in hours.items()}
        made[series] = Reference(f"{name}/{series}", source, names, rows=rows)
    return ReferenceSet({series: item for series, item in made.items() if item.total})


def _hours(
    pieces: Mapping[int, Mapping[str, SeriesCounts]], series: str
) -> tuple[dict[int, SeriesCounts], int]:
    """Counts of the hours that hold a value, and rows of all."""
    parts: dict[int, list[SeriesCounts]] = defaultdict(list)
    for at, piece in pieces.items():
        if series in piece:
            parts[at // HOUR_S * HOUR_S].append(piece[series])
    hours = {at: total(some) for at, some in parts.items()}
    rows = sum(part.rows for part in hours.values())
    return {at: part for at, part in hours.items() if part.counts}, rows


def _is(reference: AnyReference | None, kind: type[int] | type[str]) -> bool:
    return reference is not None and all(isinstance(key, kind) for key in reference.counts())


def _of_bins(reference: AnyReference) -> Reference[int]:
    hours = {
        at: {int(key): n for key, n in counts.items()} for at, counts in reference.hours.items()
    }
    return Reference(reference.name, reference.source, hours, reference.version, reference.rows)


def _of_names(reference: AnyReference) -> Reference[str]:
    hours = {
        at: {str(key): n for key, n in counts.items()} for at, counts in reference.hours.items()
    }
    return Reference(reference.name, reference.source, hours, reference.version, reference.rows)
