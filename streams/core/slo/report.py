"""The compliance report: what was promised and what was kept, as values and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ....schemas.slo.objective import Composite, Objective
from ..gates.verdict import iso
from ..tiles import SECOND_US
from .status import STATES, ObjectiveStatus, OverallStatus, overall


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One objective of a report: what it is about, and its status."""

    filter: Mapping[str, str]
    service: str
    description: str
    status: ObjectiveStatus


@dataclass(frozen=True, slots=True)
class ComplianceReport:
    """Every objective and composite at one moment.

    Attributes:
        end_s: what is closed, in seconds since 1970 UTC.
        rows: objectives in the order of the configuration.
        overall: composites.
        counts: how many objectives are in each state.
    """

    end_s: int
    rows: tuple[ReportRow, ...]
    overall: tuple[OverallStatus, ...]
    counts: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it; times are ISO 8601 in UTC."""
        return {
            "as_of": time_of(self.end_s),
            "counts": dict(self.counts),
            "objectives": [
                {**asdict(row), "filter": dict(row.filter), "status": row.status.to_dict()}
                for row in self.rows
            ],
            "overall": [item.to_dict() for item in self.overall],
        }


def compliance_report(
    slos: Iterable[Objective | Composite], statuses: Mapping[str, ObjectiveStatus], end_s: int
) -> ComplianceReport:
    """The report of objectives that have a status, and of all composites.

    Args:
        slos: the configuration, as `objectives_of` gives it.
        statuses: by id, of one or of several shards.
        end_s: what is closed.
    """
    rows: list[ReportRow] = []
    composites: list[OverallStatus] = []
    for item in slos:
        if isinstance(item, Composite):
            composites.append(overall(item, statuses))
        elif item.id in statuses:
            status = statuses[item.id]
            rows.append(ReportRow(item.filter.given(), item.service, item.description, status))
    found = [row.status.state for row in rows]
    counts = {str(state): found.count(state) for state in STATES}
    return ComplianceReport(end_s, tuple(rows), tuple(composites), counts)


_HEAD = (
    "Objective", "Target", "Attained", "State", "Budget used", "Budget left", "Burn (1 h)",
    "Spent in", "Bad / all", "Coverage",
)  # fmt: skip


def markdown(report: ComplianceReport) -> str:
    """A report as Markdown: one table of objectives, one of composites."""
    counts = ", ".join(f"{n} {state}" for state, n in report.counts.items() if n)
    lines = [
        "# SLO compliance",
        "",
        f"As of {time_of(report.end_s)}: {counts or 'no objectives'}.",
        "",
        _line(_HEAD),
        _line(["---"] * len(_HEAD)),
        *(_line(_cells(row)) for row in report.rows),
    ]
    if report.overall:
        lines += ["", "| Overall | State | Kept | Needed |", "| --- | --- | --- | --- |"]
        lines += [
            _line([item.id, item.state, f"{item.kept} of {item.total}", share(item.target)])
            for item in report.overall
        ]
    return "\n".join(lines) + "\n"


def _cells(row: ReportRow) -> list[str]:
    status = row.status
    left = "-" if status.left_minutes is None else f"{status.left_minutes:.1f} min"
    burn = "-" if status.burn_1h is None else f"{status.burn_1h:.2f}"
    return [
        status.id,
        status.declared,
        share(status.attainment),
        status.state,
        share(status.consumed),
        f"{left} of {status.budget_minutes:.1f}",
        burn,
        span(status.exhaustion_s),
        f"{status.bad:,} / {status.total:,}",
        share(status.coverage),
    ]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def share(value: float | None) -> str:
    """A share as a percentage with five digits; a dash without one.

    Nothing below 100 % is shown as 100 %: the digits that are left out are cut, not rounded.

    >>> share(0.99999999)
    '99.999 %'
    """
    if value is None:
        return "-"
    scaled = value * 100
    return f"{scaled:.5g} %" if scaled >= 100 or scaled < 99.999 else "99.999 %"


def span(seconds: float | None) -> str:
    """A length of time for a person; a dash without one."""
    if seconds is None:
        return "-"
    for length_s, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length_s:
            return f"{seconds / length_s:.1f} {unit}"
    return f"{seconds:.0f} s"


def time_of(seconds: int) -> str:
    """ISO 8601 in UTC."""
    return iso(seconds * SECOND_US)
