"""SLOs and costs over a real store, held against the models of OpenAPI."""

from __future__ import annotations

import pytest
from penstock.api import costs, slos
from penstock.api import signal_models as models
from penstock.schemas.config import parse
from penstock.schemas.errors import NotFound, StoreError
from penstock.schemas.slo.objective import Objective
from penstock.streams.core.slo.status import objective_hash
from penstock.streams.storage.store import Store
from penstock.tests.contract.signal_rows import (
    BURN,
    Clock,
    budget,
    client_of,
    forecast,
    spending,
    status,
)
from penstock.tests.support.api import Client
from penstock.tests.support.rows import at, iso, window
from penstock.tests.support.store import insert


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(api_store: Store, clock: Clock) -> Client:
    return client_of(api_store, clock)


# ---- SLOs


@pytest.fixture(scope="module")
def statuses(store: Store) -> None:
    rows = [status("up", s) for s in range(0, 3601, 10)]
    rows += [status("up", 3600, version=2, state="at_risk", bad=9000)]
    rows += [status("safe", 3600, spec_hash="of another promise")]
    for _ in range(2):
        insert(store, "slo_status_rows", rows)


def test_every_objective_with_its_newest_status(client: Client, statuses: None) -> None:
    body = client.ok("/v1/slos")
    models.SlosAnswer.model_validate(body)
    up, safe = body["slos"]
    assert (up["id"], up["filter"], up["window"]) == ("up", {"model": "chat"}, "30d")
    assert (up["latest"]["state"], up["latest"]["bad"]) == ("at_risk", 9000)
    assert up["latest"]["burns"] == [BURN]
    # What was stored is another promise than the one in force.
    assert safe["latest"] is None
    assert body["as_of"] == iso(3600)
    assert body["counts"] == {"met": 0, "at_risk": 1, "breached": 0, "unknown": 0, "no_data": 1}
    (both,) = body["overall"]
    assert (both["state"], both["kept"], both["total"]) == ("unknown", 1, 2)
    assert both["states"] == {"up": "at_risk", "safe": "no_data"}


def test_an_objective_over_time(client: Client, statuses: None) -> None:
    body = client.ok("/v1/slos/up", start=iso(0), end=iso(3600), step=600)
    models.SloDetail.model_validate(body)
    assert body["step_s"] == 600
    points = [point["as_of"] for point in body["points"]]
    assert points == sorted(points)
    assert points[-1] == iso(3600)
    assert len(points) in (7, 8)  # buckets lie on multiples of the step since 1970
    assert body["points"][0]["consumed"] == pytest.approx(0.059, abs=0.06)
    assert len(client.ok("/v1/slos/up", start=iso(0))["points"]) == 361
    assert client.ok("/v1/slos/up")["step_s"] == 7 * 86_400 // 500
    assert client.ok("/v1/slos/safe")["points"] == []


def test_numbers_of_another_promise_are_not_shown(
    store: Store, api_store: Store, clock: Clock, statuses: None
) -> None:
    """The same id and the same words, over another window: the newest row is of the former one."""
    asked = parse("""
slos:
  - {id: up, filter: {model: chat}, sli: {kind: availability}, target: 0.999, window: 7d}
""")
    changed = slos.Slos(api_store, asked.objectives)
    ask = slos.SloAsk.model_validate({"start": iso(0), "end": iso(3600)})
    one = changed.one("up", ask)
    assert (one["latest"], one["points"]) == (None, [])
    (objective,) = asked.objectives
    assert isinstance(objective, Objective)
    mine = status("up", 3660, spec_hash=objective_hash(objective), state="breached")
    insert(store, "slo_status_rows", [mine])
    ask = slos.SloAsk.model_validate({"start": iso(0), "end": iso(3660)})
    one = changed.one("up", ask)
    assert one["latest"]["state"] == "breached"
    assert [point["as_of"] for point in one["points"]] == [one["latest"]["as_of"]]
    store.command(f"DELETE FROM penstock.slo_status_rows WHERE as_of > '{at(3600):%F %T}'")


def test_questions_for_slos_that_make_no_sense(client: Client, statuses: None) -> None:
    client.problem(404, "/v1/slos/down")
    assert "up, safe" in client.problem(404, "/v1/slos/both")["detail"]
    client.problem(422, "/v1/slos/up", start=iso(100), end=iso(0))
    client.problem(422, "/v1/slos/up", start=0, end=iso(0), step=1)
    client.problem(422, "/v1/slos/up", window="7d")


def test_without_a_configuration_whatever_the_store_has(api_store: Store, statuses: None) -> None:
    whatever = slos.Slos(api_store, None)
    assert [slo["id"] for slo in whatever.all()["slos"]] == ["safe", "up"]
    assert whatever.one("up", slos.SloAsk.model_validate({}))["filter"] == {}
    with pytest.raises(NotFound):
        whatever.one("down", slos.SloAsk.model_validate({}))


# ---- costs


