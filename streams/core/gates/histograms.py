"""Histograms as input of gates: what the bounds of buckets leave open.

A bucket tells how many values lie above its lower and at most at its upper bound, and not where
between them. So what a gate counts lies between two numbers, and it is evaluated at both: FAIL is
told where even the fewest bad units show it, PASS where the most do. Between the two the gate is
UNDECIDED for `bucket_too_wide`, which no further request changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ....schemas.gates.absolute import AbsoluteGate, LatencyLimit
from .eprocess import FloatArray
from .reasons import Reason
from .units import CELL_US, CellCounts, IntArray
from .verdict import Verdict, VerdictName, because, digest

TOO_WIDE: Reason = "bucket_too_wide"
_Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Times, counted in buckets.

    Attributes:
        bounds_ms: upper bounds, ascending, float64, shape (K,); a value on a bound is in the bucket
            that ends there. The first bucket begins at 0, for a time is not negative.
        counts: values in each bucket and, last, above every bound, int64, shape (K + 1,).
        sum_ms: sum of all values; None where it is not told.

    Raises:
        ValueError: bounds that do not ascend, counts that do not fit them or are negative.

    >>> latencies = Histogram(np.array([100.0, 250.0]), np.array([90, 8, 2]))
    >>> latencies.above(250.0), latencies.above(200.0), latencies.quantile(0.95)
    ((2, 2), (2, 10), (100.0, 250.0))
    """

    bounds_ms: FloatArray
    counts: IntArray
    sum_ms: float | None = None

    def __post_init__(self) -> None:
        if self.counts.shape != (self.bounds_ms.size + 1,) or bool((self.counts < 0).any()):
            raise ValueError("a histogram has one count of at least 0 more than it has bounds")
        bounds = self.bounds_ms
        if not bool(
            np.isfinite(bounds).all() and (np.diff(bounds) > 0).all() and (bounds >= 0).all()
        ):
            raise ValueError("bounds are finite, ascend, and are not negative")

    @property
    def n(self) -> int:
        """Values in all buckets."""
        return int(self.counts.sum())

    @property
    def mean_ms(self) -> float | None:
        """The exact mean; None without values or without their sum."""
        return self.sum_ms / self.n if self.n and self.sum_ms is not None else None

    def span(self, at: int) -> tuple[float, float]:
        """Bounds of a bucket: values lie above the first and at most at the second, in ms."""
        low = float(self.bounds_ms[at - 1]) if at else 0.0
        return low, float(self.bounds_ms[at]) if at < self.bounds_ms.size else math.inf

    def bucket_of(self, value_ms: float) -> int:
        """Position of the bucket that a value falls into."""
        return int(np.searchsorted(self.bounds_ms, value_ms, side="left"))

    def above(self, limit_ms: float) -> tuple[int, int]:
        """Fewest and most values that lie above a limit: equal where it is a bound."""
        at = self.bucket_of(limit_ms)
        low = int(self.counts[at + 1 :].sum())
        return low, low if self.span(at)[1] == limit_ms else low + int(self.counts[at])

    def quantile(self, q: float) -> tuple[float, float]:
        """Bounds of the bucket that holds the q-quantile, in ms; the upper may be infinite.

        Raises:
            ValueError: there are no values.
        """
        if not self.n:
            raise ValueError("nothing has no quantile")
        rank = max(math.ceil(round(q * self.n, 9)), 1)
        return self.span(int(np.searchsorted(np.cumsum(self.counts), rank)))

    def longest(self) -> tuple[float, float]:
        """Bounds of the highest bucket that holds anything, in ms."""
        return self.quantile(1.0)


@dataclass(frozen=True, slots=True)
class Histograms:
    """What a file of histograms holds of the fields that a gate asks for.

    Attributes:
        fields: field -> histogram.
        sources: field -> which series it was read from, for people.
        known: every field that the file has.
        of_tokens: fields whose values are of tokens, not of requests.
        conditions: what they were measured under.
    """

    fields: Mapping[str, Histogram]
    sources: Mapping[str, str] = field(default_factory=dict)
    known: Sequence[str] = ()
    of_tokens: frozenset[str] = frozenset()
    conditions: Mapping[str, str] = field(default_factory=dict)

    def lacks(self, name: str) -> str:
        """That a field is not there, and which ones are."""
        return f"no histogram of {name}; there are: {', '.join(self.known) or 'none of times'}"

    def input_checks(self, side: str) -> Iterable[_Body]:
        """What was read and summed, as a verdict carries it."""
        for told in self.sources.values():
            yield {"check": "input", "ok": True, "text": f"{side}: {told}"}


def unmeasured(spec: AbsoluteGate, found: Histograms) -> str:
    """Why a metric that decides cannot be told from these histograms; empty where all can."""
    for limit in spec.metrics:
        if not limit.critical:
            continue
        if not isinstance(limit, LatencyLimit):
            return f"a histogram of times does not tell {limit.name}"
        if limit.field not in found.fields:
            return found.lacks(limit.field)
        if limit.field in found.of_tokens:
            return (
                f"{limit.field} counts tokens, and those of one request are alike, so they are no "
                "units; ask for a time of requests, such as tpot_ms"
            )
    return ""


def cells_between(spec: AbsoluteGate, found: Histograms) -> tuple[CellCounts, CellCounts]:
    """The requests as one cell, with the fewest and with the most bad units that buckets allow."""
    held = {
        limit.name: (found.fields[limit.field], limit.max_ms)
        for limit in spec.metrics
        if isinstance(limit, LatencyLimit) and limit.field in found.fields
    }
    requests = max((one.n for one, _ in held.values()), default=0)
    ends = [
        {name: one.above(max_ms)[end] for name, (one, max_ms) in held.items()} for end in (0, 1)
    ]
    fewest, most = (_cell(spec, requests, {n: h.n for n, (h, _) in held.items()}, b) for b in ends)
    return fewest, most


