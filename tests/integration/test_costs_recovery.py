"""Spend limits and forecasts on the real store: what they go on from after a restart is what they left."""

from __future__ import annotations

import random
from typing import Any

import pytest
from penstock.tests.integration import test_signal_recovery
from penstock.tests.integration.test_recovery import CrashingStore
from penstock.tests.unit.streams.signals.test_costs import CONFIGURATION, tell
from penstock.tests.unit.streams.signals.test_signals import Story

store = test_signal_recovery.store
MINUTES = 34


def stored(store: CrashingStore) -> dict[str, list[dict[str, Any]]]:
    """Looks, forecasts and alerts; but for versions, which a restart changes."""
    return {
        "looks": store.query(
            "SELECT limit_id, as_of, above, keys, spent_nanousd, since FROM penstock.spend_status"
            " ORDER BY limit_id, as_of"
        ),
        "forecasts": store.query(
            "SELECT * EXCEPT version FROM penstock.capacity_forecasts ORDER BY as_of"
        ),
        "alerts": test_signal_recovery.changes(store),
    }


@pytest.mark.slow
def test_restarts_change_nothing(store: CrashingStore) -> None:
    tell(Story(store, CONFIGURATION), random.Random(1), 0.0, 0.0, MINUTES)
    expected = stored(store)
    assert {row["state"] for row in expected["forecasts"]} == {"unknown", "saturates"}
    assert any(row["above"] and row["since"][0] for row in expected["looks"])
    assert len(expected["alerts"]) == 3
    for table in store.query("SHOW TABLES FROM penstock LIKE '%\\_rows'"):
        store.command(f"TRUNCATE TABLE penstock.{table['name']}")
    tell(Story(store, CONFIGURATION), random.Random(1), 0.1, 0.2, MINUTES)
    assert stored(store) == expected
