"""Sends a message to a receiver: adds the secrets, and says what became of it."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from types import MappingProxyType

from ...schemas.alerts.routing import (
    AlertmanagerReceiver,
    EmailReceiver,
    PagerDutyReceiver,
    Receiver,
    SlackReceiver,
    WebhookReceiver,
)
from ..core.gates.canonical import canonical_json
from .errors import check_http, retry_after_s
from .message import Message
from .post import post
from .secret import Secrets
from .signing import HEADER, signature
from .smtp import send_mail

_ALERTS_PATH = "/api/v2/alerts"


class Sender:
    """Safe to share between threads: it keeps nothing, not even connections.

    Args:
        secrets: of the receivers.
        timeout_s: how long a receiver may take to answer.
        context: of TLS; the system's authorities without one.
    """

    def __init__(
        self, secrets: Secrets, timeout_s: float = 10.0, context: ssl.SSLContext | None = None
    ) -> None:
        self._secrets = secrets
        self._timeout_s = timeout_s
        self._context = context or ssl.create_default_context()

    def __call__(self, receiver: Receiver, message: Message, now_s: float) -> None:
        """Return when the receiver has taken the message.

        Args:
            receiver: the one that the message names.
            message: sent.
            now_s: the time, seconds since 1970 UTC.

        Raises:
            DeliveryDelayed: send the same again later; it may have been taken already.
            DeliveryRefused: it never will be.
        """
        if isinstance(receiver, EmailReceiver):
            name = receiver.password_secret
            password = None if name is None else self._secrets.get(name)
            send_mail(json.loads(message.body), receiver, password, self._timeout_s, self._context)
        elif isinstance(receiver, SlackReceiver):
            url = self._secret(receiver.url_secret)
            self._post(url, message, message.body, now_s, secret=url)
        elif isinstance(receiver, PagerDutyReceiver):
            key = self._secret(receiver.routing_key_secret)
            body = canonical_json(json.loads(message.body) | {"routing_key": key})
            self._post(receiver.url, message, body, now_s, secret=key)
        elif isinstance(receiver, AlertmanagerReceiver):
            url = receiver.url.rstrip("/").removesuffix(_ALERTS_PATH) + _ALERTS_PATH
            self._post(url, message, message.body, now_s)
        else:
            signed = self._signed(receiver, message.body.encode(), int(now_s))
            self._post(receiver.url, message, message.body, now_s, headers=signed)

    def _secret(self, reference: str) -> str:
        return self._secrets.get(reference).get_secret_value()

    def _signed(self, receiver: WebhookReceiver, body: bytes, now_s: int) -> dict[str, str]:
        if receiver.signing_secret is None:
            return {}
        return {HEADER: signature(self._secret(receiver.signing_secret), body, now_s)}

    def _post(
        self,
        url: str,
        message: Message,
        body: str,
        now_s: float,
        *,
        headers: Mapping[str, str] = MappingProxyType({}),
        secret: str = "",
    ) -> None:
        sent = {
            "Content-Type": "application/json",
            "User-Agent": "penstock",
            "Idempotency-Key": message.key,
            **headers,
        }
        answer = post(url, body.encode(), sent, self._timeout_s, self._context)
        # An answer may repeat what it was sent.
        text = answer.text.replace(secret, "***") if secret else answer.text
        check_http(answer.status, text, retry_after_s(answer.retry_after, now_s))
