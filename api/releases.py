"""GET /v1/releases: release markers, and the last release that passed its gates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field

from ..schemas.errors import NotFound
from ..schemas.ports import StoreReader
from ..streams.core.gates.verdict import iso
from ..streams.core.gating import Marker, marked_by
from .answers import Answer
from .gates_models import GoodReleaseAnswer
from .gates_verdicts import Verdicts, stored_markers
from .models import ReleasesAnswer
from .parameters import Ask, Time
from .problems import described
from .queries import (
    BOUNDED,
    Conditions,
    event_columns,
    listed,
    micros_of,
    text_columns,
    without_empty,
)

_TEXTS = text_columns("release")


class ReleasesAsk(Ask):
    """Which markers."""

    model: str | None = None
    release: str | None = None
    variant: str | None = None
    stage: str | None = None
    start: Time | None = Field(None, description="At or after.")
    end: Time | None = Field(None, description="Before.")
    limit: int = Field(200, ge=1, le=1000)


class GoodAsk(Ask):
    """Of which model, and which release is out of the question."""

    model: str = Field(min_length=1, max_length=200, examples=["chat-8b"])
    gate: str | None = Field(None, max_length=64, description="By this gate alone.")
    other_than: str | None = Field(
        None, max_length=200, description="The release that is being rolled back."
    )


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict that a gate latched in one epoch.

    Attributes:
        gate, verdict: who, and PASS or FAIL.
        at_us: event time of its first appearance.
    """

    gate: str
    verdict: str
    at_us: int


def last_known_good(
    markers: Iterable[Marker],
    decisions: Sequence[Decision],
    filters: Mapping[str, Mapping[str, str]],
    other_than: str | None = None,
) -> tuple[Marker, tuple[str, ...]] | None:
    """The newest release that some gate passed and none failed.

    A decision is about the newest marker, at its time, that the gate's filter matches.

    Args:
        markers: release markers of one model, in any order.
        decisions: of the gates.
        filters: dimensions of each gate's filter, by id.
        other_than: a release that does not count.

    Returns:
        Its first marker and the gates that passed it; None where there is none.
    """
    ordered = sorted(markers, key=lambda marker: marker.ts_us)
    passed: dict[str, list[str]] = {}
    failed: set[str] = set()
    for one in decisions:
        wanted = filters.get(one.gate)
        judged = [
            marker.dimensions.get("release", "")
            for marker in ordered
            if wanted is not None and marker.ts_us <= one.at_us and marker.matches(wanted)
        ]
        if judged and one.verdict == "PASS":
            passed.setdefault(judged[-1], []).append(one.gate)
        elif judged and one.verdict == "FAIL":
            failed.add(judged[-1])
    good = [
        marker
        for marker in ordered
        if (name := marker.dimensions.get("release", "")) in passed
        and name not in failed
        and name != other_than
    ]
    if not good:
        return None
    name = good[-1].dimensions["release"]
    first = next(marker for marker in good if marker.dimensions["release"] == name)
    return first, tuple(sorted(set(passed[name])))


class Releases:
    """Answers questions for releases."""

    def __init__(self, store: StoreReader, verdicts: Verdicts) -> None:
        self._store = store
        self._verdicts = verdicts

    def good(self, ask: Annotated[GoodAsk, Query()]) -> Response:
        """The last release that passed its gates and failed none: where a rollback may go.

        Raises:
            NotFound: no release of the model did.
        """
        gates = self._verdicts.gates
        chosen = gates if ask.gate is None else {ask.gate: self._verdicts.known(ask.gate)}
        markers = [
            marker
            for marker in stored_markers(self._store)
            if not marker.gate and marker.dimensions.get("model") == ask.model
        ]
        filters = {name: marked_by(gate) for name, gate in chosen.items()}
        found = last_known_good(markers, self._decisions(list(chosen)), filters, ask.other_than)
        if found is None:
            raise NotFound(
                f"no release of {ask.model} has passed a gate; GET /v1/releases?model= lists them"
            )
        marker, by = found
        return Answer(
            {
                "model": ask.model,
                "release": marker.dimensions["release"],
                "model_version": marker.dimensions.get("model_version"),
                "since": iso(marker.ts_us),
                "gates": list(by),
            }
        )

    def _decisions(self, gates: Sequence[str]) -> list[Decision]:
        rows = self._store.query(
            "SELECT gate_id, toString(verdict) AS said, min(as_of) AS first FROM penstock.verdicts "
            "WHERE gate_id IN {gates:Array(String)} AND verdict IN ('PASS', 'FAIL') "
            f"GROUP BY gate_id, epoch, said {BOUNDED}",
            {"gates": list(gates)},
        )
        return [Decision(row["gate_id"], row["said"], micros_of(row["first"])) for row in rows]

    def get(self, ask: Annotated[ReleasesAsk, Query()]) -> Response:
        """Release markers, newest first: deploys and changes of a canary's share."""
        where = Conditions()
        for name in ("model", "release", "variant", "stage"):
            where.equal(name, getattr(ask, name))
        where.since("ts", ask.start)
        where.before("ts", ask.end)
        rows = self._store.query(
            f"SELECT {listed(event_columns('release'))} FROM penstock.releases {where.text} "
            f"ORDER BY ts DESC, boot_id DESC, seq DESC LIMIT {{limit:UInt32}} {BOUNDED}",
            where.parameters | {"limit": ask.limit},
        )
        return Answer({"releases": [without_empty(row, _TEXTS) for row in rows]})


def good_routes(releases: Releases) -> APIRouter:
    """What pipelines may ask too."""
    router = APIRouter(tags=["releases"])
    router.add_api_route(
        "/v1/releases/last-known-good",
        releases.good,
        methods=["GET"],
        response_model=GoodReleaseAnswer,
        responses=described(401, 403, 404, 422, 429, 503),
        summary="The last release that passed",
    )
    return router


def routes(releases: Releases) -> APIRouter:
    """Release markers."""
    router = APIRouter(tags=["releases"])
    router.add_api_route(
        "/v1/releases",
        releases.get,
        methods=["GET"],
        response_model=ReleasesAnswer,
        responses=described(401, 403, 422, 429, 503),
        summary="Release markers",
    )
    return router
