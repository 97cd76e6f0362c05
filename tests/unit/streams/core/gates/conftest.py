"""Gates and streams of cells that several tests use."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from penstock.schemas.gates.absolute import AbsoluteGate
from penstock.streams.core.gates.absolute import CellCounts

LATENCY = {"metric": "latency", "field": "ttft_ms", "quantile": 0.95, "max_ms": 1200}
ERRORS = {"metric": "error_rate", "max_ratio": 0.01}
COST = {"metric": "cost_per_1k_tokens_usd", "max_usd": 0.01, "cap_usd": 0.02}

Gate = Callable[..., AbsoluteGate]
Cells = Callable[..., CellCounts]


@pytest.fixture
def gate() -> Gate:
    """A gate with all three kinds of metric; keywords replace its fields."""

    def make(**fields: Any) -> AbsoluteGate:
        return AbsoluteGate.model_validate(
            {"id": "canary", "metrics": [LATENCY, ERRORS, COST], **fields}
        )

    return make


@pytest.fixture
def cells() -> Cells:
    """One second each: requests, slow ones, errors, and dollars above plan of the whole cell."""

    def make(
        requests: list[int],
        slow: list[int] | None = None,
        errors: list[int] | None = None,
        excess_usd: list[float] | None = None,
        first_end_s: int = 1,
    ) -> CellCounts:
        n = np.array(requests, np.int64)
        zero = [0] * len(requests)
        cost = np.array([round(usd * 1e9) for usd in excess_usd or zero], np.int64)
        return CellCounts(
            end_us=(np.arange(len(requests), dtype=np.int64) + first_end_s) * 1_000_000,
            requests=n,
            bad={
                "ttft_ms_p95": np.array(slow or zero, np.int64),
                "error_rate": np.array(errors or zero, np.int64),
            },
            units={"ttft_ms_p95": n, "error_rate": n, "cost_per_1k_tokens_usd": n},
            cost_sum_nano={"cost_per_1k_tokens_usd": cost},
        )

    return make
