"""Messages that tell of a change of a gate's verdict: JSON for webhooks, some lines for people."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from ...schemas.alerts.routing import EmailReceiver, Receiver, SlackReceiver, WebhookReceiver
from ..core.gates.canonical import canonical_json, sha256
from ..core.gates.changes import VerdictChange
from ..core.gates.verdict import iso
from ..core.tiles import SECOND_US
from .mail import to_each
from .message import Message
from .slack import escaped, section
from .words import clip, one_line

VERSION = 1
_HEADER, _TEXT = 150, 2000


def verdict_messages(
    change: VerdictChange, document: Mapping[str, Any], receiver: Receiver
) -> list[Message]:
    """The messages of one change for one receiver; the same ones each time.

    Args:
        change: told.
        document: what the verdict says: `Verdict.to_dict` and `gate_kind`.
        receiver: of kind webhook, Slack or e-mail.

    Raises:
        ValueError: a receiver of another kind, which the configuration refuses.
    """
    key = sha256([change.id, receiver.name])[:32]
    lane = f"gate {change.gate_id}"
    if isinstance(receiver, EmailReceiver):
        return to_each(receiver, key, (lane,), _mail(change, document, receiver, key))
    if isinstance(receiver, WebhookReceiver):
        body = {
            **document,
            "version": VERSION,
            "kind": "verdict",
            "key": key,
            "receiver": receiver.name,
            "id": change.id,
            "gate": change.gate_id,
            "before": change.before or None,
        }
    elif isinstance(receiver, SlackReceiver):
        body = _slack(change, document, receiver)
    else:
        raise ValueError(f"{receiver.name}: a {receiver.kind} receiver takes no verdicts")
    return [Message(key, receiver.name, (lane,), canonical_json(body))]


def _title(change: VerdictChange) -> str:
    return f"{change.verdict}: {change.gate_id}"


def _facts(change: VerdictChange, document: Mapping[str, Any]) -> dict[str, str]:
    """What people are told, by name."""
    facts = {
        "gate": f"{change.gate_id}, {document['gate_kind']}, epoch {change.epoch}",
        "verdict": f"{change.verdict}, before {change.before or 'none in this epoch'}",
        "why": str(document["text"]),
        "action": str(document["action"]),
        "as of": iso(change.as_of_us),
    }
    return {name: clip(one_line(text), _TEXT) for name, text in facts.items()}


def _slack(
    change: VerdictChange, document: Mapping[str, Any], receiver: SlackReceiver
) -> dict[str, Any]:
    title = escaped(_title(change), _HEADER)
    lines = [f"*{name}*  {escaped(text, 500)}" for name, text in _facts(change, document).items()]
    header = {"type": "header", "text": {"type": "plain_text", "text": title}}
    body = {"text": title, "blocks": [header, section("\n".join(lines))]}
    return body | ({"channel": receiver.channel} if receiver.channel else {})


def _mail(
    change: VerdictChange, document: Mapping[str, Any], receiver: EmailReceiver, key: str
) -> dict[str, Any]:
    facts = _facts(change, document)
    rows = "".join(
        f"<tr><th align=left>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>\n"
        for name, text in facts.items()
    )
    return {
        "from": receiver.sender,
        "to": list(receiver.to),
        "subject": _title(change),
        "at_s": change.as_of_us // SECOND_US,
        "id": key,
        "thread": sha256([change.gate_id, change.epoch])[:32],
        "text": "".join(f"{name}: {text}\n" for name, text in facts.items()),
        "html": f"<!DOCTYPE html>\n<html><body>\n<table>\n{rows}</table>\n</body></html>\n",
    }
