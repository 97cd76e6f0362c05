"""Why alerts fired, as it was found out and stored: read, and given a shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from pydantic import Field

from ..schemas.ports import StoreReader
from ..streams.core.explain.explanation import Explanation
from ..streams.core.explain.question import Stretch
from ..streams.core.explain.words import sentences
from .models import Strict
from .queries import BOUNDED


class StretchAnswer(Strict):
    """Event time [start, end)."""

    start: datetime
    end: datetime


class SliceAnswer(Strict):
    """A slice that explains part of the change."""

    slice: dict[str, str] = Field(
        description="Dimensions; several where the same rows have several names.",
        examples=[{"variant": "canary", "release": "r42"}],
    )
    power: float = Field(
        description="Share of the change that it explains; above 1 where others made up for it.",
        examples=[0.96],
    )
    now: float | None
    before: float | None
    traffic: float | None = Field(description="Its share of the rows.", examples=[0.25])
    traffic_before: float | None
    surprise: float = Field(description="How unlike before its share is, in bits.")


class MarkerAnswer(Strict):
    """A release marker near the breach."""

    at: datetime
    after_s: int = Field(description="The breach began so long after it; negative: before.")
    release: str
    model: str
    variant: str
    stage: str
    note: str


class PartAnswer(Strict):
    """Something that the value is made of: a phase, a type of error, a category."""

    name: str = Field(examples=["decode_ms"])
    unit: str
    power: float = Field(
        description="Share of the change that it explains; above 1 where others made up for it."
    )
    now: float
    before: float | None


class GaugeAnswer(Strict):
    """A mean per request, or per step of the engine."""

    name: str = Field(examples=["queue_depth"])
    unit: str
    now: float | None
    before: float | None


class ExplanationAnswer(Strict):
    """What changed when an alert fired."""

    sentences: list[str] = Field(
        examples=[["error rate: 5 %, before 0.4 %", "variant=canary explains 96 % of the change"]]
    )
    note: str = Field(description="Why there is no more to tell; empty where there is.")
    words: str = Field(description="What is compared.", examples=["error rate"])
    unit: str
    now: StretchAnswer | None
    before: StretchAnswer | None
    value: float | None
    value_before: float | None = Field(description="Sums are scaled to the length of `now`.")
    slices: list[SliceAnswer]
    parts_of: str = Field(
        description="What parts are: phase, error type, safety flag, or the series that drifted;"
        " empty without any.",
        examples=["phase"],
    )
    parts: list[PartAnswer]
    releases: list[MarkerAnswer]
    requests: list[GaugeAnswer] = Field(description="Means per request.")
    engine: list[GaugeAnswer] = Field(description="Means per step.")


def lines(store: StoreReader, alerts: Sequence[str]) -> dict[str, str]:
    """The most telling of each explanation, by the alert's id; alerts without one are left out."""
    rows = store.query(
        "SELECT alert_id, text FROM penstock.alert_explanations "
        f"WHERE alert_id IN {{ids:Array(String)}} {BOUNDED}",
        {"ids": list(alerts)},
    )
    return {row["alert_id"]: row["text"] for row in rows}


def explanation(store: StoreReader, alert_id: str) -> dict[str, object] | None:
    """The whole explanation of an alert in the shape of `ExplanationAnswer`; None while there is none."""
    rows = store.query(
        "SELECT body FROM penstock.alert_explanations "
        f"WHERE alert_id = {{id:String}} LIMIT 1 {BOUNDED}",
        {"id": alert_id},
    )
    if not rows:
        return None
    found = Explanation.from_json(rows[0]["body"])
    return {
        **asdict(found),
        "sentences": sentences(found),
        "now": _stretch(found.now),
        "before": _stretch(found.before),
        "releases": [
            {"at": _moment(item["at_s"])} | {k: v for k, v in item.items() if k != "at_s"}
            for item in map(asdict, found.releases)
        ],
    }


def _stretch(found: Stretch | None) -> dict[str, datetime] | None:
    if found is None:
        return None
    return {"start": _moment(found.start_s), "end": _moment(found.end_s)}


def _moment(at_s: int) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)
