"""The SQL that shows a verdict's numbers, on a real store: what it finds, and what it says of late rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest
from penstock.api.app import build_app
from penstock.api.auth import Access
from penstock.api.gates_evidence_models import EvidenceAnswer
from penstock.schemas.config import Configuration, parse
from penstock.schemas.gates import LiveGate
from penstock.streams.core.gates.canonical import spec_hash
from penstock.streams.core.pipeline import Closing
from penstock.streams.core.shard import Shard
from penstock.streams.gates.live import LiveKeeper
from penstock.streams.storage.store import Store
from penstock.tests.integration.test_gate_inputs import (
    BLOCK_US,
    BLOCKS,
    CANARY,
    SECOND,
    START_US,
    Clocked,
    Row,
    made,
    put,
)
from penstock.tests.support.api import Client, Ingest
from penstock.tests.support.rows import at, iso
from penstock.tests.support.store import insert, opened_store

MINUTE_US = 60 * SECOND


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with opened_store(tmp_path_factory.mktemp("evidence")) as found:
        yield found


def configured(*gates: Row) -> Configuration:
    return parse(json.dumps({"gates": list(gates)}))


def canary(tag: str, **more: Any) -> Row:
    """The gate of every metric, for rows of this tag only."""
    arms = {"control": {"variant": f"control-{tag}"}, "treatment": {"variant": f"canary-{tag}"}}
    spec = CANARY.model_dump(mode="json", exclude_none=True)
    return spec | arms | {"id": f"canary-{tag}", "min_units": 10} | more


def judged(store: Store, spec: LiveGate, end_us: int) -> None:
    """Evaluate a gate that counts blocks up to a watermark, and store what it says."""
    shard = cast(Shard, Clocked(end_us))
    keeper = LiveKeeper(
        store,
        cast(Any, spec),
        shard,
        [],
        lambda _: 1.0,
        lambda name, rows: store.insert(name, rows, f"{spec.id}-{end_us}"),
    )
    verdict = keeper.judge(Closing())
    assert verdict is not None
    told(store, spec, verdict.to_dict(), end_us, keeper.state_to_store())


def told(store: Store, spec: LiveGate, body: Row, as_of_us: int, state: str = "") -> None:
    row = {
        "gate_id": spec.id, "epoch": 0, "as_of": at((as_of_us - START_US) / SECOND), "version": 1,
        "n": body["n"], "verdict": body["verdict"], "spec_hash": spec_hash(spec),
        "digest": body["digest"], "evidence": json.dumps(body), "state": state,
    }  # fmt: skip
    insert(store, "verdicts_rows", [row])


def asked(store: Store, settings: Configuration, gate: str, **query: Any) -> Any:
    client = Client(build_app(Ingest(), store, settings, Access(False)))
    answer = client.ok(f"/v1/gates/{gate}/evidence", **query)
    EvidenceAnswer.model_validate(answer)
    return answer


def ids_of(rows: Sequence[Row]) -> set[str]:
    return {row["request_id"] or f"{row['boot_id']}:{row['seq']}" for row in rows}


@pytest.mark.parametrize("unit", ["request", "session"])
def test_every_metric_of_a_canary_is_found_again(store: Store, unit: str) -> None:
    requests, feedback = made(3, unit)
    put(store, requests, feedback)
    settings = configured(canary(unit, unit=unit))
    (gate,) = settings.live_gates
    judged(store, gate, START_US + BLOCKS * BLOCK_US + 20 * SECOND)
    answer = asked(store, settings, gate.id)
    metrics = {metric["metric"]: metric for metric in answer["metrics"]}
    assert {name: metric["reproduces"] for name, metric in metrics.items()} == dict.fromkeys(
        metrics, True
    )
    assert len(metrics) == 10, "eight metrics, and the share above each of two caps"
    assert answer["reproduces"] is True
    assert all(arm["found"]["n"] > 5 for metric in metrics.values() for arm in metric["arms"])
    for arm in metrics["error_rate"]["arms"]:
        mine = [row for row in requests if row["variant"] == f"{_variant(arm['arm'])}-{unit}"]
        failed = ids_of([row for row in mine if row["status"] in ("error", "timeout")])
        assert len(arm["examples"]) == 5
        assert set(arm["examples"]) <= failed
    refused = {row["request_id"] for row in feedback if row["accepted"] is False}
    for arm in metrics["unaccepted_rate"]["arms"]:
        assert set(arm["examples"]) <= refused
    treatment = metrics["cost_usd"]["arms"][0]
    mine = [row for row in requests if row["variant"] == f"canary-{unit}" and row["model"] == "m"]
    dearest = max(
        (row for row in mine if row["cost_nanousd"] is not None and row["started"] + row["latency_us"]
         < START_US + BLOCKS * BLOCK_US + 20 * SECOND),
        key=lambda row: row["cost_nanousd"],
    )  # fmt: skip
    assert treatment["examples"][0] in ids_of([dearest])


def _variant(arm: str) -> str:
    return {"control": "control", "treatment": "canary"}[arm]


def test_rows_that_came_too_late_are_left_out_or_told_of(store: Store) -> None:
    requests, feedback = made(5, "late")
    put(store, requests, feedback)
    settings = configured(canary("late"))
    (gate,) = settings.live_gates
    judged(store, gate, START_US + BLOCKS * BLOCK_US + 20 * SECOND)
    more = {"seq": 4000, "ts": START_US + 4 * BLOCK_US, "variant": "canary-late"}
    late = requests[0] | more | {"model": "m", "status": "error", "request_id": "", "trace_id": ""}
    put(store, [late | {"late": True}], [])
    answer = asked(store, settings, gate.id)
    assert answer["reproduces"] is True
    found = answer["metrics"][0]
    assert found["late_rows"] == 1
    assert "leaves them out" in found["note"]
    assert "NOT late" in found["sql"]
    # Of this one nothing says that it was late: the SQL cannot tell it from those that were counted.
    put(store, [late | {"seq": 4001}], [])
    answer = asked(store, settings, gate.id)
    assert answer["reproduces"] is False
    found = answer["metrics"][0]["arms"][0]
    assert found["found"]["bad"] > found["evidence"]["bad"]


def test_a_rollback_gate_shows_its_last_minutes(store: Store) -> None:
    requests, _ = made(8, "back")
    put(store, requests, [])
    settings = configured(
        {
            "id": "back", "kind": "rollback", "treatment": {"variant": "canary-back"}, "for_s": 60,
            "mature_s": 10, "alpha_fail": 1e-9,
            "limits": [
                {"metric": "error_rate", "max_ratio": 0.9},
                {"metric": "latency", "max_ms": 500.5, "quantile": 0.05},
            ],
        }
    )  # fmt: skip
    (gate,) = settings.live_gates
    judged(store, gate, START_US + 2 * MINUTE_US + 10 * SECOND)
    answer = asked(store, settings, gate.id)
    assert answer["reproduces"] is True
    assert [metric["arms"][0]["arm"] for metric in answer["metrics"]] == ["treatment"] * 2
    assert answer["metrics"][0]["arms"][0]["found"]["bad"] > 0
    assert [metric["unit"] for metric in answer["metrics"]] == ["ratio", "ratio"]


def test_an_absolute_gate_shows_the_rows_of_its_cells(store: Store) -> None:
    requests, _ = made(9, "limits")
    put(store, requests, [])
    settings = configured(
        {
            "id": "limits", "filter": {"variant": "canary-limits"},
            "metrics": [
                {"metric": "error_rate", "max_ratio": 0.01},
                {"metric": "latency", "max_ms": 500.5},
                {"metric": "latency", "max_ms": 50, "field": "ttft_ms"},
                {"metric": "cost_per_1k_tokens_usd", "max_usd": 0.01, "cap_usd": 0.005},
            ],
        }
    )  # fmt: skip
    (gate,) = settings.live_gates
    end_us = START_US + 100 * SECOND
    mine = [row for row in requests if row["variant"] == "canary-limits" and row["ts"] < end_us]
    counts: dict[str, tuple[int, int | None]] = {
        "error_rate": _counts(mine, lambda row: row["status"] != "", _failed),
        "latency_ms_p95": _counts(mine, _timed, _slow),
        "ttft_ms_p95": _counts(
            mine, lambda row: row["ttft_us"] is not None, lambda row: row["ttft_us"] > 50_000
        ),
        "cost_per_1k_tokens_usd": (sum(row["cost_nanousd"] is not None for row in mine), None),
    }
    evidence: list[Row] = [
        {"metric": name, "declared": "", "decision": "FAIL", "n": n, "bad": bad, "arms": []}
        for name, (n, bad) in counts.items()
    ]
    body = {
        "verdict": "FAIL", "epoch": 0, "n": len(mine), "digest": "d", "engine": "absolute-1",
        "as_of": iso(100), "evidence": evidence,
    }  # fmt: skip
    told(store, gate, body, end_us, json.dumps({"start_us": START_US}))
    answer = asked(store, settings, gate.id)
    assert {m["metric"]: m["reproduces"] for m in answer["metrics"]} == dict.fromkeys(counts, True)
    assert min(n for n, _ in counts.values()) > 20
    plan = [
        max(min(row["cost_nanousd"] - _tokens(row) * 10_000_000 // 1000, 5_000_000), -5_000_000)
        for row in mine
        if row["cost_nanousd"] is not None
    ]
    (row,) = store.query(answer["metrics"][3]["sql"])
    assert row["estimate"] == pytest.approx(sum(plan) / len(plan) / 1e9, rel=1e-12)


def _counts(rows: Sequence[Row], carried: Any, bad: Any) -> tuple[int, int]:
    mine = [row for row in rows if carried(row)]
    return len(mine), sum(map(bool, map(bad, mine)))


def _failed(row: Row) -> bool:
    return row["status"] in ("error", "timeout")


def _timed(row: Row) -> bool:
    return row["status"] == "" or not row.get("overdue")


def _slow(row: Row) -> bool:
    return bool(row["status"] == "" or row["latency_us"] > 500_500)


def _tokens(row: Row) -> int:
    return (row["input_tokens"] or 0) + (row["output_tokens"] or 0)


def test_a_budget_gate_shows_the_status_that_it_read(store: Store) -> None:
    slo = (
        "slos: [{id: up, filter: {model: m}, sli: {kind: availability}, target: 0.99, window: 7d}]"
    )
    settings = parse(f"{slo}\ngates: [{{id: b, kind: budget, slo: up, min_left_ratio: 0.1}}]")
    (gate,) = settings.live_gates
    row = {"slo_id": "up", "as_of": at(60), "version": 1, "bad": 3, "total": 900, "target": 0.99}
    insert(store, "slo_status_rows", [row])
    item = {"metric": "up", "declared": "", "decision": "PASS", "n": 900, "bad": 3}
    body = {
        "verdict": "PASS", "epoch": 0, "n": 900, "digest": "d", "engine": "e", "as_of": iso(60),
        "evidence": [item],
    }  # fmt: skip
    told(store, gate, body, START_US + 60 * SECOND)
    answer = asked(store, settings, "b", epoch=0)
    assert (answer["reproduces"], answer["start"]) == (True, None)
    assert answer["metrics"][0]["arms"][0]["found"] == {"n": 900, "bad": 3}
    assert answer["metrics"][0]["late_rows"] is None
    insert(store, "slo_status_rows", [row | {"version": 2, "bad": 4}])
    answer = asked(store, settings, "b")
    assert answer["reproduces"] is False
    assert "written again" in answer["metrics"][0]["note"]


def test_without_a_stored_verdict_there_is_nothing_to_show(store: Store) -> None:
    settings = configured(canary("nobody"))
    answer = asked(store, settings, "canary-nobody")
    assert (answer["verdict"], answer["metrics"], answer["reproduces"]) == (None, [], None)
    client = Client(build_app(Ingest(), store, settings, Access(False)))
    client.problem(404, "/v1/gates/canary-nobody/evidence", epoch=3)
    client.problem(404, "/v1/gates/other/evidence")
