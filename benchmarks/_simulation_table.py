"""Rows of the simulation's table: what was asked, what came out, and whether the bar is met."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

EVER_FAIL, EVER_PASS = "ever FAIL, %", "ever PASS, %"
MEDIAN = "median to verdict"
OURS = "Penstock"
_BOOTSTRAPS = 200


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        section: heading that it stands under.
        case: what the streams look like.
        rule: what judges them, `OURS` or a rival.
        measure: what `value` is: a percentage of streams, or a median (infinite where fewer than
            half of the streams were decided).
        value, error: the result and its standard error.
        streams: how many.
        units: what is counted, and what a median counts.
        horizon: how long each stream is and how often it is looked at.
        share: of the treatment, None where there is one arm.
        alpha: error rate that the rule states; None where it states none.
        bar: largest value that is allowed; None where nothing was promised.
    """

    section: str
    case: str
    rule: str
    measure: str
    value: float
    error: float
    streams: int
    units: str
    horizon: str
    share: float | str | None = None
    alpha: float | None = None
    bar: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None without one."""
        return None if self.bar is None else bool(self.value <= self.bar)

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it: an infinite median is null."""
        data = {**asdict(self), "met": self.met}
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in data.items()
        }


def standard_error(share: float, streams: int) -> float:
    """Of a share of streams; that of one stream where none or all were hit."""
    return math.sqrt(max(share * (1 - share), 1 / streams) / streams)


def three_errors(alpha: float, streams: int) -> float:
    """The bar for a false-verdict rate, in %: alpha and three standard errors of it."""
    return 100 * (alpha + 3 * math.sqrt(alpha * (1 - alpha) / streams))


def percent(hit: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Percentage of streams, and its standard error."""
    share = float(hit.mean())
    return 100 * share, 100 * standard_error(share, hit.size)


def median(times: FloatArray, rng: np.random.Generator) -> tuple[float, float]:
    """Median (infinite values take part) and its bootstrap error, infinite where that is."""
    middle = float(np.median(times))
    if not math.isfinite(middle):
        return math.inf, math.inf
    picks = rng.integers(0, times.size, (_BOOTSTRAPS, times.size))
    drawn = np.median(times[picks], axis=1)
    return middle, float(np.std(drawn)) if np.isfinite(drawn).all() else math.inf


def number(value: float) -> str:
    """A number of the table."""
    if not math.isfinite(value):
        return "never"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def told(row: Row) -> list[str]:
    """The cells of a line."""
    error = f" ± {number(row.error)}" if math.isfinite(row.error) else ""
    bar = "" if row.bar is None else f"{number(row.bar)}: {'met' if row.met else '**not met**'}"
    share = "" if row.share is None else f"{row.share}"
    alpha = "" if row.alpha is None else f"{row.alpha:g}"
    head = [row.case, row.rule, share, alpha, row.units, row.horizon]
    return [*head, row.measure, f"{number(row.value)}{error}", bar]


HEADS = ("streams of", "rule", "share", "alpha", "units", "horizon", "measure", "value", "bar")


def markdown(rows: Sequence[Row]) -> str:
    """One table per section."""
    parts = []
    for section in dict.fromkeys(row.section for row in rows):
        mine = [row for row in rows if row.section == section]
        streams = " or ".join(f"{n:,}" for n in sorted({row.streams for row in mine}))
        lines = [f"## {section}", "", f"{streams} streams in a row.", ""]
        lines += [f"| {' | '.join(HEADS)} |", "|" + "---|" * len(HEADS)]
        lines += [f"| {' | '.join(told(row))} |" for row in mine]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def bars(rows: Sequence[Row]) -> str:
    """How many bars are met, and which are not."""
    judged = [row for row in rows if row.bar is not None]
    missed = [row for row in judged if not row.met]
    lines = [f"{len(judged) - len(missed)} of {len(judged)} bars are met."]
    for row in missed:
        lines.append(
            f"- not met: {row.section}, {row.case}, {row.rule}, share {row.share}, alpha {row.alpha}: "
            f"{row.measure} {number(row.value)} ± {number(row.error)}, bar {number(row.bar or 0.0)}"
        )
    return "\n".join(lines)
