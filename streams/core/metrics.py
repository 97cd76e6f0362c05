"""What a tile counts: every metric, its number, and how a key is made of it.

A tile (a 1 s cell, a 10 s pane, or a longer roll-up) of one slice is a sparse vector of integers. Its
keys are `metric << 16 | bin`. A counter uses bin 0, a counter by type uses the type's position, a
sketch uses the bins of `sketch.bins_of`. So everything merges by adding, and equal means equal.

Numbers are a contract with stored data: never change or reuse one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ...schemas.events import BACKEND_FALLBACKS, ERROR_TYPES, SAFETY_FLAGS, STATUSES

BIN_BITS = 16

# Counters, bin 0 unless said otherwise.
REQUESTS = 1
STATUS = 2  # bin: position in STATUSES
ERROR_TYPE = 3  # bin: position in ERROR_TYPES; rows with status error or timeout
OVERDUE = 4
INPUT_TOKENS = 5
OUTPUT_TOKENS = 6
CACHED_TOKENS = 7
REASONING_TOKENS = 8
COST_NANOUSD = 9
COSTED_TOKENS = 10  # input and output tokens of requests that state a cost
CACHE_KNOWN = 11
CACHE_HITS = 12
SAFETY_VIOLATIONS = 13
SAFETY_FLAG = 14  # bin: position in SAFETY_FLAGS, the next one for own names
QUALITY_MICRO = 15
QUALITY_COUNT = 16
FEEDBACK = 17
ACCEPTED_KNOWN = 18
ACCEPTED = 19
LABELLED = 20
LABEL_CORRECT = 21
SATISFACTION_MICRO = 22
SATISFACTION_COUNT = 23
VALUE_MICRO = 24
VALUE_COUNT = 25
STEPS = 30
PREEMPTIONS = 31
BATCH_SIZE = 32  # of steps that state both size and capacity
BATCH_CAPACITY = 33
DECODE_TOKENS = 34
PREFILL_TOKENS = 35
BACKEND_FALLBACK = 36  # bin: position in BACKEND_FALLBACKS
CACHE_EVICTIONS = 37

# Coverage, kept for the fleet only, at the clock of the frame.
RECEIVED = 40
LATE = 41
DUPLICATE = 42
REJECTED = 43
MISSING = 44
GAP = 45
UNIDENTIFIED = 46

# Of steps that state them: a sum and, where it is no ratio of two sums, how many state it.
BATCHED = 50
BATCHED_SIZE = 51
RUNNING_COUNT = 52
RUNNING = 53
RETRY_COUNT = 54
RETRY_MICRO = 55
HEALTHY_REPLICAS = 56  # of steps that state both
EXPECTED_REPLICAS = 57

SKETCH_BASE = 100
SUM_OFFSET = 512  # the exact sum of sketch m is counter m + 512, in the column's integer unit
CONFIGURED_BASE = 0x8000  # from here on, a metric number is part of a configured counter's key


@dataclass(frozen=True, slots=True)
class Sketch:
    """A distribution kept per pane.

    Attributes:
        number: metric number.
        name: name in windows, with its unit.
        column: decoded column that it is taken from, or the derived one of `tally.py`.
        scale: integers of the column per unit of the sketch (1000 for ms held as us).
    """

    number: int
    name: str
    column: str
    scale: float


def _latency(position: int, name: str) -> Sketch:
    return Sketch(SKETCH_BASE + position, name, name.removesuffix("_ms") + "_us", 1000.0)


LATENCIES = (
    "latency_ms",
    "queue_ms",
    "batch_wait_ms",
    "tokenize_ms",
    "transport_ms",
    "preprocess_ms",
    "prefill_ms",
    "ttft_ms",
    "tpot_ms",
    "decode_ms",
    "inference_ms",
    "postprocess_ms",
    "detokenize_ms",
)
REQUEST_SKETCHES = (
    *(_latency(position, name) for position, name in enumerate(LATENCIES)),
    Sketch(SKETCH_BASE + 20, "input_tokens", "input_tokens", 1.0),
    Sketch(SKETCH_BASE + 21, "output_tokens", "output_tokens", 1.0),
)
# Floats are held in millionths (`_ppm`), so that their sums are exact.
STEP_SKETCHES = (
    Sketch(SKETCH_BASE + 40, "step_ms", "step_us", 1000.0),
    Sketch(SKETCH_BASE + 41, "queue_depth", "queue_depth", 1.0),
    Sketch(SKETCH_BASE + 42, "kv_cache_usage", "kv_cache_usage_ppm", 1e6),
    Sketch(SKETCH_BASE + 43, "gpu_utilization", "gpu_utilization_ppm", 1e6),
    Sketch(SKETCH_BASE + 44, "gpu_memory_ratio", "gpu_memory_ratio_ppm", 1e6),
    Sketch(SKETCH_BASE + 45, "cpu_utilization", "cpu_utilization_ppm", 1e6),
    Sketch(SKETCH_BASE + 46, "gpu_temperature_c", "gpu_temperature_c_ppm", 1e6),
    Sketch(SKETCH_BASE + 47, "model_load_s", "model_load_s_ppm", 1e6),
    Sketch(SKETCH_BASE + 48, "healthy_replicas", "healthy_replicas", 1.0),
    Sketch(SKETCH_BASE + 49, "host_memory_ratio", "host_memory_ratio_ppm", 1e6),
)
SKETCHES = {sketch.name: sketch for sketch in (*REQUEST_SKETCHES, *STEP_SKETCHES)}

TYPED_COUNTERS: dict[int, tuple[str, ...]] = {
    STATUS: STATUSES,
    ERROR_TYPE: ERROR_TYPES,
    SAFETY_FLAG: (*SAFETY_FLAGS, "custom"),
    BACKEND_FALLBACK: BACKEND_FALLBACKS,
}


@dataclass(frozen=True, slots=True)
class Threshold:
    """Counts requests that carry a latency (bin 0) and those above a limit or overdue (bin 1)."""

    column: str
    limit_us: int

    @property
    def number(self) -> int:
        """Its `configured_number`, the same in every process."""
        return configured_number(f"{self.column}>{self.limit_us}")


@dataclass(frozen=True, slots=True)
class CostScore:
    """Sums clip(cost - limit * tokens, -cap, cap) over costed requests (bin 0), and counts them (bin 1)."""

    limit_nanousd_per_1k_tokens: int
    cap_nanousd: int

    @property
    def number(self) -> int:
        """Its `configured_number`, the same in every process."""
        return configured_number(f"cost:{self.limit_nanousd_per_1k_tokens}:{self.cap_nanousd}")


def configured_number(name: str) -> int:
    """Number of a counter that the configuration asks for: a hash, so that nobody need agree on it.

    Two positions are all that such a counter has, so a hash of 30 bits takes the rest of its key: of
    1,000 counters two have one number in 1 of 2,000 configurations, which `configured_counters` refuses.
    """
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return CONFIGURED_BASE << BIN_BITS | int.from_bytes(digest, "big") % 2**30 << 1


def key(metric: int, position: int = 0) -> int:
    """The key of a metric's bin; of a configured counter, by its number, position 0 or 1."""
    if metric >> BIN_BITS:
        return metric | position
    return metric << BIN_BITS | position
