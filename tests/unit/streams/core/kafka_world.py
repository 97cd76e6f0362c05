"""Several partitions, processors and shards in a small world, and everything that can go wrong there.

Messages go to logs that stay. Processors die, lose their partitions, and wake up after they lost them;
deltas are lost, repeated and overtaken. The truth is told by the logs alone.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from penstock.schemas.config import Configuration
from penstock.schemas.topics import DEAD_LETTERS, EVENTS
from penstock.streams.core.boots import LedgerEntry
from penstock.streams.core.pipeline import Pipeline
from penstock.streams.core.tracker import NOTES
from penstock.streams.dead_letters.seal import Sealer
from penstock.streams.evaluator import Evaluator
from penstock.streams.ingest.ingestor import Ingestor, IngestorSettings
from penstock.streams.ingest.parcels import Layout
from penstock.streams.kafka.messages import Message, Outgoing
from penstock.tests.unit.streams.core.bruteforce import Truth
from penstock.tests.unit.streams.core.memory import Crash, MemoryStore
from penstock.tests.unit.streams.core.world import Sent, World

PARTITIONS, SHARDS = 4, 3


class KafkaWorld(World):
    """As World, over logs.

    Args:
        store: installed.
        configuration: limits and times.
        seed: of what goes wrong.
        trouble: probability of each kind of trouble with a delta or a rebalance.
    """

    def __init__(
        self,
        store: MemoryStore,
        configuration: Configuration,
        seed: int,
        trouble: float,
    ) -> None:
        self.rng = random.Random(seed)
        self.trouble = trouble
        self.logs: list[list[Message]] = [[] for _ in range(PARTITIONS)]
        self.sent: dict[tuple[int, int], Sent] = {}
        self.read = [0] * PARTITIONS  # the next offset that the partition's owner fetches
        self.panes: list[list[bytes]] = [[] for _ in range(SHARDS)]
        self.zombies: list[tuple[Ingestor, list[int]]] = []
        self.owner: list[Ingestor | None] = [None] * PARTITIONS
        self.owners: list[Ingestor] = []
        self.all_sent: list[Sent] = []
        self.now_us = 0
        store.shards = SHARDS
        self.layout = Layout(PARTITIONS, PARTITIONS)
        self.grown_to = PARTITIONS
        super().__init__(store, configuration)

    def restart(self) -> None:
        """Every process dies and comes back, with the partitions dealt anew."""
        self.store.expire(self.now_us)
        self.owners = []
        self.owner = [None] * PARTITIONS
        self.rebalance()
        self.evaluator = self._evaluator()

    def _evaluator(self) -> Evaluator:
        found = Evaluator(self.store, self.configuration, SHARDS, Counter(), lambda: self.now_us)
        for shard in range(SHARDS):
            found.assign(shard)
        return found

    def _ingestor(self) -> Ingestor:
        settings = IngestorSettings(1, self.layout, SHARDS)
        return Ingestor(
            self.store, self.configuration, settings, self, Sealer(bytes(32)), Counter(),
            lambda: self.now_us,
        )  # fmt: skip

    def rebalance(self) -> None:
        """Deal the partitions to one, two or three processors; some of those before live on."""
        if self.owners and self.rng.random() < self.trouble:
            # It was paused, and does not know that its partitions moved.
            lost = self.rng.choice(self.owners)
            mine = [p for p in range(PARTITIONS) if self.owner[p] is lost]
            self.zombies.append((lost, mine))
        kept = [one for one in self.owners if all(one is not zombie for zombie, _ in self.zombies)]
        self.owners = [
            kept[at] if at < len(kept) else self._ingestor()
            for at in range(self.rng.choice((1, 2, 3)))
        ]
        before = self.owner
        after = [self.rng.choice(self.owners) for _ in range(PARTITIONS)]
        self.owner = [*after]
        moved = [p for p in range(PARTITIONS) if before[p] is not after[p]]
        for partition in moved:
            loser = before[partition]
            if loser is not None and loser in kept:
                loser.release(partition)
        for partition in moved:
            self.read[partition] = after[partition].assign(partition) + 1

    def deliver(self, messages: Sequence[Outgoing]) -> None:  # type: ignore[override]
        """As an outlet: what is forwarded, and dead letters."""
        for message in messages:
            if message.topic == EVENTS:
                assert message.partition is not None
                self._append(message.partition, message.value, dict(message.headers))
            else:
                assert message.topic == DEAD_LETTERS

    def partitions(self, topic: str) -> int:
        """As an outlet: how many there are by now."""
        assert topic == EVENTS
        return self.grown_to

    def _append(self, partition: int, value: bytes, headers: dict[str, bytes]) -> None:
        log = self.logs[partition]
        log.append(Message(partition, len(log), self.now_us, value, headers))

    def send(self, frames: Sequence[Sent], now_us: int, crash: str | None) -> None:
        """Workers send; then every processor takes in what is new."""
        self.now_us = now_us
        for sent in frames:
            home = self.layout.home(sent.boot_id)
            if self.rng.random() < self.trouble:
                home = self.rng.randrange(PARTITIONS)
            self._append(home, sent.encoded(), {})
        for ingestor in self.owners:
            self.store.crash_before = {"ledger": "frames_rows"}.get(crash or "")
            try:
                self._pump(ingestor)
                if crash == "count":
                    raise Crash(crash)
            except Crash:
                self._die(ingestor)
            self.store.crash_before, crash = None, None
        self._wake()

    def _pump(self, ingestor: Ingestor) -> None:
        mine = [p for p in range(PARTITIONS) if self.owner[p] is ingestor]
        batch = [message for p in mine for message in self.logs[p][self.read[p] :]]
        ingestor.flush(batch)
        for message in batch:
            self.read[message.partition] = message.offset + 1

    def _die(self, ingestor: Ingestor) -> None:
        """It starts again with the same partitions."""
        ingestor.reset()
        for partition in range(PARTITIONS):
            if self.owner[partition] is ingestor:
                self.read[partition] = ingestor.assign(partition) + 1
        self._pump(ingestor)

    def _wake(self) -> None:
        """A processor that lost its partitions goes on with what it had fetched, once."""
        while self.zombies:
            zombie, partitions = self.zombies.pop()
            fetched = [self.rng.randrange(self.read[p] + 1) for p in partitions]
            messages = [
                m for p, end in zip(partitions, fetched, strict=True) for m in self.logs[p][:end]
            ]
            zombie.flush(messages)
            self._post(zombie)
            self._receive()

    def _post(self, ingestor: Ingestor) -> None:
        for message in ingestor.deltas(self.now_us, {}):
            assert message.partition is not None
            self.panes[message.partition].append(message.value)

    def _receive(self) -> None:
        for shard, waiting in enumerate(self.panes):
            kept = [value for value in waiting if self.rng.random() >= self.trouble / 2]
            repeated = [value for value in kept if self.rng.random() < self.trouble / 2]
            if self.rng.random() < self.trouble / 2:
                self.rng.shuffle(kept)
            for value in [*kept, *repeated]:
                self.evaluator.apply(shard, value)
            waiting.clear()

    def tick(self, now_us: int, crash: str | None = None) -> None:
        """Processors tell, evaluation publishes; `crash` names the insert before which one dies."""
        self.now_us = now_us
        for ingestor in self.owners:
            if not any(owner is ingestor for owner in self.owner):
                continue
            self.store.crash_before = crash if crash == "coverage_rows" else None
            try:
                self._post(ingestor)
            except Crash:
                self._die(ingestor)
                self._post(ingestor)
        self._receive()
        self.store.crash_before = crash
        try:
            self.evaluator.publish(now_us)
        except Crash:
            self.store.crash_before = None
            self.evaluator = self._evaluator()
        self.store.crash_before = None

    def settle(self) -> None:
        """Everything that was sent is applied, told and closed."""
        self.trouble = 0.0
        self.send([], self.now_us, None)
        self.tick(self.now_us)
        self.send([], self.now_us, None)  # what was forwarded
        super().settle()
        self.truth = self.told()

    @property
    def pipeline(self) -> Pipeline:
        """Of one shard; all are as far."""
        return self.evaluator.shards[0].pipeline

    def told(self) -> Truth:
        """The truth of everything in the logs."""
        truth = Truth()
        entries: dict[tuple[int, int], LedgerEntry] = {}
        for entry, _ in self.store._ledger():
            entries[entry.partition, entry.offset] = entry
        assert len(entries) == sum(map(len, self.logs)), "an offset is not accounted for"
        frames = {sent.encoded(): sent for sent in self.all_sent}
        self.truth = truth
        for log in self.logs:
            for message in log:
                entry = entries[message.partition, message.offset]
                if entry.kind not in NOTES:
                    self.tell(frames[message.value], entry)
        return truth

    def check(self, horizon_s: int) -> int:
        """As World.check; every shard has come as far."""
        assert len({shard.pipeline.closed_s for shard in self.evaluator.shards}) == 1
        return super().check(horizon_s)


def run(
    store: MemoryStore,
    actions: Any,
    configuration: Configuration,
    seed: int,
    trouble: float,
    horizon_s: int,
) -> int:
    """One scenario; returns how many rows of windows were compared."""
    with store.installed():
        world = KafkaWorld(store, configuration, seed, trouble)
        for what, now_us, frames, crash in actions:
            if what == "deliver":
                identified = [sent for sent in frames if sent.identified]
                world.all_sent += identified
                world.send(identified, now_us, crash)
            elif what == "tick":
                world.tick(now_us, crash)
            else:
                world.now_us = now_us
                world.rebalance()
        world.settle()
        compared = world.check(horizon_s)
        world.restart()
        world.settle()
        return compared + world.check(horizon_s)
