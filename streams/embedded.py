"""The embedded runner: one thread takes frames in, makes them durable, and moves the windows.

Many POSTs become durable together (group commit): raw rows first, then the ledger, then the answers.
Then the rows are counted, and twice a second what closed is published. When the store fails, the
POSTs under way are answered 503 (their outcome is unknown, the sender repeats them) and memory is
rebuilt from the store.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import queue
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from ..schemas.config import Configuration
from ..schemas.errors import Backpressure, IdempotencyConflict, PenstockError, StoreError
from ..schemas.frames import split_frames
from ..schemas.ports import PipelineStatus, Receipt, Rejection
from .core.decode import Batch, decode_frame
from .core.ingest import Arrival, Flush
from .core.json_events import Rejected, read_json
from .core.tiles import SECOND_US
from .core.tracker import BootTracker
from .dead_letters.letters import seal_rows
from .dead_letters.seal import Sealer
from .embedded_post import Post
from .evaluator import Evaluator
from .ingest.ingestion import Ingestion
from .storage.recovery import remove_unacknowledged
from .storage.store import Store

log = logging.getLogger("penstock")

TICK_S = 0.5
GATHER_S = 0.03  # an insert costs about 10 ms whatever it holds
MAX_FLUSH_EVENTS = 60_000  # a row costs half as much in an insert of 60,000 as in one of 20,000
INCARNATION, PARTITION, SHARD = 1, 0, 0  # accepted frames are numbered as if they came from Kafka
Clock = Callable[[], int]


def wall_clock_us() -> int:
    """Integer microseconds since 1970 UTC."""
    return time.time_ns() // 1000


class _Life:
    """One life of memory: what was rebuilt from the store, until an insert fails."""

    def __init__(
        self,
        store: Store,
        newest: Callable[[], Configuration],
        totals: Counter[str],
        clock: Clock,
    ) -> None:
        # One process, one shard; a Kafka that is put before this store later must keep to it.
        store.command(
            "INSERT INTO penstock.settings SELECT 'shards', '1', now64(6)"
            " WHERE NOT EXISTS (SELECT 1 FROM penstock.settings WHERE name = 'shards')"
        )
        self.next_offset = remove_unacknowledged(store, PARTITION)
        self._newest = newest
        self._configuration = configuration = newest()
        self.ingestion = Ingestion(store, configuration, INCARNATION, totals)
        self.ingestion.assign(PARTITION, clock())
        self.evaluator = Evaluator(store, configuration, 1, totals, clock, newest)
        self.evaluator.assign(SHARD)
        self._append_us = 0

    @property
    def tracker(self) -> BootTracker:
        """The boots."""
        return self.ingestion.tracker

    def take_offset(self) -> int:
        """The next offset."""
        self.next_offset += 1
        return self.next_offset - 1

    def append_time(self, now_us: int) -> int:
        """Append times never go back, whatever the clock does."""
        self._append_us = max(self._append_us, now_us)
        return self._append_us

    def publish(self, now_us: int, final: bool = False) -> None:
        """Tell evaluation what was counted, close what is complete, store the results."""
        newest = self._newest()
        if newest is not self._configuration:
            self._configuration = newest
            self.ingestion.reconfigure(newest)
        self.evaluator.add(SHARD, self.ingestion.take(now_us, final=final))
        self.evaluator.publish(now_us, final)


class EmbeddedRunner:
    """Ingestion, windows and gates in this process.

    Args:
        store: migrated.
        configuration: limits, time and gates.
        sealer: of rejected rows.
        clock: integer microseconds UTC; stamps what arrives and times out silent workers.
        newest: the configuration in force, which is gone over to; without it, `configuration`.
    """

    def __init__(
        self,
        store: Store,
        configuration: Configuration,
        sealer: Sealer,
        clock: Clock = wall_clock_us,
        newest: Callable[[], Configuration] | None = None,
    ) -> None:
        self._sealer = sealer
        self._store = store
        self._configuration = configuration
        self._clock = clock
        self._newest = newest or (lambda: configuration)
        self._posts: queue.Queue[Post | None] = queue.Queue()
        self._pending = 0
        self._lock = threading.Lock()
        self._totals: Counter[str] = Counter()
        self._latencies: deque[tuple[float, float]] = deque(maxlen=10_000)
        self._failure = ""
        self._life: _Life | None = None
        self._thread = threading.Thread(target=self._run, name="penstock-ingest", daemon=True)
        self._stopping = threading.Event()

    def start(self) -> None:
        """Rebuild memory from the store and begin.

        Raises:
            StoreError: the store is away.
        """
        self._recover()
        self._thread.start()

    def stop(self) -> None:
        """Finish what was taken in, publish, and end."""
        self._stopping.set()
        self._store.impatient.set()
        self._posts.put(None)
        self._thread.join(timeout=60)

    async def post(
        self, body: bytes, form: Literal["frames", "json"], idempotency_key: str | None
    ) -> Receipt:
        """See `IngestPort.post`."""
        if self._failure:
            raise StoreError(self._failure, retryable=True)
        limit = self._configuration.limits.max_pending_events
        if self._pending >= limit:
            raise Backpressure(f"{self._pending} events are waiting to be stored", 1.0)
        loop = asyncio.get_running_loop()
        post = self._decode(body, form, idempotency_key, loop)
        if not post.batches and not post.rejected:
            return Receipt(0)
        with self._lock:
            self._pending += post.events
        self._posts.put(post)
        return await post.answer

    def status(self) -> PipelineStatus:
        """See `IngestPort.status`."""
        since = time.perf_counter() - 60
        recent = [seconds for at, seconds in list(self._latencies) if at >= since]
        quantiles = {p: float(np.quantile(recent, p)) for p in (0.5, 0.9, 0.99)} if recent else {}
        tracker = None if self._life is None else self._life.tracker
        watermark, newest = (tracker.watermark_us, tracker.newest_us) if tracker else (0, 0)
        return PipelineStatus(
            watermark_us=watermark,
            newest_event_us=newest,
            lag_s=max(newest - watermark, 0) / SECOND_US,
            pending_events=self._pending,
            active_boots=len(tracker.active(self._clock())) if tracker else 0,
            totals=dict(self._totals) | {"store_retries": self._store.retries},
            ingest_s=quantiles,
            failure=self._failure,
        )

    def _decode(
        self, body: bytes, form: str, key: str | None, loop: asyncio.AbstractEventLoop
    ) -> Post:
        """Decode on the caller's thread, so that bytes that are no events fail alone."""
        body_hash = (
            int.from_bytes(hashlib.blake2b(body, digest_size=7).digest(), "big") if key else 0
        )
        boot_id = f"key-{hashlib.sha256(key.encode()).hexdigest()[:32]}" if key else ""
        batches: list[tuple[Batch, Arrival]] = []
        rejected: list[Rejected] = []
        arrival = Arrival(incarnation=INCARNATION, partition=PARTITION, offset=0, append_us=0)
        if form == "frames":
            first = 0
            for frame in split_frames(body):
                batch = decode_frame(frame)
                batches.append((batch, replace(arrival, first_index=first)))
                first += batch.header.count
        else:
            anonymous = boot_id or f"post-{uuid.uuid4().hex}"
            found = read_json(body, default_boot_id=anonymous, default_worker_id="http")
            rejected = list(found.rejected)
            for batch, indices in zip(found.batches, found.indices, strict=True):
                own = batch.header.boot_id != anonymous
                # A POST without identity is a boot of its own, which ends with it.
                header = replace(batch.header, closing=batch.header.closing or not own)
                placed = replace(
                    arrival,
                    indices=np.asarray(indices, np.int64),
                    identified=own or key is not None,
                    body_hash=0 if own else body_hash,
                )
                batches.append((replace(batch, header=header), placed))
        events = sum(batch.header.count for batch, _ in batches) + len(rejected)
        return Post(batches, rejected, events, boot_id, body_hash, loop, loop.create_future())

    def _recover(self) -> None:
        self._life = _Life(self._store, self._newest, self._totals, self._clock)
        self._failure = ""

    def _run(self) -> None:
        next_tick = time.monotonic() + TICK_S
        while True:
            posts, ended = self._take(max(next_tick - time.monotonic(), 0.0))
            try:
                if self._life is None:
                    self._recover()
                assert self._life is not None
                if posts:
                    self._flush(posts)
                if ended or time.monotonic() >= next_tick:
                    self._life.publish(self._clock(), final=ended)
                    next_tick = time.monotonic() + TICK_S
            except PenstockError as error:
                self._fail(posts, error)
            except Exception as error:
                # A bug must not end ingestion in silence: say so, and rebuild from the store.
                log.exception("ingestion failed")
                self._fail(posts, StoreError(f"ingestion failed: {error!r}", retryable=True))
            finally:
                self._done(posts)
            if ended:
                return

    def _take(self, timeout_s: float) -> tuple[list[Post], bool]:
        """Everything that waits, up to one flush; waits for the first, and a little for company."""
        posts: list[Post] = []
        events = 0
        try:
            item = self._posts.get(timeout=timeout_s)
            until = time.monotonic() + GATHER_S
            while item is not None:
                posts.append(item)
                events += item.events
                if events >= MAX_FLUSH_EVENTS:
                    return posts, False
                item = self._posts.get(timeout=max(until - time.monotonic(), 0.0))
        except queue.Empty:
            return posts, False
        return posts, True

    def _flush(self, posts: Sequence[Post]) -> None:
        """Make posts durable together, answer them, count their rows."""
        assert self._life is not None
        flush, receipts = self._admit(posts)
        answers = [(post, result) for post, result in zip(posts, receipts, strict=True)]
        ingestion = self._life.ingestion
        staged = ingestion.stage(flush, seal_rows(flush.quarantine(), self._sealer, ""))
        ingestion.write(staged)
        ingestion.written(staged)
        now = time.perf_counter()
        for post, result in answers:
            post.resolve(result)
            self._latencies.append((now, now - post.arrived))
            self._total(result)
        ingestion.count(staged)

    def _admit(self, posts: Sequence[Post]) -> tuple[Flush, list[Receipt | PenstockError]]:
        assert self._life is not None
        flush = self._life.ingestion.begin()
        append_us = self._life.append_time(self._clock())
        receipts: list[Receipt | PenstockError] = []
        for post in posts:
            boot = self._life.tracker.boots.get(post.boot_id)
            if boot is not None and boot.body_hash != post.body_hash:
                receipts.append(
                    IdempotencyConflict("this Idempotency-Key came before with another body")
                )
                continue
            receipts.append(self._admit_one(flush, post, append_us))
        return flush, receipts

    def _admit_one(self, flush: Flush, post: Post, append_us: int) -> Receipt:
        assert self._life is not None
        accepted = duplicate = rejected = 0
        rejections: list[Rejection] = []
        repeated = post.boot_id in self._life.tracker.boots
        for batch, arrival in post.batches:
            placed = replace(arrival, offset=self._life.take_offset(), append_us=append_us)
            receipt = flush.admit(batch, placed)
            accepted += receipt.accepted
            duplicate += receipt.duplicate
            rejected += receipt.rejected
            rejections += receipt.rejections
        for row in post.rejected:
            if repeated:
                duplicate += 1
                continue
            arrival = Arrival(
                incarnation=INCARNATION,
                partition=PARTITION,
                offset=self._life.take_offset(),
                append_us=append_us,
                identified=bool(post.boot_id),
                body_hash=post.body_hash,
            )
            rejections.append(flush.refuse(row, arrival))
            rejected += 1
        rejections.sort(key=lambda item: item.index)
        return Receipt(accepted, duplicate, rejected, rejections)

    def _fail(self, posts: Sequence[Post], error: PenstockError) -> None:
        log.error("store: %s", error)
        self._life = None
        self._failure = str(error)
        for post in posts:
            post.resolve(error)
        time.sleep(0.0 if self._stopping.is_set() else 0.5)

    def _done(self, posts: Sequence[Post]) -> None:
        with self._lock:
            self._pending -= sum(post.events for post in posts)

    def _total(self, result: Receipt | PenstockError) -> None:
        if isinstance(result, Receipt):
            self._totals["accepted"] += result.accepted
            self._totals["duplicate"] += result.duplicate
            self._totals["rejected"] += result.rejected
