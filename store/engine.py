"""The embedded engine behind the server: one folder, a fresh connection for every query."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import chdb

from ..schemas.errors import StoreError
from . import access
from .access import ReaderLimits
from .errors import QueryFailed, from_engine
from .users import Role

DATABASE = "penstock"
_connect: Callable[[str], Any] = chdb.connect
ENGINE_ERRORS = (RuntimeError, chdb.ChdbError)


def quoted(text: str) -> str:
    """A string literal of SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def quoted_name(text: str) -> str:
    """A name of SQL."""
    return "`" + text.replace("\\", "\\\\").replace("`", "\\`") + "`"


class Engine:
    """A folder opened by this process; safe to share between threads.

    A connection costs a millisecond, so each query gets a new one: no setting, role or temporary
    table of one client reaches another.

    Args:
        folder: where the engine keeps its data; made where it is missing.
        limits: what a reader's query may cost.

    Raises:
        StoreError: another process has the folder, or this process opened it without our roles.
    """

    def __init__(self, folder: Path, limits: ReaderLimits | None = None) -> None:
        self.folder = folder.resolve()
        self.limits = limits or ReaderLimits()
        self._lock = threading.Lock()
        # Opening is not safe from two threads at once.
        self._opening = threading.Lock()
        self.folder.mkdir(parents=True, exist_ok=True)
        # Read by the engine when it starts and never again.
        with tempfile.TemporaryDirectory(prefix="penstock-store-") as config:
            path = access.write_config(Path(config), self.limits)
            options = urlencode({"config-file": path, "implicit_select": 0}, safe="/")
            self._root = self._open(f"{self.folder}?{options}")
        try:
            self._root.query(f"SET ROLE {access.ROOT}")
            # Grants name it, and clients connect to it before they can create anything.
            self._root.query(f"CREATE DATABASE IF NOT EXISTS {DATABASE}")
        except ENGINE_ERRORS as error:
            self._root.close()
            raise StoreError(
                f"{self.folder} was opened in this process before the store's HTTP interface; "
                "open the interface first"
            ) from error
        facts = self.ask("SELECT version(), serverTimezone()").rstrip("\n")
        self.version, self.timezone = facts.split("\t")

    def _open(self, path: str) -> Any:
        try:
            return _connect(path)
        except ENGINE_ERRORS as error:
            raise StoreError(
                f"cannot open {self.folder}: another process has it open, or the folder cannot be "
                f"read and written ({str(error).strip()[:300]})"
            ) from error

    def connect(self, role: Role) -> Any:
        """A new connection of a role, in the database `penstock`; the caller closes it.

        Raises:
            QueryFailed: the engine refuses.
        """
        settings = access.initial_settings(role, self.limits)
        options = urlencode({"database": DATABASE, **settings})
        with self._opening:
            connection = _connect(f"{self.folder}?{options}")
        try:
            for statement in access.take_role(role):
                connection.query(statement)
        except ENGINE_ERRORS as error:
            connection.close()
            raise from_engine(error) from error
        return connection

    @contextmanager
    def connection(self, role: Role) -> Iterator[Any]:
        """A new connection of a role, closed afterwards."""
        connection = self.connect(role)
        try:
            yield connection
        finally:
            connection.close()

    def ask(self, sql: str, parameters: Mapping[str, str] | None = None) -> str:
        """Run a statement of our own with every privilege; returns its answer as text.

        Raises:
            QueryFailed: the engine refuses.
        """
        escaped = {key: as_parameter(value) for key, value in (parameters or {}).items()}
        with self._lock:
            try:
                answer = self._root.query(sql, "TSVRaw", params=escaped)
            except ENGINE_ERRORS as error:
                raise from_engine(error) from error
            text: str = answer.bytes().decode()
            return text

    def kill(self, tag: str) -> None:
        """End the statements in whose text the tag stands, if any still run."""
        self.ask(
            "KILL QUERY WHERE position(query, {tag:String}) > 0 AND query NOT LIKE 'KILL%' ASYNC",
            {"tag": tag},
        )

    def close(self) -> None:
        """Close the folder; every other connection must be closed before."""
        with self._lock:
            self._root.close()


def as_parameter(text: str) -> str:
    """A value as the engine reads parameters: escaped like a field of TabSeparated."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


def apply_settings(connection: Any, settings: Mapping[str, str]) -> None:
    """Set settings on a connection.

    Raises:
        QueryFailed: one is unknown, not the user's to set, or beyond a limit.
    """
    if not settings:
        return
    for name in settings:
        if not name.isidentifier() or not name.isascii():
            raise QueryFailed(115, f"Unknown setting {name!r}")
    changes = ", ".join(f"{name} = {quoted(value)}" for name, value in settings.items())
    try:
        connection.query(f"SET {changes}")
    except ENGINE_ERRORS as error:
        raise from_engine(error) from error
