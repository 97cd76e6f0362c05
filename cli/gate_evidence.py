"""What `penstock gate explain` shows of the rows behind a verdict."""

from __future__ import annotations

from collections.abc import Iterator

from .sources import Body

_HEAD = ("arm", "n", "bad", "found now", "examples")


def behind(shown: Body) -> Iterator[str]:
    """Counts per arm, what the SQL finds of them, examples and slices.

    Args:
        shown: as /v1/gates/{id}/evidence answers it.
    """
    if shown["metrics"]:
        yield "Where it comes from (--sql prints the statements)"
    for metric in shown["metrics"]:
        same = "the same" if metric["reproduces"] else "other"
        yield f"  {metric['metric']}: the SQL finds {same} counts"
        if metric["note"]:
            late = metric["late_rows"]
            yield f"    {metric['note']}{'' if late is None else f'; late_rows: {late:,}'}"
        rows = [_HEAD, *(_row(arm) for arm in metric["arms"])]
        widths = [max(len(row[at]) for row in rows) for at in range(len(_HEAD))]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            yield f"    {'  '.join(cells).rstrip()}"
        yield from (f"    {_slice(one, metric['unit'])}" for one in metric["slices"])


def statements(shown: Body) -> Iterator[str]:
    """The SQL of every metric, for clickhouse-client."""
    for metric in shown["metrics"]:
        yield f"-- {shown['gate']}: {metric['metric']} up to {shown['as_of']}\n{metric['sql']};\n"


def _row(arm: Body) -> tuple[str, ...]:
    told, found = arm["evidence"], arm["found"]
    now = "=" if told == found else f"{found['n']:,}, {_count(found['bad'])} bad"
    return arm["arm"], f"{told['n']:,}", _count(told["bad"]), now, ", ".join(arm["examples"])


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _slice(one: Body, unit: str) -> str:
    value = one["value"] or "(none)"
    adds = f"{one['effect'] * 100:.3g} points" if unit == "ratio" else f"{one['effect']:.3g} {unit}"
    power = "" if one["power"] is None else f", {one['power'] * 100:.0f} % of the difference"
    there = f"{one['bad']:,.6g} of {one['n']:,.6g}"
    if one["n_control"]:
        there += f" against {one['bad_control']:,.6g} of {one['n_control']:,.6g}"
    return f"{one['dimension']}={value} adds {adds}{power} ({there})"
