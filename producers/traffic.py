"""What a trace does not tell about its requests, drawn from a seed: who asked, and what fails.

Every draw belongs to a request of the trace, whatever worker serves it. So the arms of a canary meet
the same traffic, and a good canary differs from its control in nothing but the requests it gets.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..schemas.events import SAFETY_FLAGS
from .engine import NEVER_FAILS, Work
from .traces import Trace

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

BASE_ERROR_RATIO = 0.005
SAFETY_RATIO = 0.0003
CACHE_HIT_RATIO = 0.06
QUALITY_RATIO = 0.1
FEEDBACK_RATIO = 0.05
ACCEPTED_RATIO = 0.86

_ERRORS: dict[str, tuple[float, int, str]] = {
    "upstream": (0.30, 502, "retrieval service closed the connection"),
    "internal": (0.25, 500, "sampler returned no token"),
    "api_timeout": (0.25, 504, "client deadline exceeded"),
    "oom": (0.15, 500, "device out of memory in attention workspace"),
    "tokenizer_mismatch": (0.05, 500, "token id beyond the vocabulary"),
}
_REFUSALS = {
    "overload": (429, "too many requests are waiting"),
    "validation": (422, "prompt and answer exceed the context length"),
}
_TENANTS = ("acme", "birch", "cobalt", "delta", "ember", "fjord", "grove", "harbor", "iris", "juno")
_AGENTS = ("python-sdk/1.9", "js-sdk/2.3", "web/5.1", "curl/8.5")
_REGIONS = ("eu-west", "us-east")


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens."""

    input_usd: float = 0.60
    cached_usd: float = 0.30
    output_usd: float = 0.90

    def cost_usd(self, input_tokens: int, cached_tokens: int, output_tokens: int) -> float:
        """Cost of one request; cached tokens are part of the input tokens."""
        dear = (input_tokens - cached_tokens) * self.input_usd + output_tokens * self.output_usd
        return (dear + cached_tokens * self.cached_usd) / 1e6


PRICES: Mapping[str, Price] = {"chat-70b": Price()}


