"""Shapes of the answers: what OpenAPI documents, and what tests hold the real answers against."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, create_model

from ..schemas.events import EventName, fields_of
from ..schemas.fields import Kind
from .queries import HEAVY, QUARANTINE_COLUMNS, STEP_DETAIL

# Python type of a field in an answer; a missing value is null, a missing collection is empty.
_TYPES: dict[Kind, Any] = {
    "label": str | None,
    "text": str | None,
    "int": int | None,
    "float": float | None,
    "bool": bool | None,
    "ms": float | None,
    "usd": float | None,
    "time": datetime | None,
    "labels": list[str],
    "floats": dict[str, float],
    "texts": dict[str, str],
}


class Strict(BaseModel):
    """An answer: fields that are not documented are a mistake of ours."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class _Arrival(Strict):
    append_ts: datetime = Field(description="When Penstock (or the broker) took the row.")
    clock_ahead_us: int = Field(description="By how much ts lay in the future before clamping.")
    late: bool = Field(description="Arrived after its 1 s cell had closed.")


def _row_model(name: str, event: EventName, leave_out: frozenset[str] = frozenset()) -> Any:
    """A model of an event's row, out of the catalogue of its fields."""
    fields: dict[str, Any] = {}
    for spec in fields_of(event):
        if spec.name in leave_out:
            continue
        unit = f" Unit: {spec.doc.unit}." if spec.doc.unit else ""
        kind = datetime if spec.name == "ts" else _TYPES[spec.doc.kind]
        fields[spec.name] = (kind, Field(description=spec.doc.meaning + unit))
    return create_model(name, __base__=_Arrival, **fields)


def _step_model() -> Any:
    fields: dict[str, Any] = {
        spec.name: (
            datetime if spec.name == "ts" else _TYPES[spec.doc.kind],
            Field(description=spec.doc.meaning),
        )
        for spec in fields_of("step")
        if spec.name in STEP_DETAIL
    }
    return create_model("StepRow", __base__=Strict, **fields)


def _quarantine_model() -> Any:
    types: dict[str, Any] = dict.fromkeys(
        ("incarnation", "partition", "offset", "row_index", "seq"), int
    ) | {"append_ts": datetime, "sealed": bool}
    fields: dict[str, Any] = {name: (types.get(name, str), ...) for name in QUARANTINE_COLUMNS}
    fields["preview"] = (
        str,
        Field(description="What a person may see of it: redacted, cut short."),
    )
    return create_model("QuarantineRow", __base__=Strict, **fields)


if TYPE_CHECKING:  # a checker cannot see into models that are made from the catalogue
    RequestListRow: TypeAlias = BaseModel
    RequestRow: TypeAlias = BaseModel
    FeedbackRow: TypeAlias = BaseModel
    ReleaseRow: TypeAlias = BaseModel
    SpanRow: TypeAlias = BaseModel
    StepRow: TypeAlias = BaseModel
    QuarantineRow: TypeAlias = BaseModel
else:
    RequestListRow = _row_model("RequestListRow", "request", HEAVY)
    RequestRow = _row_model("RequestRow", "request")
    FeedbackRow = _row_model("FeedbackRow", "feedback")
    ReleaseRow = _row_model("ReleaseRow", "release")
    SpanRow = _row_model("SpanRow", "span")
    StepRow = _step_model()
    QuarantineRow = _quarantine_model()


class RejectionAnswer(Strict):
    """One row that was not stored."""

    index: int = Field(description="Position within the request.", examples=[3])
    reason: str = Field(examples=["negative"])
    detail: str = Field(examples=["latency_ms is -5"])


class ReceiptAnswer(Strict):
    """What became of a POST: every row is in exactly one of the three counts."""

    accepted: int = Field(examples=[499])
    duplicate: int = Field(examples=[0])
    rejected: int = Field(examples=[1])
    rejections: list[RejectionAnswer] = Field(description="The first 100.")


class WindowPoint(Strict):
    """A window of one slice."""

    end: datetime = Field(
        description="The window covers [end - window, end).", examples=["2026-01-01T00:00:00Z"]
    )
    values: dict[str, float | int | dict[str, int] | None] = Field(
        description="One value per metric; null where it cannot be told.",
        examples=[{"ttft_ms_p95": 212.4, "request_rate": 38.2}],
    )
    coverage: float | None = Field(
        description="Share of the events sent that arrived.", examples=[1.0]
    )
    coverage_state: str = Field(description="ok, partial, unknown or no_data.", examples=["ok"])


class WindowSeries(Strict):
    """The windows of one slice, oldest first."""

    slice: dict[str, str] = Field(
        description="Value of each dimension of the grouping set.", examples=[{"model": "chat"}]
    )
    points: list[WindowPoint]


class WindowsAnswer(Strict):
    """Windows by slice."""

    window: str = Field(examples=["1m"])
    grouping: str = Field(examples=["model"])
    metrics: list[str] = Field(examples=[["ttft_ms_p95", "request_rate"]])
    series: list[WindowSeries]


class RequestsAnswer(Strict):
    """A page of requests, newest first."""

    requests: list[RequestListRow]
    next_cursor: str | None = Field(description="For the next page; null on the last one.")


class RequestDetail(Strict):
    """A request and what belongs to it."""

    request: RequestRow
    feedback: list[FeedbackRow] = Field(description="Joined by request_id, oldest first.")
    spans: list[SpanRow] = Field(description="Joined by trace_id, oldest first.")
    steps: list[StepRow] = Field(
        description="Engine steps first_step to last_step of the same boot, with queue, batch and "
        "KV state, in order, at most 2000."
    )
    steps_total: int = Field(description="How many steps that are.")


