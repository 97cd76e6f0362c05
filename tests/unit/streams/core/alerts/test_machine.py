from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.streams.core.alerts.machine import RuleState, amend, initial_state, retire, step
from penstock.streams.core.alerts.signals import Reading
from penstock.streams.core.alerts.transition import Transition, shown
from penstock.streams.core.alerts.watch import Watch
from penstock.tests.unit.streams.core.alerts.build import kinds, rule

KEY = '{"model":"a"}'
BAD = Reading(0.2, 0.1, 50, True, False, "ratio")
OK = Reading(0.01, 0.1, 50, False, True, "ratio")
MIDDLE = Reading(0.09, 0.1, 50, False, False, "ratio")  # below the limit, not below the easier one
UNKNOWN = Reading(0.2, 0.1, 1, None, None, "ratio")
READINGS: dict[str, Reading | None] = {"b": BAD, "o": OK, "m": MIDDLE, "u": UNKNOWN, ".": None}


def run(text: str, start_s: int = 100, **fields: Any) -> list[Transition]:
    """One letter a second: b bad, o well, m between, u unknown, . no data."""
    return steps(Watch(rule(by="model", **fields)), None, text, start_s)[1]


def steps(
    watch: Watch, state: RuleState | None, text: str, start_s: int
) -> tuple[RuleState, list[Transition]]:
    state = state or initial_state(watch, start_s)
    said: list[Transition] = []
    for at_s, letter in enumerate(text, start_s + 1):
        reading = READINGS[letter]
        state, news = step(watch, state, at_s, {} if reading is None else {KEY: reading})
        said += news
    return state, said


@pytest.mark.parametrize(
    ("text", "fields", "expected"),
    [
        ("oob", {}, [(103, "firing")]),
        ("bbbo", {}, [(101, "firing"), (104, "resolved")]),
        ("bbb", {"for_s": 2}, [(101, "pending"), (103, "firing")]),
        ("bobb", {"for_s": 2}, [(101, "pending"), (102, "cancelled"), (103, "pending")]),
        ("bm", {}, [(101, "firing")]),
        ("bobo", {"resolve_for_s": 1}, [(101, "firing")]),
        ("boobo", {"resolve_for_s": 1}, [(101, "firing"), (103, "resolved"), (104, "firing")]),
        # What is not known neither fires nor resolves, and does not count towards `for`.
        ("b..u.b", {"for_s": 5}, [(101, "pending")]),
        ("b..bbb", {"for_s": 3}, [(101, "pending"), (106, "firing")]),
        ("b...o", {}, [(101, "firing"), (105, "resolved")]),
        ("bo..o", {"resolve_for_s": 2}, [(101, "firing")]),
        ("bo..oo", {"resolve_for_s": 2}, [(101, "firing"), (106, "resolved")]),
        ("bu.", {"resolve_for_s": 1}, [(101, "firing")]),
        # Policies without data.
        ("b.", {"on_no_data": "resolve"}, [(101, "firing"), (102, "resolved")]),
        ("b.", {"on_no_data": "resolve", "for_s": 5}, [(101, "pending"), (102, "cancelled")]),
        ("o.o", {"on_no_data": "fire"}, [(102, "firing"), (103, "resolved")]),
        ("..", {"on_no_data": "fire"}, []),
        # A dead-man switch counts from the last row.
        ("o" + "." * 11 + "o", {"condition": {"kind": "absence", "absent_s": 10}},
         [(111, "firing"), (113, "resolved")]),
        # Slices that are gone are forgotten.
        ("b" + "." * 61, {"forget_after_s": 60}, [(101, "firing"), (161, "resolved")]),
        ("o" + "." * 99, {"forget_after_s": 60, "on_no_data": "fire", "for_s": 70},
         [(102, "pending"), (161, "cancelled")]),
    ],
)  # fmt: skip
def test_courses(text: str, fields: dict[str, Any], expected: list[tuple[int, str]]) -> None:
    assert kinds(run(text, **fields)) == expected


