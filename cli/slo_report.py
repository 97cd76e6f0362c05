"""The compliance report: gathered from answers of the API, and written as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ..streams.core.slo.report import share, span
from ..streams.core.slo.status import STATES
from .sources import Source

CURVE_POINTS = 120
MAX_ALERTS = 1000
SHOWN_ALERTS = 20
SEVERITIES = ("emergency", "critical", "warning", "info")

Body = dict[str, Any]


def gather(source: Source, window_s: int, title: str) -> Body:
    """The report as one JSON value.

    Args:
        source: where to ask.
        window_s: how far back before the newest status.
        title: of the report.
    """
    found = source.ask("/v1/slos")
    as_of = found["as_of"]
    since = None if as_of is None else _before(as_of, window_s)
    objectives = [_objective(source, slo, since, as_of, window_s) for slo in found["slos"]]
    costs = source.ask("/v1/costs", by=["model"])
    return {
        "title": title,
        "as_of": as_of,
        "since": since,
        "window_s": window_s,
        "counts": found["counts"],
        "objectives": objectives,
        "overall": found["overall"],
        "alerts": _alerts(source, since),
        "costs": {name: costs[name] for name in ("window", "total", "budgets")},
    }


def _before(moment: str, seconds: int) -> str:
    then = datetime.fromisoformat(moment).astimezone(UTC) - timedelta(seconds=seconds)
    return then.strftime("%Y-%m-%dT%H:%M:%SZ")


def _objective(
    source: Source, slo: Body, since: str | None, as_of: str | None, window_s: int
) -> Body:
    points: Sequence[Body] = ()
    if slo["latest"] is not None:
        step_s = max(window_s // CURVE_POINTS, 1)
        asked = {"start": since, "end": as_of, "step": step_s}
        points = source.ask(f"/v1/slos/{slo['id']}", **asked)["points"]
    return slo | {"history": _history(points), "curve": [_of_curve(point) for point in points]}


def _history(points: Sequence[Body]) -> Body | None:
    """How an objective went: states as shares of the moments looked at, and the extremes."""
    if not points:
        return None
    states = [point["state"] for point in points]
    attained = [point["attainment"] for point in points if point["attainment"] is not None]
    burns = [point["burn_1h"] for point in points if point["burn_1h"] is not None]
    return {
        "moments": len(points),
        "states": {name: states.count(name) / len(points) for name in STATES if name in states},
        "lowest_attainment": min(attained, default=None),
        "highest_burn_1h": max(burns, default=None),
        "consumed_first": points[0]["consumed"],
    }


def _of_curve(point: Body) -> Body:
    return {name: point[name] for name in ("as_of", "state", "attainment", "consumed")}


def _alerts(source: Source, since: str | None) -> Body:
    """What fired within the window, the newest first."""
    found = source.ask("/v1/alerts", state="all", since=since, limit=MAX_ALERTS)["alerts"]
    fired = [alert for alert in found if alert["fired"] is not None]
    severities = [alert["severity"] for alert in fired]
    return {
        "fired": {name: severities.count(name) for name in SEVERITIES},
        "more": len(found) == MAX_ALERTS,
        "newest": fired[:SHOWN_ALERTS],
    }


def markdown(report: Body) -> str:
    """The report as Markdown."""
    counts = ", ".join(f"{n} {state}" for state, n in report["counts"].items() if n)
    lines = [f"# {report['title']}", ""]
    lines += [f"As of {report['as_of'] or 'no evaluation yet'}: {counts or 'no objectives'}.", ""]
    lines += _table(
        ("Objective", "Asked", "State", "Attained", "Budget used", "Budget left", "Burn (1 h)",
         "Spent in", "Bad / all", "Coverage"),
        (_row(slo) for slo in report["objectives"]),
    )  # fmt: skip
    lines += _table(
        ("Overall", "State", "Kept", "Needed"),
        (
            [item["id"], item["state"], f"{item['kept']} of {item['total']}", share(item["target"])]
            for item in report["overall"]
        ),
    )
    if report["since"]:
        lines += [f"## Since {report['since']}", ""]
    lines += _table(
        ("Objective", "Time in each state", "Lowest attained", "Highest burn (1 h)", "Budget used"),
        (_history_row(slo) for slo in report["objectives"] if slo["history"]),
    )
    return "\n".join([*lines, *_alert_lines(report["alerts"]), *_cost_lines(report["costs"])])


def _row(slo: Body) -> list[str]:
    now = slo["latest"]
    if now is None:
        return [slo["id"], "-", "no_data", *"-------"]
    left = "-" if now["left_minutes"] is None else f"{now['left_minutes']:.1f} min"
    return [
        slo["id"], now["declared"], now["state"], share(now["attainment"]), share(now["consumed"]),
        f"{left} of {now['budget_minutes']:.1f}", number(now["burn_1h"]), span(now["exhaustion_s"]),
        f"{now['bad']:,} / {now['total']:,}", share(now["coverage"]),
    ]  # fmt: skip


def _history_row(slo: Body) -> list[str]:
    history = slo["history"]
    states = ", ".join(f"{name} {share(part)}" for name, part in history["states"].items())
    used = f"{share(history['consumed_first'])} to {share(slo['latest']['consumed'])}"
    lowest = share(history["lowest_attainment"])
    return [slo["id"], states, lowest, number(history["highest_burn_1h"]), used]


def _alert_lines(alerts: Body) -> list[str]:
    fired = ", ".join(f"{n} {name}" for name, n in alerts["fired"].items() if n)
    more = " (and more)" if alerts["more"] else ""
    return [
        "## Alerts",
        "",
        f"Fired: {fired or 'none'}{more}.",
        "",
        *_table(
            ("Fired", "Ended", "Severity", "Rule", "What"),
            (
                [one["fired"], one["ended"] or "-", one["severity"], one["rule"], one["text"]]
                for one in alerts["newest"]
            ),
        ),
    ]


def _cost_lines(costs: Body) -> list[str]:
    total = costs["total"]
    spent = "unknown" if total is None else usd(total["cost_usd"])
    head = ["## Cost", "", f"Last {costs['window']}: {spent}.", ""]
    return head + _table(
        ("Budget", "State", "Spent", "Of", "Projected", "Interval", "Ends"),
        (budget_row(budget) for budget in costs["budgets"]),
    )


def budget_row(budget: Mapping[str, Any]) -> list[str]:
    """A budget as texts: id, state, spent, budget, projected, interval, end of the period."""
    low, high = budget["low_usd"], budget["high_usd"]
    return [
        budget["id"], budget["state"], usd(budget["spent_usd"]), usd(budget["budget_usd"]),
        usd(budget["projected_usd"]), "-" if low is None else f"{usd(low)} to {usd(high)}",
        budget["period_end"] or "-",
    ]  # fmt: skip


def usd(amount: float | None) -> str:
    """Dollars for people; a dash without any."""
    if amount is None:
        return "-"
    return f"{amount:,.2f} USD" if amount >= 0.01 or amount == 0 else f"{amount:.3g} USD"


def number(value: float | None) -> str:
    """Two digits; a dash without any."""
    return "-" if value is None else f"{value:.2f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table and an empty line; nothing where there are no rows."""
    lines = [_line(row) for row in rows]
    return [_line(head), _line(["---"] * len(head)), *lines, ""] if lines else []


def _line(cells: Iterable[str]) -> str:
    texts = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
    return "| " + " | ".join(texts) + " |"
