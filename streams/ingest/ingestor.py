"""What a processor does with messages of the events topic: home them, store them, tell of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import groupby

from ...schemas.config import Configuration
from ...schemas.redaction import DEFAULT, Redaction
from ...schemas.topics import DEAD_LETTERS, EVENTS, PANES
from ..core.delta import Delta
from ..core.ingest import DAY_US
from ..core.shards import Takes, taker
from ..dead_letters.letters import dead_letter_message, seal_rows
from ..dead_letters.seal import Sealer
from ..kafka.messages import Message, Outgoing, Outlet, StartAgain
from ..kafka.wire import encode_delta
from ..storage.store import Store
from .admission import Admission, Frame, frame_of
from .ingestion import Ingestion, Staged
from .parcels import Layout

MAX_FLUSH_ROWS = 100_000  # one insert, which must become one part
MAX_DELTA_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class IngestorSettings:
    """What every processor of a stack shares.

    Attributes:
        incarnation: life of the events topic.
        layout: where boots are at home.
        shards: partitions of the panes topic.
        redaction: what is redacted before it is stored.
    """

    incarnation: int
    layout: Layout
    shards: int
    redaction: Redaction = DEFAULT


class Ingestor:
    """Blocking; one call at a time. After an error `reset`, `assign` and `flush` the same again.

    Args:
        store: migrated.
        configuration: limits, times and gates.
        settings: of the stack.
        outlet: for what is forwarded, and for dead letters.
        sealer: of dead letters.
        totals: counters of the process, added to.
        clock: integer microseconds UTC.
        newest: the configuration in force; what is told next is counted by it.
    """

    def __init__(
        self,
        store: Store,
        configuration: Configuration,
        settings: IngestorSettings,
        outlet: Outlet,
        sealer: Sealer,
        totals: Counter[str],
        clock: Callable[[], int],
        newest: Callable[[], Configuration] | None = None,
    ) -> None:
        self._store = store
        self._configuration = configuration
        self._settings = settings
        self._outlet = outlet
        self._sealer = sealer
        self._totals = totals
        self._clock = clock
        self._newest = newest or (lambda: configuration)
        self._ingestion: Ingestion | None = None
        self._admission = Admission(settings.incarnation, settings.layout, totals)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="penstock-writer")
        self._writing: tuple[Staged, Future[None]] | None = None
        self._asked: tuple[int, Mapping[int, int], bool] | None = None
        self._ready: list[Outgoing] = []
        self._read_us: dict[int, int] = {}  # partition -> append time of what was applied last
        self._takers = self._takers_of(configuration)

    @property
    def watermark_us(self) -> int:
        """Event time up to which what was read is taken as complete."""
        return 0 if self._ingestion is None else self._ingestion.tracker.watermark_us

    def assign(self, partition: int) -> int:
        """Take a partition over; see `Ingestion.assign`."""
        now_us = self._clock()
        self.settle()
        if self._ingestion is None:
            self._ingestion = Ingestion(
                self._store,
                self._configuration,
                self._settings.incarnation,
                self._totals,
                self._settings.redaction,
            )
        cut = self._ingestion.assign(partition, now_us)
        appended = [
            boot.append_us
            for boot in self._ingestion.tracker.boots.values()
            if boot.partition == partition
        ]
        self._read_us[partition] = max(appended, default=0)
        return cut

    def release(self, partition: int) -> None:
        """Let go of a partition."""
        if self._ingestion is not None:
            self.settle()
            self._ingestion.release(partition)
        self._read_us.pop(partition, None)

    def reset(self) -> None:
        """Forget everything; the store knows."""
        if self._writing is not None:
            wait([self._writing[1]])  # whatever becomes of it, it must not come after what is next
        self._writing = self._asked = self._ingestion = None
        self._ready.clear()
        self._read_us.clear()

    def flush(self, messages: Sequence[Message]) -> None:
        """Make messages durable; those at or below their partition's cut are passed over.

        Raises:
            StoreError: the outcome is unknown.
            BrokerAway: as StoreError.
        """
        self.stage(messages)
        self.settle()

    def stage(self, messages: Sequence[Message]) -> None:
        """Begin to make messages durable; returning means that those before are.

        What needs no state, decoding and checking, is done while those before are being written.

        Raises:
            StoreError: the outcome of these and those before is unknown.
            BrokerAway: as StoreError.
            StartAgain: partitions were added; this process cannot go on.
        """
        if not messages:
            return
        ingestion = self._known()
        # Tables are partitioned by day, and an insert must become one part.
        ordered = sorted(messages, key=lambda message: message.append_us // DAY_US)
        for _, day in groupby(ordered, key=lambda message: message.append_us // DAY_US):
            for part in self._parts([*day]):
                self.settle()
                new = [
                    (message, frame)
                    for message, frame in part
                    if message.offset > ingestion.cuts.get(ingestion.source(message.partition), -1)
                ]
                if new:
                    self._write(new)

    def settle(self) -> None:
        """Wait for what is being written; then tell, if that was asked for meanwhile.

        Raises:
            StoreError: the outcome is unknown.
        """
        if self._writing is not None:
            staged, future = self._writing
            self._writing = None
            future.result()
            self._known().written(staged)
            for name in ("stored", "duplicate", "rejected"):
                self._totals[name] += sum(getattr(entry, name) for entry in staged.flush.entries)
        if self._asked is not None:
            asked, self._asked = self._asked, None
            self._tell(*asked)

    def _parts(self, messages: Sequence[Message]) -> Iterator[list[tuple[Message, Frame]]]:
        """Messages with their decoded frames, in runs that one insert takes."""
        part: list[tuple[Message, Frame]] = []
        rows = 0
        for message in messages:
            frame = frame_of(message)
            size = 0 if frame is None else frame[0].header.count
            if part and rows + size > MAX_FLUSH_ROWS:
                yield part
                part, rows = [], 0
            part.append((message, frame))
            rows += size
        if part:
            yield part

    def _write(self, messages: Sequence[tuple[Message, Frame]]) -> None:
        ingestion = self._known()
        self._check_homes(messages)
        flush = ingestion.begin()
        out: list[Outgoing] = []
        for message, frame in messages:
            self._admission.admit(flush, message, frame, out)
            self._read_us[message.partition] = message.append_us
        letters = seal_rows(flush.quarantine(), self._sealer, EVENTS)
        out += [Outgoing(DEAD_LETTERS, None, *dead_letter_message(row)) for row in letters]
        if out:
            self._outlet.deliver(out)
        staged = ingestion.stage(flush, letters)
        partitions = {message.partition for message, _ in messages}
        self._writing = staged, self._writer.submit(_durably, ingestion, partitions, staged)
        ingestion.count(staged)

    def _check_homes(self, messages: Sequence[tuple[Message, Frame]]) -> None:
        """See that no frame states a partition that was added since this process started.

        Taken to a partition that it is not at home in, its boot would be followed in two places.
        """
        known = self._settings.layout.partitions
        stated = [-1 if frame is None else frame[0].header.home or -1 for _, frame in messages]
        if max(stated) >= known and self._outlet.partitions(EVENTS) > known:
            raise StartAgain(f"{EVENTS} has more than {known} partitions now")

    def deltas(self, now_us: int, behind: Mapping[int, int], final: bool = False) -> list[Outgoing]:
        """What evaluation is told since the last call, a message for every shard.

        While rows are being written it is put off: what is told must be durable.

        Raises:
            StoreError: memory must be rebuilt.
        """
        if self._ingestion is None:
            return []
        # Nothing read yet: nothing is known of its time, and the watermark stands still.
        behind = {p: read_us or self._read_us.get(p, 0) for p, read_us in behind.items()}
        self._asked = now_us, behind, final
        if final or self._writing is None or self._writing[1].done():
            self.settle()
        ready, self._ready = self._ready, []
        return ready

    def _takers_of(self, configuration: Configuration) -> list[Takes]:
        shards = self._settings.shards
        return [taker(shard, shards, configuration.live_gates) for shard in range(shards)]

    def _follow(self) -> None:
        """Go over to the configuration in force."""
        newest = self._newest()
        if newest is not self._configuration:
            self._known().reconfigure(newest)
            self._configuration, self._takers = newest, self._takers_of(newest)

    def _tell(self, now_us: int, behind: Mapping[int, int], final: bool) -> None:
        self._follow()
        delta = self._known().take(now_us, behind, final)
        self._ready += [
            Outgoing(PANES, shard, b"", self._encoded(delta.restricted(takes)))
            for shard, takes in enumerate(self._takers)
        ]

    def _encoded(self, delta: Delta) -> bytes:
        value = encode_delta(delta)
        if len(value) > MAX_DELTA_BYTES:
            value = encode_delta(delta.emptied())
        return value

    def _known(self) -> Ingestion:
        if self._ingestion is None:
            raise RuntimeError("no partition is assigned")
        return self._ingestion


def _durably(ingestion: Ingestion, partitions: Collection[int], staged: Staged) -> None:
    # A hole in the ledger could never be seen again: what was lost with the store is read again first.
    ingestion.check_store(partitions)
    ingestion.write(staged)
