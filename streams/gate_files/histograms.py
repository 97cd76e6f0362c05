"""Histograms of Prometheus as fields of gates: which series they are, summed, and since when."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np

from ..core.gates.eprocess import FloatArray
from ..core.gates.histograms import Histogram, Histograms
from .exposition import Sample, read_samples
from .reading import InvalidFile

FIELDS = {
    "time_to_first_token_seconds": "ttft_ms",
    "e2e_request_latency_seconds": "latency_ms",
    "request_time_per_output_token_seconds": "tpot_ms",
    "inter_token_latency_seconds": "itl_ms",
    "time_per_output_token_seconds": "itl_ms",
    "request_queue_time_seconds": "queue_ms",
    "queue_time_seconds": "queue_ms",
    "request_prefill_time_seconds": "prefill_ms",
    "request_decode_time_seconds": "decode_ms",
    "request_inference_time_seconds": "inference_ms",
}
"""Names of vLLM and SGLang without their prefix -> field. Where several mean one, the first."""
OF_TOKENS = ("inter_token_latency_seconds", "time_per_output_token_seconds")
_ITL = "itl_ms"
_PREFIXES = ("vllm_", "sglang_")
_MS = {"_seconds": 1000, "_milliseconds": 1, "_ms": 1}
_CONDITIONS = ("model_name",)
_PARTS = ("_bucket", "_sum", "_created")

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which histograms are meant, where their names and labels do not say.

    Attributes:
        match: label -> value that series must have.
        names: field -> name of its histogram, for names that are not known. One whose name does
            not end in its unit is in seconds, as Prometheus recommends.
    """

    match: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Series:
    """One histogram of one set of labels: values at or below each bound, since the process began."""

    where: str
    below: dict[Decimal, float] = field(default_factory=dict)
    total: float | None = None
    created: float | None = None

    def bounds(self) -> list[Decimal]:
        return sorted(self.below)


_Found = dict[str, dict[Labels, _Series]]


def read_histograms(
    path: Path, before: Path | None, wanted: Iterable[str], choice: Choice
) -> Histograms:
    """The histograms of the wanted fields, each summed over its series.

    Args:
        path: a saved /metrics, or the answer to an instant query.
        before: the same at the start of the test, which is subtracted; None: all since the process began.
        wanted: fields; those that the file does not have are left out.
        choice: which series are meant.

    Raises:
        InvalidFile: buckets that are none, a counter that went back, no series with such labels.
        NoFile: a file is not there, or without samples.
    """
    found = _series_of(path, choice)
    # a server that has served nothing yet may have no series yet
    earlier = None if before is None else _series_of(before, choice, is_needed=False)
    named = _fields_of(found, choice)
    fields: dict[str, Histogram] = {}
    sources: dict[str, str] = {}
    labels: set[Labels] = set()
    for name in dict.fromkeys(wanted):
        metric = _one_of(name, named.get(name, []), path)
        if metric is None:
            continue
        one, source = _summed(metric, found[metric], _before(metric, earlier, before), path)
        fields[name] = one
        since = f" less {before.name}" if before is not None else ""
        sources[name] = f"{name} is {metric or 'the answer'} of {path.name}{since}, {source}"
        labels |= found[metric].keys()
    return Histograms(
        fields,
        sources,
        sorted(named),
        frozenset(n for n in fields if n == _ITL or _base(named[n][0]) in OF_TOKENS),
        _conditions(labels),
    )


def _series_of(path: Path, choice: Choice, is_needed: bool = True) -> _Found:
    """name -> labels -> series, of those that match."""
    found: _Found = {}
    seen: dict[str, set[str]] = {name: set() for name in choice.match}
    for sample in read_samples(path):
        name, part = _part_of(sample, choice)
        for label in seen.keys() & sample.labels.keys():
            seen[label].add(sample.labels[label])
        if part and all(sample.labels.get(label) == v for label, v in choice.match.items()):
            _add(found.setdefault(name, {}), part, sample)
    histograms = {
        name: {labels: one for labels, one in series.items() if one.below}
        for name, series in found.items()
    }
    histograms = {name: series for name, series in histograms.items() if series}
    if not histograms and is_needed:
        told = ", ".join(
            f"{label}={choice.match[label]} ({label} is {', '.join(sorted(values)[:8]) or 'nowhere'})"
            for label, values in seen.items()
        )
        raise InvalidFile(
            f"{path}: no histogram has {told}" if told else f"{path}: there is no histogram in it"
        )
    return histograms


