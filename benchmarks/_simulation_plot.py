"""Two plots of the table as SVG, without any library: false verdicts, and time to a true one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from penstock.benchmarks._simulation_table import EVER_FAIL, MEDIAN, OURS, Row

_COLOURS = ("#0b6e4f", "#c0392b", "#8e5ea2", "#d98e04", "#3b6ea8", "#555555", "#e377c2", "#17a2b8")
_LEFT, _WIDTH, _LINE = 310, 420, 17


def false_fails(rows: Sequence[Row]) -> str:
    """Ever FAIL without a true difference, per rule, on a scale from 0 to 100 %."""
    mine = [r for r in rows if r.measure == EVER_FAIL and r.section.startswith("A/A")]
    mine = [r for r in mine if r.alpha in (None, 0.05)]
    ticks = [(p, f"{p} %") for p in (0, 5, 25, 50, 75, 100)]
    return _dots(
        "Ever FAIL without a true difference (stated: 5 %)", mine, ticks, lambda v: v / 100
    )


def times_to_fail(rows: Sequence[Row]) -> str:
    """Median treatment requests until a true difference in errors is shown, on a log scale."""
    mine = [r for r in rows if r.measure == MEDIAN and r.section == "Errors: time to FAIL"]
    mine = [r for r in mine if r.alpha in (None, 0.05) and math.isfinite(r.value)]
    ticks = [(10**k, f"{10**k:,}") for k in range(1, 6)]
    return _dots(
        "Treatment requests until FAIL, median (none: never)",
        mine,
        ticks,
        lambda v: (math.log10(max(v, 10)) - 1) / 4,
    )


def _dots(
    title: str, rows: Sequence[Row], ticks: Sequence[tuple[float, str]], scale: object
) -> str:
    assert callable(scale)
    cases = list(dict.fromkeys((row.case, row.share) for row in rows))
    rules = sorted({row.rule for row in rows}, key=lambda rule: (rule != OURS, rule))
    colours = dict(zip(rules, _COLOURS * 2, strict=False))
    height = 60 + _LINE * len(cases) + 18 * len(rules)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 40} {height}"'
        ' font-family="sans-serif" font-size="11" fill="#222">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="10" y="18" font-size="13" font-weight="bold">{escape(title)}</text>',
    ]
    bottom = 40 + _LINE * len(cases)
    for value, text in ticks:
        x = _LEFT + _WIDTH * scale(value)
        parts.append(f'<line x1="{x:.0f}" y1="30" x2="{x:.0f}" y2="{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.0f}" y="{bottom + 12}" text-anchor="middle">{text}</text>')
    for at, (case, share) in enumerate(cases):
        y = 44 + _LINE * at
        told = case if share is None else f"{case}, share {share}"
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{escape(told)}</text>')
        for row in rows:
            if (row.case, row.share) == (case, share):
                x = _LEFT + _WIDTH * scale(row.value)
                parts.append(f'<circle cx="{x:.1f}" cy="{y}" r="4" fill="{colours[row.rule]}"/>')
    parts += _legend(rules, colours, bottom + 30)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend(rules: Sequence[str], colours: dict[str, str], top: int) -> Iterator[str]:
    for at, rule in enumerate(rules):
        y = top + 18 * at
        yield f'<circle cx="{_LEFT + 8}" cy="{y - 4}" r="4" fill="{colours[rule]}"/>'
        yield f'<text x="{_LEFT + 18}" y="{y}">{escape(rule)}</text>'
