"""What POST /v1/gates/{id}/backtest does without a store that answers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from penstock.api.backtest_models import BacktestBody
from penstock.api.gates_backtest import Backtests
from penstock.api.gates_traffic import MOST_ROWS
from penstock.api.gates_verdicts import Verdicts
from penstock.schemas.config import parse
from penstock.schemas.errors import Backpressure, InvalidQuery, StoreError

GATE = """
gates:
  - id: c
    kind: canary
    control: {variant: stable}
    treatment: {variant: canary}
    metrics: [{metric: error_rate, margin_ratio: 2}]
"""
BODY = BacktestBody.model_validate(
    {
        "mode": "aa",
        "start": datetime(2026, 1, 1, tzinfo=UTC),
        "end": datetime(2026, 1, 1, 1, tzinfo=UTC),
    }
)


class Asked:
    """A store that asks for a backtest of its own while it is asked, or answers too much."""

    def __init__(self) -> None:
        self.backtests: Backtests | None = None
        self.inner: list[Exception] = []
        self.rows = 0

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        if self.rows:
            return [{}] * self.rows
        assert self.backtests is not None
        try:
            self.backtests.post("c", BODY)
        except Backpressure as error:
            self.inner.append(error)
        raise StoreError("away", retryable=True)

    def ping(self) -> None:
        raise StoreError("away")

    def free_bytes(self) -> int | None:
        return None


def made(store: Asked) -> Backtests:
    gates = parse(GATE).live_gates
    verdicts = Verdicts(store, gates, lambda: 2 * 10**15, lambda: 0)
    found = Backtests(store, verdicts, lambda: 2 * 10**15, lambda: 0.0, lambda: False)
    store.backtests = found
    return found


def test_one_backtest_at_a_time_and_the_next_after_a_failure() -> None:
    store = Asked()
    backtests = made(store)
    for _ in range(2):
        with pytest.raises(StoreError):
            backtests.post("c", BODY)
    assert [str(error) for error in store.inner] == [
        "another backtest is under way: ask again when it is over"
    ] * 2


def test_too_much_traffic_is_refused_before_it_is_computed() -> None:
    store = Asked()
    backtests = made(store)
    store.rows = MOST_ROWS + 1
    with pytest.raises(InvalidQuery, match="shorter period"):
        backtests.post("c", BODY)