def _part_of(sample: Sample, choice: Choice) -> tuple[str, str]:
    """Name of the histogram and which part of it a sample is; no part where it is of none."""
    if not sample.name:
        if "le" not in sample.labels:
            return "", ""
        if len(choice.names) != 1:
            raise InvalidFile(
                f"{sample.where}: has no name, as sums have none; say what it is with one "
                "--histogram, such as ttft_ms=vllm:time_to_first_token_seconds"
            )
        return next(iter(choice.names.values())), "_bucket"
    for part in _PARTS:
        if sample.name.endswith(part):
            return sample.name.removesuffix(part), part
    return sample.name, ""


def _add(series: dict[Labels, _Series], part: str, sample: Sample) -> None:
    labels = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
    one = series.setdefault(labels, _Series(sample.where))
    if part == "_sum":
        one.total = sample.value
    elif part == "_created":
        one.created = sample.value
    else:
        bound = _bound(sample)
        if bound in one.below:
            raise InvalidFile(f"{sample.where}: the bucket le={sample.labels['le']} is there twice")
        value = sample.value
        if not (math.isfinite(value) and value >= 0.0):
            raise InvalidFile(f"{sample.where}: a bucket counts {sample.text}, which is no count")
        one.below[bound] = value


def _bound(sample: Sample) -> Decimal:
    text = sample.labels.get("le", "")
    try:
        bound = Decimal(text)
    except InvalidOperation:
        bound = Decimal("NaN")
    if bound.is_nan():
        raise InvalidFile(f"{sample.where}: a bucket has the bound le={text!r}, which is no number")
    return bound


def _fields_of(found: _Found, choice: Choice) -> dict[str, list[str]]:
    """field -> histograms that are it, the preferred first."""
    named = {name: [metric] for name, metric in choice.names.items() if metric in found}
    for metric in found:
        base = _base(metric)
        unit = next((unit for unit in _MS if base.endswith(unit)), None)
        if unit is None:
            continue
        name = FIELDS.get(base, f"{base.removesuffix(unit)}_ms")
        if name not in choice.names:
            named.setdefault(name, []).append(metric)
    order = list(FIELDS)
    return {
        name: sorted(those, key=lambda m: order.index(_base(m)) if _base(m) in order else 0)
        for name, those in named.items()
    }


def _base(metric: str) -> str:
    """The name without what stands before a colon, or the prefix of the engine."""
    base = metric.rpartition(":")[2]
    for prefix in _PREFIXES:
        base = base.removeprefix(prefix)
    return base


def _one_of(name: str, metrics: Sequence[str], path: Path) -> str | None:
    """The histogram of a field; names of one engine that mean the same are no question."""
    same = [metric for metric in metrics if _base(metric) == _base(metrics[0])]
    if len(same) > 1:
        raise InvalidFile(
            f"{path}: {' and '.join(same)} are all {name}; choose with --histogram {name}={same[0]}"
        )
    return metrics[0] if metrics else None


def _before(
    metric: str, earlier: _Found | None, path: Path | None
) -> tuple[Path, dict[Labels, _Series]] | None:
    return None if earlier is None or path is None else (path, earlier.get(metric, {}))


