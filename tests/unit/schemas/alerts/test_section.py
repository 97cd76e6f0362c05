from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from penstock.schemas.alerts.base import Matcher, all_match, unix_s
from penstock.schemas.alerts.quiet import MaintenanceWindow, Silence, Weekly
from penstock.schemas.alerts.section import Alerts
from pydantic import ValidationError

MONDAY_S = unix_s(datetime(2026, 1, 5, tzinfo=UTC))
ONE = {"matchers": [{"label": "model", "value": "chat"}], "reason": "migration", "author": "ann"}
TIMES = {"starts_at": "2026-01-05T10:00:00+02:00", "ends_at": "2026-01-05T09:00:00Z"}


@pytest.mark.parametrize(
    ("op", "value", "chat", "nothing"),
    [
        ("=", "chat", True, False),
        ("!=", "chat", False, True),
        ("=~", "ch.*|x", True, False),
        ("=~", "c", False, False),
        ("!~", "ch.*", False, True),
        ("=", "", False, True),
    ],
)
def test_matchers(op: str, value: str, chat: bool, nothing: bool) -> None:
    matcher = Matcher.model_validate({"label": "model", "op": op, "value": value})
    assert matcher.matches({"model": "chat"}) == chat
    assert all_match((matcher,), {}) == nothing


def test_a_matcher_must_compile() -> None:
    with pytest.raises(ValidationError, match="no regular expression"):
        Matcher(label="a", op="=~", value="(")


def test_a_silence_ends() -> None:
    silence = Silence.model_validate({"id": "s", **ONE, **TIMES})
    start_s = MONDAY_S + 8 * 3600
    assert [silence.active(start_s + d) for d in (-1, 0, 3599, 3600)] == [False, True, True, False]
    with pytest.raises(ValidationError, match="must be after"):
        Silence.model_validate({"id": "s", **ONE, **TIMES, "ends_at": "2026-01-05T08:00:00Z"})
    with pytest.raises(ValidationError, match="timezone"):
        Silence.model_validate({"id": "s", **ONE, **TIMES, "ends_at": "2026-01-06T08:00:00"})


def test_weekly_hours_reach_over_midnight_and_the_week() -> None:
    weekly = Weekly(weekday="sun", start="23:30", duration_s=3600)
    start_s = MONDAY_S - 1800
    for week in (-1, 0, 5):
        at_s = start_s + week * 7 * 86400
        active = [weekly.active(at_s + d) for d in (-1, 0, 1800, 3599, 3600)]
        assert active == [False, True, True, True, False]


def test_maintenance_is_once_or_weekly() -> None:
    base = {"id": "m", "reason": "upgrade"}
    once = MaintenanceWindow.model_validate(base | TIMES)
    assert once.active(MONDAY_S + 8 * 3600)
    assert not once.active(MONDAY_S + 9 * 3600)
    weekly = {"weekday": "mon", "start": "00:00", "duration_s": 60}
    assert MaintenanceWindow.model_validate(base | {"weekly": weekly}).active(MONDAY_S)
    for wrong, message in (
        ({}, "either"),
        ({"weekly": weekly} | TIMES, "either"),
        ({"starts_at": TIMES["starts_at"]}, "go together"),
        (TIMES | {"ends_at": TIMES["starts_at"]}, "must be after"),
    ):
        with pytest.raises(ValidationError, match=message):
            MaintenanceWindow.model_validate(base | wrong)


RULE = {"id": "r", "condition": {"kind": "absence"}}
HOOK = {"kind": "webhook", "name": "hook", "url": "https://example.org/x"}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"rules": [RULE, RULE]}, "rule id given twice: r"),
        ({"receivers": [HOOK, HOOK]}, "receiver name given twice: hook"),
        ({"route": {"receivers": ["nobody"]}}, "no such receiver: nobody"),
        ({"route": {"routes": [{"escalate": [{"receivers": ["x"]}]}]}}, "no such receiver: x"),
        ({"route": {"matchers": [{"label": "a", "value": "b"}]}}, "takes every alert"),
        ({"route": {"go_on": True}}, "takes every alert"),
        ({"receivers": [HOOK | {"url": "ftp://x"}]}, "should match pattern"),
    ],
)
def test_references_within_the_section_are_checked(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Alerts.model_validate(section)


def test_an_empty_section_is_valid() -> None:
    assert Alerts().rules == ()
