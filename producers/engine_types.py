"""What the engine simulation works on: its settings, its requests, and what it tells of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

NEVER_FAILS = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """What an engine can do; the defaults are of the size of a 70B model on four 40 GB devices.

    They are chosen, not measured: about 30 ms per token and a tenth of a second to the first one.

    Attributes:
        base_ms: fixed time of a step.
        ms_per_sequence: time of a step per sequence in decode.
        ms_per_context_token: time of a step per token held by sequences in decode.
        ms_per_prompt_token: time of a step per prompt token computed.
        slowdown: factor on the decode part (everything but prompts).
        slow_from_us: when that begins, in event time; steps before it are not slowed.
        noise: standard deviation of the log of a step's time.
        host_ms: part of the base in which the device waits for the host.
        batch_capacity: sequences that run at once.
        step_tokens: tokens of a step, generated ones and prompts together.
        kv_tokens: tokens that the KV cache holds.
        queue_limit: waiting requests beyond which new ones are rejected.
        weights_bytes: device memory of the weights.
        kv_bytes_per_token: device memory per token in the KV cache.
        memory_bytes: device memory in all.
    """

    base_ms: float = 26.0
    ms_per_sequence: float = 0.08
    ms_per_context_token: float = 0.0001
    ms_per_prompt_token: float = 0.065
    slowdown: float = 1.0
    slow_from_us: int = 0
    noise: float = 0.03
    host_ms: float = 1.5
    batch_capacity: int = 32
    step_tokens: int = 1024
    kv_tokens: int = 33_000
    queue_limit: int = 256
    weights_bytes: int = 141_000_000_000
    kv_bytes_per_token: int = 327_680
    memory_bytes: int = 160 * 2**30


@dataclass(frozen=True, slots=True)
class Work:
    """The requests of one engine in order of arrival; arrays of shape (n,).

    Attributes:
        arrival_us: event time of arrival.
        input_tokens: prompt tokens.
        cached_tokens: prompt tokens that the prefix cache already holds, fewer than the prompt.
        output_tokens: tokens that will be generated.
        fail_after: tokens after which the request fails (0: with its prompt), or NEVER_FAILS.
    """

    arrival_us: Ints
    input_tokens: Ints
    cached_tokens: Ints
    output_tokens: Ints
    fail_after: Ints


class EngineEvent(NamedTuple):
    """The end of a step, or of a request.

    Attributes:
        ts_us: event time; never less than that of the event before.
        request: position of the request in `Work`, None for a step.
        fields: fields of StepEvent or RequestEvent that the engine knows.
    """

    ts_us: int
    request: int | None
    fields: dict[str, Any]


class Sequence:
    """One request while the engine has it."""

    __slots__ = (
        "arrival_us",
        "cached",
        "context",
        "ends_at",
        "fails",
        "first_step",
        "first_token_us",
        "generated",
        "index",
        "joined_at",
        "preempted",
        "prompt",
        "prompt_left",
        "started_us",
        "target",
    )

    def __init__(self, index: int, arrival_us: int, prompt: int, cached: int) -> None:
        self.index = index
        self.arrival_us = arrival_us
        self.prompt = prompt
        self.cached = cached
        self.target = 0  # tokens to generate before it finishes or fails
        self.fails = False
        self.prompt_left = prompt - cached
        self.context = prompt  # KV tokens held when it joined decode, or to be held
        self.generated = 0
        self.joined_at = 0  # decode turns when it joined
        self.ends_at = -1  # decode turns at which it has its last token; -1 when not in decode
        self.started_us = -1
        self.first_token_us = -1
        self.first_step = 0
        self.preempted = 0


def tokenize_ms(items: int, tokens: int) -> float:
    """A fifth of a millisecond per text and half a microsecond per token."""
    return (items * 200 + tokens // 2) / 1000


def rejected(sequence: Sequence, now: int, error_type: str) -> dict[str, Any]:
    """Fields of a request that the engine did not take."""
    waited_ms = (now - sequence.arrival_us) / 1000
    return {
        "status": "rejected",
        "error_type": error_type,
        "input_tokens": sequence.prompt,
        "output_tokens": 0,
        "latency_ms": waited_ms,
        "queue_ms": waited_ms,
        "cache_hit": False,
    }


def answered(sequence: Sequence, end: int, step: int) -> dict[str, Any]:
    """Fields of a request that the engine served, well or until it failed."""
    queue_us = sequence.started_us - sequence.arrival_us
    first_us = sequence.first_token_us if sequence.first_token_us >= 0 else end
    generated = sequence.generated
    fields = {
        "status": "error" if sequence.fails else "ok",
        "input_tokens": sequence.prompt,
        "output_tokens": generated,
        "cached_tokens": sequence.cached,
        "cache_hit": sequence.cached > 0,
        "latency_ms": (end - sequence.arrival_us) / 1000,
        "queue_ms": queue_us / 1000,
        "prefill_ms": (first_us - sequence.started_us) / 1000,
        "inference_ms": (end - sequence.started_us) / 1000,
        "tokenize_ms": tokenize_ms(1, sequence.prompt),
        "detokenize_ms": generated * 4 / 1000,
        "first_step": sequence.first_step,
        "last_step": step,
    }
    if generated:
        fields["ttft_ms"] = (first_us - sequence.arrival_us) / 1000
        fields["decode_ms"] = (end - first_us) / 1000
    if generated > 1:
        fields["tpot_ms"] = (end - first_us) / 1000 / (generated - 1)
    return fields
