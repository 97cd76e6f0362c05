"""A real, migrated store for tests, and short ways to put rows into it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from penstock.streams.storage.migrate import migrate
from penstock.streams.storage.store import Store


@contextmanager
def opened_store(folder: Path) -> Iterator[Store]:
    """A store in a folder. A process can have one such folder open at a time; this closes it."""
    store = Store(f"chdb://{folder / 'db'}")
    try:
        migrate(store)
        yield store
    finally:
        store.close()


def insert(store: Store, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows into a writers' table; columns that are absent take their defaults, times are UTC."""
    values = b"\n".join(orjson.dumps(row, option=orjson.OPT_UTC_Z) for row in rows).decode()
    store.command(
        f"INSERT INTO penstock.{table} SETTINGS date_time_input_format = 'best_effort' "
        f"FORMAT JSONEachRow {values}"
    )


def unique(prefix: str) -> str:
    """A name that no other test uses."""
    return f"{prefix}-{secrets.token_hex(4)}"
