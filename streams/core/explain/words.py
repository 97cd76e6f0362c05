"""An explanation in sentences, and in one line for a message."""

from __future__ import annotations

from ..alerts.transition import shown
from .evidence import Gauge, Part, moved
from .explanation import Explanation, Release
from .ranking import ENOUGH_POWER, Finding

NAMES = {"worker_id": "worker", "input_band": "input tokens"}
# What a queue, a batch and a cache are called where people read it.
GAUGE_NAMES = {
    "queue_depth": "queue",
    "batch_fill": "batch fill",
    "kv_cache_usage": "KV cache",
    "preemptions": "preemptions per step",
    "step_ms": "step",
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
}
_NEAR_S = 1800  # a marker that is further away is not told in one line


def sentences(found: Explanation) -> list[str]:
    """What was found, one thing each: the change, slices, parts, releases, requests, the engine."""
    return [
        text
        for text in (
            _change(found),
            *(_slice(item, found) for item in found.slices),
            *(_part(item, found) for item in found.parts),
            *(_release(item) for item in found.releases),
            _gauges("requests", found.requests),
            _gauges("engine", found.engine),
        )
        if text
    ]


def one_line(found: Explanation) -> str:
    """The most telling of it, for a message: the first slices and parts, the nearest release, what moved."""
    told, power = [], 0.0
    for item in found.slices:
        if power < ENOUGH_POWER:  # what follows tells the same rows by other names
            told.append(_short(item, found))
            power += item.power
    if not told and found.note:
        told = [found.note]
    told += [_part(item, found) for item in found.parts]
    told += [_release(item) for item in found.releases[:1] if 0 <= item.after_s <= _NEAR_S]
    # Requests that became smaller explain no alert about latency or cost.
    longer = [item for item in moved(found.requests) if (item.now or 0) > (item.before or 0)]
    gauges = [*longer[:1], *moved(found.engine)[:2]]
    return "; ".join([*told, *map(_gauge, gauges)])


def slice_words(names: dict[str, str]) -> str:
    """A slice for people.

    >>> slice_words({"variant": "canary", "adapter": "", "worker_id": "w-3"})
    'variant=canary, adapter=(none), worker=w-3'
    """
    return ", ".join(f"{NAMES.get(name, name)}={v or '(none)'}" for name, v in names.items())


def _change(found: Explanation) -> str:
    if found.value is None:
        return found.note
    text = f"{found.words}: {shown(found.value, found.unit)}"
    if found.value_before is not None:
        text += f", before {shown(found.value_before, found.unit)}"
    return f"{text} ({found.note})" if found.note else text


def _slice(item: Finding, found: Explanation) -> str:
    text = _short(item, found)
    if item.traffic is not None:
        text += f", on {item.traffic * 100:.3g} % of the rows"
        if item.traffic_before is not None:
            text += f" (before {item.traffic_before * 100:.3g} %)"
    return text


def _short(item: Finding, found: Explanation) -> str:
    told = _explains(slice_words(item.slice), item, found)
    return f"{told} ({_from_to(item.before, item.now, found.unit)})"


def _part(item: Part, found: Explanation) -> str:
    of = found.parts_of
    name = (item.name.removesuffix("_ms") if of == "phase" else item.name) or "(none)"
    told = _explains(f"{of} {name}", item, found)
    return f"{told} ({_from_to(item.before, item.now, item.unit)})"


def _explains(what: str, item: Finding | Part, found: Explanation) -> str:
    power = f"{min(item.power, 9.99) * 100:.0f} %"
    if item.before is None and found.value_before is None:
        return f"{what} is {power} of it"  # there is nothing that it changed from
    return f"{what} explains {power} of the change"


def _release(item: Release) -> str:
    names = (item.release, item.variant, item.stage if item.stage != item.variant else "")
    what = " ".join(name for name in names if name) or "release"
    apart = f"{_span(abs(item.after_s))} {'before' if item.after_s >= 0 else 'after'} it began"
    return f"release {what} {apart}" if item.release else f"{what} {apart}"


def _span(seconds: int) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds} s"


def _gauges(of: str, items: tuple[Gauge, ...]) -> str:
    told = [_gauge(item) for item in items if item.now is not None]
    return f"{of}: {', '.join(told)}" if told else ""


def _gauge(item: Gauge) -> str:
    return f"{GAUGE_NAMES.get(item.name, item.name)} {_from_to(item.before, item.now, item.unit)}"


def _from_to(before: float | None, now: float | None, unit: str) -> str:
    told = "nothing" if now is None else shown(now, unit)
    return f"now {told}" if before is None else f"{shown(before, unit)} -> {told}"
