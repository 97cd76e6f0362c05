"""The answers of the API over a real store; each is held against the model that OpenAPI documents."""

from __future__ import annotations

from typing import Any

import pytest
from penstock.api import models
from penstock.api.queries import WINDOW_METRICS
from penstock.streams.core.slices import DIMENSIONS, GROUPINGS
from penstock.streams.storage.store import Store
from penstock.tests.support.api import Client
from penstock.tests.support.rows import at, iso, window
from penstock.tests.support.store import insert, unique

INJECTIONS = [
    "' OR 1=1 --",
    "\\' OR 1=1",
    "x'; DROP TABLE penstock.requests_rows; --",
    "{model:String}",
    "%s",
    "\x00",
]


# ---- windows


def test_the_metrics_are_the_columns_of_the_table(store: Store) -> None:
    rows = store.query(
        "SELECT name FROM system.columns WHERE database = 'penstock' AND table = 'windows'"
    )
    keys = {"window_s", "end", "grouping", "coverage_state", "version", *DIMENSIONS}
    assert {row["name"] for row in rows} - keys == WINDOW_METRICS


@pytest.fixture(scope="module")
def traffic(store: Store) -> dict[str, str]:
    """An hour of windows: the fleet, and two releases of a model of which one ends in the middle."""
    model = unique("m")
    base: dict[str, Any] = {"model": model, "model_version": "1", "grouping": "release"}
    rows = [window(s, requests=s, request_rate=s / 60) for s in range(0, 3601, 10)]
    rows += [
        window(s, **base, release="r1", variant="control", requests=s, ttft_ms_p95=5.0)
        for s in range(0, 3601, 10)
    ]
    rows += [
        window(s, **base, release="r2", variant="canary", requests=1, coverage=0.5)
        for s in range(0, 1801, 10)
    ]
    rows += [window(3600, 300, requests=9, errors_by_type={"oom": 2})]
    for _ in range(2):  # twice, as a restarted writer leaves them: readers see each row once
        insert(store, "windows_rows", rows)
    return {"model": model}


def test_the_newest_window_of_each_slice(client: Client, traffic: dict[str, str]) -> None:
    body = client.ok(
        "/v1/windows", metric="requests,ttft_ms", model=traffic["model"], variant="canary"
    )
    models.WindowsAnswer.model_validate(body)
    assert body["grouping"] == "release"
    assert body["metrics"] == [
        "requests",
        "ttft_ms_p50",
        "ttft_ms_p90",
        "ttft_ms_p95",
        "ttft_ms_p99",
    ]
    (series,) = body["series"]
    assert series["slice"] == {
        "model": traffic["model"],
        "model_version": "1",
        "release": "r2",
        "variant": "canary",
    }
    (point,) = series["points"]
    assert point["end"] == iso(1800)
    assert point["values"]["requests"] == 1
    assert point["values"]["ttft_ms_p95"] is None
    assert (point["coverage"], point["coverage_state"]) == (0.5, "ok")


def test_without_filters_the_fleet(client: Client, traffic: dict[str, str]) -> None:
    body = client.ok("/v1/windows", metric="errors_by_type", window="5m")
    assert body["series"][0]["slice"] == {}
    assert body["series"][0]["points"][0]["values"] == {"errors_by_type": {"oom": 2}}
    assert client.ok("/v1/windows", metric="requests", end=iso(95))["series"][0]["points"][0][
        "end"
    ] == iso(90)


def test_a_series_on_its_grid(client: Client, traffic: dict[str, str]) -> None:
    body = client.ok("/v1/windows", metric="requests", start=iso(55), end=iso(300), step=60)
    (series,) = body["series"]
    assert [point["values"]["requests"] for point in series["points"]] == [60, 120, 180, 240, 300]
    body = client.ok("/v1/windows", metric="requests", start=iso(3570))
    assert [p["end"] for p in body["series"][0]["points"]] == [
        iso(s) for s in (3570, 3580, 3590, 3600)
    ]


@pytest.mark.parametrize("grouping", [None, *GROUPINGS])
@pytest.mark.parametrize("extra", [{}, {"start": iso(0), "step": 300}])
def test_every_grouping_answers(
    client: Client, grouping: str | None, extra: dict[str, Any]
) -> None:
    asked = extra if grouping is None else extra | {"grouping": grouping}
    models.WindowsAnswer.model_validate(client.ok("/v1/windows", **asked))


def test_every_metric_can_be_asked_for(client: Client, traffic: dict[str, str]) -> None:
    body = client.ok("/v1/windows", metric=",".join(sorted(WINDOW_METRICS)))
    assert set(body["series"][0]["points"][0]["values"]) == WINDOW_METRICS


def test_questions_for_windows_that_make_no_sense(client: Client) -> None:
    client.problem(422, "/v1/windows", metric="ttft_ms_p42")
    client.problem(422, "/v1/windows", window="7m")
    client.problem(422, "/v1/windows", tenant="t", model="m")
    client.problem(422, "/v1/windows", start="yesterday")


