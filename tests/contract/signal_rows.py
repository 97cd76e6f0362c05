"""Rows of signals, a configuration that asks for them, and a clock: what their contract tests share."""

from __future__ import annotations

import json
from typing import Any

from penstock.api.app import build_app
from penstock.api.auth import Access
from penstock.schemas.config import parse
from penstock.schemas.slo.objective import Objective
from penstock.streams.core.costs.budget import budget_hash
from penstock.streams.core.costs.limits import limit_hash
from penstock.streams.core.costs.saturation import forecast_hash
from penstock.streams.core.slo.status import objective_hash
from penstock.streams.storage.store import Store
from penstock.tests.support.api import Client, Ingest, problem_of
from penstock.tests.support.rows import T0, at, iso

NOW_S = 3600
CONFIGURATION = parse(f"""
slos:
  - {{id: up, filter: {{model: chat}}, sli: {{kind: availability}}, target: 0.999}}
  - {{id: safe, sli: {{kind: safety}}, target: 0.99}}
  - {{id: both, of: [up, safe]}}
alerts:
  silences:
    - {{id: fixed, matchers: [{{label: model, value: fixed}}], reason: r, author: a,
       starts_at: "{iso(0)}", ends_at: "{iso(2 * NOW_S)}"}}
  inhibitions:
    - source: [{{label: severity, value: critical}}]
      target: [{{label: severity, value: info}}]
      equal: [model]
costs:
  budgets: [{{id: fleet, usd: 5000}}, {{id: search, usd: 7, filter: {{route: /s}}}}]
  spend_limits: [{{id: user, by: user_hash, usd: 2}}, {{id: customer, by: tenant, usd: 9}}]
  forecasts: [{{id: chat, filter: {{model: chat}}}}, {{id: all}}]
""")
BURN = {
    "name": "1h", "severity": "critical", "for_s": 0, "factor": 14.4, "long_rate": 20.0,
    "short_rate": None, "above": False, "firing": False,
}  # fmt: skip


HASHES = {
    item.id: objective_hash(item)
    for item in CONFIGURATION.objectives
    if isinstance(item, Objective)
}
HASHES |= {item.id: budget_hash(item) for item in CONFIGURATION.costs.budgets}
HASHES |= {item.id: limit_hash(item) for item in CONFIGURATION.costs.spend_limits}
HASHES |= {item.id: forecast_hash(item) for item in CONFIGURATION.costs.forecasts}
"""Of what the configuration asks for, by the id of the objective, budget, limit or forecast."""


class Clock:
    """Of the API; tests move it."""

    def __init__(self) -> None:
        self.s: float = NOW_S

    def us(self) -> int:
        return round((T0.timestamp() + self.s) * 1_000_000)


def client_of(store: Store, clock: Clock) -> Client:
    """The API under the configuration."""
    access = Access(required=False)
    return Client(build_app(Ingest(), store, CONFIGURATION, access, wall_us=clock.us))


def post(client: Client, url: str, body: Any, status: int = 201) -> Any:
    answer = client.request("POST", url, json=body)
    if status >= 400:
        return problem_of(answer, status)
    assert answer.status_code == status, answer.text
    return answer.json()


def status(slo: str, end_s: int, **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "slo_id": slo, "as_of": at(end_s), "version": 1, "state": "met",
        "declared": "availability >= 99.9 %", "target": 0.999, "period_start": at(-86_400),
        "period_end": at(end_s), "bad": end_s, "total": 10_000_000, "attainment": 0.9999,
        "consumed": end_s / 10_000, "budget_minutes": 43.2, "left_minutes": 40.0, "burn_1h": 0.5,
        "exhaustion_s": None, "coverage": 1.0, "burns": json.dumps([BURN]), "alarm_at": None,
        "spec_hash": HASHES.get(slo, ""),
    }  # fmt: skip
    return row | more


def change(alert: str, sequence: int, kind: str, at_s: int, **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": f"{alert}-{sequence}-{kind}", "alert_id": alert, "sequence": sequence, "kind": kind,
        "reason": "condition", "rule_id": "slow", "rule_hash": "h", "severity": "critical",
        "at": at(at_s), "started": at(0), "labels": {"alertname": "slow", "severity": "critical"},
        "value": 0.08, "limit_value": 0.05, "n": 100, "text": f"{kind} text",
        "annotations": {"summary": "slow"}, "runbook": "", "shard": 0, "recorded_at": at(at_s),
    }  # fmt: skip
    return row | more


def budget(name: str, **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "budget_id": name, "as_of": at(3600), "version": 1, "state": "projected",
        "reasons": ["no_interval"], "period_start": at(0), "period_end": at(7 * 86_400),
        "budget_nanousd": 5000 * 10**9, "spent_nanousd": 10**9, "projected_nanousd": 6500 * 10**9,
        "low_nanousd": None, "high_nanousd": None, "method": "linear", "last_hour_nanousd": 2,
        "budget_per_hour_nanousd": 29_761_904_761, "measured_share": 1.0,
        "spec_hash": HASHES.get(name, ""),
    }  # fmt: skip
    return row | more


def spending(name: str, **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "limit_id": name, "as_of": at(3600), "version": 1, "by": "user_hash", "window_s": 86_400,
        "limit_nanousd": 2 * 10**9, "above": 1, "keys": ["ann", "bob"],
        "spent_nanousd": [3 * 10**9, 10**9], "since": [at(3000), None],
        "spec_hash": HASHES.get(name, ""),
    }  # fmt: skip
    return row | more


def forecast(name: str, **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "forecast_id": name, "as_of": at(3600), "version": 1, "state": "saturates", "reason": "",
        "history_end": at(3600), "horizon_s": 7200, "estimate_s": 4000, "low_s": 3000,
        "high_s": None, "signal": "kv_cache_usage", "load": 20.0, "saturating_load": 40.0,
        "saturating_load_low": 35.0, "saturating_load_high": None, "daily": False, "steps": 60,
        "spec_hash": HASHES.get(name, ""),
    }  # fmt: skip
    return row | more
