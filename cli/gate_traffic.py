"""What the recent windows of a server tell of the traffic that a gate will see."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..schemas.errors import InvalidQuery, PenstockError
from .sources import Body, Source

if TYPE_CHECKING:
    from ..schemas.gates.absolute import AbsoluteGate
    from ..schemas.gates.canary import CanaryGate

_METRICS = (
    "requests", "request_rate", "errors", "timeouts", "safety_violations", "cost_usd",
    "quality_mean", "acceptance_rate", "feedback", "workers",
)  # fmt: skip
_Z95 = 1.6448536269514722  # of the normal distribution


@dataclass(frozen=True, slots=True)
class Seen:
    """Traffic of one arm, over the newest window of its slices.

    Attributes:
        requests: in the window.
        requests_per_s: of all slices.
        rates: share of bad requests, per rate; half a bad request where there was none.
        means: cost and quality per request, in USD and points.
        log_sd: of the log of latencies, None where there were none.
        workers: of the slice that has most, 0 where unknown.
    """

    requests: float = 0.0
    requests_per_s: float = 0.0
    rates: Mapping[str, float] = field(default_factory=dict)
    means: Mapping[str, float] = field(default_factory=dict)
    log_sd: float | None = None
    workers: int = 0


def seen(source: Source, given: Mapping[str, str], latency: str, window: str) -> Seen:
    """Recent traffic of what matches the dimensions.

    Args:
        source: a server.
        given: dimensions of an arm or filter.
        latency: the latency whose spread is told, such as `ttft_ms`.
        window: such as `1h`.

    Raises:
        PenstockError: windows are not kept by these dimensions, or the server is away.
    """
    metrics = ",".join((*_METRICS, f"{latency}_p50", f"{latency}_p95"))
    try:
        answer = source.ask("/v1/windows", metric=metrics, window=window, **given)
    except PenstockError as error:
        told = "; or tell the traffic yourself: --rps, --share, --rate"
        raise InvalidQuery(f"the server's windows of {dict(given)}: {error}{told}") from error
    rows = [one["points"][-1]["values"] for one in answer["series"]]
    return summed([row for row in rows if row["requests"]], latency)


def summed(rows: Sequence[Body], latency: str) -> Seen:
    """Windows of several slices as one.

    Args:
        rows: values of each, with requests.
        latency: as for `seen`.
    """
    if not rows:
        return Seen()
    requests = float(sum(row["requests"] for row in rows))
    bad = {
        "error_rate": sum(row["errors"] for row in rows),
        "timeout_rate": sum(row["timeouts"] for row in rows),
        "safety_rate": sum(row["safety_violations"] for row in rows),
    }
    rates = {name: max(count, 0.5) / requests for name, count in bad.items()}
    accepted = _mean(rows, "acceptance_rate", "feedback")
    if accepted is not None:
        rates["unaccepted_rate"] = max(1.0 - accepted, 0.5 / requests)
    quality = _mean(rows, "quality_mean", "requests")
    means = {"cost": sum(row["cost_usd"] or 0.0 for row in rows) / requests}
    busiest = max(rows, key=lambda row: float(row["requests"]))
    middle, high = busiest[f"{latency}_p50"], busiest[f"{latency}_p95"]
    return Seen(
        requests=requests,
        requests_per_s=sum(row["request_rate"] for row in rows),
        rates=rates,
        means=means if quality is None else means | {"quality": quality},
        log_sd=math.log(high / middle) / _Z95 if middle and high and high > middle else None,
        workers=max(int(row["workers"] or 0) for row in rows),
    )


def _mean(rows: Sequence[Body], name: str, weight: str) -> float | None:
    told = [row for row in rows if row[name] is not None and row[weight]]
    total = sum(row[weight] for row in told)
    return sum(row[name] * row[weight] for row in told) / total if total else None


def latency_of(spec: CanaryGate | AbsoluteGate) -> str:
    """The first latency of a gate, that of the whole request without any."""
    fields = (getattr(metric, "field", "") for metric in spec.metrics)
    return next((name for name in fields if name), "latency_ms")
