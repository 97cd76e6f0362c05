"""Workers of known content that put frames into Kafka themselves, each until the broker has it."""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from penstock.schemas.events import EventName
from penstock.schemas.frames import FrameHeader, FrameKind, encode_frame
from penstock.schemas.topics import EVENTS, home_of

GIVE_UP_S = 120.0  # after the load has ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How a sender behaves.

    Attributes:
        frames_per_s: about so many.
        rows: of a frame.
        boot_s: a boot ends and another begins after so long.
        late: share of rows that happened up to `late_s` before.
        late_s: see `late`.
        held: share of frames that are sent up to 3 s after later ones.
        repeated: share of frames that are sent twice, at different times.
        step_s: by how much the clock is set forward or back at the middle of each boot.
        misplaced: share of frames that are sent to any partition, from where they are forwarded.
        stated: whether frames state their home.
    """

    frames_per_s: float = 25.0
    rows: int = 20
    boot_s: float = 5.0
    late: float = 0.02
    late_s: float = 30.0
    held: float = 0.05
    repeated: float = 0.05
    step_s: float = 0.0
    misplaced: float = 0.02
    stated: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame, and what of it must be found in the store."""

    kind: FrameKind
    boot_id: str
    partition: int
    value: bytes
    rows: int
    seqs: int
    sums: int


@dataclass(slots=True)
class _Boot:
    boot_id: str
    home: int
    ends_s: float
    begun_s: float
    seq: int = 0
    recent: list[str] = field(default_factory=list)


