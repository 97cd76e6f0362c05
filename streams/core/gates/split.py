"""Stored traffic of one arm, parted into buckets by a hash of the unit, and changed on its way if asked.

A backtest puts buckets together to arms as often as it likes (backtest.py), from one pair of queries.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

BUCKETS = 100
"""So that a share in whole percent is met exactly."""
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Change:
    """What is done to requests, as a worse release would.

    Attributes:
        latency_times: what every latency is multiplied by.
        cost_times: what every cost is multiplied by.
        error_ratio, safety_ratio: share of requests, chosen by a hash, that become errors, or get a
            safety flag, whatever they were.
    """

    latency_times: float = 1.0
    cost_times: float = 1.0
    error_ratio: float = 0.0
    safety_ratio: float = 0.0


@dataclass(frozen=True, slots=True)
class Split:
    """Which traffic is read, and as what.

    Attributes:
        arm: position in `Wanted.arms` of the arm that is parted.
        seed: of the hashes.
        buckets: how many; the column `arm` of an answer is the bucket, from 0.
        change: what is done to every request, if anything.
    """

    arm: int
    seed: int
    buckets: int = BUCKETS
    change: Change | None = None

    def bucket_sql(self, is_of_arm: str) -> str:
        """Bucket of a row's unit, or `buckets` for a row that is not of the arm.

        Args:
            is_of_arm: condition that it is.
        """
        bucket = f"cityHash64({self.seed:d}, unit_key) % {self.buckets:d}"
        return f"if({is_of_arm}, toUInt16({bucket}), {self.buckets:d})"

    def changed_sql(self, requests: str, columns: Iterable[str]) -> str:
        """Requests after the change.

        Args:
            requests: SQL of requests.
            columns: those of a raw row that it carries as `its_<column>`.
        """
        change = self.change
        if change is None:
            return requests
        told = [
            f"({name} OR {self._drawn(name, ratio)}) AS {name}"
            for name, ratio in (("failed", change.error_ratio), ("unsafe", change.safety_ratio))
            if ratio > 0
        ]
        for column in columns:
            times = change.cost_times if column == "cost_nanousd" else change.latency_times
            if times != 1.0 and (column == "cost_nanousd" or column.endswith("_us")):
                told.append(f"its_{column} * {float(times)!r} AS its_{column}")
        return f"SELECT * REPLACE ({', '.join(told)}) FROM ({requests})" if told else requests

    def _drawn(self, name: str, ratio: float) -> str:
        draw = f"cityHash64('{name}', {self.seed:d}, boot_id, seq) % {_MILLION}"
        return f"{draw} < {round(ratio * _MILLION)}"
