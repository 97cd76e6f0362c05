"""Head sampling: which rows keep their features, categories and payload.

Metrics are never sampled; only the bulky parts of a request are. The decision is a function of the
trace id alone (the request id where there is no trace), so every service that sees the trace decides
alike and a trace is kept whole.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

PARTS = ("features", "categories", "payload")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How much of the sampled parts is kept.

    Attributes:
        features_rate: share of traces whose features and categories are kept, 0..1.
        payload_rate: share of traces whose payload is kept, 0..1.
        low_confidence: rows with an output_score below this keep everything.
        features: names of features to keep; None keeps all.
        categories: names of categories to keep; None keeps all.
        payload: top-level names of a payload given as a mapping to keep; None keeps all.
    """

    features_rate: float = 0.05
    payload_rate: float = 0.01
    low_confidence: float = 0.6
    features: frozenset[str] | None = None
    categories: frozenset[str] | None = None
    payload: frozenset[str] | None = None

    def __post_init__(self) -> None:
        for rate in (self.features_rate, self.payload_rate):
            if not 0.0 <= rate <= 1.0:
                raise ValueError(f"a sampling rate is a share from 0 to 1, not {rate}")

    def rate_of(self, part: str) -> float:
        """Head rate of `features`, `categories` or `payload`."""
        return self.payload_rate if part == "payload" else self.features_rate

    def names_of(self, part: str) -> frozenset[str] | None:
        """Names to keep within a part; None means all."""
        if part == "features":
            return self.features
        return self.categories if part == "categories" else self.payload


def head_position(key: str) -> float:
    """Where a trace stands in [0, 1): it is kept by every rate above its position.

    The first 53 bits of SHA-256 of the UTF-8 key, so that writers in any language agree.

    >>> head_position("trace-1") == head_position("trace-1")
    True
    """
    digest = sha256(key.encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) * 2.0**-53


def always_reason(row: Mapping[str, Any], low_confidence: float) -> str | None:
    """Why a row keeps everything whatever its trace says; None when nothing says so."""
    status = row.get("status")
    if status == "error" or status == "timeout":
        return str(status)
    if row.get("safety_flags"):
        return "safety"
    score = row.get("output_score")
    if score is not None and score < low_confidence:
        return "low_confidence"
    return None


class Sampler:
    """Applies `Sampling` to rows."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._random = random.Random()

    def apply(self, row: MutableMapping[str, Any]) -> None:
        """Strip what is not sampled from a request row, and mark what is, in place.

        `head` wins over the other reasons: an error of a sampled trace is a `head` row, so that
        the head rows alone are an unbiased sample. `sample_rate` is the head rate of the row's
        features and categories (of its payload when it has neither) where the reason is head,
        and 1 where the row was kept for another reason.
        """
        present = [part for part in PARTS if row.get(part)]
        if not present:
            return
        position = self._position(row)
        reason = always_reason(row, self._sampling.low_confidence)
        kept = [part for part in present if reason or position < self._sampling.rate_of(part)]
        for part in PARTS:
            if part not in kept:
                row.pop(part, None)
            else:
                self._narrow(row, part)
        if kept:
            rate = self._sampling.rate_of(kept[0])
            head = position < rate
            row["sample_reason"] = "head" if head else reason
            row["sample_rate"] = rate if head else 1.0

    def _position(self, row: Mapping[str, Any]) -> float:
        key = row.get("trace_id") or row.get("request_id")
        # Without any id there is no trace to keep whole.
        return head_position(str(key)) if key else self._random.random()

    def _narrow(self, row: MutableMapping[str, Any], part: str) -> None:
        names = self._sampling.names_of(part)
        value = row[part]
        if names is not None and isinstance(value, Mapping):
            row[part] = {name: item for name, item in value.items() if name in names}
