"""Gates by simulation: false verdicts, power, and the rules of today on the same streams.

Every stream is polled at every pane. Seeded: the same `--seed` and `--streams` give the same numbers.
`--docs` writes docs/gates-simulation.md and its plots; `--quick` takes a tenth of the streams.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from penstock.benchmarks import (
    _simulation_absolute,
    _simulation_cost,
    _simulation_counts,
    _simulation_latency,
    _simulation_plot,
    _simulation_rollback,
)
from penstock.benchmarks._simulation_counts import Run
from penstock.benchmarks._simulation_table import Row, bars, markdown
from penstock.streams.core.gates.canonical import ENGINE

PARTS: dict[str, Callable[[Run], Iterable[Row]]] = {
    "counts": _simulation_counts.simulate,
    "latency": _simulation_latency.simulate,
    "cost": _simulation_cost.simulate,
    "rollback": _simulation_rollback.simulate,
    "absolute": _simulation_absolute.simulate,
}
STREAMS = 5000
DOCS = Path(__file__).parents[1] / "docs"
_HEAD = """\
# Gates by simulation

Made by `make simulate ARGS="--docs{arguments}"` (engine {engine}, seed {seed}); not edited by hand. What
the rules are, and why polling is safe for one of them only: [gates.md](gates.md).

Every stream is looked at after every pane, by our e-processes and, on the same streams, by the rules in
use today. ± is one standard error. Panes last 10 s. `bar` is the largest value that is allowed: for
verdicts that would be wrong, the stated error rate (and three standard errors for FAIL); for errors, the
fixed sample of a one-look z-test with 80 % power, planned by each arm's own variance, at shares up to
0.1; for latency and cost, twice a fixed sample of the same units. A bar that is not met says so.

What a fixed sample of latency or cost is:

- by request, that of the normal test with 80 % power; of cost no smaller than any valid test's, which at
  +50 % is 44 (69) requests where the normal test plans 29 (47), alpha 5 % (1 %);
- p95 in worker blocks, a normal test's blocks or, if more, the fewest with which *any* test of that level
  has 80 % power. A block of control is at most entirely below x, which is worth log(1 / 0.95): if one block
  in 24 stalled and none of them was seen yet, a treatment 45 % slower would be no worse. The normal test of
  3 to 16 blocks takes what it did not see for impossible; "as much worse as is allowed, by stalls of
  control" shows what becomes of its error rate. With nine workers in control blocks come nine times as fast;
- cost in worker blocks, a normal test's blocks, and at least the 30 without which the asymptotic sequence
  is no test.

- *z-test, repeated*: a two-proportion z-test, one-sided, asked again at every pane.
- *z-test, once*: looked at once at its planned size. Where few bad units are expected its true error rate
  is above what it states, so its lines with equal rates are worth a look.
- *limit for 5 minutes*: the treatment's rate per minute above twice control's rate for five minutes on
  end, as an Argo Rollouts or Flagger analysis with a fixed limit.
- *Mann-Whitney, polled*: Kayenta's NetflixACAJudge at its defaults (98 % interval, a quarter of the
  Hodges-Lehmann estimate), on rates per minute, asked at minutes 2 to 60, on the first 1,000 streams.
- *the same e-value*, not reduced or on requests: ours, told the wrong unit.

{bars}

![Ever FAIL without a true difference](images/gates-simulation-false.svg)

![Time to FAIL](images/gates-simulation-time.svg)

"""


def simulate(run: Run, parts: Iterable[str] = tuple(PARTS)) -> Iterator[Row]:
    """The rows of these parts."""
    for part in parts:
        yield from PARTS[part](run)


def write_docs(rows: list[Row], seed: int, arguments: str) -> None:
    """Write the page and its plots."""
    head = _HEAD.format(engine=ENGINE, seed=seed, arguments=arguments, bars=bars(rows))
    (DOCS / "gates-simulation.md").write_text(head + markdown(rows))
    for name, text in (
        ("false", _simulation_plot.false_fails(rows)),
        ("time", _simulation_plot.times_to_fail(rows)),
    ):
        (DOCS / "images" / f"gates-simulation-{name}.svg").write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the streams")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--streams", type=int, default=STREAMS, help="in each row")
    parser.add_argument("--part", action="append", choices=[*PARTS], help="only these")
    parser.add_argument("--json", action="store_true", help="rows as JSON lines")
    parser.add_argument("--docs", action="store_true", help="write docs/gates-simulation.md")
    given = parser.parse_args()
    streams = given.streams // 10 if given.quick else given.streams
    began = time.monotonic()

    def progress(text: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}", file=sys.stderr, flush=True)

    rows = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for row in simulate(Run(given.seed, streams, progress), given.part or PARTS):
            rows.append(row)
            if given.json:
                print(json.dumps(row.to_dict()), flush=True)
    if not given.json:
        print(markdown(rows))
        print(bars(rows))
    if given.docs:
        extra = "" if streams == STREAMS else f" --streams {streams}"
        write_docs(rows, given.seed, extra)


if __name__ == "__main__":
    main()
