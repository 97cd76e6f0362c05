"""Random traffic of several weeks: bursts, stragglers, reordering, repeats, losses, crashes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from penstock.schemas.events import BACKEND_FALLBACKS, ERROR_TYPES
from penstock.tests.unit.streams.core.bruteforce import LATENCIES, Row
from penstock.tests.unit.streams.core.world import Sent

SECOND = 1_000_000
DAY = 86_400
START_S = 1_767_225_600
SPANS_S = (3, 30, 300, 3000)
DELAYS_S = (0.0, 0.1, 0.5, 1.0, 1.9, 2.1, 5.0, 15.0, 45.0, 200.0, 700.0, 4000.0, 90_000.0)
CRASHES = ("ledger", "count")
PUBLISH_CRASHES = (
    "panes_rows", "windows_rows", "coverage_rows", "checkpoints_rows", "gate_inputs_rows",
    "verdicts_rows",
)  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """How a scenario looks; what hypothesis shrinks."""

    seed: int
    bursts: int = 4
    rows: int = 20
    days: int = 35
    disorder: float = 0.3
    repeats: float = 0.2
    losses: float = 0.1
    restarts: float = 0.2
    crashes: float = 0.1
    feedback: float = 0.2


Action = tuple[str, int, Any, str | None]  # what, when in us, frames, crash


class Scenario:
    """The frames of a shape and the order in which they arrive."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.rng = random.Random(shape.seed)
        self.request_ids: list[str] = []
        self.boots: dict[str, int] = {}
        self.seen_s: dict[str, int] = {}
        self.posts = 0

    def actions(self) -> Iterator[Action]:
        """Deliveries, ticks and restarts in order of time."""
        rng, shape = self.rng, self.shape
        arrivals = sorted(self._arrivals(), key=lambda item: item[0])
        now = 0
        at = 0
        while at < len(arrivals):
            size = rng.choice((1, 1, 2, 5))
            flush = arrivals[at : at + size]
            # Frames that become durable together arrive within a flush.
            flush = [item for item in flush if item[0] - flush[0][0] < SECOND]
            at += len(flush)
            now = max(now, flush[-1][0])
            crash = rng.choice(CRASHES) if rng.random() < shape.crashes else None
            frames = [sent for _, sent in flush]
            yield "deliver", now, frames, crash
            if crash == "ledger":  # nobody answered: the sender sends again
                now += rng.choice((1, 5 * SECOND))
                yield "deliver", now, frames, None
            if rng.random() < 0.6:
                now += rng.randrange(SECOND)
                crash = rng.choice(PUBLISH_CRASHES) if rng.random() < shape.crashes else None
                yield "tick", now, None, crash
            if rng.random() < shape.restarts:
                yield "restart", now, None, None

    def _arrivals(self) -> list[tuple[int, Sent]]:
        rng, shape = self.rng, self.shape
        found: list[tuple[int, Sent]] = []
        starts = sorted(
            START_S + rng.choice((rng.randrange(shape.days * DAY), rng.randrange(3 * 3600)))
            for _ in range(shape.bursts)
        )
        for start_s in starts:
            for sent in self._burst(start_s):
                if rng.random() < shape.losses and not sent.closing:
                    continue
                found += [(at, copy) for at, copy in self._sendings(sent)]
        return found

    def _sendings(self, sent: Sent) -> Iterator[tuple[int, Sent]]:
        rng, shape = self.rng, self.shape
        delay = rng.choice(DELAYS_S) if rng.random() < shape.disorder else rng.random()
        at = sent.clock_us + int(delay * SECOND)
        if rng.random() < 0.02:
            at -= rng.choice((SECOND, 100 * SECOND))  # a clock that runs ahead
        yield at, sent
        while sent.identified and rng.random() < shape.repeats:
            at += int(rng.choice(DELAYS_S) * SECOND)
            yield at, self._part(sent) if rng.random() < 0.4 else sent

    def _part(self, sent: Sent) -> Sent:
        """The same rows cut otherwise, as after a restart of a spool."""
        if len(sent.rows) < 2:
            return sent
        low = self.rng.randrange(len(sent.rows))
        high = self.rng.randrange(low + 1, len(sent.rows) + 1)
        return replace(sent, seq0=sent.seq0 + low, rows=sent.rows[low:high])

    def _burst(self, start_s: int) -> Iterator[Sent]:
        rng = self.rng
        span_us = rng.choice(SPANS_S) * SECOND
        for number in range(rng.choice((1, 1, 2, 3))):
            # A boot that was silent for as long as rows are kept is forgotten.
            alive = [boot for boot, at_s in self.seen_s.items() if start_s - at_s < 25 * DAY]
            boot = rng.choice([*alive, f"boot-{len(self.boots)}"])
            self.seen_s[boot] = start_s
            yield from self._run(boot, f"worker-{number}", start_s * SECOND, span_us)

    def _run(self, boot: str, worker: str, start_us: int, span_us: int) -> Iterator[Sent]:
        """What one boot sends in a burst, in frames of one kind each."""
        rng = self.rng
        times = sorted(start_us + rng.randrange(span_us) for _ in range(self.shape.rows))
        seq = self.boots.get(boot, 0)
        at = 0
        while at < len(times):
            part = times[at : at + rng.choice((1, 2, 5, 12))]
            at += len(part)
            kind = rng.choice(("request", "request", "step"))
            if self.request_ids and rng.random() < self.shape.feedback:
                kind = "feedback"
            rows = [getattr(self, f"_{kind}")(ts) for ts in part]
            if rng.random() < self.shape.losses:  # the spool was full
                seq += len(rows)
                gaps = ((seq - len(rows), seq),)
                yield Sent("control", worker, boot, seq, (), part[-1], next_seq=seq, gaps=gaps)
                continue
            clock = part[-1] + rng.randrange(SECOND)
            if rng.random() < 0.03:
                self.posts += 1
                post = f"post-{self.posts}"
                yield Sent(kind, "http", post, 0, rows, clock, 0, True, identified=False)
                continue
            next_seq = seq + len(rows) + rng.choice((0, 0, 3))
            yield Sent(kind, worker, boot, seq, rows, clock, next_seq)
            seq += len(rows)
            if rng.random() < 0.1:
                yield Sent("control", worker, boot, seq, (), clock + 1000, next_seq=seq)
        self.boots[boot] = seq
        if rng.random() < 0.4:
            closed = times[-1] + SECOND
            yield Sent("control", worker, boot, seq, (), closed, next_seq=seq, closing=True)

    def _request(self, ts: int) -> Row:
        rng = self.rng
        row: Row = {"ts": self._moved(ts)} | self._dimensions()
        row |= {"route": rng.choice(("/chat", "/embed", None)), "tenant": f"t{rng.randrange(5)}"}
        if rng.random() < 0.8:
            row["request_id"] = f"r{len(self.request_ids)}"
            self.request_ids.append(row["request_id"])
        status = rng.choice(("ok", "ok", "ok", "error", "timeout", "cancelled", "rejected", None))
        row["status"] = status
        if status is None:
            row["overdue"] = True
            if rng.random() < 0.3:
                row |= {"overdue": None, "input_tokens": -1, "_bad": True}
            return row
        if status in ("error", "timeout") and rng.random() < 0.7:
            row["error_type"] = rng.choice(ERROR_TYPES)
        row |= {
            name: self._maybe(round(rng.lognormvariate(4, 3), rng.choice((0, 3, 6))))
            for name in LATENCIES
        }
        row["overdue"] = self._maybe(rng.random() < 0.3)
        for name in ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens"):
            row[name] = self._maybe(rng.choice((0, 1, rng.randrange(5000))))
        row["cost_usd"] = self._maybe(rng.random() / 100)
        row["cache_hit"] = self._maybe(rng.random() < 0.5)
        row["quality"] = self._maybe(rng.uniform(-2, 5))
        flags = ("pii", "toxic", "own", "other")
        row["safety_flags"] = self._maybe(frozenset(rng.sample(flags, rng.randrange(3))))
        return row

    def _step(self, ts: int) -> Row:
        rng = self.rng
        row: Row = {"ts": self._moved(ts)} | self._dimensions()
        row["step_ms"] = self._maybe(rng.lognormvariate(2, 1))
        for name, limit in (
            ("batch_size", 64), ("batch_capacity", 65), ("queue_prefill", 9), ("queue_decode", 9),
            ("preemptions", 3), ("decode_tokens", 400), ("prefill_tokens", 400),
            ("cache_evictions", 2), ("gpu_memory_used_bytes", 80 * 2**30),
            ("gpu_memory_total_bytes", 80 * 2**30), ("host_memory_bytes", 2**40),
            ("host_memory_total_bytes", 2**40),
        ):  # fmt: skip
            row[name] = self._maybe(rng.randrange(limit))
        row["kv_cache_usage"] = self._maybe(rng.random())
        row["gpu_utilization"] = self._maybe(rng.choice((0.0, 1.0, rng.random())))
        for name, highest in (("retry_rate", 1), ("cpu_utilization", 1), ("model_load_s", 99)):
            row[name] = self._maybe(rng.uniform(0, highest))
        row["gpu_temperature_c"] = self._maybe(rng.uniform(-5, 99))
        for name in ("running", "healthy_replicas", "expected_replicas"):
            row[name] = self._maybe(rng.randrange(3))
        row["backend_fallback"] = self._maybe(rng.choice(BACKEND_FALLBACKS))
        return row

    def _feedback(self, ts: int) -> Row:
        rng = self.rng
        # Some judge a request that has not been sent yet.
        upcoming = f"r{len(self.request_ids) + rng.randrange(5)}"
        return {
            "ts": ts,
            "request_id": upcoming if rng.random() < 0.2 else rng.choice(self.request_ids),
            "label": self._maybe(rng.choice("ab")),
            "predicted": self._maybe(rng.choice("ab")),
            "accepted": self._maybe(rng.random() < 0.5),
            "satisfaction": self._maybe(rng.random()),
            "quality": self._maybe(rng.random()),
            "value": self._maybe(rng.uniform(-10, 10)),
        }

    def _dimensions(self) -> Row:
        rng = self.rng
        return {
            "model": rng.choice(("m1", "m2", None)),
            "model_version": rng.choice(("1", "2")),
            "adapter": rng.choice((None, None, "lora")),
            "release": rng.choice(("r1", "r2")),
            "variant": rng.choice(("control", "canary")),
        }

    def _moved(self, ts: int) -> int:
        """Event times that callers set themselves."""
        rng = self.rng
        if rng.random() < 0.05:
            return ts + rng.choice((-7000, -70, -9, 1, 50, 5000)) * SECOND
        return ts

    def _maybe(self, value: Any) -> Any:
        return value if self.rng.random() < 0.7 else None
