"""Slack: one message of Block Kit for an incoming webhook.

Limits of Slack: 50 blocks, 150 characters in a header, 3,000 in a section, and, found by others, some
13,000 characters of blocks in all. Alerts for which there is no room are counted.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

from ...schemas.alerts.routing import SlackReceiver
from ..core.alerts.log import Alert
from ..core.alerts.notify import Notification
from ..core.gates.canonical import canonical_json
from .message import Message
from .words import headline, is_url, link, one_line, severity, slice_of, times, title

MAX_ALERTS = 40
MAX_CHARACTERS = 11_000  # of blocks
_HEADER, _HEADLINE, _FACT, _WHY, _LINK = 150, 300, 180, 400, 200


def slack_messages(
    notification: Notification, receiver: SlackReceiver, alert_url: str = ""
) -> list[Message]:
    """The message of a notification.

    Args:
        notification: planned.
        receiver: told.
        alert_url: where alerts are shown, with `{id}`; empty for nowhere.
    """
    alerts = (*notification.firing, *notification.resolved)
    header = {"type": "plain_text", "text": escaped(title(notification), _HEADER)}
    sections = _that_fit([section(_alert(alert, alert_url)) for alert in alerts[:MAX_ALERTS]])
    if len(sections) < len(alerts):
        sections.append(section(f"and {len(alerts) - len(sections)} more"))
    body: dict[str, Any] = {
        "text": escaped(title(notification), 1000),
        "blocks": [{"type": "header", "text": header}, *sections],
    }
    if receiver.channel:
        body["channel"] = receiver.channel
    lanes = tuple(alert.id for alert in alerts)
    return [Message(notification.key, receiver.name, lanes, canonical_json(body))]


def _that_fit(sections: list[dict[str, Any]]) -> list[dict[str, Any]]:
    sizes = itertools.accumulate(len(canonical_json(block)) for block in sections)
    return [block for block, size in zip(sections, sizes, strict=True) if size < MAX_CHARACTERS]


def _alert(alert: Alert, alert_url: str) -> str:
    state = ":rotating_light: FIRING" if alert.is_open else ":white_check_mark: RESOLVED"
    lines = [
        f"*{state} {severity(alert)}*  {escaped(headline(alert), _HEADLINE)}",
        f"{_code(slice_of(alert))}  {times(alert)}",
    ]
    if alert.last.text:
        lines.append(escaped(alert.last.text, _FACT))
    if alert.is_open and "explanation" in alert.last.annotations:
        lines.append(f"_{escaped(alert.last.annotations['explanation'], _WHY)}_")
    if alert.amended is not None:
        lines.append(f"late rows changed it to: {escaped(alert.amended.text, _FACT)}")
    links = [_link(link(alert, alert_url), "alert"), _link(alert.last.runbook or "", "runbook")]
    return "\n".join([*lines, " ".join(filter(None, links))]).rstrip()


def section(text: str) -> dict[str, Any]:
    """A block of text in Slack's own markup."""
    # Verbatim: no @name or #channel in a text becomes a link or a mention.
    return {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}


def escaped(text: str, limit: int) -> str:
    """Escaped as Slack asks for, cut to a length without cutting an escape in two."""
    text = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if len(text) <= limit:
        return text
    return re.sub(r"&[a-z]{0,3}$", "", text[: limit - 1]) + "…"


def _code(text: str) -> str:
    return f"`{escaped(text.replace('`', chr(39)), _FACT)}`"


def _link(target: str, name: str) -> str:
    if not target:
        return ""
    if is_url(target) and len(target) <= _LINK:
        return f"<{target.replace('&', '&amp;')}|{name}>"
    return f"{name}: {_code(target)}"
