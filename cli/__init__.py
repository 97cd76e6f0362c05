"""The command line: the composition root. Each command imports what it needs when it runs."""

from __future__ import annotations

import sys
from typing import Any

try:
    import click
except ImportError:  # the light worker SDK is installed without the server's libraries
    sys.exit("the penstock command needs the server's libraries: pip install 'penstock[server]'")

from ..schemas.errors import PenstockError
from .lazy import LazyGroup

CONTEXT = {
    "help_option_names": ["-h", "--help"],
    "auto_envvar_prefix": "PENSTOCK",
    "max_content_width": 100,
}
# As LazyGroup takes them.
COMMANDS = {
    "up": ("server", "up"),
    "migrate": ("server", "migrate"),
    "check": ("check", "check"),
    "config": ("config", "config"),
    "worker": ("worker", "worker"),
    "notify": ("notify", "notify"),
    "api": ("kafka", "api"),
    "topics": ("kafka", "topics"),
    "store": ("store", "store"),
    "doctor": ("checks", "doctor"),
    "audit": ("checks", "audit"),
    "slo": ("slo", "slo"),
    "gate": ("gate", "gate"),
    "alerts": ("alerts", "alerts"),
    "drift": ("drift", "drift"),
    "audit-log": ("audit_log", "audit_log"),
    "export": ("export", "export"),
    "dead-letters": ("dead_letters", "dead_letters"),
    "init-secrets": ("deploy", "init_secrets"),
    "keys": ("keys", "keys"),
    "demo": ("demo", "demo"),
    "replay": ("demo", "replay"),
}


class _Group(LazyGroup):
    """Says what went wrong in a sentence, no traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PenstockError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, modules=COMMANDS, context_settings=CONTEXT)
@click.version_option(package_name="penstock")
def main() -> None:
    """Event-streaming observability and release gates for LLM and ML workers."""
