from __future__ import annotations

from pathlib import Path

import pytest
from penstock.streams.delivery.errors import (
    DeliveryDelayed,
    DeliveryRefused,
    ReceiverAway,
    check_http,
    check_smtp,
    retry_after_s,
)
from penstock.streams.delivery.secret import MissingSecret, Secrets


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, None), (202, None), (204, None),
        (408, DeliveryDelayed), (425, DeliveryDelayed), (429, DeliveryDelayed),
        (500, ReceiverAway), (502, ReceiverAway), (503, ReceiverAway), (599, ReceiverAway),
        (100, DeliveryRefused), (301, DeliveryRefused), (307, DeliveryRefused),
        (400, DeliveryRefused), (401, DeliveryRefused), (404, DeliveryRefused),
        (410, DeliveryRefused), (413, DeliveryRefused),
    ],
)  # fmt: skip
def test_answers_of_http(status: int, outcome: type[Exception] | None) -> None:
    if outcome is None:
        check_http(status, "ok")
        return
    with pytest.raises(outcome, match=f"HTTP {status}: why") as caught:
        check_http(status, "why\r\nnot", 7.0)
    assert type(caught.value) is outcome
    assert "\n" not in str(caught.value)
    if isinstance(caught.value, DeliveryDelayed):
        assert caught.value.retry_after_s == 7.0


@pytest.mark.parametrize(
    ("code", "outcome"),
    [(421, ReceiverAway), (450, DeliveryDelayed), (454, DeliveryDelayed), (550, DeliveryRefused),
     (535, DeliveryRefused), (-1, ReceiverAway), (250, ReceiverAway)],
)  # fmt: skip
def test_replies_of_smtp(code: int, outcome: type[Exception]) -> None:
    with pytest.raises(outcome) as caught:
        check_smtp(code, "why")
    assert type(caught.value) is outcome


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None), ("", None), ("soon", None), ("-1", None), ("²", None), ("12", 12.0),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ],
)  # fmt: skip
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header, 1_767_225_600.0) == seconds


def test_a_long_answer_is_cut() -> None:
    with pytest.raises(DeliveryRefused) as caught:
        check_http(400, "x" * 10_000)
    assert len(str(caught.value)) == 200


def test_secrets_by_reference(tmp_path: Path) -> None:
    (tmp_path / "FROM_FILE").write_text("in a file\n")
    (tmp_path / "EMPTY").write_text(" \n")
    secrets = Secrets({"FROM_ENV": "in a variable", "BLANK": ""}, tmp_path)
    values = {
        "FROM_ENV": "in a variable",
        "env:FROM_ENV": "in a variable",
        "FROM_FILE": "in a file",
        f"file:{tmp_path / 'FROM_FILE'}": "in a file",
    }
    for reference, value in values.items():
        secret = secrets.get(reference)
        assert secret.get_secret_value() == value
        assert value not in repr(secret) + str(secret)
    for missing in ("NO", "env:NO", "env:FROM_FILE", "file:/no/file", "EMPTY", "BLANK", "vault:x"):
        with pytest.raises(MissingSecret):
            secrets.get(missing)


def test_a_secret_that_is_replaced_is_used_at_once(tmp_path: Path) -> None:
    secrets = Secrets({}, tmp_path)
    for value in ("old", "new"):
        (tmp_path / "KEY").write_text(value)
        assert secrets.get("KEY").get_secret_value() == value
