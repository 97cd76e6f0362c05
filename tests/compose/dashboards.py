"""The SQL of Grafana's dashboards, with the plugin's macros and the variables filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "dashboards"
_TIME_FILTER = re.compile(r"\$__timeFilter\(([^)]+)\)")


def queries(window_s: int = 60, grouping: str = "fleet") -> Iterator[tuple[str, str]]:
    """Title of each panel that asks something, and its SQL over the last day."""
    for path in sorted(FOLDER.glob("*.json")):
        document = json.loads(path.read_text())
        asked = [(panel["title"], panel.get("targets", [])) for panel in document["panels"]]
        asked += [(note["name"], [note["target"]]) for note in document["annotations"]["list"]]
        for title, targets in asked:
            for target in targets:
                yield f"{path.stem}: {title}", _filled(target["rawSql"], window_s, grouping)


def _filled(sql: str, window_s: int, grouping: str) -> str:
    # As the plugin writes it, with the bounds as numbers there.
    bounds = r"\1 >= now() - INTERVAL 1 DAY AND \1 <= now() + INTERVAL 1 DAY"
    text = _TIME_FILTER.sub(bounds, sql)
    return text.replace("$window", str(window_s)).replace("$grouping", grouping)
