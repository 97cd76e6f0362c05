"""What a live gate counts, read from the real store, against counting row by row."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
from penstock.schemas.gates.base import Arm
from penstock.schemas.gates.canary import CanaryGate
from penstock.schemas.gates.rollback import RollbackGate
from penstock.streams.core.gates.blocks import evaluations
from penstock.streams.core.gates.interface import PPM, Wanted, WantedMetric, fine_bins_of
from penstock.streams.core.gates.live import inputs_wanted
from penstock.streams.core.pipeline import Closing
from penstock.streams.core.shard import Shard
from penstock.streams.core.sketch import INFINITE_BIN
from penstock.streams.gates.inputs import read_blocks
from penstock.streams.gates.live import LiveKeeper
from penstock.streams.storage.store import Store
from penstock.tests.support.rows import T0
from penstock.tests.support.store import insert, opened_store

BLOCK_US, SECOND = 10_000_000, 1_000_000
START_US = int(T0.timestamp()) * SECOND
BLOCKS = 12
Row = dict[str, Any]

CANARY = CanaryGate.model_validate(
    {
        "id": "canary",
        "control": {"variant": "control"},
        "treatment": {"variant": "canary", "model": "m"},
        "strata": ["prompt_length", "tenant", "hour"],
        "mature_s": 20,
        "block_s": 10,
        "metrics": [
            {"metric": "error_rate", "margin_ratio": 1.5},
            {"metric": "timeout_rate", "margin_absolute": 0.01},
            {"metric": "safety_rate", "margin_ratio": 2, "floor_ratio": 0.001},
            {"metric": "unaccepted_rate", "margin_ratio": 2},
            {"metric": "latency", "field": "ttft_ms", "margin_ratio": 1.1},
            {"metric": "cost_usd", "cap": 0.01, "margin_ratio": 1.1},
            {
                "metric": "cost_per_1k_tokens_usd",
                "cap": 0.01,
                "cap_tokens": 500,
                "margin_ratio": 1.1,
            },
            {"metric": "quality", "cap": 1, "margin_absolute": 0.05},
        ],
        "baseline_health": [
            {"metric": "latency", "field": "latency_ms", "quantile": 0.95, "max_ms": 900},
            {"metric": "error_rate", "max_ratio": 0.2},
        ],
    }
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with opened_store(tmp_path_factory.mktemp("gates")) as found:
        yield found


def made(seed: int, tag: str) -> tuple[list[Row], list[Row]]:
    """Requests with retries, sessions, overdue ones and ones that end too late; feedback."""
    draw = random.Random(seed)
    requests: list[Row] = []
    feedback: list[Row] = []
    for seq in range(500):
        started_us = START_US + draw.randrange(BLOCKS * BLOCK_US) // 1000 * 1000
        latency_us = round(draw.lognormvariate(13.5, 1.5)) + 1
        key = f"{tag}-{draw.randrange(200)}"
        status = draw.choice(["ok", "ok", "ok", "error", "timeout", "cancelled"])
        row: Row = {
            "started": started_us,
            "ts": started_us + latency_us,
            "boot_id": f"{tag}-{draw.randrange(2)}",
            "seq": seq,
            "worker_id": f"w{draw.randrange(3)}",
            "trace_id": key if draw.random() < 0.4 else "",
            "request_id": f"r-{tag}-{seq}" if draw.random() < 0.8 else "",
            "session_id": key if draw.random() < 0.8 else "",
            "variant": draw.choice(["control", "canary", "shadow"]) + f"-{tag}",
            "model": draw.choice(["m", "m", "n"]),
            "tenant": draw.choice(["a", "b"]),
            "status": status,
            "latency_us": latency_us,
            "ttft_us": draw.choice([None, 0, round(draw.lognormvariate(11, 1))]),
            "input_tokens": draw.choice([None, 0, draw.randrange(2000)]),
            "output_tokens": draw.choice([None, draw.randrange(400)]),
            "cost_nanousd": draw.choice([None, draw.randrange(20_000_000)]),
            "quality": draw.choice([None, draw.random()]),
            "safety_flags": ["pii"] if draw.random() < 0.05 else [],
            "clock_ahead_us": 0,
        }
        requests.append(row)
        if row["request_id"] and latency_us > 9_000_000:
            announced = {"seq": 1000 + seq, "ts": started_us + 8_000_000, "latency_us": 8_000_000}
            unknown = dict.fromkeys(("ttft_us", "output_tokens", "cost_nanousd", "quality"))
            nothing = {"status": "", "safety_flags": [], "overdue": True}
            requests.append(row | announced | unknown | nothing)
        if row["request_id"] and draw.random() < 0.3:
            feedback.append(
                {
                    "ts": started_us + latency_us + draw.randrange(30 * SECOND),
                    "boot_id": tag,
                    "seq": seq,
                    "request_id": row["request_id"],
                    "accepted": draw.choice([None, True, False]),
                    "quality": draw.choice([None, draw.random()]),
                }
            )
    return requests, feedback


def put(store: Store, requests: Sequence[Row], feedback: Sequence[Row]) -> None:
    for name, rows in (("requests_rows", requests), ("feedback_rows", feedback)):
        shown = [
            {k: v for k, v in row.items() if k != "started" and v is not None}
            | {"ts": row["ts"] / SECOND, "incarnation": 1, "offset": row["seq"]}
            for row in rows
        ]
        if shown:
            insert(store, name, [row | {"ts": f"{row['ts']:.6f}"} for row in shown])


def counted(
    wanted: Wanted, requests: Sequence[Row], feedback: Sequence[Row], end_us: int
) -> dict[Any, Any]:
    """Sums by (block end, arm, stratum, worker): the words of interface.py, one row at a time."""
    mature_us = wanted.mature_s * SECOND
    told: dict[str, list[Row]] = defaultdict(list)
    for row in feedback:
        told[row["request_id"]].append(row)
    parts: dict[Any, list[Row]] = defaultdict(list)
    for row in requests:
        arm = _arm(wanted, row)
        closes_us = row["started"] - row["started"] % BLOCK_US + BLOCK_US + mature_us
        if arm is not None and row["started"] >= START_US and row["ts"] < closes_us:
            key = row["boot_id"], row["request_id"] or row["seq"]
            parts[key].append(row | {"arm": arm, "closes": closes_us})
    units: dict[str, list[Row]] = defaultdict(list)
    found: dict[Any, Any] = defaultdict(lambda: defaultdict(Counter))
    for rows in parts.values():
        request = _request(rows, told)
        units[_unit(wanted, request)].append(request)
        if request["started"] < end_us:
            for metric in wanted.metrics:
                if metric.per == "request":
                    found[_place(request)][metric.name] += _per_request(metric, request)
    gap_us = mature_us if wanted.unit == "request" else math.inf
    for mine in units.values():
        mine.sort(key=lambda row: (row["started"], row["boot_id"], row["seq"]))
        for at, first in enumerate(mine):
            if at and first["started"] - mine[at - 1]["started"] <= gap_us:
                continue
            closes_us = first["started"] - first["started"] % BLOCK_US + BLOCK_US + mature_us
            held = [
                row
                for row in mine[at:]
                if row["started"] <= first["started"] + mature_us and row["ts"] < closes_us
            ]
            if first["started"] < end_us:
                found[_place(first)]["assigned"]["n"] += 1
                for metric in wanted.metrics:
                    if metric.per == "unit":
                        found[_place(first)][metric.name] += _per_unit(metric, held)
    return {
        place: {name: shown for name, sums in metrics.items() if (shown := _nonzero(sums))}
        for place, metrics in found.items()
    }


def _arm(wanted: Wanted, row: Row) -> int | None:
    for arm, given in enumerate(wanted.arms):
        if given and all(row[name] == value for name, value in given.items()):
            return arm
    return None


def _request(rows: Sequence[Row], told: dict[str, list[Row]]) -> Row:
    newest = max(rows, key=lambda row: row["ts"])
    request = dict(newest)
    mine = [row for row in told.get(newest["request_id"], []) if row["ts"] < newest["closes"]]
    scores = [(row["ts"], row["quality"]) for row in mine if row["quality"] is not None]
    if scores:
        request["quality"] = max(scores)[1]
    answers = [row["accepted"] for row in mine if row["accepted"] is not None]
    return request | {
        "started": min(row["started"] for row in rows),
        "seq": min(row["seq"] for row in rows),
        "announced": any(row.get("overdue") for row in rows),
        "unaccepted": not all(answers) if answers else None,
    }


def _unit(wanted: Wanted, row: Row) -> str:
    own = f"{row['boot_id']}:{row['seq'] % 1000}"
    if wanted.unit == "session":
        return str(row["session_id"] or own)
    return str(row["trace_id"] or row["request_id"] or own)


def _place(row: Row) -> tuple[int, int, str, str]:
    tokens = row["input_tokens"]
    length = "" if tokens is None else str(math.floor(math.log2(tokens + 1)))
    hour = row["started"] // (3600 * SECOND) % 24
    end_us = row["started"] - row["started"] % BLOCK_US + BLOCK_US
    return end_us, row["arm"], f"{length}|{row['tenant']}|{hour}", row["worker_id"]


def _per_unit(metric: WantedMetric, rows: Sequence[Row]) -> Counter[Any]:
    if metric.field == "unaccepted":
        known = [row["unaccepted"] for row in rows if row["unaccepted"] is not None]
        return Counter(n=int(bool(known)), bad=int(any(known)))
    bad = {
        "error": lambda row: row["status"] in ("error", "timeout"),
        "timeout": lambda row: row["status"] == "timeout",
        "safety": lambda row: bool(row["safety_flags"]),
    }[metric.field]
    return Counter(n=1, bad=int(any(map(bad, rows))))


def _per_request(metric: WantedMetric, row: Row) -> Counter[Any]:
    if metric.kind == "bins":
        if row["announced"]:
            return Counter({"n": 1, INFINITE_BIN: 1})
        if row["ttft_us"] is None:
            return Counter()
        return Counter({"n": 1, int(fine_bins_of(np.array([row["ttft_us"] / 1000]))[0]): 1})
    if metric.field == "above:latency_ms":
        bad = row["announced"] or row["latency_us"] > (metric.limit or 0) * 1000
        return Counter(n=1, bad=int(bad))
    cost, cap = row["cost_nanousd"], metric.cap or 1.0
    if metric.field == "above_cap":
        return Counter() if cost is None else Counter(n=1, bad=int(cost > cap * 1e9))
    value = row["quality"] if metric.field == "quality" else cost
    if value is None:
        return Counter()
    a = _ppm(value / (cap if metric.field == "quality" else cap * 1e9))
    b = PPM
    if metric.field == "cost_tokens":
        b = _ppm(
            ((row["input_tokens"] or 0) + (row["output_tokens"] or 0)) / (metric.cap_tokens or 1)
        )
    return Counter(n=1, a=a, b=b, aa=a * a, ab=a * b, bb=b * b)


def _ppm(share: float) -> int:
    return math.floor(min(max(share, 0.0), 1.0) * PPM + 0.5)


def read(store: Store, wanted: Wanted, steps: Sequence[int]) -> dict[Any, Any]:
    """The same sums from the store, in calls that end at so many blocks."""
    found: dict[Any, Any] = {}
    first = 0
    for step in steps:
        blocks = read_blocks(
            store, wanted, START_US + first * BLOCK_US, START_US + step * BLOCK_US, START_US,
            [], lambda end_us: 1.0, {(1, 0): 10_000}, START_US, 0,
        )  # fmt: skip
        first = step
        for inputs, _ in evaluations(wanted, blocks):
            for at in range(len(inputs.block)):
                end_us = int(inputs.end_us[inputs.block[at]])
                place = end_us, int(inputs.arm[at]), inputs.stratum[at], inputs.worker[at]
                found[place] = _shown(inputs, at)
    return found


def _shown(inputs: Any, at: int) -> dict[str, dict[Any, int]]:
    shown: dict[str, dict[Any, int]] = {"assigned": {"n": int(inputs.assigned[at])}}
    for name, rows in inputs.metrics.items():
        values: dict[Any, int] = {
            field: int(getattr(rows, field)[at])
            for field in ("n", "bad", "a", "b", "aa", "ab", "bb")
            if getattr(rows, field) is not None
        }
        if rows.bins is not None:
            values |= dict(zip(rows.bins[at].tolist(), rows.counts[at].tolist(), strict=True))
        shown[name] = values
    return {name: left for name, values in shown.items() if (left := _nonzero(values))}


def _nonzero(values: Mapping[Any, int]) -> dict[Any, int]:
    return {name: count for name, count in values.items() if count}


@pytest.mark.parametrize("unit", ["request", "session"])
def test_blocks_equal_counting_row_by_row_however_they_are_asked_for(
    store: Store, unit: str
) -> None:
    requests, feedback = made(7, unit)
    put(store, requests, feedback)
    wanted = wanted_of(unit)
    expected = counted(wanted, requests, feedback, START_US + BLOCKS * BLOCK_US)
    assert read(store, wanted, [BLOCKS]) == expected
    assert read(store, wanted, [1, 2, 7, 8, BLOCKS]) == expected
    assert len(expected) > 100


def wanted_of(unit: str) -> Wanted:
    """Arms that only rows of this test belong to."""
    arms = {"control": f"control-{unit}", "treatment": f"canary-{unit}"}
    changed = {
        name: getattr(CANARY, name).model_copy(update={"variant": v}) for name, v in arms.items()
    }
    found = inputs_wanted(CANARY.model_copy(update={"unit": unit, **changed}))
    assert found is not None
    return found


def test_every_kind_of_limit_of_a_rollback_gate_can_be_asked_for(store: Store) -> None:
    requests, feedback = made(13, "back")
    put(store, requests, feedback)
    limits = [
        {"metric": "acceptance_drop"},
        {"metric": "error_rate", "max_ratio": 0.01},
        {"metric": "latency", "field": "ttft_ms", "quantile": 0.9, "max_ms": 100},
    ]
    arms = {"treatment": {"variant": "canary-back"}, "baseline": {"variant": "control-back"}}
    spec = RollbackGate.model_validate({"id": "back", "mature_s": 20, "limits": limits, **arms})
    wanted = inputs_wanted(spec)
    assert wanted is not None
    blocks = read_blocks(
        store, wanted, START_US, START_US + 2 * 60 * SECOND, START_US,
        [], lambda end_us: 1.0, {(1, 0): 10_000}, START_US, 0,
    )  # fmt: skip
    ((inputs, _),) = evaluations(wanted, blocks)
    carried = {name: int(rows.n.sum()) for name, rows in inputs.metrics.items()}
    assert min(carried.values()) > 20, carried


@dataclass
class Clocked:
    """What a keeper asks of its shard."""

    watermark_us: int
    applied: dict[tuple[int, int], int] = field(default_factory=lambda: {(1, 0): 10_000})
    version: tuple[int, int] = (1, 1)


def test_a_gate_goes_on_after_a_restart_and_late_rows_change_nothing(store: Store) -> None:
    """One keeper all along, and one that starts anew before every evaluation, say the same."""
    requests, feedback = made(11, "life")
    put(store, requests, feedback)
    arms = {name: {"variant": f"{name}-life"} for name in ("control", "canary")}
    specs = [
        CANARY.model_copy(
            update={
                "id": name,
                "control": Arm.model_validate(arms["control"]),
                "treatment": Arm.model_validate(arms["canary"]),
                "min_units": 10,
            }
        )
        for name in ("steady", "restarted")
    ]
    shard = Clocked(START_US)
    steady, _ = (keeper(store, spec, shard) for spec in specs)
    told: dict[str, list[Any]] = defaultdict(list)
    for end in (3, 4, 9, BLOCKS):
        shard.watermark_us = START_US + end * BLOCK_US + 20 * SECOND
        restarted = keeper(store, specs[1], shard)
        for one in (steady, restarted):
            verdict = one.judge(Closing())
            assert verdict is not None
            told[one.spec.id].append([verdict.verdict, verdict.n, verdict.evidence])
        late = {"seq": 3000 + end, "started": START_US, "ts": START_US + SECOND}
        put(store, [requests[0] | late | {"variant": "canary-life"}], [])
    assert told["steady"] == told["restarted"]
    assert told["steady"][-1][1] > 100
    again = keeper(store, specs[1], shard)
    assert again.verdict is not None
    assert [again.verdict.verdict, again.verdict.n, again.verdict.evidence] == told["steady"][-1]


def keeper(store: Store, spec: CanaryGate, shard: Clocked) -> LiveKeeper:
    serial = itertools.count()

    def write(name: str, rows: pa.Table) -> None:
        store.insert(name, rows, f"{spec.id}-{shard.watermark_us}-{next(serial)}")

    return LiveKeeper(store, spec, cast(Shard, shard), [], lambda end_us: 1.0, write)
