"""From notifications to messages."""

from __future__ import annotations

from collections.abc import Iterable

from ...schemas.alerts.routing import (
    AlertmanagerReceiver,
    EmailReceiver,
    PagerDutyReceiver,
    Receiver,
    SlackReceiver,
)
from ..core.alerts.log import Alert
from ..core.alerts.notify import Notification
from .alertmanager import alertmanager_messages
from .mail import mail_messages
from .message import Message
from .pagerduty import acknowledgement, pagerduty_messages
from .slack import slack_messages
from .webhook import webhook_messages


def compose(notification: Notification, receiver: Receiver, alert_url: str = "") -> list[Message]:
    """The messages of a notification, in the order in which they are to go. The same ones each time.

    Args:
        notification: planned.
        receiver: the one it names.
        alert_url: where alerts are shown, with `{id}`; empty for nowhere.
    """
    if isinstance(receiver, SlackReceiver):
        return slack_messages(notification, receiver, alert_url)
    if isinstance(receiver, PagerDutyReceiver):
        return pagerduty_messages(notification, receiver, alert_url)
    if isinstance(receiver, EmailReceiver):
        return mail_messages(notification, receiver, alert_url)
    if isinstance(receiver, AlertmanagerReceiver):
        return alertmanager_messages(notification, receiver, alert_url)
    return webhook_messages(notification, receiver, alert_url)


def compose_acknowledgement(alert: Alert, receivers: Iterable[Receiver]) -> list[Message]:
    """Tell that an alert was acknowledged to those of the receivers that can take it in: PagerDuty.

    Args:
        alert: that was acknowledged; where PagerDuty was not told of it, it drops the event.
        receivers: that may have been told of it.
    """
    return [acknowledgement(alert, r) for r in receivers if isinstance(r, PagerDutyReceiver)]