class ReleasesAnswer(Strict):
    """Release markers, newest first."""

    releases: list[ReleaseRow]


class CoverageCounts(Strict):
    """What was sent and what became of it."""

    expected: int = Field(description="Events sent, as far as is known.")
    received: int
    stored: int
    missing: int = Field(description="Sent, but have not arrived.")
    gap: int = Field(description="Declared by the worker as dropped.")
    duplicate: int = Field(description="Repeated deliveries dropped.")
    rejected: int = Field(description="In quarantine.")
    late: int = Field(description="Came after their pane had closed.")


class CoverageTotals(CoverageCounts):
    """All boots together."""

    boots: int
    workers: int
    coverage: float | None = Field(description="received / expected.", examples=[1.0])
    state: Literal["ok", "partial", "unknown", "no_data"] = Field(
        description="The worst of the boots: a known loss, then an unknown one."
    )


class CoverageRow(CoverageCounts):
    """One boot of a worker."""

    worker_id: str
    boot_id: str
    first_ts: datetime
    last_ts: datetime
    last_append_ts: datetime
    next_seq: int
    coverage: float | None
    state: str = Field(description="ok, partial, unknown or closed.")
    closed: bool = Field(description="The boot ended in order.")
    identified: bool = Field(description="Its events carry an identity.")


class CoverageAnswer(Strict):
    """What was sent and what arrived."""

    workers: list[CoverageRow] = Field(description="Boots, the most recently heard first.")
    totals: CoverageTotals


class QuarantineAnswer(Strict):
    """A page of rejected rows, newest first."""

    rows: list[QuarantineRow]
    reasons: dict[str, int] = Field(description="Rows per reason over everything that matches.")
    next_cursor: str | None = Field(description="For the next page; null on the last one.")


class OverrideShown(Strict):
    """What a person ordered, whatever the evidence says. The verdict beside it stays what it is."""

    action: Literal["promote", "rollback", "hold"]
    who: str = Field(examples=["ann"])
    reason: str = Field(examples=["the errors are a broken client, INC-412"])
    at: datetime
    until: datetime = Field(description="It ends then, or with the epoch.")
    epoch: int


class VerdictAnswer(BaseModel):
    """May this release go on? docs/gates.md says what each verdict means."""

    verdict: Literal["PASS", "FAIL", "UNDECIDED", "NO_DATA", "INVALID"]
    action: Literal["promote", "rollback", "wait", "hold"] = Field(
        description="What the gate's policy makes of the verdict."
    )
    reasons: list[str] = Field(examples=[["not_enough_evidence"]])
    evidence: list[dict[str, Any]] = Field(
        description="Per metric: estimate, confidence sequence, e-values, counts, limit, decision."
    )
    n: int = Field(description="Requests the verdict is based on.", examples=[512])
    n_needed: int | None = Field(description="About how many more until it is decided.")
    eta_s: float | None = Field(description="The same in seconds at the current traffic.")
    watermark: str = Field(examples=["2026-01-01T00:00:00Z"])
    as_of: str = Field(examples=["2026-01-01T00:00:00Z"])
    epoch: int = Field(
        description="Second of the marker that began it, 0 before any: grows with release and reset."
    )
    spec_hash: str
    engine: str = Field(examples=["absolute-1"])
    digest: str = Field(description="SHA-256 of what the verdict states.")
    next_poll_ms: int = Field(description="When asking again makes sense.", examples=[1000])
    text: str = Field(description="One sentence for people.")
    checks: list[dict[str, Any]] = Field(
        [], description="What makes the comparison fair, each with `check` and `ok`."
    )
    release: str | None = Field(
        description="Whose marker began this epoch; null before the first.", examples=["r42"]
    )
    epoch_started: datetime | None = Field(description="Time of that marker.")
    override: OverrideShown | None = Field(
        description="In force now; `action` is then the one ordered."
    )


class GateAnswer(Strict):
    """A gate and its newest verdict."""

    id: str = Field(examples=["canary"])
    kind: str = Field(examples=["absolute"])
    filter: dict[str, str] = Field(examples=[{"variant": "canary"}])
    spec: dict[str, Any] = Field(description="The whole specification, defaults written out.")
    latest: VerdictAnswer


class GatesAnswer(Strict):
    """Every gate of the configuration."""

    gates: list[GateAnswer]


class LiveMessage(Strict):
    """One server-sent event of /v1/live."""

    now: datetime
    watermark: datetime | None
    window: str = Field(examples=["1m"])
    fleet: dict[str, Any] | None = Field(
        description="The fleet's newest window; null before the first."
    )
    changed: list[Literal["windows", "releases", "gates"]] = Field(
        description="What is new since the message before."
    )


class Component(BaseModel):
    """One part of the service; further numbers as the part has them."""

    model_config = ConfigDict(extra="allow")
    status: Literal["ok", "degraded", "failed"]
    detail: str = Field(description="Empty while all is well.")


class HealthAnswer(Strict):
    """The process answers."""

    status: Literal["ok"]
    version: str


class DetailedHealthAnswer(Strict):
    """Each part, really checked."""

    status: Literal["ok", "degraded", "failed"] = Field(description="The worst of the parts.")
    version: str
    components: dict[str, Component]


class ReadyAnswer(Strict):
    """The service can do its work."""

    status: Literal["ready"]