class Sender(threading.Thread):
    """Sends until `ending` is set, closes its boot, and repeats what the broker did not acknowledge.

    Args:
        bootstrap: of the broker.
        name: of the worker.
        seed: of everything random.
        partitions: over which boots are spread.
        habits: how it behaves.

    Attributes:
        frames: each distinct frame made so far; with `acknowledged` they are what the store must hold.
        ending: set it to have the load end.
        unsent: what had not been acknowledged when it gave up.
    """

    def __init__(
        self,
        bootstrap: str,
        name: str,
        seed: int,
        partitions: int = 8,
        habits: Habits | None = None,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.habits = habits or Habits()
        self.partitions = partitions
        self.frames: list[Frame] = []
        self.acknowledged = 0
        self.failed = 0
        self.unsent = 0
        self.ending = threading.Event()
        self._random = random.Random(seed)
        self._numbers = itertools.count()
        self._waiting: list[tuple[float, int, Frame]] = []
        self._again: deque[Frame] = deque()
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "acks": "all",
                "linger.ms": 2,
                "message.timeout.ms": 8000,
                "request.timeout.ms": 4000,
                "socket.timeout.ms": 6000,
                "reconnect.backoff.max.ms": 1000,
                "topic.metadata.refresh.interval.ms": 1000,
                "log_level": 0,
            }
        )

    def run(self) -> None:
        """Send."""
        boot = self._begin()
        while not self.ending.is_set():
            if time.monotonic() > boot.ends_s:
                self._close(boot)
                boot = self._begin()
            self._emit(boot)
            self._pump()
            self.ending.wait(self._random.expovariate(self.habits.frames_per_s))
        self._close(boot)
        self._drain()

    def resend(self) -> None:
        """Everything again, after the load: as a spool does when a topic was made anew."""
        assert not self.is_alive(), "it still sends"
        self._again.extend(self.frames)
        self._drain()

    def wanted(self) -> dict[tuple[str, str], tuple[int, ...]]:
        """What must be found, as recount.stored tells it."""
        found: dict[tuple[str, str], list[int]] = {}
        for frame in self.frames:
            if frame.rows:
                sums = found.setdefault((frame.kind, frame.boot_id), [0, 0, 0, 0])
                for at, value in enumerate((frame.rows, frame.rows, frame.seqs, frame.sums)):
                    sums[at] += value
        return {key: tuple(sums) for key, sums in found.items()}

    def boots(self) -> dict[str, int]:
        """Events of each boot."""
        found: dict[str, int] = {}
        for frame in self.frames:
            found[frame.boot_id] = found.get(frame.boot_id, 0) + frame.rows
        return found

    # -- boots and frames

    def _begin(self) -> _Boot:
        boot_id = f"{self.name}-{self._random.getrandbits(40):010x}"
        now_s = time.monotonic()
        lasts_s = self.habits.boot_s * self._random.uniform(0.5, 1.5)
        return _Boot(boot_id, home_of(boot_id, self.partitions), now_s + lasts_s, now_s)

    def _close(self, boot: _Boot) -> None:
        self._send(boot, "control", [], closing=True)

    def _emit(self, boot: _Boot) -> None:
        draw = self._random
        kinds: tuple[EventName, ...] = ("request", "step", "feedback")
        kind = draw.choices(kinds, (80, 15, 5))[0]
        now_us = self._clock_us(boot)
        if kind == "request":
            rows = [self._request(boot, now_us) for _ in range(draw.randrange(1, self._most))]
        elif kind == "step":
            rows = [self._step(now_us) for _ in range(draw.randrange(1, 6))]
        else:
            rows = [self._feedback(boot, now_us) for _ in range(3) if boot.recent]
        if rows:
            self._send(boot, kind, rows)

    @property
    def _most(self) -> int:
        return max(2, 2 * self.habits.rows)

    def _clock_us(self, boot: _Boot) -> int:
        step_s = self.habits.step_s
        if step_s and time.monotonic() < (boot.begun_s + boot.ends_s) / 2:
            step_s = 0.0
        return time.time_ns() // 1000 + int(step_s * 1e6)

    def _ts(self, now_us: int) -> int:
        draw, habits = self._random, self.habits
        if draw.random() < habits.late:
            return now_us - int(draw.uniform(0.0, habits.late_s) * 1e6)
        return now_us - draw.randrange(200_000)

    def _request(self, boot: _Boot, now_us: int) -> dict[str, Any]:
        draw = self._random
        request_id = f"{draw.getrandbits(64):016x}"
        boot.recent = [*boot.recent[-50:], request_id]
        status = draw.choices(["ok", "error", "timeout"], [95, 4, 1])[0]
        more = {"error_type": draw.choice(["oom", "upstream"])} if status == "error" else {}
        return {
            "ts": self._ts(now_us),
            "request_id": request_id,
            "model": draw.choice(["a", "b"]),
            "model_version": "1",
            "variant": draw.choice(["control", "canary"]),
            "release": "r1",
            "route": draw.choice(["/x", "/y"]),
            "tenant": f"t{draw.randrange(3)}",
            "status": status,
            "latency_ms": round(draw.lognormvariate(6, 1), 3),
            "ttft_ms": round(draw.lognormvariate(4, 1), 3),
            "input_tokens": draw.randrange(1000),
            "output_tokens": draw.randrange(300),
            "cost_usd": draw.randrange(1_000_000) / 1e9,
            **more,
        }

    def _step(self, now_us: int) -> dict[str, Any]:
        draw = self._random
        return {
            "ts": self._ts(now_us),
            "model": draw.choice(["a", "b"]),
            "model_version": "1",
            "release": "r1",
            "variant": "control",
            "step": draw.randrange(1_000_000),
            "step_ms": round(draw.uniform(1.0, 90.0), 3),
            "batch_size": draw.randrange(1, 32),
            "batch_capacity": 32,
        }

    def _feedback(self, boot: _Boot, now_us: int) -> dict[str, Any]:
        draw = self._random
        return {
            "ts": now_us,
            "request_id": draw.choice(boot.recent),
            "quality": draw.randrange(1001) / 1000,
            "accepted": draw.random() < 0.5,
        }

    def _send(
        self,
        boot: _Boot,
        kind: FrameKind,
        rows: list[Mapping[str, Any]] | Any,
        closing: bool = False,
    ) -> None:
        header = FrameHeader(
            kind=kind,
            worker_id=self.name,
            boot_id=boot.boot_id,
            seq0=boot.seq,
            count=len(rows),
            next_seq=boot.seq + len(rows),
            clock_us=self._clock_us(boot),
            closing=closing,
            home=boot.home if self.habits.stated else None,
        )
        seqs = range(boot.seq, boot.seq + len(rows))
        checked = {"request": "latency_ms", "step": "step_ms", "feedback": "quality"}
        sums = sum(round(row[checked[kind]] * 1000) for row in rows)
        frame = Frame(
            kind, boot.boot_id, boot.home, encode_frame(header, rows), len(rows), sum(seqs), sums
        )
        boot.seq += len(rows)
        self.frames.append(frame)
        draw = self._random
        delay_s = draw.uniform(0.2, 3.0) if draw.random() < self.habits.held else 0.0
        self._later(frame, delay_s)
        if draw.random() < self.habits.repeated:
            self._later(frame, draw.uniform(0.0, 6.0))

    def _later(self, frame: Frame, delay_s: float) -> None:
        heapq.heappush(self._waiting, (time.monotonic() + delay_s, next(self._numbers), frame))

    # -- Kafka

    def _pump(self) -> None:
        while self._waiting and self._waiting[0][0] <= time.monotonic():
            self._again.append(heapq.heappop(self._waiting)[2])
        while self._again:
            frame = self._again.popleft()
            try:
                self._producer.produce(
                    EVENTS,
                    frame.value,
                    key=frame.boot_id.encode(),
                    partition=self._partition(frame),
                    on_delivery=self._delivered(frame),
                )
            except (BufferError, KafkaException):
                self._again.appendleft(frame)
                break
        self._producer.poll(0)

    def _partition(self, frame: Frame) -> int:
        if self._random.random() < self.habits.misplaced:
            return self._random.randrange(self.partitions)
        return frame.partition

    def _delivered(self, frame: Frame) -> Callable[[KafkaError | None, object], None]:
        def told(error: KafkaError | None, message: object) -> None:
            if error is None:
                self.acknowledged += frame.rows
            else:
                self.failed += 1
                self._again.append(frame)

        return told

    def _drain(self) -> None:
        until = time.monotonic() + GIVE_UP_S
        held = [frame for _, _, frame in self._waiting]
        self._waiting.clear()
        self._random.shuffle(held)
        self._again.extend(held)
        while self._again or len(self._producer):
            self._pump()
            self._producer.poll(0.05)
            if time.monotonic() > until:
                break
        self.unsent = len(self._again) + len(self._producer)
