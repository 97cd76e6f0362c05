"""The compliance report as one HTML file: no script, no font, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from ..streams.core.slo.report import share, span
from .slo_report import Body, budget_row, number, usd

_STYLE = """
:root { color-scheme: light dark; --bg: #f4f6f8; --card: #fff; --line: #dbe1e8; --ink: #14202c;
  --ink-2: #536170; --good: #0b6b47; --good-bg: #e2f4ec; --bad: #a61b2b; --bad-bg: #fcebec;
  --warn: #7a4d00; --warn-bg: #fdf1d9; --unsure: #5a3d9a; --unsure-bg: #f0ebfb; --none-bg: #eceff3; }
@media (prefers-color-scheme: dark) { :root { --bg: #0e141b; --card: #161e27; --line: #2b3743;
  --ink: #e6edf3; --ink-2: #9aa8b6; --good: #5fd3a5; --good-bg: #12302a; --bad: #ff8f98;
  --bad-bg: #3a1a20; --warn: #f2c063; --warn-bg: #352813; --unsure: #c0a8f7; --unsure-bg: #2a2342;
  --none-bg: #232d38; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--ink); font: 14px/1.45 system-ui, -apple-system,
  "Segoe UI", Roboto, "Noto Sans", Arial, sans-serif; font-variant-numeric: tabular-nums; }
main { max-width: 1240px; margin: 0 auto; padding: 32px 24px 48px; }
h1 { font-size: 24px; letter-spacing: -.015em; margin: 0; }
h2 { font-size: 16px; margin: 32px 0 12px; }
p { margin: 4px 0; } .muted { color: var(--ink-2); } small { color: var(--ink-2); font-size: 12px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(120px, 1fr)); gap: 12px;
  margin: 24px 0 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px; }
.card b { display: block; font-size: 26px; line-height: 1.2; }
.card.zero b { color: var(--ink-2); font-weight: 400; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: 10px 14px; vertical-align: top; border-top: 1px solid var(--line); }
thead th { border-top: 0; font-size: 12px; font-weight: 600; color: var(--ink-2); white-space: nowrap; }
.n { text-align: right; white-space: nowrap; } .nowrap { white-space: nowrap; }
.state { display: inline-block; border-radius: 99px; padding: 1px 10px; font-size: 12px;
  font-weight: 600; white-space: nowrap; color: var(--ink-2); background: var(--none-bg); }
.good { color: var(--good); background: var(--good-bg); }
.warn { color: var(--warn); background: var(--warn-bg); }
.bad { color: var(--bad); background: var(--bad-bg); }
.unsure { color: var(--unsure); background: var(--unsure-bg); }
.bar { width: 120px; height: 6px; border-radius: 3px; background: var(--none-bg); margin-top: 5px; }
.bar i { display: block; height: 100%; border-radius: 3px; background: currentColor; }
p + .scroll { margin-top: 10px; } td:first-child { min-width: 240px; }
.unsure-ink { color: var(--unsure); }
.good-ink { color: var(--good); } .warn-ink { color: var(--warn); } .bad-ink { color: var(--bad); }
svg { display: block; } .limit { stroke: var(--bad); stroke-dasharray: 3 3; }
.curve { fill: none; stroke: currentColor; stroke-width: 1.5; stroke-linejoin: round; }
.area { fill: currentColor; opacity: .12; }
@media print { main { padding: 0; max-width: none; } .scroll, .card { break-inside: avoid; } }
"""
_TONES = {
    "met": "good", "at_risk": "warn", "breached": "bad", "unknown": "unsure", "no_data": "",
    "ok": "good", "projected": "warn", "exceeded": "bad",
    "info": "", "warning": "warn", "critical": "bad", "emergency": "bad",
}  # fmt: skip
_WIDTH, _HEIGHT = 180, 44


def html(report: Body) -> str:
    """The report as a page."""
    title = escape(report["title"])
    since = f", looking back to {_time(report['since'])}" if report["since"] else ""
    body = [
        f"<h1>{title}</h1>",
        f'<p class="muted">As of {_time(report["as_of"])}{since}. Times are UTC.</p>',
        _cards(report["counts"]),
        *_section("Objectives", _objectives(report["objectives"])),
        *_section("Overall", _overall(report["overall"])),
        *_section("Alerts that fired", _alerts(report["alerts"])),
        *_section("Cost", _costs(report["costs"])),
        '<p class="muted"><small>Attainment and budget are those of each objective\'s own window, '
        "exact counts. The curve is the share of the budget that was spent; the dashed line is all "
        "of it.</small></p>",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _cards(counts: Body) -> str:
    cards = (
        f'<div class="card{"" if count else " zero"}"><b>{count}</b>{_badge(state)}</div>'
        for state, count in counts.items()
    )
    return f'<div class="cards">{"".join(cards)}</div>'


def _objectives(objectives: Sequence[Body]) -> str:
    head = ("Objective", "State", "Attained", "Budget used", "Budget left", "Burn, 1 h",
            "Spent in", "Bad / all", "Budget used over time")  # fmt: skip
    return _table(head, [_objective(slo) for slo in objectives], right=(2, 4, 5, 6, 7))


def _objective(slo: Body) -> list[str]:
    about = " ".join(f"{name}={value}" for name, value in slo["filter"].items())
    now = slo["latest"]
    asked = now["declared"] if now else "not evaluated yet"
    notes = [text for text in (asked, about, slo["description"]) if text]
    name = f"<b>{escape(slo['id'])}</b><br><small>{'<br>'.join(map(escape, notes))}</small>"
    if now is None:
        return [name, _badge("no_data"), *["-"] * 7]
    minutes = "-" if now["left_minutes"] is None else f"{now['left_minutes']:,.1f} min"
    return [
        name,
        _badge(now["state"]) + _worst(slo["history"]),
        share(now["attainment"]),
        share(now["consumed"]) + _bar(now["consumed"], now["state"]),
        f"{minutes}<br><small>of {now['budget_minutes']:,.1f}</small>",
        number(now["burn_1h"]),
        "spent" if now["exhaustion_s"] == 0 else span(now["exhaustion_s"]),
        f"{now['bad']:,}<br><small>of {now['total']:,}</small>",
        _curve(slo["curve"], now["state"]),
    ]


def _worst(history: Body | None) -> str:
    """For how much of the time it was breached."""
    breached = (history or {"states": {}})["states"].get("breached")
    return "" if breached is None else f"<br><small>breached {share(breached)} of the time</small>"


def _bar(consumed: float | None, state: str) -> str:
    if consumed is None:
        return ""
    tone = _TONES[state]
    width = round(100 * min(max(consumed, 0.0), 1.0), 1)
    return f'<div class="bar {tone}-ink"><i style="width:{width:g}%"></i></div>'


def _curve(points: Sequence[Body], state: str) -> str:
    """Consumed share over time, as a picture; gaps where it cannot be told are bridged."""
    known = [
        (at, point["consumed"]) for at, point in enumerate(points) if point["consumed"] is not None
    ]
    if len(known) < 2:
        return '<small class="muted">too few points</small>'
    top = max(1.1, *(value for _, value in known))
    last = max(len(points) - 1, 1)
    places = [(at * _WIDTH / last, _HEIGHT * (1 - value / top)) for at, value in known]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    limit = _HEIGHT * (1 - 1 / top)
    area = f"{places[0][0]:.1f},{_HEIGHT} {line} {places[-1][0]:.1f},{_HEIGHT}"
    text = f"Budget used, from {share(known[0][1])} to {share(known[-1][1])}"
    return (
        f'<svg class="{_TONES[state]}-ink" width="{_WIDTH}" height="{_HEIGHT}" role="img" '
        f'aria-label="{escape(text)}"><polygon class="area" points="{area}"/>'
        f'<polyline class="curve" points="{line}"/>'
        f'<line class="limit" x1="0" x2="{_WIDTH}" y1="{limit:.1f}" y2="{limit:.1f}"/></svg>'
    )


def _overall(items: Sequence[Body]) -> str:
    rows = [
        [
            f"<b>{escape(item['id'])}</b>",
            _badge(item["state"]),
            f"{item['kept']} of {item['total']}",
            share(item["target"]),
            " ".join(f"{escape(name)} {_badge(state)}" for name, state in item["states"].items()),
        ]
        for item in items
    ]
    return _table(("Composite", "State", "Kept", "Needed", "Parts"), rows, right=(2, 3))


def _alerts(alerts: Body) -> str:
    rows = [
        [
            _time(alert["fired"]),
            _time(alert["ended"]),
            _badge(alert["severity"]),
            f"<b>{escape(alert['rule'])}</b>",
            escape(alert["annotations"].get("summary") or alert["text"]),
        ]
        for alert in alerts["newest"]
    ]
    count = f"{sum(alerts['fired'].values())}{'+' if alerts['more'] else ''}"
    table = _table(("Fired", "Ended", "Severity", "Rule", "What"), rows)
    return f'<p class="muted">{count} fired.</p>{table}'


def _costs(costs: Body) -> str:
    rows = []
    for budget in costs["budgets"]:
        name, state, *amounts, end = budget_row(budget)
        rows.append([f"<b>{escape(name)}</b>", _badge(state), *amounts, _time(end)])
    total = costs["total"]
    spent = "unknown" if total is None else usd(total["cost_usd"])
    head = ("Budget", "State", "Spent", "Of", "Projected", "Interval", "Ends")
    table = _table(head, rows, right=(2, 3, 4, 5))
    return f'<p class="muted">Last {escape(costs["window"])}: {spent}.</p>{table}'


def _section(title: str, content: str) -> tuple[str, ...]:
    return (f"<h2>{title}</h2>", content) if content else ()


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> str:
    if not rows:
        return ""
    kinds = [' class="n"' if at in right else "" for at in range(len(head))]
    top = "".join(f"<th{kind}>{text}</th>" for kind, text in zip(kinds, head, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>\n"
        for row in rows
    )  # fmt: skip
    return (
        f'<div class="scroll"><table><thead><tr>{top}</tr></thead>'
        f"<tbody>\n{body}</tbody></table></div>"
    )


def _badge(name: str) -> str:
    return f'<span class="state {_TONES.get(name, "")}">{escape(name.replace("_", " "))}</span>'


def _time(moment: Any) -> str:
    """A time of an answer, shorter; a dash without one."""
    if not moment or moment == "-":
        return "-"
    return f'<span class="nowrap">{escape(str(moment)[:16].replace("T", " "))}</span>'