def _summed(
    metric: str,
    series: Mapping[Labels, _Series],
    before: tuple[Path, dict[Labels, _Series]] | None,
    path: Path,
) -> tuple[Histogram, str]:
    """One histogram of all series of a metric, and which these are."""
    first = next(iter(series.values()))
    for one in series.values():
        if one.bounds() != first.bounds():
            raise InvalidFile(
                f"{one.where}: {metric} has other buckets than at {first.where}, so they cannot be "
                "summed; choose series with --match label=value"
            )
    counts = {labels: _counts(metric, one) for labels, one in series.items()}
    totals = {labels: one.total for labels, one in series.items()}
    if before is not None:
        _subtract(metric, series, counts, totals, before, path)
    scale = Decimal(next((ms for unit, ms in _MS.items() if metric.endswith(unit)), 1000))
    bounds = np.array([float(scale * bound) for bound in first.bounds()[:-1]], np.float64)
    sums = [total for total in totals.values() if total is not None and math.isfinite(total)]
    total = float(scale) * math.fsum(sums) if len(sums) == len(series) else None
    whole = np.rint(np.sum(list(counts.values()), axis=0)).astype(np.int64)
    return Histogram(bounds, whole, total), f"{_told(series)}, {int(whole.sum()):,} values"


def _counts(metric: str, one: _Series) -> FloatArray:
    """Values in each bucket of a series."""
    bounds = one.bounds()
    if bounds[-1] != Decimal("Infinity"):
        raise InvalidFile(
            f'{one.where}: {metric} has no bucket le="+Inf", so values above the last are not counted'
        )
    counts = np.diff([one.below[bound] for bound in bounds], prepend=0.0)
    if bool((counts < 0.0).any()):
        at = bounds[int(np.argmax(counts < 0.0))]
        raise InvalidFile(
            f"{one.where}: {metric} counts fewer values up to le={at} than up to the bucket before; "
            "buckets are cumulative"
        )
    return np.asarray(counts, np.float64)


def _subtract(
    metric: str,
    series: Mapping[Labels, _Series],
    counts: dict[Labels, FloatArray],
    totals: dict[Labels, float | None],
    before: tuple[Path, dict[Labels, _Series]],
    path: Path,
) -> None:
    """Take away what was counted before; a series that was not there then had counted nothing."""
    where, earlier = before
    gone = sorted(earlier.keys() - series.keys())
    if gone:
        raise InvalidFile(
            f"{path}: {metric} of {_label_text(gone[0])} is in {where.name} and not here: the two are not "
            "of the same servers; save both from the same, or leave --before out"
        )
    for labels, old in earlier.items():
        new = series[labels]
        if old.bounds() != new.bounds():
            raise InvalidFile(f"{new.where}: {metric} has other buckets than in {where.name}")
        counts[labels] = counts[labels] - _counts(metric, old)
        restarted = None not in (old.created, new.created) and old.created != new.created
        if restarted or bool((counts[labels] < 0.0).any()):
            raise InvalidFile(
                f"{new.where}: {metric} counted less than in {where.name} or began anew: the server "
                "restarted in between; save the start again and repeat the test, or leave --before out "
                "to judge what came since the restart"
            )
        total, old_total = totals[labels], old.total
        totals[labels] = None if total is None or old_total is None else total - old_total


def _told(series: Mapping[Labels, _Series]) -> str:
    """How many series were summed, by the labels in which they differ."""
    if len(series) == 1:
        return f"one series ({_label_text(next(iter(series)))})"
    common = set.intersection(*(set(labels) for labels in series))
    told = [_label_text(tuple(pair for pair in labels if pair not in common)) for labels in series]
    more = f" and {len(told) - 6} more" if len(told) > 6 else ""
    return f"sum of {len(series)} series ({'; '.join(told[:6])}{more})"


def _label_text(labels: Labels) -> str:
    return ", ".join(f"{name}={value}" for name, value in labels) or "no labels"


def _conditions(labels: Iterable[Labels]) -> dict[str, str]:
    """What must be equal in two runs: the model."""
    found: dict[str, set[str]] = {}
    for pairs in labels:
        for name, value in pairs:
            if name in _CONDITIONS:
                found.setdefault(name, set()).add(value)
    return {name: ", ".join(sorted(values)) for name, values in found.items()}
