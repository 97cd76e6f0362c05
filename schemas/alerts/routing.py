"""Who is told: receivers, and the tree of routes that leads alerts to them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .base import Id, LabelName, Matchers, Model

# Secrets are named, never written: `env:NAME`, `file:PATH`, or NAME for a variable or a mounted file.
_NAME = "[A-Za-z_][A-Za-z0-9_]{0,127}"
SecretName = Annotated[str, Field(pattern=rf"^(?:(?:env:)?{_NAME}|file:[^\x00-\x1f]{{1,1000}})$")]
Url = Annotated[str, Field(pattern=r"^https?://\S+$", max_length=2000)]


class _Receiver(Model):
    name: Id
    send_resolved: bool = True


class SlackReceiver(_Receiver):
    """A Slack incoming webhook."""

    kind: Literal["slack"]
    url_secret: SecretName
    channel: str | None = None


class PagerDutyReceiver(_Receiver):
    """A PagerDuty service, through Events API v2; its escalation policy may call telephones."""

    kind: Literal["pagerduty"]
    routing_key_secret: SecretName
    url: Url = "https://events.pagerduty.com/v2/enqueue"


class WebhookReceiver(_Receiver):
    """Any HTTP endpoint; bodies are signed where a secret is named."""

    kind: Literal["webhook"]
    url: Url
    signing_secret: SecretName | None = None


class EmailReceiver(_Receiver):
    """Mail over SMTP."""

    kind: Literal["email"]
    to: tuple[str, ...] = Field(min_length=1)
    sender: str
    host: str
    port: int = Field(587, ge=1, le=65535)
    tls: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    password_secret: SecretName | None = None


class AlertmanagerReceiver(_Receiver):
    """Prometheus' Alertmanager, through its API v2."""

    kind: Literal["alertmanager"]
    url: Url


Receiver = Annotated[
    SlackReceiver | PagerDutyReceiver | WebhookReceiver | EmailReceiver | AlertmanagerReceiver,
    Field(discriminator="kind"),
]


def secrets_of(receiver: Receiver) -> tuple[str, ...]:
    """The secrets that a receiver names."""
    named = (value for name, value in receiver if name.endswith("_secret"))
    return tuple(value for value in named if value is not None)


class Escalation(Model):
    """Who else is told of an alert that fires for `after_s` and was not acknowledged."""

    after_s: int = Field(0, ge=0)
    receivers: tuple[Id, ...] = Field(min_length=1)


class Route(Model):
    """A node of the tree: an alert goes to the first child that matches, or stays here.

    `None` takes the value of the node above. With `go_on` the siblings after it are tried too.
    """

    matchers: Matchers = ()
    receivers: tuple[Id, ...] | None = None
    group_by: tuple[LabelName, ...] | None = None
    group_wait_s: int | None = Field(
        None, ge=0, description="Wait for more before the first message."
    )
    group_interval_s: int | None = Field(None, ge=1, description="Least time between two messages.")
    repeat_interval_s: int | None = Field(None, ge=1, description="Tell again what still fires.")
    escalate: tuple[Escalation, ...] | None = None
    go_on: bool = False
    routes: tuple[Route, ...] = ()


class RootRoute(Route):
    """The top of the tree: it takes every alert, and its values are the defaults."""

    @model_validator(mode="after")
    def _takes_all(self) -> RootRoute:
        if self.matchers or self.go_on:
            raise ValueError("the first route takes every alert: no matchers, no go_on")
        return self
