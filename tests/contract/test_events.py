"""From a POST to what can be asked: the same for both forms, but for what 202 can tell."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zstandard
from penstock.schemas.frames import FrameHeader, encode_frame
from penstock.tests.contract.deployments import FORMS, Deployment
from penstock.tests.support.kafka_events import eventually, request
from penstock.tests.support.store import unique

pytestmark = pytest.mark.slow

FRAMES = {"Content-Type": "application/vnd.penstock.frames"}
CONFIG = """
gates:
  - id: errors
    filter: {variant: canary, model: judged}
    min_units: 20
    min_bake_s: 0
    metrics: [{metric: error_rate, max_ratio: 0.05}]
"""


@pytest.fixture(scope="module")
def running(form: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with FORMS[form](tmp_path_factory.mktemp(form), CONFIG) as found:
        yield found


def closing(boot_id: str) -> bytes:
    """The last frame of a boot that gave out one number."""
    header = FrameHeader(
        kind="control", worker_id="w", boot_id=boot_id, seq0=0, count=0, next_seq=1,
        clock_us=time.time_ns() // 1000, closing=True,
    )  # fmt: skip
    return encode_frame(header, [])


def stored(running: Deployment, model: str, count: int) -> list[dict[str, Any]]:
    """The requests of a model, once there are so many; it fails where there are ever more."""

    def look() -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = running.get("/v1/requests", model=model).json()["requests"]
        assert len(rows) <= count
        return rows if len(rows) == count else []

    return eventually(look)


def window(running: Deployment, metric: str, **query: Any) -> Any:
    """The newest value of a metric; None while there is none."""
    answer = running.get("/v1/windows", metric=metric, **query).json()
    points = [point for series in answer["series"] for point in series["points"]]
    return points[-1]["values"].get(metric) if points else None


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("identity", bytes), ("gzip", gzip.compress), ("zstd", zstandard.ZstdCompressor().compress)],
)
def test_json_in_every_encoding(
    running: Deployment, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    model = unique("enc")
    rows = [request(model=model, request_id=f"{model}-{i}") for i in range(3)]
    answer = running.post(pack(json.dumps(rows).encode()), **{"Content-Encoding": encoding})
    assert answer.status_code == 202, answer.text
    assert answer.json()["accepted"] == 3
    stored(running, model, 3)
    assert running.get(f"/v1/requests/{model}-2").json()["request"]["model"] == model


def test_one_bad_row_does_not_block_its_neighbours(running: Deployment) -> None:
    model, worker = unique("rows"), unique("w")
    base = {"model": model, "worker_id": worker}
    rows = [request(**base), request(**base, latency_ms="fast"), request(**base)]
    rows[2]["status"] = "fine"
    told = running.post("\n".join(map(json.dumps, rows)).encode()).json()
    assert (told["accepted"], told["duplicate"], told["rejected"]) == (1, 0, 2)
    reasons = [(item["index"], item["reason"]) for item in told["rejections"]]
    assert reasons == [(1, "bad_value"), (2, "unknown_value")]
    stored(running, model, 1)
    kept = eventually(
        lambda: (
            len(found := running.get("/v1/quarantine", worker_id=worker).json()["rows"]) == 2
            and found
        )
    )
    assert isinstance(kept, list)
    assert {row["reason"] for row in kept} == {"bad_value", "unknown_value"}


def test_a_repeated_post_counts_once(running: Deployment) -> None:
    model = unique("idem")
    boot = unique("boot")
    rows = [request(model=model), request(model=model, boot_id=boot, seq=0), request(model=model)]
    body = json.dumps(rows).encode()
    key = {"Idempotency-Key": unique("key")}
    assert running.post(body, **key).json()["accepted"] == 3
    again = running.post(body, **key).json()
    if running.form == "embedded":
        assert (again["accepted"], again["duplicate"]) == (0, 3)
    else:  # known only where it is applied
        assert (again["accepted"], again["duplicate"]) == (3, 0)
    other = running.post([request(model=model)], **key)
    assert other.status_code == (409 if running.form == "embedded" else 202)
    stored(running, model, 3)
    assert running.post([request(model=model)]).json()["accepted"] == 1
    stored(running, model, 4)
    # An open boot would hold the windows of the other tests back until it counts as silent.
    assert running.post(closing(boot), **FRAMES).status_code == 202


def test_a_repeated_frame_counts_once(running: Deployment) -> None:
    model, boot = unique("frame"), unique("boot")
    header = FrameHeader(
        kind="request", worker_id="w", boot_id=boot, seq0=0, count=5, next_seq=5,
        clock_us=time.time_ns() // 1000, closing=True,
    )  # fmt: skip
    frame = encode_frame(header, [request(model=model, route=str(i)) for i in range(5)])
    for _ in range(3):
        assert running.post(frame, **FRAMES).status_code == 202
    assert len(stored(running, model, 5)) == 5
    (row,) = eventually(
        lambda: [
            row
            for row in running.get("/v1/coverage", worker_id="w").json()["workers"]
            if row["boot_id"] == boot and row["duplicate"] == 10
        ]
    )
    assert (row["received"], row["missing"], row["state"]) == (5, 0, "closed")
    assert running.post(frame[:-1], **FRAMES).status_code == 400


def test_windows_and_overdue(running: Deployment) -> None:
    rows = [request(model="win", latency_ms=100.0) for _ in range(99)]
    hanging = {"event": "request", "model": "win", "overdue": True}
    rows += [{**hanging, "ts": request()["ts"]} for _ in range(5)]
    assert running.post(rows).json()["accepted"] == 104
    query = {"window": "5m", "model": "win"}
    eventually(lambda: window(running, "requests", **query) == 99)
    assert window(running, "overdue", **query) == 5
    assert window(running, "latency_ms_p95", **query) == pytest.approx(100, rel=0.01)


def test_feedback_before_and_after_its_request(running: Deployment) -> None:
    model = unique("fed")

    def feedback(number: int, accepted: bool) -> dict[str, Any]:
        judged = {"event": "feedback", "ts": request()["ts"], "accepted": accepted}
        return {**judged, "request_id": f"{model}-{number}"}

    assert running.post(feedback(0, False)).json()["accepted"] == 1
    time.sleep(1.5)  # it is counted before its request comes
    rows = [request(model=model, request_id=f"{model}-{i}") for i in range(4)]
    assert running.post(rows).json()["accepted"] == 4
    time.sleep(1.5)
    assert running.post([feedback(i, True) for i in (1, 2, 3)]).json()["accepted"] == 3
    query = {"window": "5m", "model": model}
    eventually(lambda: window(running, "feedback", **query) == 4)
    assert window(running, "acceptance_rate", **query) == 0.75


def test_a_gate_fails_a_bad_release(running: Deployment) -> None:
    assert running.get("/v1/gates/errors/verdict").json()["verdict"] == "NO_DATA"
    marker = {"event": "release", "ts": request()["ts"], "release": "r9", "model": "judged"}
    assert running.post({**marker, "variant": "canary"}).json()["accepted"] == 1
    rows = [
        request(model="judged", variant="canary", release="r9", status="error" if i % 3 else "ok")
        for i in range(90)
    ]
    assert running.post(rows).json()["accepted"] == 90

    def judged() -> dict[str, Any]:
        told: dict[str, Any] = running.get("/v1/gates/errors/verdict", wait="5s").json()
        return told if told["verdict"] == "FAIL" else {}

    told = eventually(judged)
    assert (told["action"], told["epoch"]) == ("rollback", marker["ts"] // 1_000_000)
    assert (told["evidence"][0]["metric"], told["evidence"][0]["bad"]) == ("error_rate", 60)


def test_health_and_metrics(running: Deployment) -> None:
    assert running.get("/health").status_code == 200
    assert running.get("/ready").status_code == 200
    parts = running.get("/health/detailed").json()["components"]
    assert {part["status"] for part in parts.values()} == {"ok"}
    assert ("broker" in parts) == (running.form == "distributed")
    text = running.get("/metrics").text
    assert text.endswith("# EOF\n")
    assert "penstock_watermark_timestamp_seconds" in text