@pytest.fixture(scope="module")
def spent(store: Store) -> None:
    week = 7 * 86_400
    rows = [window(3600, week, requests=10, cost_usd=8.0, input_tokens=5, output_tokens=4)]
    rows += [window(3000, week, requests=9, cost_usd=7.0)]
    for model, usd in (("cheap", 2.0), ("dear", 6.0)):
        rows += [window(3600, week, grouping="model", model=model, requests=5, cost_usd=usd)]
    rows += [window(3600, week, grouping="tenant", tenant="acme", requests=5, cost_usd=8.0)]
    insert(store, "windows_rows", rows)
    insert(
        store,
        "cost_status_rows",
        [budget("fleet"), budget("search", spec_hash="of another"), budget("gone")],
    )
    older = spending("user", as_of=at(3540), keys=[], spent_nanousd=[], since=[], above=0)
    insert(store, "spend_status_rows", [older, spending("user"), spending("gone")])
    insert(store, "capacity_forecasts_rows", [forecast("chat"), forecast("all", spec_hash="x")])


def test_spending_and_budgets(client: Client, spent: None) -> None:
    body = client.ok("/v1/costs")
    models.CostsAnswer.model_validate(body)
    assert (body["window"], body["as_of"]) == ("7d", iso(3600))
    assert body["total"]["cost_usd"] == 8.0
    assert [*body["spend"]] == ["model", "route", "tenant"]
    dear, cheap = body["spend"]["model"]
    assert (dear["dimensions"], dear["share"]) == ({"model": "dear"}, 0.75)
    assert (cheap["share"], cheap["cost_per_1k_tokens_usd"]) == (0.25, None)
    assert body["spend"]["route"] == []
    fleet, search = body["budgets"]
    assert (fleet["state"], fleet["projected_usd"], fleet["low_usd"]) == ("projected", 6500.0, None)
    # What was stored is another amount than the one in force.
    assert (search["state"], search["reasons"]) == ("unknown", ["not_evaluated"])
    assert (search["budget_usd"], search["spent_usd"]) == (7.0, None)


def test_spending_by_other_sets_and_at_other_times(client: Client, spent: None) -> None:
    body = client.ok("/v1/costs", by="model,fleet", limit=1)
    assert {name: len(rows) for name, rows in body["spend"].items()} == {"model": 1, "fleet": 1}
    assert client.ok("/v1/costs", end=iso(3599))["total"]["cost_usd"] == 7.0
    empty = client.ok("/v1/costs", window="3d")
    models.CostsAnswer.model_validate(empty)
    assert (empty["total"], empty["as_of"]) == (None, None)
    client.problem(422, "/v1/costs", by="user")
    client.problem(422, "/v1/costs", window="1w")


def test_spend_limits_and_forecasts(client: Client, spent: None) -> None:
    body = client.ok("/v1/costs")
    user, customer = body["spend_limits"]
    assert (user["id"], user["by"], user["limit_usd"], user["above"]) == ("user", "user_hash", 2, 1)
    assert user["as_of"] == iso(3600)
    assert user["keys"] == [
        {"key": "ann", "spent_usd": 3.0, "share": 1.5, "above_since": iso(3000)},
        {"key": "bob", "spent_usd": 1.0, "share": 0.5, "above_since": None},
    ]
    assert (customer["limit_usd"], customer["as_of"], customer["keys"]) == (9.0, None, [])
    chat, everything = body["forecasts"]
    assert (chat["filter"], chat["state"], chat["estimate_s"]) == (
        {"model": "chat"},
        "saturates",
        4000,
    )
    assert (chat["low_s"], chat["high_s"], chat["signal"]) == (3000, None, "kv_cache_usage")
    # What was stored is of another specification than the one in force.
    assert (everything["state"], everything["reason"]) == ("unknown", "not_evaluated")


def test_budgets_without_a_configuration(api_store: Store, spent: None) -> None:
    found = costs.Costs(api_store, None).all(costs.CostsAsk.model_validate({}))
    assert [item["id"] for item in found["budgets"]] == ["fleet", "gone", "search"]
    assert [item["id"] for item in found["spend_limits"]] == ["gone", "user"]
    assert [item["id"] for item in found["forecasts"]] == ["all", "chat"]


# ---- the store


def test_the_user_of_the_api_may_write_what_people_say_and_nothing_else(
    api_store: Store, form: str
) -> None:
    if form == "embedded":  # there it has the store to itself
        return
    written = ("silences_rows", "acknowledgements_rows", "audit_log_rows")
    for table in written:
        api_store.command(f"INSERT INTO penstock.{table} SELECT * FROM penstock.{table} WHERE 0")
        with pytest.raises(StoreError, match="497"):
            api_store.command(f"TRUNCATE TABLE penstock.{table}")
    for table in ("alert_transitions_rows", "slo_status_rows", "checkpoints_rows"):
        with pytest.raises(StoreError, match="497"):
            api_store.command(
                f"INSERT INTO penstock.{table} SELECT * FROM penstock.{table} WHERE 0"
            )
