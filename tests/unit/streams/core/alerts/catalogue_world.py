"""Events in, alerts out, for one rule: frames, decoding, validation, counting, pipeline, engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pyarrow as pa
from penstock.schemas.alerts.rules import AlertRule
from penstock.schemas.events import EventName
from penstock.streams.core.alerts.engine import AlertEngine
from penstock.streams.core.alerts.moment import Panes
from penstock.streams.core.alerts.signals import SignalReading
from penstock.streams.core.alerts.transition import Transition
from penstock.streams.core.alerts.watch import counters_for_rules
from penstock.streams.core.configured import cell_groupings
from penstock.streams.core.counting import counted
from penstock.streams.core.decode import decode_frame
from penstock.streams.core.fleet import Fleet
from penstock.streams.core.ingest import DAY_US, Arrival, Flush
from penstock.streams.core.intake import Intake
from penstock.streams.core.pipeline import Closing, Pipeline, WindowRows
from penstock.streams.core.slices import DIMENSIONS, Combos, SliceRegistry
from penstock.streams.core.tally import measure_feedback
from penstock.streams.core.tiles import SECOND_US
from penstock.streams.core.tracker import BootTracker
from penstock.tests.unit.streams.core.world import Sent

START_S = 1_767_225_600
ROWS = 2000  # of a frame
_NAMES = ("model", "request_id")

Row = dict[str, Any]
Value = Any
"""Of a field: the same in every row, or a function of the row's number."""


def rows(start_s: int, end_s: int, every_s: float, **fields: Value) -> list[Row]:
    """Rows at equal distances, seconds counted from START_S."""
    count = round((end_s - start_s) / every_s)
    return [
        {"ts": round((START_S + start_s + number * every_s) * SECOND_US) + 1, "model": "chat"}
        | {name: value(number) if callable(value) else value for name, value in fields.items()}
        for number in range(count)
    ]


def some(bad: int, of: int, value: Value, else_: Value) -> Callable[[int], Value]:
    """So many rows of so many have one value, the others another one."""
    return lambda number: value if number % of < bad else else_


@dataclass
class Traffic:
    """What one worker sends, in order.

    Attributes:
        end_s: until when time is followed, from START_S.
        from_s: when rules begin; what was before is history.
        frames: as sent.
    """

    end_s: int
    from_s: int = 0
    frames: list[Sent] = field(default_factory=list)
    _seq: dict[str, int] = field(default_factory=dict)

    def send(
        self,
        kind: EventName | str,
        sent: Sequence[Row],
        worker: str = "w-1",
        clock_s: int | None = None,
        skip: int = 0,
        gap: int = 0,
    ) -> Traffic:
        """Add rows.

        Args:
            kind: of event.
            sent: rows.
            worker: that sends them.
            clock_s: its clock; that of the newest row of a frame unless given.
            skip: sequence numbers before them that never arrive.
            gap: sequence numbers before them that are declared as dropped.
        """
        seq = self._seq.get(worker, 0) + skip
        gaps = ((seq, seq + gap),) if gap else ()
        seq += gap
        for at in range(0, max(len(sent), 1), ROWS):
            part = sent[at : at + ROWS]
            newest = max((row["ts"] for row in part), default=START_S * SECOND_US)
            clock_us = newest if clock_s is None else (START_S + clock_s) * SECOND_US
            self.frames.append(Sent(kind, worker, worker, seq, part, clock_us, gaps=gaps))
            seq, gaps = seq + len(part), ()
        self._seq[worker] = seq
        return self

    def beside(self, other: Traffic) -> Traffic:
        """The same of a model `on`, beside other traffic of a model `off`."""
        frames = [*self.of("on"), *other.of("off")]
        return Traffic(max(self.end_s, other.end_s), min(self.from_s, other.from_s), frames)

    def of(self, model: str) -> list[Sent]:
        """Its frames, as another model and other workers send them."""
        return [
            replace(
                sent,
                worker_id=f"{model} {sent.worker_id}",
                boot_id=f"{model} {sent.boot_id}",
                rows=[
                    {name: f"{model} {v}" if name in _NAMES else v for name, v in row.items()}
                    for row in sent.rows
                ],
            )
            for sent in self.frames
        ]


Signals = Callable[["World"], Iterable[SignalReading]]


class World:
    """Everything behind the network and before the store, for some rules.

    Args:
        rules: their counters are kept.
        traffic: what comes in.
    """

    def __init__(self, rules: Sequence[AlertRule], traffic: Traffic) -> None:
        self._rules = rules
        self.combos = Combos(SliceRegistry(100, 100))
        self.pipeline = Pipeline(self.combos, Fleet(), lambda _: {}, cell_groupings(rules))
        self._tracker = BootTracker(2 * SECOND_US, 30 * SECOND_US)
        self._flush = Flush(Intake(self._tracker, self.combos), 30 * DAY_US)
        for offset, sent in enumerate(sorted(traffic.frames, key=lambda sent: sent.clock_us)):
            arrival = Arrival(incarnation=1, partition=0, offset=offset, append_us=sent.clock_us)
            self._flush.admit(decode_frame(sent.encoded()), arrival)
            self._tracker.advance(sent.clock_us)
        self.tables = self._flush.tables()
        self._count()
        self.start_s, self.end_s = START_S + traffic.from_s, START_S + traffic.end_s

    @cached_property
    def closing(self) -> Closing:
        """What closed up to the end."""
        return self.pipeline.close(self.end_s * SECOND_US)

    def _count(self) -> None:
        counters = counters_for_rules(self._rules)
        for kind in ("request", "step"):
            if kind in self.tables:
                placed = counted(self.combos, kind, self.tables[kind], counters)
                self.pipeline.count(placed)
        if "feedback" in self.tables:
            joined = self.judged()
            placed = counted(self.combos, "request", joined, (), measure_feedback(joined))
            self.pipeline.count(placed)
        for entry in self._flush.entries:
            self.pipeline.cover(entry.coverage())
        told = self._tracker.presences(self._tracker.boots.keys())
        self.pipeline.cover(self.pipeline.fleet.tell(told))

    def judged(self) -> pa.Table:
        """Feedback with the time and the dimensions of its requests, as the store joins them."""
        requests = {row["request_id"]: row for row in self.tables["request"].to_pylist()}
        judgements = self.tables["feedback"].to_pylist()
        columns: dict[str, Any] = {
            name: [requests[row["request_id"]].get(name) or "" for row in judgements]
            for name in DIMENSIONS
        }
        for name in ("ts", "overflow"):
            columns[name] = [requests[row["request_id"]][name] for row in judgements]
        for name in ("label", "predicted"):
            columns[name] = [row.get(name) for row in judgements]
        return pa.table(columns)

    def alerts(self, signals: Signals | None = None) -> list[Transition]:
        """What the rules say of it."""
        told = signals(self) if signals else ()
        closing = Closing() if signals else self.closing
        known = {(rows.length_s, rows.end_s): rows for rows in closing.windows}

        def window(length_s: int, end_s: int) -> WindowRows:
            if (length_s, end_s) not in known:
                known[length_s, end_s] = self.pipeline.window(length_s, end_s)
            return known[length_s, end_s]

        engine = AlertEngine(self._rules, self.combos.registry, lambda _: True, self.start_s)
        panes = Panes(window, self.pipeline.history.oldest_s)
        return engine.close(closing.cells, self.end_s, panes, told)