def test_reasons_say_why() -> None:
    assert [item.reason for item in run("bo")] == ["condition", "cleared"]
    assert [item.reason for item in run("o.o", on_no_data="fire")] == ["no_data", "cleared"]
    absence = {"kind": "absence", "absent_s": 10}
    found = run("o" + "." * 10 + "o", condition=absence)
    assert [item.reason for item in found] == ["condition", "cleared"]
    assert found[0].value == 10
    assert found[0].text == "10 s without data (limit 10 s)"
    assert run("b" + "." * 60, forget_after_s=60)[-1].reason == "forgotten"


def test_a_forgotten_slice_leaves_nothing_behind() -> None:
    watch = Watch(rule(by="model", on_no_data="fire", for_s=999, forget_after_s=60))
    state, _ = steps(watch, None, "o" + "." * 60, 100)
    assert state.series == {}
    assert steps(Watch(rule(by="model")), None, "bo", 100)[0].series == {}
    patient = rule(by="model", condition={"kind": "absence", "absent_s": 90}, forget_after_s=60)
    assert steps(Watch(patient), None, "o" + "." * 60, 100)[0].series == {}


def test_identity_follows_from_what_happened() -> None:
    first, second = run("bbo", for_s=1), run("bbo", for_s=1)
    assert first == second
    assert [item.sequence for item in first] == [0, 1, 2]
    assert len({item.alert_id for item in first}) == 1
    assert len({item.id for item in first}) == 3
    assert run("bo", start_s=101)[0].alert_id != run("bo", start_s=100)[0].alert_id
    assert run("b", for_s=0)[0].alert_id != run("b", severity="critical")[0].alert_id
    texts = run("b", annotations={"summary": "x"}, runbook="y")
    assert texts[0].alert_id == run("b")[0].alert_id


def test_a_transition_tells_everything() -> None:
    item = run(
        "b", labels={"team": "ml"}, group="errors", runbook="docs/x.md",
        annotations={"summary": "{{ rule }} {{ $labels.model }} {{ value }} > {{ limit }}, "
                     "{{ value | number }} of {{ n }} since {{ started }} {{ metric }}/{{ window }}"},
    )[0]  # fmt: skip
    assert item.labels == {
        "model": "a", "team": "ml", "alertname": "r", "group": "errors", "severity": "warning",
    }  # fmt: skip
    assert item.annotations["summary"] == (
        "r a 20 % > 10 %, 0.2 of 50 since 1970-01-01T00:01:41Z error_rate/1m"
    )
    assert (item.value, item.limit, item.n, item.runbook) == (0.2, 0.1, 50, "docs/x.md")
    assert Transition.from_json(item.to_json()) == item
    with pytest.raises(ValueError, match="not a transition"):
        Transition.from_json('{"x": 1}')


def test_values_are_shown_with_their_units() -> None:
    assert shown(None, "ms") == ""
    assert shown(math.nan, "ms", "x") == ""
    assert shown(math.inf, "ms") == "longer than anything"
    assert shown(0.12, "usd") == "0.12 USD"
    assert shown(12345.6, "count") == "12,346"


def test_an_infinite_value_is_stored_as_unknown() -> None:
    watch = Watch(rule(by="model"))
    reading = Reading(math.inf, 1200, 9, True, False, "ms")
    _, (item,) = step(watch, initial_state(watch, 0), 1, {KEY: reading})
    assert item.value is None
    assert item.text == "longer than anything (limit 1,200 ms)"
    assert "null" in item.to_json()


