from __future__ import annotations

from typing import Any

import pytest
from penstock.producers.redact import KeyedHash
from penstock.producers.rows import RowBuilder
from penstock.producers.sampling import Sampler, Sampling
from penstock.schemas.redaction import Redaction, Redactor


def builder(transport_timing: bool = True, **defaults: Any) -> RowBuilder:
    return RowBuilder(
        defaults,
        Sampler(Sampling(features_rate=1.0, payload_rate=1.0)),
        Redactor(Redaction()),
        KeyedHash("k"),
        transport_timing=transport_timing,
    )


def test_defaults_reach_the_events_that_have_the_field() -> None:
    rows = builder(model="m", route="/r")
    assert rows.build("step", 5, {"step_ms": 1.0}) == {"ts": 5, "model": "m", "step_ms": 1.0}
    assert rows.build("request", 5, {})["route"] == "/r"
    assert rows.build("feedback", 5, {"request_id": "a"}) == {"ts": 5, "request_id": "a"}


def test_the_call_wins_over_defaults_and_clock() -> None:
    row = builder(model="m").build("step", 5, {"model": "other", "ts": 7})
    assert row == {"ts": 7, "model": "other"}


def test_the_callers_fields_are_not_changed() -> None:
    fields = {"user_id": "ann", "payload": {"a": 1}, "more": 1, "attributes": {"x": "y"}}
    before = {**fields}
    builder().build("request", 1, fields)
    assert fields == before


@pytest.mark.parametrize("ts", ["2024-01-01T00:00:00Z", 1.5, None])
def test_a_ts_that_is_no_integer_is_an_error(ts: object) -> None:
    with pytest.raises(TypeError):
        builder().build("step", 1, {"ts": ts})


def test_identities_are_hashed_and_never_kept() -> None:
    row = builder().build("request", 1, {"user_id": "ann", "client_ip": "10.0.0.1"})
    assert row == {
        "ts": 1,
        "user_hash": KeyedHash("k")("ann"),
        "client_ip_hash": KeyedHash("k")("10.0.0.1"),
    }
    feedback = builder().build("feedback", 1, {"request_id": "r", "user_id": "ann"})
    assert feedback["attributes"] == {"user_hash": KeyedHash("k")("ann")}


def test_a_callers_own_hash_stays() -> None:
    row = builder().build("request", 1, {"user_id": "ann", "user_hash": "mine"})
    assert row == {"ts": 1, "user_hash": "mine"}


def test_personal_data_in_every_text_that_may_hold_it() -> None:
    row = builder().build(
        "request",
        1,
        {
            "payload": {"prompt": "ann@example.com"},
            "error_message": "no mail to ann@example.com",
            "categories": {"domain": "ann@example.com"},
            "attributes": {"from": "ann@example.com"},
            "password": "hunter2",
        },
    )
    assert "ann@" not in repr(row)
    assert row["attributes"] == {"from": "[email]", "password": "[redacted]"}


def test_error_messages_are_redacted_on_every_kind() -> None:
    row = builder().build("step", 1, {"attributes": {"error": "ann@example.com"}})
    assert row["attributes"] == {"error": "[email]"}


def test_identity_of_the_event_is_the_emitters_alone() -> None:
    assert builder().build("step", 1, {"seq": 9, "boot_id": "x", "worker_id": "y"}) == {"ts": 1}


def test_transport_timing_has_a_switch() -> None:
    fields = {"transport_ms": 1.0, "step_ms": 2.0}
    assert builder(transport_timing=False).build("step", 1, fields) == {"ts": 1, "step_ms": 2.0}
    assert builder().build("step", 1, fields)["transport_ms"] == 1.0