def _cell(
    spec: AbsoluteGate, requests: int, units: Mapping[str, int], bad: Mapping[str, int]
) -> CellCounts:
    def one(count: int) -> IntArray:
        return np.array([count], np.int64)

    names = [limit.name for limit in spec.metrics]
    return CellCounts(
        one(CELL_US),
        one(requests),
        {name: one(bad.get(name, 0)) for name in names},
        {name: one(units.get(name, 0)) for name in names},
        {name: one(0) for name in names},
    )


def join(spec: AbsoluteGate, found: Histograms, fewest: Verdict, most: Verdict) -> Verdict:
    """One verdict from those with the fewest and with the most bad units of `cells_between`.

    Evidence for FAIL is that of the fewest, for PASS that of the most, and the interval spans both.
    """
    pairs = list(zip(spec.metrics, fewest.evidence, most.evidence, strict=True))
    wide = [
        limit
        for limit, few, many in pairs
        if limit.critical and few["decision"] != many["decision"]
    ]
    name, reasons = _decide(fewest, most, bool(wide))
    evidence = tuple(_joined(limit, found, few, many) for limit, few, many in pairs)
    checks = tuple(found.input_checks("run"))
    base = fewest if name == fewest.verdict and name != "PASS" else most
    gaps = [told for limit, _, _ in pairs if (told := _gap(limit, found))]
    # how many more are needed differs between the ends, or more would not help at all
    exact = fewest.digest == most.digest
    text = base.text if exact or name != "UNDECIDED" else because(name, reasons, base.n, "requests")
    return replace(
        base,
        verdict=name,
        reasons=reasons,
        evidence=evidence,
        n_needed=base.n_needed if exact else None,
        eta_s=None,
        checks=checks,
        text="; ".join([text, *gaps]),
        digest=digest(
            name, reasons, evidence, base.n, base.as_of_us, base.epoch, base.spec_hash, base.engine, checks
        ),
    )  # fmt: skip


def _decide(fewest: Verdict, most: Verdict, wide: bool) -> tuple[VerdictName, tuple[Reason, ...]]:
    if fewest.verdict == "FAIL":
        return "FAIL", fewest.reasons
    if most.verdict == "PASS":
        return "PASS", most.reasons
    for end in (fewest, most):
        if end.verdict in ("INVALID", "NO_DATA"):
            return end.verdict, end.reasons
    reasons: list[Reason] = [TOO_WIDE] if wide else []
    reasons += [r for end in (fewest, most) if end.verdict == "UNDECIDED" for r in end.reasons]
    return "UNDECIDED", tuple(dict.fromkeys(reasons))


def _joined(limit: Any, found: Histograms, few: _Body, many: _Body) -> _Body:
    """Evidence of one metric from that of both ends."""
    same = few["bad"] == many["bad"]
    decision = "UNDECIDED"
    if few["decision"] == many["decision"] or few["decision"] == "FAIL":
        decision = few["decision"]
    told = few if same or decision == "FAIL" else many if decision == "PASS" else None
    one = found.fields.get(limit.field) if isinstance(limit, LatencyLimit) else None
    return {
        **many,
        "decision": decision,
        "bad": None if told is None else told["bad"],
        "estimate": None if told is None else told["estimate"],
        "low": few["low"],
        "high": many["high"],
        "log10_e_fail": few["log10_e_fail"],
        "log10_e_pass": many["log10_e_pass"],
        "n_needed": few["n_needed"] if few["n_needed"] == many["n_needed"] else None,
        "detail": {} if one is None else _detail(one, limit, few["bad"], many["bad"]),
    }


def _detail(one: Histogram, limit: LatencyLimit, fewest: int, most: int) -> _Body:
    held = one.span(one.bucket_of(limit.max_ms))
    quantile = one.quantile(limit.quantile) if one.n else (None, None)
    return {
        "bucket_ms": ends_of(held),
        "bad_fewest": fewest,
        "bad_most": most,
        "quantile_ms": ends_of(quantile),
        "mean_ms": one.mean_ms,
    }


def ends_of(span: Sequence[float | None]) -> list[float | None]:
    """Bounds as JSON can hold them: None where there is no upper end."""
    return [end if end is not None and math.isfinite(end) else None for end in span]


def _gap(limit: Any, found: Histograms) -> str:
    """What the bucket that holds the limit leaves open, in words; empty where it is exact."""
    if not isinstance(limit, LatencyLimit) or limit.field not in found.fields:
        return ""
    one = found.fields[limit.field]
    fewest, most = one.above(limit.max_ms)
    if fewest == most:
        return ""
    low, high = one.span(one.bucket_of(limit.max_ms))
    exact = " or ".join(f"{end:g}" for end in (low, high) if end and math.isfinite(end))
    return (
        f"{limit.name}: {fewest:,} to {most:,} of {one.n:,} are above {limit.max_ms:g} ms, which is "
        f"in the bucket {bucket_text((low, high))}"
        + (f"; exact would be a max_ms of {exact}" if exact else "")
    )


def bucket_text(span: tuple[float, float]) -> str:
    """Bounds of a bucket as a person reads them.

    >>> bucket_text((250.0, 500.0)), bucket_text((1000.0, math.inf))
    ('250 to 500 ms', 'above 1,000 ms')
    """
    low, high = span
    return f"above {low:,g} ms" if math.isinf(high) else f"{low:,g} to {high:,g} ms"