# ---- requests


def request_row(boot: str, seq: int, ts_s: float, **more: Any) -> dict[str, Any]:
    row = {"ts": at(ts_s), "boot_id": boot, "seq": seq, "worker_id": "w", "append_ts": at(ts_s)}
    return row | {"request_id": f"{boot}-{seq}", "status": "ok", "latency_us": seq * 1000} | more


def test_requests_by_filter(client: Client, store: Store) -> None:
    model, boot = unique("m"), unique("b")
    rows = [
        request_row(
            boot, i, i, model=model, status="error" if i % 5 == 0 else "ok", route=f"/{i % 2}",
            tenant="t", session_id="s", trace_id=f"t{i}", error_type="oom" if i % 5 == 0 else "",
            release="r", variant="canary", model_version="1", adapter="a",
        )
        for i in range(20)
    ]  # fmt: skip
    insert(store, "requests_rows", rows)
    insert(store, "requests_rows", rows)  # delivered twice, shown once

    def seqs(**asked: Any) -> list[int]:
        body = client.ok("/v1/requests", model=model, **asked)
        models.RequestsAnswer.model_validate(body)
        return [row["seq"] for row in body["requests"]]

    assert seqs() == list(range(19, -1, -1))
    assert seqs(status="error") == seqs(error_type="oom") == [15, 10, 5, 0]
    assert seqs(route="/1", min_latency_ms=15) == [19, 17, 15]
    assert seqs(trace_id="t3") == [3]
    assert seqs(start=iso(4), end=iso(7)) == [6, 5, 4]
    assert seqs(tenant="t", session_id="s", release="r", variant="canary", limit=2) == [19, 18]
    assert seqs(tenant="other") == []
    row = client.ok("/v1/requests", model=model, limit=1)["requests"][0]
    assert (row["latency_ms"], row["error_type"], row["ts"]) == (19.0, None, iso(19))
    assert "payload" not in row


