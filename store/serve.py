"""Runs the interface: as a process of its own, or in a thread beside something else."""

from __future__ import annotations

import logging
import socket
import threading
from pathlib import Path

import uvicorn

from ..schemas.errors import InvalidConfiguration
from .access import ReaderLimits
from .app import Limits, StoreApp, build_app
from .engine import Engine
from .listening import is_loopback, listen
from .users import Users, load_users, loopback_users

_log = logging.getLogger("penstock.store")
# After SIGTERM an insert may take this long to end.
GRACE_S = 60
# As a ClickHouse server: pools of clients expect an idle connection to last this long.
KEEP_ALIVE_S = 30


def users_for(host: str, path: Path | None) -> Users:
    """The users of a file; without one, on loopback only, `default` without a password.

    Raises:
        InvalidConfiguration: the file has mistakes, or there is none and the network can reach us.
    """
    if path is not None:
        return load_users(path)
    if is_loopback(host):
        return loopback_users()
    raise InvalidConfiguration(
        f"{host} can be reached from the network: name users, passwords and roles with --users FILE"
    )


class _Server(uvicorn.Server):
    """Ends reads before it waits for what still runs."""

    def __init__(self, app: StoreApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=GRACE_S,
                timeout_keep_alive=KEEP_ALIVE_S,
            )
        )
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.end_reads()
        await super().shutdown(sockets)


def serve(
    data: Path,
    host: str,
    port: int,
    users: Path | None,
    limits: Limits | None = None,
    reader_limits: ReaderLimits | None = None,
) -> None:
    """Serve the folder `store` below `data` until SIGTERM or SIGINT.

    Raises:
        InvalidConfiguration: users, host or port do not fit.
        StoreError: the folder cannot be opened.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    known = users_for(host, users)
    listener = listen(host, port)
    engine = Engine(data / "store", reader_limits)
    app = build_app(engine, known, limits)
    bound = listener.getsockname()[1]
    _log.info(
        "ClickHouse's HTTP interface on http://%s:%d: one node, engine %s, data in %s",
        host,
        bound,
        engine.version,
        engine.folder,
    )
    try:
        _Server(app).run(sockets=[listener])
    finally:
        app.close()
        engine.close()


class Beside:
    """An interface that runs in a thread of this process."""

    def __init__(self, app: StoreApp, engine: Engine, listener: socket.socket) -> None:
        self.port: int = listener.getsockname()[1]
        self._app = app
        self._engine = engine
        self._server = _Server(app)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="store-http", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End reads, wait for inserts, stop listening; the folder is closed for this interface."""
        self._server.should_exit = True
        self._thread.join()
        self._app.close()
        self._engine.close()


def serve_beside(folder: Path, host: str, port: int, users: Users) -> Beside:
    """Serve a chdb folder in a thread; returns when the port is open.

    Call it before anything else of this process opens the folder: the engine reads its roles once,
    when the first connection opens it.

    Raises:
        InvalidConfiguration: the port is taken.
        StoreError: the folder cannot be opened, or something else opened it first.
    """
    listener = listen(host, port)
    engine = Engine(folder)
    return Beside(build_app(engine, users), engine, listener)
