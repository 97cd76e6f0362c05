"""`penstock gate`: gates on files and on a server. Each command is in a module of its own."""

from __future__ import annotations

import click

from .lazy import LazyGroup

# As LazyGroup takes them.
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


@click.group(cls=LazyGroup, modules=COMMANDS)
def gate() -> None:
    """Release gates: may it go on, must it go back, or can nobody tell yet?"""
