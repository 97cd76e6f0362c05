"""`penstock store`: ClickHouse's HTTP interface over the embedded engine."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path("penstock-data"),
    show_default=True,
    help="Folder of the data.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8123, show_default=True, help="Port to listen on; 0 picks a free one."
)
@click.option(
    "--users",
    type=click.Path(path_type=Path),
    help="Names, passwords, roles. Default on loopback: `default` without a password.",
)
@click.option(
    "--max-queries", default=32, show_default=True, help="Statements at once; more are refused."
)
@click.option(
    "--max-body-mb", default=4096, show_default=True, help="Body of a request, decompressed."
)
@click.option(
    "--reader-seconds", default=30, show_default=True, help="Time of one query of a reader."
)
@click.option(
    "--reader-rows",
    default=1_000_000,
    show_default=True,
    help="Rows that a reader may be answered.",
)
def store(
    data: Path,
    host: str,
    port: int,
    users: Path | None,
    max_queries: int,
    max_body_mb: int,
    reader_seconds: int,
    reader_rows: int,
) -> None:
    """Serve ClickHouse's HTTP interface over the embedded engine.

    One node for small installations and tests. It is not a ClickHouse cluster: no replicas, no
    shards, no native TCP protocol. Clients that speak HTTP work as they are: curl,
    clickhouse-connect, Grafana's ClickHouse data source, BI tools.

    \b
    Example:
      penstock store --data ./penstock-data --port 8123
      curl 'http://127.0.0.1:8123/?query=SELECT+1'
      penstock store --host 0.0.0.0 --users users.yaml
    """
    from ..store.access import ReaderLimits
    from ..store.app import Limits
    from ..store.serve import serve

    serve(
        data,
        host,
        port,
        users,
        Limits(max_queries=max_queries, max_body_bytes=max_body_mb << 20),
        ReaderLimits(max_execution_time_s=reader_seconds, max_result_rows=reader_rows),
    )