def test_a_rule_that_is_gone_ends_its_alerts() -> None:
    pending, _ = steps(Watch(rule(by="model", for_s=60)), None, "bb", 100)
    firing, _ = steps(Watch(rule(by="model", on_no_data="fire")), None, "bb", 100)
    assert kinds(retire(pending, "rule_changed")) == [(102, "cancelled")]
    (ended,) = retire(firing, "rule_removed")
    assert (ended.kind, ended.reason, ended.sequence) == ("resolved", "rule_removed", 1)
    quiet, _ = steps(Watch(rule(by="model", on_no_data="fire")), None, "o", 100)
    assert retire(quiet, "rule_removed") == []


def test_late_rows_amend_and_never_rewrite() -> None:
    (fired,) = run("b")
    changed = Reading(0.05, 0.1, 90, False, True, "ratio")
    note = amend(rule(by="model"), fired, changed)
    assert note is not None
    assert (note.kind, note.reason, note.value, note.n) == ("amended", "late_data", 0.05, 90)
    assert (note.alert_id, note.sequence, note.at_s) == (fired.alert_id, 0, fired.at_s)
    assert note == amend(rule(by="model"), fired, changed)
    assert amend(rule(by="model"), fired, BAD) is None
    gone = amend(rule(by="model"), fired, None)
    assert gone is not None
    assert gone.value is None


def test_rows_of_other_slices_do_not_amend_a_silence() -> None:
    silent = rule(by="model", condition={"kind": "absence", "absent_s": 10})
    (fired,) = steps(Watch(silent), None, "o" + "." * 10, 100)[1]
    assert amend(silent, fired, None) is None
    after = amend(silent, fired, Reading(0, 10, 0, False, True, "s", "without data"))
    assert after is not None
    assert after.value == 0


def test_a_moment_is_evaluated_once() -> None:
    watch = Watch(rule(by="model"))
    state, said = steps(watch, None, "bb", 100)
    again, nothing = step(watch, state, 101, {KEY: OK})
    assert again is state
    assert nothing == []
    assert len(said) == 1


LETTERS = st.text("bomu.", max_size=60)
FIELDS = st.fixed_dictionaries({
    "for_s": st.integers(0, 4),
    "resolve_for_s": st.integers(0, 4),
    "on_no_data": st.sampled_from(["keep", "resolve", "fire"]),
    "condition": st.sampled_from([rule().condition, {"kind": "absence", "absent_s": 10}]),
    "forget_after_s": st.just(60),
})  # fmt: skip


@given(LETTERS, FIELDS, st.integers(0, 60))
def test_a_restart_anywhere_changes_nothing(text: str, fields: dict[str, Any], cut: int) -> None:
    watch = Watch(rule(by="model", **fields))
    whole, expected = steps(watch, None, text, 100)
    state, said = steps(watch, None, text[:cut], 100)
    saved = RuleState.from_json(state.to_json())
    assert saved == state
    # What was given before the restart may come again.
    rest = max(min(cut, len(text)) - 3, 0)
    state, more = steps(watch, saved, text[rest:], 100 + rest)
    assert said + more == expected
    assert state == whole


@given(LETTERS, FIELDS)
def test_courses_are_well_formed(text: str, fields: dict[str, Any]) -> None:
    said = run(text, **fields)
    episodes: dict[str, list[Transition]] = {}
    for item in said:
        episodes.setdefault(item.alert_id, []).append(item)
    for course in episodes.values():
        assert [item.sequence for item in course] == list(range(len(course)))
        names = [item.kind for item in course]
        assert names in (
            ["pending"], ["pending", "cancelled"], ["firing"], ["firing", "resolved"],
            ["pending", "firing"], ["pending", "firing", "resolved"],
        )  # fmt: skip
        if names[:2] == ["pending", "firing"]:
            assert course[1].at_s - course[0].at_s >= fields["for_s"]
    assert len({item.id for item in said}) == len(said)


def test_what_is_no_state_is_refused() -> None:
    for text in ("{}", "[]", '{"series": {"a": {"x": 1}}}'):
        with pytest.raises(ValueError, match="not the state"):
            RuleState.from_json(text)
