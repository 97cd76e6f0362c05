"""`penstock notify`: takes alerts to people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import KAFKA_HELP, STORE_HELP


@click.command()
@click.option("--store", envvar="PENSTOCK_STORE", required=True, help=STORE_HELP)
@click.option(
    "--config",
    envvar="PENSTOCK_CONFIG",
    type=click.Path(path_type=Path),
    help="penstock.yaml: receivers, routes, silences. Without receivers nobody is told.",
)
@click.option(
    "--kafka",
    envvar="PENSTOCK_KAFKA",
    help=f"{KAFKA_HELP}: changes of alerts and verdicts are sent to the topic penstock.alerts too.",
)
@click.option("--once", is_flag=True, help="Look once, deliver what is due, and end.")
@click.option(
    "--metrics-host",
    default="127.0.0.1",
    show_default=True,
    help="Address of /metrics, /healthz and /readyz.",
)
@click.option(
    "--metrics-port", default=9187, show_default=True, help="Their port; 0 picks a free one."
)
def notify(**options: Any) -> None:
    """Tell the receivers of penstock.yaml of alerts and verdicts: chat, pagers, mail, webhooks.

    `penstock up` does so by itself; the distributed form needs one such process. A second one waits
    until the first has ended or has been silent for 15 s. Secrets of receivers are variables or files:
    `penstock check` lists them, and docs/delivery.md says where they are looked for.

    \b
    Example:
      penstock notify --store clickhouse://writer:pw@localhost:8123/penstock --config penstock.yaml
      PAGERDUTY_KEY=... penstock notify --store @/run/penstock/store.url --config penstock.yaml
      penstock notify --kafka localhost:9092 --store ... --config penstock.yaml
      * * * * *  penstock notify --once --store @/etc/penstock/store.url --config /etc/penstock.yaml
    """
    from ..serve.notify import NotifyOptions, serve_notify

    totals = serve_notify(NotifyOptions(**options))
    if options["once"]:
        names = ("notifications", "deliveries", "deliveries_dead", "waiting")
        planned, delivered, dead, waiting = (totals.get(name, 0) for name in names)
        if options["kafka"]:
            click.echo(f"{totals.get('topic_messages', 0)} messages sent to penstock.alerts")
        click.echo(
            f"{planned} notifications, {delivered} messages delivered, {dead} given up, "
            f"{waiting} wait for the next time"
        )
