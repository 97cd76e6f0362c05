"""Cost and size of frames, beside rows as msgpack and JSON, both with the same zstd.

    python benchmarks/codec.py [--quick]

Every figure is the best of several repeats in this process, on one core.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from typing import Any

import msgpack  # type: ignore[import-untyped]  # has no type information
import orjson
import zstandard
from penstock.schemas.events import EventName
from penstock.schemas.frames import FrameHeader, encode_frame
from penstock.streams.core.decode import decode_frame
from penstock.streams.core.json_events import read_json
from penstock.streams.core.validate import validate

Row = dict[str, Any]
START_US = 1_767_225_600_000_000


def request_row(index: int, rng: random.Random) -> Row:
    """A request event with 25 fields set, two of them random ids."""
    latency_ms = rng.lognormvariate(6.5, 0.6)
    return {
        "ts": START_US + index * 431 + rng.randrange(400),
        "request_id": rng.randbytes(16).hex(),
        "trace_id": rng.randbytes(16).hex(),
        "tenant": f"tenant-{min(int(rng.paretovariate(1.1)), 40)}",
        "model": "llama-3.3-70b",
        "model_version": "3.3.1",
        "route": rng.choice(["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]),
        "release": "2026-01-r42",
        "variant": "canary" if rng.random() < 0.2 else "control",
        "status": "ok" if rng.random() < 0.99 else "timeout",
        "finish_reason": "stop" if rng.random() < 0.8 else "length",
        "region": "eu-west-1",
        "http_status": 200,
        "input_tokens": int(rng.lognormvariate(6.5, 1.0)),
        "output_tokens": int(rng.lognormvariate(5.0, 0.8)),
        "cached_tokens": rng.choice([0, 0, 128, 256, 512]),
        "latency_ms": latency_ms,
        "queue_ms": rng.lognormvariate(1.0, 1.0),
        "tokenize_ms": rng.lognormvariate(0.0, 0.5),
        "prefill_ms": rng.lognormvariate(4.0, 0.5),
        "ttft_ms": rng.lognormvariate(4.5, 0.5),
        "tpot_ms": rng.lognormvariate(3.0, 0.2),
        "decode_ms": latency_ms * 0.8,
        "cache_hit": rng.random() < 0.3,
        "cost_usd": rng.randrange(100_000) * 1e-7,
    }


def step_row(index: int, rng: random.Random) -> Row:
    """A step event with ten fields set."""
    return {
        "ts": START_US + index * 20_000 + rng.randrange(2_000),
        "kind": "engine",
        "step": index,
        "step_ms": rng.lognormvariate(3.0, 0.3),
        "batch_size": rng.randrange(1, 64),
        "batch_capacity": 64,
        "queue_prefill": rng.randrange(9),
        "queue_decode": rng.randrange(40),
        "running": rng.randrange(64),
        "kv_cache_usage": rng.random(),
    }


def best_s(call: Callable[[], object], repeats: int) -> float:
    """Shortest of several runs, in seconds."""
    shortest = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        shortest = min(shortest, time.perf_counter() - start)
    return shortest


def measure(kind: EventName, rows: list[Row], repeats: int) -> None:
    """Print one table: frames and two rivals on the same rows."""
    count = len(rows)
    header = FrameHeader(
        kind=kind,
        worker_id="gpu-7",
        boot_id="0123456789abcdef0123456789abcdef",
        seq0=0,
        count=count,
        next_seq=count,
        clock_us=START_US,
    )
    packer = zstandard.ZstdCompressor(level=1)
    unpacker = zstandard.ZstdDecompressor()
    frame = encode_frame(header, rows)
    packed = packer.compress(msgpack.packb(rows))
    text = packer.compress(orjson.dumps(rows))
    cases: list[tuple[str, Callable[[], object], Callable[[], object], int]] = [
        ("frame", lambda: encode_frame(header, rows), lambda: decode_frame(frame), len(frame)),
        (
            "msgpack rows + zstd",
            lambda: packer.compress(msgpack.packb(rows)),
            lambda: msgpack.unpackb(unpacker.decompress(packed)),
            len(packed),
        ),
        (
            "JSON rows + zstd",
            lambda: packer.compress(orjson.dumps(rows)),
            lambda: orjson.loads(unpacker.decompress(text)),
            len(text),
        ),
    ]
    print(f"\n{kind}, {len(rows[0])} fields set, {count} events per frame")
    print(f"{'':22}{'encode us':>11}{'decode M/s':>12}{'bytes':>8}   ratio to frame")
    base: tuple[float, float, float] | None = None
    for name, encode, decode, size in cases:
        encode_us = best_s(encode, repeats) / count * 1e6
        decode_mps = count / best_s(decode, repeats) / 1e6
        base = base or (encode_us, decode_mps, size)
        ratios = f"x{encode_us / base[0]:.2f} x{decode_mps / base[1]:.2f} x{size / base[2]:.2f}"
        print(f"{name:22}{encode_us:11.2f}{decode_mps:12.2f}{size / count:8.1f}   {ratios}")


def measure_ingest(rows: list[Row], repeats: int) -> None:
    """Print what reading JSON to columns and validating cost."""
    count = len(rows)
    lines = b"\n".join(orjson.dumps({"event": "request", **row}) for row in rows)
    batch = read_json(lines, default_boot_id="b", default_worker_id="w").batches[0]
    json_s = best_s(lambda: read_json(lines, default_boot_id="b", default_worker_id="w"), repeats)
    check_s = best_s(lambda: validate("request", batch.table), repeats)
    print(f"\nJSON lines to columns: {count / json_s / 1e3:.0f} thousand events/s")
    print(f"validate {count} x {batch.table.num_columns} columns: {check_s * 1e3:.2f} ms")


def main() -> None:
    """Print all tables."""
    repeats = 10 if "--quick" in sys.argv else 60
    rng = random.Random(7)
    for count in (500, 2_000):
        measure("request", [request_row(i, rng) for i in range(count)], repeats)
        measure("step", [step_row(i, rng) for i in range(count)], repeats)
    measure_ingest([request_row(i, rng) for i in range(5_000)], max(repeats // 4, 3))
    print(
        "\ntargets: request encode <= 2.5 us and <= 75 bytes, step encode <= 1 us, decode >= 2 M/s"
    )


if __name__ == "__main__":
    main()
