"""An explanation in sentences, and in one line for a message."""

from __future__ import annotations

from ..alerts.transition import shown
from .explanation import Engine, Explanation, Release
from .ranking import ENOUGH_POWER, Finding

NAMES = {"worker_id": "worker", "input_band": "input tokens"}
MOVED = 1.25  # a gauge of the engine that rose or fell by less is not told in one line
# What a queue, a batch and a cache are called where people read it.
ENGINE_NAMES = {
    "queue_depth": "queue",
    "batch_fill": "batch fill",
    "kv_cache_usage": "KV cache",
    "preemptions": "preemptions per step",
    "step_ms": "step",
}
_NEAR_S = 1800  # a marker that is further away is not told in one line


def sentences(found: Explanation) -> list[str]:
    """What was found, one thing each: the change, slices, releases, the engine."""
    return [
        text
        for text in (
            _change(found),
            *(_slice(item, found.unit) for item in found.slices),
            *(_release(item) for item in found.releases),
            _engine(found.engine),
        )
        if text
    ]


def one_line(found: Explanation) -> str:
    """The most telling of it, for a message: the first slices, the nearest release, what moved."""
    parts, power = [], 0.0
    for item in found.slices:
        if power < ENOUGH_POWER:  # what follows tells the same rows by other names
            parts.append(_short(item, found.unit))
            power += item.power
    if not parts and found.note:
        parts = [found.note]
    parts += [_release(item) for item in found.releases[:1] if 0 <= item.after_s <= _NEAR_S]
    moved = [item for item in found.engine if _moved(item)]
    return "; ".join(
        [*parts, *(f"{_name(i)} {_from_to(i.before, i.now, i.unit)}" for i in moved[:2])]
    )


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


def _slice(item: Finding, unit: str) -> str:
    text = f"{_short(item, unit)}"
    if item.traffic is not None:
        text += f", on {item.traffic * 100:.3g} % of the rows"
        if item.traffic_before is not None:
            text += f" (before {item.traffic_before * 100:.3g} %)"
    return text


def _short(item: Finding, unit: str) -> str:
    values = _from_to(item.before, item.now, unit)
    power = f"{min(item.power, 9.99) * 100:.0f} % of the change"
    return f"{slice_words(item.slice)} explains {power} ({values})"


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


def _engine(items: tuple[Engine, ...]) -> str:
    told = [
        f"{_name(item)} {_from_to(item.before, item.now, item.unit)}"
        for item in items
        if item.now is not None
    ]
    return f"engine: {', '.join(told)}" if told else ""


def _name(item: Engine) -> str:
    return ENGINE_NAMES.get(item.name, item.name)


def _from_to(before: float | None, now: float | None, unit: str) -> str:
    told = "nothing" if now is None else shown(now, unit)
    return f"now {told}" if before is None else f"{shown(before, unit)} -> {told}"


def _moved(item: Engine) -> bool:
    if item.now is None or item.before is None:
        return False
    low, high = sorted((abs(item.now), abs(item.before)))
    return high > low * MOVED
