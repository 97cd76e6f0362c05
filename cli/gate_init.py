"""`penstock gate init`: a commented specification of each kind of gate."""

from __future__ import annotations

from pathlib import Path

import click

from .gate_templates import TEMPLATES


@click.command()
@click.argument("kind", type=click.Choice([*TEMPLATES]))
@click.option(
    "--output", type=click.Path(path_type=Path), help="File to write, never one that is there."
)
def init(kind: str, output: Path | None) -> None:
    """Write a commented specification of a KIND of gate, to be filled in.

    parity, perf, shadow, stability, training and absolute gates are asked about files with
    `penstock gate run`; absolute, canary, budget and rollback ones on a server, in penstock.yaml.

    \b
    Example:
      penstock gate init perf --output gates.yaml
      penstock gate init canary >> penstock.yaml
    """
    text = TEMPLATES[kind]
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise click.UsageError(f"{output} is there already: choose another --output") from None
    click.echo(f"wrote {output}; fill in the margins, then: penstock check or penstock gate run")
