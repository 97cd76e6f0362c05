"""GET /v1/alerts, silences and acknowledgements: what is wrong, and who has said what about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field

from ..schemas.alerts.base import unix_s
from ..schemas.alerts.section import Alerts as Section
from ..schemas.errors import InvalidQuery, NotFound
from ..streams.core.alerts.log import Alert
from ..streams.core.alerts.suppress import quiet_reasons
from ..streams.core.alerts.transition import Transition
from .answers import Answer
from .auth import caller_of
from .explanations import explanation, lines
from .journal import SignalStore
from .parameters import Ask, Time
from .problems import described
from .queries import BOUNDED, Conditions
from .signal_models import (
    AcknowledgementAnswer,
    AlertDetail,
    AlertsAnswer,
    Body,
    Severity,
    SilenceAnswer,
    SilencesAnswer,
)
from .silences import AcknowledgeBody, Said, SilenceBody, State
from .slos import seconds_of

SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical", "emergency")
_OPEN = ("pending", "firing")
_NUMBERS = "value, limit_value AS limit, n, text"
_COLUMNS = (
    "alert_id AS id, rule_id AS rule, severity, state, reason, labels, started, fired, ended, at, "
    f"{_NUMBERS}, amended_text, annotations, runbook"
)
AlertId = Annotated[str, Path(max_length=64, examples=["6d1f0b7c9a52e4d8b3f10c7a59e2d6b4"])]
SilenceId = Annotated[str, Path(max_length=64, examples=["s-3f9a1c27"])]


class AlertsAsk(Ask):
    """Which alerts."""

    state: Literal["open", "pending", "firing", "resolved", "cancelled", "all"] = Field(
        "open", description="open: pending and firing."
    )
    severity: Severity | None = None
    rule: str | None = Field(None, max_length=64, description="Id of a rule.")
    since: Time | None = Field(None, description="Changed at or after, in event time.")
    limit: int = Field(200, ge=1, le=1000)


class SilencesAsk(Ask):
    """Which silences."""

    state: State | None = Field(None, description="Without it, those that have not ended.")


class Alerts:
    """Reads alerts, and what was said about them.

    Args:
        store: where the streams put them.
        section: `alerts:` of the configuration.
        said: silences and acknowledgements.
    """

    def __init__(self, store: SignalStore, section: Section, said: Said) -> None:
        self._store = store
        self._section = section
        self._said = said

    def all(self, ask: AlertsAsk) -> Body:
        """Alerts, the newest change first."""
        where = Conditions()
        if ask.state != "all":
            states = _OPEN if ask.state == "open" else (ask.state,)
            where.add("state IN {states:Array(String)}", states=list(states))
        for name, value in (("severity", ask.severity), ("rule", ask.rule)):
            if value is not None:
                where.add(f"{name} = {{{name}:String}}", **{name: value})
        if ask.since is not None:
            where.add("at >= toDateTime({since:UInt32}, 'UTC')", since=-(-ask.since // 1_000_000))
        rows = self._rows(where, ask.limit)
        firing = self._firing()
        counted = [alert.labels["severity"] for alert in firing]
        return {
            "alerts": self._shown(rows, firing),
            "counts": {name: counted.count(name) for name in SEVERITIES},
        }

    def one(self, alert_id: str) -> Body:
        """An alert, what changed when it fired, and every change of it.

        Raises:
            NotFound: there is none of that id.
        """
        transitions = self._store.query(
            f"SELECT id, sequence, kind, reason, at, {_NUMBERS} FROM penstock.alert_transitions "
            "WHERE alert_id = {id:String} ORDER BY sequence, recorded_at, id LIMIT 1000 "
            f"{BOUNDED}",
            {"id": alert_id},
        )
        shown = self._shown([self._row(alert_id)], self._firing())
        explained = explanation(self._store, alert_id)
        return shown[0] | {"transitions": transitions, "explained": explained}

    def acknowledge(self, alert_id: str, body: AcknowledgeBody, who: str) -> Body:
        """Take an alert; `who` is told to the audit log.

        Raises:
            NotFound: there is none of that id.
            InvalidQuery: it has ended.
        """
        row = self._row(alert_id)
        if row["state"] not in _OPEN:
            raise InvalidQuery(
                f"the alert was {row['state']} at {row['ended']:%Y-%m-%dT%H:%M:%SZ}: "
                "only open ones can be acknowledged"
            )
        return self._said.acknowledge(alert_id, body, who)

    def _row(self, alert_id: str) -> Body:
        where = Conditions()
        where.add("id = {id:String}", id=alert_id)
        rows = self._rows(where, 1)
        if not rows:
            raise NotFound(f"there is no alert {alert_id!r}; GET /v1/alerts?state=all lists them")
        return rows[0]

    def _rows(self, where: Conditions, limit: int) -> list[Body]:
        return self._store.query(
            f"SELECT * FROM (SELECT {_COLUMNS} FROM penstock.alerts) {where.text} "
            f"ORDER BY at DESC, id LIMIT {{limit:UInt32}} {BOUNDED}",
            where.parameters | {"limit": limit},
        )

    def _firing(self) -> list[Alert]:
        where = Conditions()
        where.add("state = 'firing'")
        return [_alert(row) for row in self._rows(where, 10_000)]

    def _shown(self, rows: Sequence[Body], firing: Sequence[Alert]) -> list[Body]:
        section, now_s = self._section, unix_s(self._said.now)
        quiet = quiet_reasons(
            firing, self._said.silences(), section.maintenance, section.inhibitions, now_s
        )
        taken = self._said.acknowledgements([row["id"] for row in rows if row["state"] in _OPEN])
        known = lines(self._store, [row["id"] for row in rows])
        return [
            row
            | {
                "runbook": row["runbook"] or None,
                "amended_text": row["amended_text"] or None,
                "quiet": quiet.get(row["id"]),
                "acknowledged": taken.get(row["id"]),
                "explanation": known.get(row["id"]) or None,
            }
            for row in rows
        ]


def _alert(row: Mapping[str, Any]) -> Alert:
    """A firing alert as the core's value, as far as silences and inhibitions look at it."""
    last = Transition(
        "", row["id"], 0, "firing", row["reason"], row["rule"], "",
        seconds_of(row["at"]), seconds_of(row["started"]), dict(row["labels"]),
    )  # fmt: skip
    return Alert("firing", last)


