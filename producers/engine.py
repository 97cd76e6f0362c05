"""A small simulation of a continuous-batching inference engine, on virtual time.

Not a model of any product: just enough of what vLLM-like engines do that steps, time to first
token, time per token, queue and KV-cache figures follow from the load.

- The engine works in steps. A step generates one token for every sequence in decode and spends what
  is left of its token budget on prompts, first come first served; long prompts are cut into chunks.
- A step takes `base + b * sequences + c * context tokens + p * prompt tokens` milliseconds: reading
  the weights, the attention over what the sequences hold, and computing prompts. `slowdown`
  multiplies everything but the last. A little log-normal noise from the seed is put on top.
- A sequence holds KV cache for every token of its prompt and answer. A prompt is admitted when the
  batch has a place and the cache has room for it. When the cache is full the sequence admitted last
  is preempted: it gives its cache back and later computes its prompt and answer again.
- The step that completes a prompt also generates its first token.

Times are integer microseconds, so that `ttft = queue + prefill` and `latency = ttft + decode` hold
exactly. Nothing depends on how a run is cut into calls of `advance`.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import Any

import numpy as np

from .engine_types import (
    NEVER_FAILS,
    EngineConfig,
    EngineEvent,
    Sequence,
    Work,
    answered,
    rejected,
    tokenize_ms,
)

__all__ = ["NEVER_FAILS", "Engine", "EngineConfig", "EngineEvent", "Work"]

_NOISE_BLOCK = 8192


class Engine:
    """One engine with its queue.

    Example:
        >>> columns = ([0], [1000], [0], [100], [NEVER_FAILS])
        >>> work = Work(*(np.array(column) for column in columns))
        >>> events = Engine(EngineConfig(noise=0), work, seed=0).advance(60_000_000)
        >>> events[-1].fields["ttft_ms"], events[-1].fields["output_tokens"]
        (91.0, 100)
    """

    def __init__(self, config: EngineConfig, work: Work, seed: int) -> None:
        self._config = config
        self._work = work
        self._rng = np.random.default_rng(seed)
        self._noise: list[float] = []
        self._arrivals: list[int] = work.arrival_us.tolist()
        self._next = 0  # first request that has not arrived
        self._waiting: deque[Sequence] = deque()
        self._evicted: deque[Sequence] = deque()
        self._prefilling: deque[Sequence] = deque()
        self._decoding: dict[Sequence, None] = {}  # in order of admission
        self._ends: list[tuple[int, int, Sequence]] = []
        self._turns = 0  # decode turns so far: a sequence gets one token in each
        self._context = 0  # tokens held by sequences in decode
        self._kv = 0  # tokens held by all
        self._step = 0
        self._now = 0  # when the next step begins
        self._last_end = 0  # of a step; before `_now` when the engine was idle
        self._taken = [0, 0]  # requests and prompt tokens that arrived for this step
        self._preempted = 0
        self._chunks: list[tuple[Sequence, int]] = []
        self._end_us: int | None = None  # of the step under way

    @property
    def finished(self) -> bool:
        """Everything arrived and was answered."""
        return self._next == len(self._arrivals) and self._end_us is None and not self._busy()

    def advance(self, until_us: int) -> list[EngineEvent]:
        """Run, and return what ended up to and including `until_us`, in order of time."""
        events: list[EngineEvent] = []
        while True:
            if self._end_us is None and not self._begin(until_us, events):
                return events
            assert self._end_us is not None
            if self._end_us > until_us:
                return events
            self._finish(self._end_us, events)

    def _busy(self) -> bool:
        return bool(self._decoding or self._prefilling or self._waiting or self._evicted)

    def _begin(self, until_us: int, events: list[EngineEvent]) -> bool:
        """Start a step; False when there is nothing to do up to `until_us`."""
        self._arrive(events)
        while not self._busy():
            if self._next == len(self._arrivals) or self._arrivals[self._next] > until_us:
                return False
            self._now = max(self._now, self._arrivals[self._next])
            self._arrive(events)
        self._make_room()
        prompt_tokens = self._schedule()
        decoding = len(self._decoding)
        config = self._config
        ms = (
            config.base_ms
            + config.ms_per_sequence * decoding
            + config.ms_per_context_token * self._context
        )
        if decoding and self._now >= config.slow_from_us:
            ms *= config.slowdown
        ms += config.ms_per_prompt_token * prompt_tokens
        self._end_us = self._now + max(1, int(ms * 1000 * self._next_noise()))
        return True

    def _arrive(self, events: list[EngineEvent]) -> None:
        """Queue what arrived up to now; reject what can never fit, or finds the queue full."""
        now, work = self._now, self._work
        arrivals = self._arrivals
        while self._next < len(arrivals) and arrivals[self._next] <= now:
            index = self._next
            self._next += 1
            prompt, output = int(work.input_tokens[index]), int(work.output_tokens[index])
            sequence = Sequence(index, arrivals[index], prompt, int(work.cached_tokens[index]))
            too_long = prompt + output > self._config.kv_tokens
            if too_long or len(self._waiting) >= self._config.queue_limit:
                reason = "validation" if too_long else "overload"
                events.append(EngineEvent(now, index, rejected(sequence, now, reason)))
                continue
            fail_after = int(work.fail_after[index])
            sequence.fails = fail_after != NEVER_FAILS
            sequence.target = min(output, fail_after) if sequence.fails else output
            self._taken[0] += 1
            self._taken[1] += prompt
            self._waiting.append(sequence)

    def _make_room(self) -> None:
        """Preempt until every sequence that runs can have one more token."""
        decoding, prefilling = self._decoding, len(self._prefilling)
        while decoding and self._kv + len(decoding) + prefilling > self._config.kv_tokens:
            sequence, _ = decoding.popitem()
            held = sequence.context + self._turns - sequence.joined_at
            self._context -= held
            self._kv -= held
            sequence.generated += self._turns - sequence.joined_at
            sequence.context = sequence.prompt_left = held
            sequence.ends_at = -1
            sequence.preempted += 1
            self._preempted += 1
            self._evicted.appendleft(sequence)

    def _schedule(self) -> int:
        """Give prompts what the budget leaves; return the prompt tokens of the step."""
        budget = left = self._config.step_tokens - len(self._decoding)
        for sequence in self._prefilling:
            left -= self._chunk(sequence, left)
        while left > 0 and (admitted := self._admit()) is not None:
            left -= self._chunk(admitted, left)
        return budget - left

    def _chunk(self, sequence: Sequence, left: int) -> int:
        tokens = min(left, sequence.prompt_left)
        if tokens > 0:
            self._chunks.append((sequence, tokens))
        return max(tokens, 0)

    def _admit(self) -> Sequence | None:
        """The next request, with its KV cache reserved; preempted ones come before waiting ones."""
        queue = self._evicted or self._waiting
        running = len(self._decoding) + len(self._prefilling)
        if not queue or running >= self._config.batch_capacity:
            return None
        sequence = queue[0]
        # Room for the prompt, its first token, and one more token of everything that runs.
        if self._kv + sequence.context + running + 1 > self._config.kv_tokens:
            return None
        queue.popleft()
        self._kv += sequence.context
        if sequence.started_us < 0:
            sequence.started_us = self._now
            sequence.first_step = self._step + 1
        self._prefilling.append(sequence)
        return sequence

    def _finish(self, end: int, events: list[EngineEvent]) -> None:
        """End the step under way: count its tokens, and answer the requests it completed."""
        self._step += 1
        decoded = len(self._decoding)
        running = decoded + len(self._prefilling)
        self._turns += 1
        self._context += decoded
        self._kv += decoded
        done: list[Sequence] = []
        ends = self._ends
        while ends and ends[0][0] <= self._turns:
            at, _, ended = heapq.heappop(ends)
            if ended.ends_at == at:  # else it was preempted since
                done.append(ended)
        prompt_tokens = 0
        first_tokens = 0
        for sequence, tokens in self._chunks:
            prompt_tokens += tokens
            sequence.prompt_left -= tokens
            if not sequence.prompt_left:
                first_tokens += self._prompt_done(sequence, end, done)
        self._chunks.clear()
        for sequence in done:
            self._release(sequence)
        events.append(
            EngineEvent(
                end, None, self._step_fields(end, running, prompt_tokens, decoded + first_tokens)
            )
        )
        events.extend(
            EngineEvent(end, sequence.index, answered(sequence, end, self._step))
            for sequence in done
        )
        self._now = self._last_end = end
        self._end_us = None

    def _prompt_done(self, sequence: Sequence, end: int, done: list[Sequence]) -> int:
        """Move a sequence from prefill to decode; returns the tokens that it generated by that."""
        self._prefilling.remove(sequence)
        self._decoding[sequence] = None
        sequence.joined_at = self._turns
        self._context += sequence.context
        if not sequence.target:  # fails with its prompt
            done.append(sequence)
            return 0
        sequence.generated += 1
        sequence.context += 1
        self._context += 1
        self._kv += 1
        if sequence.first_token_us < 0:
            sequence.first_token_us = end
        left = sequence.target - sequence.generated
        if left:
            sequence.ends_at = self._turns + left
            heapq.heappush(self._ends, (sequence.ends_at, sequence.index, sequence))
        else:
            done.append(sequence)
        return 1

    def _release(self, sequence: Sequence) -> None:
        turns = self._turns - sequence.joined_at
        sequence.generated += turns
        self._context -= sequence.context + turns
        self._kv -= sequence.context + turns
        del self._decoding[sequence]

    def _step_fields(self, end: int, running: int, prompts: int, generated: int) -> dict[str, Any]:
        config = self._config
        items, tokens = self._taken
        preempted, self._preempted = self._preempted, 0
        self._taken = [0, 0]
        took_us = end - self._now
        kv = self._kv
        used = config.weights_bytes + kv * config.kv_bytes_per_token
        return {
            "kind": "engine",
            "step": self._step,
            "step_ms": took_us / 1000,
            "batch_size": running,
            "batch_capacity": config.batch_capacity,
            "prefill_tokens": prompts,
            "decode_tokens": generated,
            "queue_prefill": len(self._waiting),
            "queue_decode": len(self._evicted),
            "running": len(self._decoding) + len(self._prefilling),
            "inflight_decode_tokens": self._context,
            "kv_cache_usage": kv / config.kv_tokens,
            "preemptions": preempted,
            "tokenize_items": items,
            "tokenize_ms": tokenize_ms(items, tokens),
            "detokenize_items": generated,
            "detokenize_ms": generated * 4 / 1000,
            "gpu_utilization": max(0.0, took_us - config.host_ms * 1000) / (end - self._last_end),
            "gpu_memory_used_bytes": used,
            "gpu_memory_total_bytes": config.memory_bytes,
        }

    def _next_noise(self) -> float:
        if not self._noise:
            block = self._rng.standard_normal(_NOISE_BLOCK)
            self._noise = np.exp(block * self._config.noise)[::-1].tolist()
        return self._noise.pop()
