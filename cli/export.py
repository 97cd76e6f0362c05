"""`penstock export`: files for other systems."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from .prometheus_file import Form


@click.group()
def export() -> None:
    """Write files for other systems."""


@export.command("prometheus-rules")
@click.option(
    "--form",
    type=click.Choice(["embedded", "distributed"]),
    default="distributed",
    show_default=True,
    help="embedded: `penstock up` alone. distributed: `penstock api`, `penstock worker`, Kafka.",
)
@click.option(
    "--api-job", default="penstock-api", show_default=True, help="job_name that scrapes the API."
)
@click.option(
    "--worker-job",
    default="penstock-worker",
    show_default=True,
    help="job_name that scrapes processors.",
)
@click.option(
    "--config",
    envvar="PENSTOCK_CONFIG",
    type=click.Path(path_type=Path),
    help="penstock.yaml, for limits.max_pending_events.",
)
@click.option("--output", type=click.Path(path_type=Path), help="File to write; default: stdout.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, which Prometheus reads as well.")
def export_rules(
    form: Form,
    api_job: str,
    worker_job: str,
    config: Path | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Rules about Penstock itself, recorded series included, from what it tells at /metrics.

    They are for Penstock's own health: lag, loss, dead letters, the age of watermarks, retries, and
    whether there is anything to scrape. What Penstock watches is alerted on by `alerts:` in
    penstock.yaml.

    \b
    Example:
      penstock export prometheus-rules --output /etc/prometheus/rules/penstock.yml
      penstock export prometheus-rules --form embedded --api-job penstock | promtool check rules
    """
    from ..schemas.config import load
    from .prometheus_file import rule_file, rule_groups
    from .prometheus_rules import Jobs

    limit = load(config).limits.max_pending_events
    jobs = Jobs(api=api_job, worker=worker_job, max_pending_events=limit)
    text = rule_file(rule_groups(form, jobs), as_json)
    if output is None:
        click.echo(text, nl=False)
        return
    output.write_text(text, encoding="utf-8")
    click.echo(f"wrote {output}", err=True)