def test_pages_are_stable_while_rows_are_added(client: Client, store: Store) -> None:
    model = unique("m")
    boots = sorted(unique("b") for _ in range(3))
    # Many rows share a ts, so that pages end in the middle of one.
    rows = [request_row(b, s, s // 10, model=model) for b in boots for s in range(40)]
    insert(store, "requests_rows", rows)
    found: list[tuple[str, int]] = []
    cursor, added = None, 1000
    while True:
        asked: dict[str, Any] = {"cursor": cursor} if cursor else {}
        body = client.ok("/v1/requests", model=model, limit=7, **asked)
        found += [(row["boot_id"], row["seq"]) for row in body["requests"]]
        insert(store, "requests_rows", [request_row(boots[0], added, added, model=model)])
        added += 1
        if (cursor := body["next_cursor"]) is None:
            break
    wanted = sorted(rows, key=lambda r: (r["ts"], r["boot_id"], r["seq"]), reverse=True)
    assert found == [(row["boot_id"], row["seq"]) for row in wanted]


def test_a_request_with_all_that_belongs_to_it(client: Client, store: Store) -> None:
    boot, request_id = unique("b"), unique("r/with slash")
    mine = {"request_id": request_id, "trace_id": unique("t"), "model": "m"}
    base = request_row(boot, 1, 100, **mine, first_step=3, last_step=5, payload="{}")
    insert(store, "requests_rows", [base | {"features": {"f": 0.5}, "safety_flags": ["pii"]}])
    announced = request_row(boot, 0, 101, **mine) | {"status": "", "overdue": True}
    insert(store, "requests_rows", [announced])
    steps = [
        {"ts": at(99 + i / 10), "boot_id": b, "seq": 10 + i, "kind": "engine", "step": i,
         "queue_prefill": i, "kv_cache_usage": 0.5, "batch_size": 4, "step_us": 1500}
        for b in (boot, unique("other"))
        for i in range(8)
    ]  # fmt: skip
    insert(store, "steps_rows", steps)
    span = {"boot_id": boot, "trace_id": mine["trace_id"], "name": "auth", "duration_us": 2500}
    insert(store, "spans_rows", [span | {"ts": at(99), "seq": 50, "start_us": at(98)}])
    judged = {"ts": at(500), "boot_id": "user", "seq": 1, "accepted": True}
    insert(store, "feedback_rows", [judged | {"request_id": request_id}])
    body = client.ok(f"/v1/requests/{request_id}")
    models.RequestDetail.model_validate(body)
    assert body["request"]["status"] == "ok"
    assert body["request"]["features"] == {"f": 0.5}
    assert body["request"]["safety_flags"] == ["pii"]
    assert [step["step"] for step in body["steps"]] == [3, 4, 5]
    assert body["steps"][0]["boot_id"] == boot
    assert (body["steps"][0]["queue_prefill"], body["steps"][0]["step_ms"]) == (3, 1.5)
    assert body["steps_total"] == 3
    assert [(s["name"], s["duration_ms"]) for s in body["spans"]] == [("auth", 2.5)]
    assert [f["accepted"] for f in body["feedback"]] == [True]


def test_a_request_of_which_little_is_known(client: Client, store: Store) -> None:
    boot = unique("b")
    insert(store, "requests_rows", [request_row(boot, 1, 0)])
    body = client.ok(f"/v1/requests/{boot}-1")
    models.RequestDetail.model_validate(body)
    assert (body["feedback"], body["spans"], body["steps"]) == ([], [], [])
    client.problem(404, f"/v1/requests/{unique('r')}")


@pytest.mark.parametrize("text", INJECTIONS)
def test_values_are_values_whatever_they_look_like(client: Client, store: Store, text: str) -> None:
    boot = unique("b")
    insert(store, "requests_rows", [request_row(boot, 1, 0, model=text, route=boot)])
    found = client.ok("/v1/requests", model=text, route=boot)["requests"]
    assert [row["model"] for row in found] == [text]
    assert client.ok("/v1/requests", model=boot + text)["requests"] == []
    assert client.ok("/v1/windows", model=text)["series"] == []
    assert client.ok("/v1/quarantine", reason=text)["rows"] == []
    assert client.ok("/v1/coverage", worker_id=text)["workers"] == []
    for path in ("/v1/requests", "/v1/quarantine"):
        client.problem(422, path, cursor=text)
    client.problem(422, "/v1/windows", metric=text)


# ---- releases, coverage, quarantine


def test_releases(client: Client, store: Store) -> None:
    model = unique("m")
    rows = [
        {"ts": at(i), "boot_id": "b", "seq": i, "model": model, "release": f"r{i}",
         "variant_share": 0.1 * i, "stage": "ramp", "feature_importance": {"f": 1.0}}
        for i in range(3)
    ]  # fmt: skip
    insert(store, "releases_rows", rows)
    body = client.ok("/v1/releases", model=model)
    models.ReleasesAnswer.model_validate(body)
    assert [row["release"] for row in body["releases"]] == ["r2", "r1", "r0"]
    body = client.ok("/v1/releases", model=model, start=iso(1), limit=1)
    assert [row["release"] for row in body["releases"]] == ["r2"]


def boot_row(worker: str, boot: str, **more: Any) -> dict[str, Any]:
    row = {"worker_id": worker, "boot_id": boot, "version": 1, "last_ts": at(9), "state": "ok"}
    return row | {"expected": 10, "received": 10, "stored": 10, "missing": 0} | more


def test_coverage(client: Client, store: Store) -> None:
    worker = unique("w")
    assert client.ok("/v1/coverage", worker_id=worker)["totals"]["state"] == "no_data"
    insert(store, "coverage_rows", [boot_row(worker, "a", state="closed", closed=True)])
    totals = client.ok("/v1/coverage", worker_id=worker)["totals"]
    assert (totals["coverage"], totals["state"], totals["boots"]) == (1.0, "ok", 1)
    insert(store, "coverage_rows", [boot_row(worker, "b", state="unknown")])
    assert client.ok("/v1/coverage", worker_id=worker)["totals"]["state"] == "unknown"
    insert(store, "coverage_rows", [boot_row(worker, "c", state="partial", received=8, missing=2)])
    body = client.ok("/v1/coverage", worker_id=worker, limit=2)
    models.CoverageAnswer.model_validate(body)
    assert body["totals"]["state"] == "partial"
    assert body["totals"]["coverage"] == pytest.approx(28 / 30)
    assert (body["totals"]["boots"], body["totals"]["workers"]) == (3, 1)
    assert len(body["workers"]) == 2
    totals = client.ok("/v1/coverage", worker_id=worker, start=iso(10))["totals"]
    assert totals["boots"] == 0


def test_quarantine(client: Client, store: Store) -> None:
    boot = unique("b")
    rows = [
        {"append_ts": at(i // 3), "offset": i, "row_index": i, "kind": "request", "boot_id": boot,
         "seq": i, "reason": "negative" if i % 4 else "unknown_field", "body": f"row {i}"}
        for i in range(10)
    ]  # fmt: skip
    insert(store, "quarantine_rows", rows)
    body = client.ok("/v1/quarantine", boot_id=boot, limit=4)
    models.QuarantineAnswer.model_validate(body)
    assert body["reasons"] == {"negative": 7, "unknown_field": 3}
    assert "body" not in body["rows"][0]
    seqs = [row["seq"] for row in body["rows"]]
    while body["next_cursor"]:
        body = client.ok("/v1/quarantine", boot_id=boot, limit=4, cursor=body["next_cursor"])
        seqs += [row["seq"] for row in body["rows"]]
    assert seqs == list(range(9, -1, -1))
    body = client.ok("/v1/quarantine", boot_id=boot, reason="negative", limit=1)
    assert body["rows"][0]["seq"] == 9
