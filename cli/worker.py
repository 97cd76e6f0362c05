"""`penstock worker`: a processor of the distributed form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import KAFKA_HELP, STORE_HELP


@click.command()
@click.option("--kafka", envvar="PENSTOCK_KAFKA", required=True, help=KAFKA_HELP)
@click.option("--store", envvar="PENSTOCK_STORE", required=True, help=STORE_HELP)
@click.option(
    "--config",
    envvar="PENSTOCK_CONFIG",
    type=click.Path(path_type=Path),
    help="penstock.yaml: gates, limits, retention.",
)
@click.option("--ingest/--no-ingest", default=True, help="Store events.  [default: yes]")
@click.option(
    "--evaluate/--no-evaluate", default=True, help="Compute windows and gates.  [default: yes]"
)
@click.option(
    "--metrics-host",
    default="127.0.0.1",
    show_default=True,
    help="Address of /metrics, /healthz and /readyz.",
)
@click.option(
    "--metrics-port", default=9187, show_default=True, help="Their port; 0 picks a free one."
)
@click.option(
    "--wait-s",
    default=60.0,
    show_default=True,
    help="Wait so long for broker, store, topics and migrations.",
)
@click.option(
    "--watchdog-s",
    default=120.0,
    show_default=True,
    help="End the process after so long without progress, although the store answers.",
)
@click.option(
    "--sealing-key",
    envvar="PENSTOCK_SEALING_KEY_FILE",
    type=click.Path(path_type=Path),
    help="File of the key that dead letters are sealed with. Or PENSTOCK_SEALING_KEY: the key itself "
    "as base64. Default: penstock-data/sealing.key, made where it is absent.",
)
@click.option("--sealing-key-text", envvar="PENSTOCK_SEALING_KEY", default="", hidden=True)
def worker(**options: Any) -> None:
    """Store events from Kafka and evaluate them; run as many as there are partitions at most.

    It ends with code 75 where a new start heals, such as after being paused for longer than the broker
    waits, and with 70 where it was stuck: run it under something that starts it again.

    \b
    Example:
      penstock worker --kafka localhost:9092 --store clickhouse://writer:pw@localhost:8123/penstock
      penstock worker --no-evaluate --metrics-port 0
    """
    from ..serve.worker import WorkerOptions, serve_worker

    serve_worker(WorkerOptions(**options))
