"""What each indicator counts, checked on one tile that holds every counter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from penstock.schemas.events import ERROR_TYPES, SAFETY_FLAGS, STATUSES
from penstock.schemas.slo.objective import Composite, Objective
from penstock.schemas.slo.sli import CounterName
from penstock.streams.core import metrics as m
from penstock.streams.core.slices import FLEET, Slice, SliceRegistry
from penstock.streams.core.slo.readings import (
    COUNTERS,
    counters_for_slos,
    coverage_reading,
    group_of_objective,
    reading_of,
)
from penstock.streams.core.slo.tile_reader import TileReader
from penstock.streams.core.tiles import EMPTY
from penstock.tests.unit.streams.core.slo.stored import objective, tile

TTFT = m.Threshold("ttft_us", 1_200_000)
COUNTS = {
    m.key(m.REQUESTS): 100,
    **{m.key(m.STATUS, at): n for at, n in enumerate((80, 7, 5, 4, 4))},
    **{m.key(m.ERROR_TYPE, at): at + 1 for at in range(len(ERROR_TYPES))},
    m.key(m.SAFETY_VIOLATIONS): 9,
    **{m.key(m.SAFETY_FLAG, at): at + 1 for at in range(len(SAFETY_FLAGS) + 1)},
    m.key(m.QUALITY_MICRO): 3_500_000,
    m.key(m.QUALITY_COUNT): 4,
    m.key(m.ACCEPTED_KNOWN): 20,
    m.key(m.ACCEPTED): 14,
    m.key(m.COST_NANOUSD): 5_000_000_000,
    m.key(m.COSTED_TOKENS): 200_000,
    m.key(m.STEPS): 33,
    m.key(TTFT.number): 90,
    m.key(TTFT.number, 1): 6,
}
TILE = tile({(FLEET, key): n for key, n in COUNTS.items()})


def read(asked: Objective) -> list[int]:
    reading = reading_of(asked)
    reader = TileReader([(Slice("fleet", ()), reading)], SliceRegistry(10, 10))
    pair: list[int] = reader.read(TILE)[0].tolist()
    return pair if reading.rule is None else list(reading.rule.judge(*pair))


@pytest.mark.parametrize(
    ("sli", "expected"),
    [
        ({"kind": "availability"}, [7 + 5 + 4, 100]),
        ({"kind": "error_rate"}, [7 + 5, 100]),
        ({"kind": "error_rate", "types": ["oom", "overload"]}, [1 + 6, 100]),
        ({"kind": "latency", "field": "ttft_ms", "max_ms": 1200}, [6, 90]),
        ({"kind": "safety"}, [9, 100]),
        ({"kind": "safety", "flag": None}, [9, 100]),
        ({"kind": "safety", "flag": "custom"}, [len(SAFETY_FLAGS) + 1, 100]),
        ({"kind": "quality"}, [500_000, 4_000_000]),
        ({"kind": "quality", "max_score": 5}, [16_500_000, 20_000_000]),
        ({"kind": "acceptance"}, [6, 20]),
        # 5 USD for 200,000 tokens is 0.025 USD for 1,000
        ({"kind": "cost_per_1k_tokens_usd", "max_usd": "0.025"}, [0, 1]),
        ({"kind": "cost_per_1k_tokens_usd", "max_usd": "0.02499999"}, [1, 1]),
        ({"kind": "freshness"}, [0, 1]),
        ({"kind": "freshness", "of": "feedback"}, [1, 1]),
        ({"kind": "freshness", "of": "steps"}, [0, 1]),
        ({"kind": "throughput", "min_per_s": "1.6666"}, [0, 1]),
        ({"kind": "throughput", "min_per_s": "1.6667"}, [1, 1]),
        (
            {
                "kind": "ratio",
                "good": {"counter": "status", "values": ["ok", "cancelled"]},
                "total": {"counter": "requests"},
            },
            [100 - 84, 100],
        ),
        (
            {
                "kind": "ratio",
                "bad": {"counter": "safety_violations"},
                "total": {"counter": "accepted_known"},
            },
            [9, 20],
        ),
    ],
)
def test_indicators(sli: dict[str, Any], expected: list[int]) -> None:
    assert read(objective(sli=sli)) == expected


def test_a_quantile_is_a_threshold_and_asks_for_its_counter() -> None:
    sli = {"kind": "latency_quantile", "field": "ttft_ms", "quantile": 0.95, "max_ms": 1200}
    asked = objective(sli=sli, target=None)
    assert read(asked) == [6, 90]
    both: list[Objective | Composite] = [asked, objective(), asked, Composite(id="all", of=("a",))]
    assert counters_for_slos(both) == (TTFT,)


def test_time_slices_judge_a_minute_by_its_events() -> None:
    assert read(objective(time_slice_target="0.84")) == [0, 1]  # 16 of 100 are bad
    assert read(objective(time_slice_target="0.8401")) == [1, 1]
    rule = reading_of(objective(time_slice_target="0.84")).rule
    assert rule is not None
    assert rule.judge(0, 0) == (0, 0)


def test_ratios_read_other_slices_and_slices_may_come_later() -> None:
    canary = {"model": "m", "model_version": "1", "release": "r", "variant": "canary"}
    asked = objective(
        filter={"model": "m"},
        sli={
            "kind": "ratio",
            "good": {"counter": "requests", "filter": canary},
            "total": {"counter": "requests"},
        },
    )
    registry = SliceRegistry(10, 10)
    reader = TileReader([(Slice("model", ("m",)), reading_of(asked))], registry)
    registry.number(Slice("release", ("m", "", "r", "canary")))  # another version
    model = registry.number(Slice("model", ("m",)))
    assert reader.read(tile({(model, m.key(m.REQUESTS)): 8})).tolist() == [[8, 8]]
    arm = registry.number(Slice("release", ("m", "1", "r", "canary")))
    both = tile({(model, m.key(m.REQUESTS)): 8, (arm, m.key(m.REQUESTS)): 5})
    assert reader.read(both).tolist() == [[3, 8]]
    assert reader.read(EMPTY).tolist() == [[0, 0]]
    assert group_of_objective(asked) == "model:m"


def test_coverage_counts_rows_without_identity_as_missing() -> None:
    reader = TileReader([(Slice("coverage", ()), coverage_reading())], SliceRegistry(10, 10))
    values = {m.RECEIVED: 90, m.MISSING: 8, m.GAP: 2, m.UNIDENTIFIED: 5}
    counted = tile({(1, m.key(metric)): n for metric, n in values.items()})
    assert reader.read(counted).tolist() == [[15, 100]]


def test_every_counter_and_value_is_known() -> None:
    assert set(COUNTERS) == set(CounterName.__args__)  # type: ignore[attr-defined]  # of Literal
    assert STATUSES == ("ok", "error", "timeout", "cancelled", "rejected")
    assert np.unique([*COUNTERS.values()]).size == len(COUNTERS)
