from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.streams.core.alerts.audit import GENESIS, Broken, Entry, append, verify

BODIES = st.lists(
    st.dictionaries(st.sampled_from(["a", "é", "id"]), st.integers() | st.text(max_size=2)),
    min_size=1,
    max_size=6,
)


def chain(bodies: list[dict[str, Any]]) -> list[Entry]:
    entries: list[Entry] = []
    for at_s, body in enumerate(bodies):
        entries.append(append(entries[-1] if entries else None, at_s, "alert", "penstock", body))
    return entries


@given(BODIES)
def test_a_log_is_whole_after_storage(bodies: list[dict[str, Any]]) -> None:
    entries = chain(bodies)
    stored = [Entry(**json.loads(json.dumps(asdict(entry)))) for entry in entries]
    assert stored == entries
    assert verify(stored) is None
    assert verify(stored, stored[-1].hash) is None


@given(BODIES, st.data())
def test_the_first_change_is_named(bodies: list[dict[str, Any]], data: st.DataObject) -> None:
    entries = chain(bodies)
    at = data.draw(st.integers(0, len(entries) - 1))
    entry = entries[at]
    for changed, reason in (
        (replace(entry, body={**entry.body, "new": 1}), "hash"),
        (replace(entry, at_s=entry.at_s + 1), "hash"),
        (replace(entry, actor="x"), "hash"),
        (replace(entry, previous="f" * 64), "previous"),
        (replace(entry, index=at + 1), "index"),
    ):
        assert verify([*entries[:at], changed, *entries[at + 1 :]]) == Broken(at, reason)  # type: ignore[arg-type]  # a str
    rewritten = append(entries[at - 1] if at else None, 99, "alert", "penstock", {})
    broken = verify([*entries[:at], rewritten, *entries[at + 1 :]], entries[-1].hash)
    assert broken == (
        Broken(at + 1, "previous") if at + 1 < len(entries) else Broken(len(entries), "head")
    )


def test_what_is_missing_is_named() -> None:
    entries = chain([{"n": n} for n in range(4)])
    assert verify([*entries[:2], entries[3]]) == Broken(2, "index")
    assert verify(entries[:3]) is None
    assert verify(entries[:3], entries[3].hash) == Broken(3, "head")
    assert verify([]) is None
    assert verify([], GENESIS) is None


def test_what_json_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        append(None, 1, "alert", "penstock", {"value": float("nan")})
    with pytest.raises(TypeError):
        append(None, 1, "alert", "penstock", {"value": object()})
