"""One shard: its pipeline, how far each source has been applied, and its watermark. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .delta import Cuts, Delta, Source, recoded
from .fleet import Fleet
from .pipeline import Closing, CoverageChange, Pipeline
from .tiles import SECOND_US, Span, Tile

STALLED_US = 60 * SECOND_US  # a source that nobody speaks for holds windows back for so long


@dataclass(slots=True)
class Shard:
    """What one partition of the panes topic is evaluated to.

    Attributes:
        number: of the shard.
        pipeline: its tiles and windows.
        applied: source -> highest offset counted.
        joined: as `applied`, as far as feedback was joined.
        complete: as `applied`, at the last time that no late row was waiting for a cell.
        watermark_us: event time up to which everything is taken as complete.
        stalled: whether a source that nobody speaks for was left out of the watermark.
    """

    number: int
    pipeline: Pipeline
    applied: dict[Source, int] = field(default_factory=dict)
    joined: dict[Source, int] = field(default_factory=dict)
    complete: dict[Source, int] = field(default_factory=dict)
    watermark_us: int = 0
    stalled: bool = False
    feedback: bool = False
    _watermarks: dict[Source, int] = field(default_factory=dict)
    _serials: dict[str, int] = field(default_factory=dict)
    _heard: set[Source] = field(default_factory=set)
    _heard_us: dict[Source, int] = field(default_factory=dict)

    @property
    def fleet(self) -> Fleet:
        """The boots, as processors tell of them."""
        return self.pipeline.fleet

    @property
    def version(self) -> tuple[int, int]:
        """Highest incarnation, and how many offsets of it were applied: both only grow."""
        incarnation = max((source[0] for source in self.applied), default=1)
        return incarnation, sum(
            cut + 1 for source, cut in self.applied.items() if source[0] == incarnation
        )

    def lacks(self, delta: Delta) -> dict[Source, tuple[int, int]] | None:
        """What must be read from the store in place of a delta's tiles; None where it fits.

        Returns:
            source -> (after, cut); empty where everything in the delta was applied already.
        """
        ranges = delta.ranges.items()
        if all(self.applied.get(source, -1) == after for source, (after, _) in ranges):
            return None
        return {
            source: (self.applied.get(source, -1), cut)
            for source, (_, cut) in ranges
            if cut > self.applied.get(source, -1)
        }

    def is_ahead_of(self, delta: Delta) -> bool:
        """Whether a delta begins below what was applied."""
        return any(
            0 <= after + 1 <= self.applied.get(source, -1)
            for source, (after, _) in delta.ranges.items()
        )

    def follows(self, delta: Delta) -> bool:
        """Whether no delta of the same sender was lost before this one."""
        return delta.serial <= self._serials.get(delta.life, delta.serial - 1) + 1

    def apply(self, delta: Delta) -> None:
        """Count a delta that continues what was applied."""
        combos = self.pipeline.combos
        target = [combos.number_of(combo) for combo in delta.combos]
        self.pipeline.count({span: recoded(t, target) for span, t in delta.tiles.items()})
        self.pipeline.cover(delta.coverage)
        for source, (_, cut) in delta.ranges.items():
            self.applied[source] = cut
        self.hear(delta)

    def fill(
        self, source: Source, cut: int, placed: Mapping[Span, Tile], coverage: CoverageChange
    ) -> None:
        """Count rows of a source that were read from the store, up to a cut."""
        self.pipeline.count(placed)
        self.pipeline.cover(coverage)
        self.applied[source] = max(self.applied.get(source, -1), cut)

    def hear(self, delta: Delta) -> None:
        """Believe what a delta says of boots and time, unless it, or its sender, was overtaken."""
        if delta.serial <= self._serials.get(delta.life, -1):
            return
        self._serials[delta.life] = delta.serial
        current = {
            source: cut
            for source, (_, cut) in delta.ranges.items()
            if cut >= self.applied.get(source, -1)
        }
        partitions = {partition for _, partition in current}
        told = [one for one in delta.presences if one.partition in partitions]
        self.pipeline.cover(self.fleet.tell(told))
        self.feedback |= delta.feedback
        for source in current:
            self.applied.setdefault(source, -1)
            # A processor that has seen no boot does not know the time, and waits for nobody.
            told_us = max(self._watermarks.get(source, 0), delta.watermark_us)
            self._watermarks[source] = told_us if delta.watermark_us else 0
            self._heard.add(source)

    def close(self, now_us: int, final: bool = False) -> Closing:
        """Move the watermark to the least that the sources say, and close what it passed.

        A source that has rows but that nobody speaks for holds everything back for a minute of the
        evaluator's clock; from then on what closes is partial.
        """
        newest = max((source[0] for source in self.applied), default=1)
        sources = [source for source in self.applied if source[0] == newest]
        for source in sources:
            if source in self._heard:
                self._heard_us[source] = now_us
        self._heard.clear()
        waits = [s for s in sources if now_us - self._heard_us.setdefault(s, now_us) < STALLED_US]
        self.stalled = len(waits) < len(sources)
        self.pipeline.stalled = self.stalled
        told = [self._watermarks.get(source) for source in waits]
        if told and None not in told:
            # A source by which nothing ever came says 0, and holds nobody back.
            least = min((us for us in told if us), default=0)
            self.watermark_us = max(self.watermark_us, least)
        closing = self.pipeline.close(self.watermark_us, final)
        if not self.pipeline.waiting:
            self.complete = dict(self.applied)
        return closing


def above(after: Cuts, cuts: Cuts) -> bool:
    """Whether any cut has moved."""
    return any(cut > after.get(source, -1) for source, cut in cuts.items())