def read_routes(alerts: Alerts, said: Said) -> APIRouter:
    """The routes that ask."""

    def listed(ask: Annotated[AlertsAsk, Query()]) -> Response:
        """Alerts, the newest change first: the open ones, or the history with `state=all`."""
        return Answer(alerts.all(ask))

    def detail(alert_id: AlertId) -> Response:
        """An alert, what changed when it fired, and every change of it."""
        return Answer(alerts.one(alert_id))

    def silences(ask: Annotated[SilencesAsk, Query()]) -> Response:
        """Silences of penstock.yaml and of this API."""
        return Answer({"silences": said.listed(ask.state)})

    router = APIRouter(tags=["alerts"])
    for path, endpoint, model, summary, statuses in (
        ("/v1/alerts", listed, AlertsAnswer, "Alerts", (422,)),
        ("/v1/alerts/{alert_id}", detail, AlertDetail, "An alert and its history", (404, 422)),
        ("/v1/silences", silences, SilencesAnswer, "Silences", (422,)),
    ):
        router.add_api_route(
            path,
            endpoint,
            methods=["GET"],
            response_model=model,
            responses=described(401, 403, *statuses, 429, 503),
            summary=summary,
        )
    return router


def write_routes(alerts: Alerts, said: Said) -> APIRouter:
    """The routes that change what people are told."""

    def silence(request: Request, body: SilenceBody) -> Response:
        """Tell nobody of the alerts that match, for a while. They are evaluated and stored all the same."""
        return Answer(said.silence(body, caller_of(request)), 201)

    def end(request: Request, silence_id: SilenceId) -> Response:
        """End a silence now: what still fires is told then."""
        return Answer(said.end(silence_id, caller_of(request)))

    def acknowledge(request: Request, alert_id: AlertId, body: AcknowledgeBody) -> Response:
        """Take an alert: it is neither repeated nor escalated. Its end is told all the same."""
        return Answer(alerts.acknowledge(alert_id, body, caller_of(request)))

    router = APIRouter(tags=["alerts"])
    problems = described(401, 403, 422, 429, 503)
    router.add_api_route(
        "/v1/silences",
        silence,
        methods=["POST"],
        status_code=201,
        response_model=SilenceAnswer,
        responses=problems,
        summary="Set a silence",
    )
    router.add_api_route(
        "/v1/silences/{silence_id}",
        end,
        methods=["DELETE"],
        response_model=SilenceAnswer,
        responses=problems | described(404),
        summary="End a silence",
    )
    router.add_api_route(
        "/v1/alerts/{alert_id}/acknowledge",
        acknowledge,
        methods=["POST"],
        response_model=AcknowledgementAnswer,
        responses=problems | described(404),
        summary="Take an alert",
    )
    return router
