"""From rows through the real pipeline: what closes, late rows too, is what objectives count."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from penstock.schemas.slo.objective import Objective
from penstock.streams.core import pipeline as pipeline_module
from penstock.streams.core.counting import counted
from penstock.streams.core.fleet import Fleet
from penstock.streams.core.pipeline import Pipeline
from penstock.streams.core.slices import Combos, SliceRegistry
from penstock.streams.core.slo.keeper import SloKeeper
from penstock.streams.core.slo.readings import counters_for_slos
from penstock.streams.core.tiles import SECOND_US
from penstock.tests.unit.streams.core.slo.stored import START_S, objective

HOURS = 3
SLOW = {"kind": "latency", "max_ms": 1200}
SLOS: tuple[Objective, ...] = (
    objective(min_coverage=0),
    objective(id="slow", filter={"model": "b"}, sli=SLOW, target="0.95", window="7d"),
    objective(id="busy", sli={"kind": "throughput", "min_per_s": "0.05"}, target="0.5"),
)
Ints = npt.NDArray[np.int64]


def table(ts_s: Ints, rng: np.random.Generator) -> pa.Table:
    n = len(ts_s)
    status = np.where(rng.random(n) < 0.1, "error", "ok")
    return pa.table({
        "ts": ts_s * SECOND_US, "overflow": np.zeros(n, np.int64),
        "latency_us": rng.integers(1_000_000, 1_400_000, n),
        "status": pa.array(status.tolist()).dictionary_encode(),
        "model": pa.array(rng.choice(["a", "b"], n).tolist()).dictionary_encode(),
    })  # fmt: skip


def expected(rows: pa.Table, end_s: int) -> dict[str, tuple[int, int]]:
    """Bad and total of each objective by plain counting."""
    ts_s = rows["ts"].to_numpy() // SECOND_US
    closed = ts_s < end_s
    error = np.array(rows["status"].to_pylist()) == "error"
    mine = closed & (np.array(rows["model"].to_pylist()) == "b")
    slow = rows["latency_us"].to_numpy() > 1_200_000
    first, last = int(ts_s[closed].min()) // 60, end_s // 60
    per_minute = np.bincount(ts_s[closed] // 60 - first, minlength=last - first)[: last - first]
    return {
        "a": (int((error & closed).sum()), int(closed.sum())),
        "slow": (int((slow & mine).sum()), int(mine.sum())),
        "busy": (int((per_minute < 3).sum()), last - first),
    }


@pytest.mark.parametrize(("seed", "longest_s"), [(0, 130), (1, 5000)])
def test_counts_are_those_of_the_rows(
    seed: int, longest_s: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Windows are not looked at here, so few of them are evaluated.
    monkeypatch.setattr(pipeline_module, "AMEND_S", 60)
    monkeypatch.setattr(pipeline_module, "CATCH_UP_TICKS", 1)
    rng = np.random.default_rng(seed)
    combos = Combos(SliceRegistry(100, 100))
    pipeline = Pipeline(combos, Fleet(), lambda _: {})
    keeper = SloKeeper(SLOS, combos.registry)
    configured = counters_for_slos(SLOS)
    seen: list[pa.Table] = []

    def take(low_s: int, high_s: int, rows: int) -> None:
        seen.append(table(np.sort(rng.integers(low_s, high_s, rows)), rng))
        pipeline.count(counted(combos, "request", seen[-1], configured))

    take(START_S, START_S + HOURS * 3600, 900)
    closed_s = START_S
    while closed_s < START_S + HOURS * 3600:
        closed_s += int(rng.integers(1, longest_s))
        if rng.random() < 0.2:
            take(START_S, closed_s, 3)  # late
        closing = pipeline.close(closed_s * SECOND_US)
        keeper.feed(closing.tiles)
        end_s = pipeline.closed_pane_s
        if end_s is None or rng.random() < 0.8 or end_s < START_S + 60:
            continue
        found = {name: (s.bad, s.total) for name, s in keeper.evaluate(end_s).items()}
        assert found == expected(pa.concat_tables(seen, promote_options="permissive"), end_s)
