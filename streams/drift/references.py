"""References in the store: uploads, and what each monitor chose, every revision kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...schemas.drift.monitors import DriftMonitor
from ...schemas.drift.references import PeriodReference, StableReference
from ...schemas.ports import StoreReader
from ..core.drift.reference_sets import ReferenceSet, reference_set
from ..core.drift.references import Day, stable_days
from ..core.drift.stored import Counting, Scope, newest_sql, set_of_rows, set_sql
from ..core.gates.canonical import sha256
from ..storage.store import Store
from .counts import stored_counts
from .states import DAY_S

LOOK_BACK = 4  # times the days that are wanted: how far back quiet ones are sought


def newest_revision(store: StoreReader, scope: Scope, name: str) -> int:
    """The newest revision of a set; 0 where there is none.

    Raises:
        StoreError: the store is away.
    """
    return int(store.query(*newest_sql(scope, name))[0]["newest"])


def stored_set(store: StoreReader, scope: Scope, name: str, revision: int) -> ReferenceSet | None:
    """One revision of a set; None where there is none.

    Raises:
        StoreError: the store is away.
    """
    return set_of_rows(store.query(*set_sql(scope, name, revision)), revision)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a monitor chose: a revision, of which source (a hash), on which day of event time."""

    source: str
    day_s: int
    revision: int


class ReferenceKeeper:
    """What one monitor is compared with, look by look. Not for several threads at once.

    Args:
        store: has uploads, counts, windows and alerts.
        spec: the monitor.
        counting: what it counts.
        chosen: what it chose before a restart; None to begin.
    """

    def __init__(
        self, store: Store, spec: DriftMonitor, counting: Counting, chosen: Chosen | None
    ) -> None:
        self._store = store
        self._spec = spec
        self._counting = counting
        self.chosen = chosen
        self._set: ReferenceSet | None = None
        self._source = sha256(
            [spec.reference.model_dump(mode="json"), [counting.key(name) for name in spec.series]]
        )

    def at(self, end_s: int) -> tuple[ReferenceSet | None, bool]:
        """The set of the look that ends at `end_s`, and whether it is to be stored; None without one.

        Stable days are chosen at the first look of a day and kept for the day; where there are too few,
        those of before stay. A period is chosen once it is over.

        Raises:
            StoreError: the store is away.
        """
        source = self._spec.reference
        if source.kind == "uploaded":
            revision = source.version or newest_revision(self._store, "uploaded", source.name)
            if self._set is None or self._set.revision != revision:
                self._set = stored_set(self._store, "uploaded", source.name, revision)
            return self._set, False
        assert isinstance(source, StableReference | PeriodReference)
        if self._is_current(end_s):
            return self._set, False
        spans = self._spans(source, end_s)
        pieces = stored_counts(self._store, self._counting, spans, self._counting.series)
        told = source.model_dump(mode="json") | {"spans": [list(span) for span in spans]}
        spec = self._spec
        made = reference_set(spec.id, told, pieces, spec.features, spec.categories)
        if not made.series:
            return self._kept(), False
        newest = newest_revision(self._store, "monitor", spec.id)
        before = stored_set(self._store, "monitor", spec.id, newest) if newest else None
        self._set = made.revised(before)
        self.chosen = Chosen(self._source, end_s // DAY_S * DAY_S, self._set.revision)
        return self._set, self._set.revision != newest

    def _is_current(self, end_s: int) -> bool:
        """Whether what was chosen holds for a look."""
        if self._kept() is None or self.chosen is None:
            return False
        rolls = self._spec.reference.kind == "stable_days"
        return not rolls or self.chosen.day_s == end_s // DAY_S * DAY_S

    def _kept(self) -> ReferenceSet | None:
        """What was chosen of this source, read where memory lacks it; None where nothing was."""
        chosen = self.chosen
        if chosen is None or chosen.source != self._source:
            return None
        if self._set is None or self._set.revision != chosen.revision:
            self._set = stored_set(self._store, "monitor", self._spec.id, chosen.revision)
        return self._set

    def _spans(
        self, source: StableReference | PeriodReference, end_s: int
    ) -> Sequence[tuple[int, int]]:
        """Which counts make the reference; none where they are not there yet."""
        if isinstance(source, PeriodReference):
            start_s, last_s = (int(moment.timestamp()) for moment in (source.start, source.end))
            return [(start_s, last_s)] if last_s <= end_s else []
        day_s = end_s // DAY_S * DAY_S
        back = range(day_s - LOOK_BACK * source.days * DAY_S, day_s, DAY_S)
        complete, alarmed = self._complete(back), self._alarmed(back)
        found = stable_days((Day(at, at in complete, at in alarmed) for at in back), source.days)
        return [(at, at + DAY_S) for at in found or ()]

    def _complete(self, days: range) -> set[int]:
        """Days whose events all came, and of which every stretch was counted."""
        limits = {"low": max(days.start, 0), "high": days.stop}
        covered = self._store.query(
            "SELECT toUnixTimestamp(end) AS end_s FROM penstock.windows WHERE window_s = 86400"
            " AND grouping = 'fleet' AND coverage_state = 'ok'"
            " AND end > toDateTime({low:UInt32}, 'UTC') AND end <= toDateTime({high:UInt32}, 'UTC')",
            limits,
        )
        whole = DAY_S // self._counting.piece_s
        counted = self._store.query(
            "SELECT intDiv(toUnixTimestamp(start), 86400) * 86400 AS day, uniqExact(start) AS n"
            " FROM penstock.drift_counts_rows WHERE counting = {counting:String}"
            " AND start >= toDateTime({low:UInt32}, 'UTC')"
            " AND start < toDateTime({high:UInt32}, 'UTC') GROUP BY day HAVING n = {whole:UInt32}",
            limits | {"counting": self._counting.key(self._spec.series[0]), "whole": whole},
        )
        ends = {int(row["end_s"]) for row in covered}
        return {int(row["day"]) for row in counted if int(row["day"]) + DAY_S in ends}

    def _alarmed(self, days: range) -> set[int]:
        """Days in which drift was confirmed, or an alert of this traffic fired."""
        given = self._spec.filter.given()
        mine = "".join(f" AND labels['{name}'] IN ('', {{of_{name}:String}})" for name in given)
        within = "toDateTime({low:UInt32}, 'UTC') AND {time} < toDateTime({high:UInt32}, 'UTC')"
        rows = self._store.query(
            "SELECT DISTINCT intDiv(toUnixTimestamp(at), 86400) * 86400 AS day FROM ("
            "SELECT at FROM penstock.alert_transitions WHERE kind = 'firing' AND severity != 'info'"
            f" AND at >= {within.replace('{time}', 'at')}{mine} UNION ALL"
            " SELECT end - 1 AS at FROM penstock.drift_scores WHERE monitor = {monitor:String}"
            " AND confirmed IS NOT NULL AND end > toDateTime({low:UInt32}, 'UTC')"
            " AND end <= toDateTime({high:UInt32}, 'UTC'))",
            {"low": max(days.start, 0), "high": days.stop, "monitor": self._spec.id}
            | {f"of_{name}": value for name, value in given.items()},
        )
        return {int(row["day"]) for row in rows}
