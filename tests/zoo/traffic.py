"""Requests of two arms from a recipe and a seed: the events of a case, as any producer would send them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from penstock.tests.zoo.recorded import FloatArray, IntArray, answers, trace

START_US = 1_767_607_200_000_000
"""2026-01-05T10:00:00Z, where a case begins unless it is told otherwise."""
OVERDUE_MS = 60_000.0
SECOND_US = 1_000_000
Event = dict[str, Any]


@dataclass(frozen=True)
class Serving:
    """How one arm answers.

    Attributes:
        errors, timeouts, unsafe, unaccepted: shares of requests (unaccepted: of those with feedback;
            None for no feedback).
        latency_ms, sigma: median of a request of 400 + 150 tokens, and log-normal spread.
        per_token: exponent of latency in output tokens: 1 is proportional.
        output_tokens, input_tokens: medians, where no trace tells them.
        usd_per_1k: cost.
        quality: mean score, 0 to 1; None for none.
        attempts: mean number of requests that a failed one becomes, by retries.
        hangs: share of requests that never complete, and are announced as overdue.
        workers: how many, and `bad_worker` the share of errors of the first one.
        clock_ahead_s: how far the clocks of its workers are ahead.
        measures_ttft: whether it tells ttft_ms.
        recorded: provider whose recorded answers it gives (llmperf.csv).
        from_minute, until_minute: when it takes traffic, and `worse_from` when `errors` begins to hold
            (0.5 % before).
        long_errors: times that long prompts (above 1,000 tokens) fail as often as others.
    """

    errors: float = 0.005
    timeouts: float = 0.0
    unsafe: float = 0.0005
    unaccepted: float | None = None
    latency_ms: float = 400.0
    sigma: float = 0.4
    per_token: float = 0.5
    output_tokens: float = 150.0
    input_tokens: float = 400.0
    usd_per_1k: float = 0.002
    quality: float | None = None
    attempts: float = 1.0
    hangs: float = 0.0
    workers: int = 4
    bad_worker: float | None = None
    clock_ahead_s: float = 0.0
    measures_ttft: bool = True
    recorded: str | None = None
    from_minute: float = 0.0
    until_minute: float = np.inf
    worse_from: float = 0.0
    long_errors: float = 1.0


@dataclass(frozen=True)
class Traffic:
    """What arrives.

    Attributes:
        minutes, rps: length, and mean rate where no trace tells arrivals.
        source: flat, daily (two days squeezed into the case), or a trace of `recorded.trace`, whose
            arrivals are stretched to the length.
        share: of the canary, or two shares it is ramped between.
        sessions: mean number of requests of a session; 1 for none.
        names: of control and treatment in `variant`.
        control, canary: how they answer.
        seed: of everything that is drawn.
    """

    minutes: float = 20.0
    rps: float = 5.0
    source: str = "flat"
    share: float | tuple[float, float] = 0.5
    sessions: float = 1.0
    names: tuple[str, str] = ("control", "canary")
    control: Serving = Serving()
    canary: Serving = Serving()
    seed: int = 1


def traffic_of(recipe: Mapping[str, Any], seed: int) -> Traffic:
    """A recipe of a case; `both` holds for both arms.

    Raises:
        TypeError: a word that no recipe has.
    """
    words: dict[str, Any] = dict(recipe)
    both = words.pop("both", {})
    for name in ("control", "canary"):
        words[name] = Serving(**{**both, **words.get(name, {})})
    for name in ("share", "names"):
        if isinstance(words.get(name), list):
            words[name] = tuple(words[name])
    return Traffic(**words, seed=seed)


def events(traffic: Traffic, model: str, start_us: int = START_US) -> list[Event]:
    """The events of a case in event-time order of their requests.

    Args:
        traffic: what arrives.
        model: name that keeps cases apart in one store.
        start_us: when it begins.
    """
    rng = np.random.default_rng(traffic.seed)
    arrival_s, inputs, outputs = _arrivals(traffic, rng)
    share = np.broadcast_to(np.asarray(traffic.share), (2,))
    weight = arrival_s / (60.0 * traffic.minutes)
    treated = rng.random(len(arrival_s)) < share[0] + (share[1] - share[0]) * weight
    session = np.arange(len(arrival_s))
    if traffic.sessions > 1:
        session = rng.integers(0, max(int(len(arrival_s) / traffic.sessions), 1), len(arrival_s))
        treated = rng.random(session.max() + 1)[session] < share[0]
    rows: list[Event] = []
    for variant, serving, mine in (
        (traffic.names[0], traffic.control, ~treated),
        (traffic.names[1], traffic.canary, treated),
    ):
        minute = arrival_s / 60.0
        at = np.flatnonzero(
            mine & (minute >= serving.from_minute) & (minute < serving.until_minute)
        )
        arm = _Arm(serving, variant, model, rng, start_us)
        rows += arm.rows(arrival_s[at], inputs[at], outputs[at], session[at])
    return rows


def _arrivals(traffic: Traffic, rng: np.random.Generator) -> tuple[FloatArray, IntArray, IntArray]:
    """Arrival times in seconds, and tokens where a trace has them (else 0)."""
    length_s = 60.0 * traffic.minutes
    if traffic.source not in ("flat", "daily"):
        found = trace(traffic.source)
        stretched = found.arrival_s * (length_s / (found.arrival_s[-1] + 1.0))
        return stretched, found.input_tokens, found.output_tokens
    count = rng.poisson(traffic.rps * length_s)
    at = np.sort(rng.random(count)) * length_s
    if traffic.source == "daily":
        keep = rng.random(count) < 0.55 + 0.45 * np.sin(4 * np.pi * at / length_s)
        at = at[keep]
    none = np.zeros(len(at), np.int64)
    return at, none, none


class _Arm:
    """Turns the arrivals of one arm into events."""

    def __init__(
        self, serving: Serving, variant: str, model: str, rng: np.random.Generator, start_us: int
    ) -> None:
        self._serving, self._rng, self._start_us = serving, rng, start_us
        self._shared = {"event": "request", "model": model, "variant": variant}
        self._prefix = f"{model}-{variant}"
        self._seq: dict[str, int] = {}

    def rows(
        self, arrival_s: FloatArray, inputs: IntArray, outputs: IntArray, session: IntArray
    ) -> list[Event]:
        """One or more events per request."""
        how, rng, n = self._serving, self._rng, len(arrival_s)
        inputs, outputs = self._tokens(inputs, outputs)
        latency, ttft = self._latencies(outputs)
        worker = rng.integers(0, how.workers, n)
        minute = arrival_s / 60.0
        rate = np.where(minute >= how.worse_from, how.errors, 0.005)
        rate = rate * np.where(inputs > 1000, how.long_errors, 1.0)
        if how.bad_worker is not None:
            rate = np.where(worker == 0, how.bad_worker, rate)
        drawn = rng.random((5, n))
        found: list[Event] = []
        for at in range(n):
            start_us = self._start_us + round((arrival_s[at] + how.clock_ahead_s) * SECOND_US)
            row: Event = {
                **self._shared,
                "worker_id": f"{self._prefix}-w{worker[at]}",
                "request_id": f"{self._prefix}-{at}",
                "trace_id": f"{self._prefix}-t{at}",
                "session_id": f"{self._prefix}-s{session[at]}",
                "input_tokens": int(inputs[at]),
                "output_tokens": int(outputs[at]),
            }
            if drawn[0, at] < how.hangs:
                ts = start_us + round(OVERDUE_MS * 1000)
                found.append(row | {"ts": ts, "overdue": True, "latency_ms": OVERDUE_MS})
                continue
            took_ms = round(float(latency[at]), 3)
            row["latency_ms"] = took_ms
            row["ts"] = start_us + round(took_ms * 1000)
            row["cost_usd"] = round(how.usd_per_1k * float(inputs[at] + outputs[at]) / 1000, 9)
            if how.measures_ttft:
                row["ttft_ms"] = round(float(ttft[at]), 3)
            if how.quality is not None:
                row["quality"] = round(
                    float(np.clip(how.quality + (drawn[4, at] - 0.5) / 2, 0, 1)), 3
                )
            if drawn[1, at] < how.unsafe:
                row["safety_flags"] = ["toxic"]
            row["status"] = "ok"
            if drawn[2, at] < rate[at]:
                row |= {"status": "error", "error_type": "upstream"}
            elif drawn[2, at] < rate[at] + how.timeouts:
                row |= {"status": "timeout", "error_type": "api_timeout"}
            found += self._attempts(row)
            if how.unaccepted is not None:
                accepted = bool(drawn[3, at] >= how.unaccepted)
                found.append(self._feedback(row, accepted))
        return [self._identified(row) for row in found]

    def _tokens(self, inputs: IntArray, outputs: IntArray) -> tuple[IntArray, IntArray]:
        how, rng, n = self._serving, self._rng, len(inputs)
        drawn = [
            np.maximum(rng.lognormal(np.log(median), 0.7, n), 1).astype(np.int64)
            for median in (how.input_tokens, how.output_tokens)
        ]
        return np.where(inputs > 0, inputs, drawn[0]), np.where(outputs > 0, outputs, drawn[1])

    def _latencies(self, outputs: IntArray) -> tuple[FloatArray, FloatArray]:
        how, rng, n = self._serving, self._rng, len(outputs)
        if how.recorded is not None:
            found = answers(how.recorded)
            picked = rng.integers(0, len(found.latency_ms), n)
            return found.latency_ms[picked], found.ttft_ms[picked]
        longer = (np.maximum(outputs, 1) / 150.0) ** how.per_token
        latency = how.latency_ms * longer * rng.lognormal(0.0, how.sigma, n)
        return latency, latency * rng.uniform(0.2, 0.4, n)

    def _attempts(self, row: Event) -> Iterator[Event]:
        """A failed request is tried again: other requests of the same trace, a second apart."""
        yield row
        if row["status"] == "ok" or self._serving.attempts <= 1:
            return
        for again in range(self._rng.geometric(1.0 / self._serving.attempts) - 1):
            retried = {"request_id": f"{row['request_id']}-r{again}"}
            yield row | retried | {"ts": row["ts"] + (again + 1) * SECOND_US}

    def _feedback(self, row: Event, accepted: bool) -> Event:
        told = {name: row[name] for name in ("worker_id", "request_id")}
        return {"event": "feedback", **told, "ts": row["ts"] + SECOND_US, "accepted": accepted}

    def _identified(self, row: Event) -> Event:
        """With the identity that its worker would give it."""
        worker = row["worker_id"]
        seq = self._seq.get(worker, 0)
        self._seq[worker] = seq + 1
        return row | {"boot_id": f"{worker}-b", "seq": seq}
