"""Compares everything that a store publishes with a recomputation from its raw rows.

Runs as a process of its own (a chdb folder belongs to one process): `python audit.py STORE_URL`
prints one JSON document. Plain Python over plain rows; it shares no code with streams/core.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from typing import Any

import clickhouse_connect

LOG_GAMMA = math.log(1.01 / 0.99)
DIMENSIONS = {
    "fleet": (),
    "model": ("model",),
    "model_version": ("model", "model_version"),
    "release": ("model", "model_version", "release", "variant"),
    "model_route": ("model", "route"),
    "model_adapter": ("model", "adapter"),
    "route": ("route",),
    "tenant": ("tenant",),
}
FIELDS = ("latency_ms", "ttft_ms")


def quantile(values: list[float], probability: float) -> float | None:
    """The log bin that holds rank floor(p (n - 1)), as its estimate."""
    if not values:
        return None
    value = sorted(values)[math.floor(probability * (len(values) - 1))]
    exponent = math.ceil(math.log(value) / LOG_GAMMA)
    return 2 * math.exp(exponent * LOG_GAMMA) / (1.01 / 0.99 + 1)


def recomputed(rows: list[dict[str, Any]], window_s: int) -> dict[str, Any]:
    """A window's numbers from its raw rows."""
    done = [row for row in rows if row["status"]]
    errors = [row for row in done if row["status"] in ("error", "timeout")]
    cost_nano = sum(round((row["cost_usd"] or 0) * 1e9) for row in rows)
    found: dict[str, Any] = {
        "requests": len(done),
        "errors": len(errors),
        "error_rate": len(errors) / len(done) if done else None,
        "errors_by_type": dict(Counter(row["error_type"] or "other" for row in errors)),
        "request_rate": len(done) / window_s,
        "input_tokens": sum(row["input_tokens"] or 0 for row in rows),
        "output_tokens": sum(row["output_tokens"] or 0 for row in rows),
        "cost_usd": cost_nano / 1e9,
    }
    for name in FIELDS:
        values = [row[name] for row in rows if row[name] is not None]
        for probability in (50, 95, 99):
            found[f"{name}_p{probability}"] = quantile(values, probability / 100)
    return found


def differs(stored: Any, wanted: Any) -> bool:
    """Integers must be equal; estimates of bins may differ in the last digits of a double."""
    if isinstance(stored, float) and isinstance(wanted, float):
        return not math.isclose(stored, wanted, rel_tol=1e-12)
    return bool(stored != wanted)


def main() -> None:
    """Print what was found."""
    parts = sys.argv[1].removeprefix("chdb://")
    client = clickhouse_connect.get_client(dsn=f"chdb://{parts}")

    def query(sql: str) -> list[dict[str, Any]]:
        return list(client.query(sql).named_results())

    columns = ", ".join(
        (
            "toUnixTimestamp64Micro(r.ts) AS ts, boot_id, seq, status, error_type",
            "input_tokens, output_tokens, cost_usd",
            *FIELDS,
            "model, model_version, adapter, route, release, variant, tenant",
        )
    )
    requests = query(f"SELECT {columns} FROM penstock.requests AS r")
    wrong = []
    windows = query("SELECT *, toUnixTimestamp(end) AS end_s FROM penstock.windows")
    for window in windows:
        names = DIMENSIONS[window["grouping"]]
        low, high = (window["end_s"] - window["window_s"]) * 1_000_000, window["end_s"] * 1_000_000
        rows = [
            row
            for row in requests
            if low <= row["ts"] < high and all(row[name] == window[name] for name in names)
        ]
        for name, wanted in recomputed(rows, window["window_s"]).items():
            if differs(window[name], wanted):
                key = [window["window_s"], window["end_s"], window["grouping"]]
                wrong.append([*key, [window[n] for n in names], name, window[name], wanted])
    identities = Counter((row["boot_id"], row["seq"]) for row in requests)
    plain = query("SELECT count() AS n FROM penstock.requests")[0]["n"]
    sys.stdout.write(
        json.dumps(
            {
                "requests": len(requests),
                "count": plain,
                "unique": len(identities),
                "windows": len(windows),
                "wrong": wrong[:20],
                "wrong_count": len(wrong),
                "coverage": query(
                    "SELECT boot_id, expected, received, stored, missing, gap, rejected, state"
                    " FROM penstock.coverage"
                ),
            },
            default=str,
        )
    )


if __name__ == "__main__":
    main()