@dataclass(frozen=True, slots=True)
class Traffic:
    """A trace and what was drawn for its requests; arrays of shape (n,).

    Attributes:
        trace: arrivals and tokens.
        digests: hash of the request's name, 64 bits: decides which worker and arm serve it.
        cached_tokens: prompt tokens found in the prefix cache.
        failure: uniform in [0, 1): a request fails on an arm whose error ratio is above it.
        fail_after: tokens after which it then fails.
        error: position in the table of errors.
        draws: more uniform numbers, shape (n, 8), for what only colours a request.
        cost_factor: what a request costs, of its price.
    """

    trace: Trace
    digests: npt.NDArray[np.uint64]
    cached_tokens: Ints
    failure: Floats
    fail_after: Ints
    error: Ints
    draws: Floats
    cost_factor: Floats

    def work(self, mine: Ints, error_ratio: float) -> Work:
        """The engine's view of the requests `mine`; their share `error_ratio` will fail."""
        fails = self.failure[mine] < error_ratio
        return Work(
            self.trace.arrival_us[mine],
            self.trace.input_tokens[mine],
            self.cached_tokens[mine],
            self.trace.output_tokens[mine],
            np.where(fails, self.fail_after[mine], NEVER_FAILS),
        )

    def canary(self, from_us: int, share: float) -> Mask:
        """Requests that go to the canary: by hash, of those that arrive from `from_us` on."""
        lucky = (self.digests % np.uint64(10_000)) < np.uint64(round(share * 10_000))
        return lucky & (self.trace.arrival_us >= from_us)

    def routes(self) -> Counter[str]:
        """How many requests take each route."""
        tokens, draws = self.trace.input_tokens.tolist(), self.draws[:, 1].tolist()
        return Counter(map(_route, tokens, draws))

    def worker(self, workers: int) -> Ints:
        """Which of the control workers serves each request."""
        return ((self.digests // np.uint64(10_000)) % np.uint64(workers)).astype(np.int64)


def make_traffic(trace: Trace, seed: int) -> Traffic:
    """Draw everything for a trace; the same seed gives the same traffic."""
    n = len(trace)
    rng = np.random.default_rng([seed, 1])
    cached = trace.cached_tokens
    if cached is None:
        blocks = (trace.input_tokens * rng.uniform(0.2, 0.8, n)).astype(np.int64) // 16 * 16
        cached = np.where(rng.random(n) < CACHE_HIT_RATIO, blocks, 0)
    shares = np.array([share for share, _, _ in _ERRORS.values()])
    return Traffic(
        trace=trace,
        digests=_digests(seed, n),
        cached_tokens=cached,
        failure=rng.random(n),
        fail_after=(trace.output_tokens * np.maximum(0.0, rng.uniform(-0.2, 1, n))).astype(
            np.int64
        ),
        error=rng.choice(len(shares), n, p=shares / shares.sum()),
        draws=rng.random((n, 8)),
        cost_factor=np.ones(n),
    )


def _digests(seed: int, n: int) -> npt.NDArray[np.uint64]:
    names = (hashlib.blake2b(b"%d:%d" % (seed, i), digest_size=8).digest() for i in range(n))
    return np.frombuffer(b"".join(names), "<u8")


@dataclass(frozen=True, slots=True)
class Describer:
    """Completes what the engine tells about a request to the fields of a RequestEvent.

    Attributes:
        traffic: the draws.
        run: differs between replays of the same traffic, so that ids do not repeat in one store.
        price: of the model.
    """

    traffic: Traffic
    run: str
    price: Price

    def request_id(self, index: int) -> str:
        """Id of a request of the trace in this run."""
        return f"{int(self.traffic.digests[index]):016x}-{self.run}"

    def complete(self, index: int, fields: dict[str, Any]) -> dict[str, Any]:
        """Fields of the event of request `index` of the trace; `fields` is extended in place."""
        who, what, flag, agent, heat, score, scored, _ = self.traffic.draws[index].tolist()
        arrival_us = int(self.traffic.trace.arrival_us[index])
        tokens, generated = fields["input_tokens"], fields["output_tokens"]
        tenant = min(int(who**2 * len(_TENANTS)), len(_TENANTS) - 1)
        trace_id = hashlib.blake2b(f"{self.run}:{index}".encode(), digest_size=24).hexdigest()
        cached = fields.get("cached_tokens", 0)
        fields |= {
            "request_id": self.request_id(index),
            "trace_id": trace_id[:32],
            "span_id": trace_id[32:],
            "session_id": f"{tenant}-{arrival_us // 300_000_000}-{int(what * 16)}-{self.run}",
            "tenant": _TENANTS[tenant],
            "route": _route(tokens, what),
            "region": _REGIONS[tenant % 2],
            "user_agent": _AGENTS[int(agent**2 * len(_AGENTS))],
            "input_bytes": tokens * 4,
            "output_bytes": generated * 4,
            "cost_usd": self.price.cost_usd(tokens, cached, generated)
            * float(self.traffic.cost_factor[index]),
            "features": {"temperature": round(heat, 2), "prompt_tokens": float(tokens)},
        }
        if fields["status"] == "rejected":
            fields["cost_usd"] = 0.0
            fields["http_status"], fields["error_message"] = _REFUSALS[fields["error_type"]]
        elif fields["status"] == "error":
            self._fail(index, fields)
        else:
            fields["http_status"] = 200
            fields["finish_reason"] = "length" if generated >= 600 else "stop"
            if flag < SAFETY_RATIO:
                kind = int(flag / SAFETY_RATIO * len(SAFETY_FLAGS))
                fields["safety_flags"] = frozenset((SAFETY_FLAGS[kind],))
            if scored < QUALITY_RATIO:
                fields["quality"] = round(1 - 0.4 * score**2, 3)
        return fields

    def feedback(self, index: int) -> tuple[int, dict[str, Any]] | None:
        """What the user says after the answer: microseconds after it, and the event's fields."""
        draw = float(self.traffic.draws[index, 7])
        if draw >= FEEDBACK_RATIO:
            return None
        fields = {
            "request_id": self.request_id(index),
            "accepted": draw < FEEDBACK_RATIO * ACCEPTED_RATIO,
            "source": "user",
        }
        return 2_000_000 + int(self.traffic.draws[index, 1] * 40e6), fields

    def _fail(self, index: int, fields: dict[str, Any]) -> None:
        error_type, (_, http_status, message) = list(_ERRORS.items())[self.traffic.error[index]]
        fields["status"] = "timeout" if error_type == "api_timeout" else "error"
        fields["error_type"] = error_type
        fields["error_message"] = message
        fields["http_status"] = http_status
        fields["severity"] = "error"
        fields["finish_reason"] = "error"


def _route(tokens: int, draw: float) -> str:
    """Long prompts are mostly retrieval and summaries, short ones chat."""
    if tokens > 2000:
        return "rag" if draw < 0.6 else "summarize"
    return "chat" if draw < 0.85 else "agent"
