"""E-mail: what is written in a message, and the bytes of it. The same message gives the same bytes."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email import policy
from email.headerregistry import HeaderRegistry, MessageIDHeader
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from typing import Any

from ...schemas.alerts.routing import EmailReceiver
from ..core.alerts.log import Alert
from ..core.alerts.notify import Notification
from ..core.gates.canonical import canonical_json, sha256
from .message import Message
from .words import clip, headline, is_url, link, one_line, severity, slice_of, times, title

MAX_ALERTS = 50
_SUBJECT, _TEXT = 200, 2000

# Ids are never cut over lines or encoded; the standard library knows this of Message-ID only.
_HEADERS = HeaderRegistry()
for _name in ("in-reply-to", "references"):
    # typeshed asks for the base class that the registry itself adds
    _HEADERS.map_to_type(_name, MessageIDHeader)  # type: ignore[arg-type]
_POLICY = policy.SMTP.clone(header_factory=_HEADERS)


def mail_messages(
    notification: Notification, receiver: EmailReceiver, alert_url: str = ""
) -> list[Message]:
    """A mail for each recipient, so that an address that is refused keeps nobody else from being told.

    Mails are threads by the alert that began first: it is the parent that all of them answer to.

    Args:
        notification: planned.
        receiver: told.
        alert_url: where alerts are shown, with `{id}`; empty for nowhere.
    """
    alerts = (*notification.firing, *notification.resolved)
    first = min(alerts, key=lambda alert: (alert.last.started_s, alert.id))
    body = {
        "from": receiver.sender,
        "to": list(receiver.to),
        "subject": clip(title(notification), _SUBJECT),
        "at_s": notification.slot_s,
        "id": notification.key,
        "thread": first.id,
        "text": _text(alerts, alert_url),
        "html": _html(alerts, alert_url),
    }
    return to_each(receiver, notification.key, [alert.id for alert in alerts], body)


def to_each(
    receiver: EmailReceiver, key: str, lanes: Sequence[str], body: Mapping[str, Any]
) -> list[Message]:
    """A mail for each recipient.

    Args:
        receiver: told.
        key: of all of them together.
        lanes: that each of the mails is part of.
        body: as `mail_bytes` takes it, but for the recipient.
    """
    return [
        Message(
            sha256([key, recipient])[:32],
            receiver.name,
            tuple(f"{recipient} {lane}" for lane in lanes),
            canonical_json({**body, "recipient": recipient}),
        )
        for recipient in receiver.to
    ]


def mail_bytes(body: dict[str, Any]) -> bytes:
    """The mail as it is handed to an SMTP server.

    Args:
        body: of a message that `mail_messages` built.

    Raises:
        ValueError: a header cannot be written.
    """
    domain = parseaddr(body["from"])[1].rpartition("@")[2]
    mail = EmailMessage(_POLICY)
    mail["Message-ID"] = f"<{body['id']}@{domain}>"
    mail["In-Reply-To"] = mail["References"] = f"<{body['thread']}@{domain}>"
    mail["Date"] = format_datetime(datetime.fromtimestamp(body["at_s"], UTC))
    mail["From"] = body["from"]
    mail["To"] = ", ".join(body["to"])
    mail["Subject"] = body["subject"]
    # RFC 3834: no out-of-office answers.
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(body["text"], cte="quoted-printable")
    mail.add_alternative(body["html"], subtype="html", cte="quoted-printable")
    mail.set_boundary(f"=_{body['id']}")
    return mail.as_bytes()


def _facts(alert: Alert, alert_url: str) -> list[tuple[str, str]]:
    """Name and text of what is told of an alert."""
    last = alert.last
    facts = {
        "state": f"{alert.state}, {severity(alert)}",
        "where": slice_of(alert),
        "when": times(alert),
        "value": last.text,
        "rows": f"{last.n:,}" if last.n else "",
        **{name: text for name, text in last.annotations.items() if name != "summary"},
        "amended": "" if alert.amended is None else alert.amended.text,
        "runbook": last.runbook or "",
        "alert": link(alert, alert_url) or alert.id,
    }
    return [(name, clip(one_line(text), _TEXT)) for name, text in facts.items() if text]


def _text(alerts: tuple[Alert, ...], alert_url: str) -> str:
    parts = []
    for alert in alerts[:MAX_ALERTS]:
        facts = [f"  {name}: {text}" for name, text in _facts(alert, alert_url)]
        parts.append("\n".join([clip(headline(alert), _TEXT), *facts]))
    if len(alerts) > MAX_ALERTS:
        parts.append(f"and {len(alerts) - MAX_ALERTS} more")
    return "\n\n".join(parts) + "\n"


def _html(alerts: tuple[Alert, ...], alert_url: str) -> str:
    parts = []
    for alert in alerts[:MAX_ALERTS]:
        color = "#b3261e" if alert.is_open else "#1e7d32"
        rows = "".join(
            f"<tr><th align=left>{html.escape(name)}</th><td>{_shown(text)}</td></tr>\n"
            for name, text in _facts(alert, alert_url)
        )
        summary = html.escape(clip(headline(alert), _TEXT))
        parts.append(f'<h3 style="color:{color}">{summary}</h3>\n<table>\n{rows}</table>\n')
    if len(alerts) > MAX_ALERTS:
        parts.append(f"<p>and {len(alerts) - MAX_ALERTS} more</p>\n")
    return f"<!DOCTYPE html>\n<html><body>\n{''.join(parts)}</body></html>\n"


def _shown(text: str) -> str:
    shown = html.escape(text)
    return f'<a href="{shown}">{shown}</a>' if is_url(text) else shown
