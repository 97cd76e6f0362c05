"""What the price table adds to ingestion, CPU microseconds an event.

python benchmarks/prices.py
"""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
from penstock.schemas.costs.prices import TokenPrice
from penstock.streams.core.costs.prices import Prices, with_costs

ROWS = 60_000  # of one flush
MARCH_US = 1_772_323_200_000_000


def requests(models: int) -> pa.Table:
    """Requests without a cost, around a change of prices."""
    rng = np.random.default_rng(1)
    codes = pa.array(rng.integers(0, models, ROWS), pa.int32())
    return pa.table({
        "ts": pa.array(MARCH_US + rng.integers(-(10**9), 10**9, ROWS)),
        "model": pa.DictionaryArray.from_arrays(codes, [f"m{at}" for at in range(models)]),
        "status": pa.array(["ok"] * ROWS).dictionary_encode(),
        **{
            f"{name}_tokens": pa.array(rng.integers(0, most, ROWS))
            for name, most in (("input", 2000), ("output", 500), ("cached", 50))
        },
    })  # fmt: skip


def prices(models: int) -> Prices[TokenPrice]:
    """Two prices of each model, one after the other."""
    return Prices(
        TokenPrice.model_validate(
            {"model": f"m{at}", "valid_from": day, "input_usd": 0.1, "output_usd": 0.4}
        )
        for at in range(models)
        for day in ("2026-01-01", "2026-03-01")
    )


def main() -> None:
    for models in (3, 500):
        table, priced = requests(models), prices(models)
        took = []
        for _ in range(20):
            begun = time.process_time()
            with_costs(table, priced)
            took.append(time.process_time() - begun)
        print(f"{models} models, no cost stated: {min(took) / ROWS * 1e6:.3f} us/event")


if __name__ == "__main__":
    main()
