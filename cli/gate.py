"""`penstock gate`: gates on files and on a server. Each command is in a module of its own."""

from __future__ import annotations

from importlib import import_module
from typing import cast

import click

# Name of each command -> module beside this one and name there.
COMMANDS = {
    "run": ("gate_run", "run"),
    "init": ("gate_init", "init"),
    "watch": ("gate_watch", "watch"),
    "explain": ("gate_explain", "explain"),
    "audit": ("gate_audit", "audit"),
    "plan": ("gate_plan", "plan"),
    "replay": ("gate_replay", "replay"),
    "backtest": ("gate_backtest", "backtest"),
}


class _Gate(click.Group):
    """Loads commands when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        return cast(click.Command, getattr(import_module(f".{module}", __package__), name))


@click.group(cls=_Gate)
def gate() -> None:
    """Release gates: may it go on, must it go back, or can nobody tell yet?"""
