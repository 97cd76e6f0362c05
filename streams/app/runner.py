"""Runs the application in this process until it is asked to stop, or cannot go on."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from functools import partial
from typing import Any, NoReturn

import mode
import uvloop

from .application import WorkerApp
from .watchdog import START_AGAIN

log = logging.getLogger("penstock")

# Faust's services log under the names of the modules that extend them.
LIBRARIES = (
    "faust",
    "mode",
    "aiokafka",
    *(f"{__package__}.{name}" for name in ("app", "app_consumer", "app_thread", "app_runner")),
)


REPEAT_S = 10.0


class _Seldom(logging.Filter):
    """Lets each text of a library through once in a while: with no broker it logs 40 lines a second."""

    def __init__(self) -> None:
        super().__init__()
        self._told_s: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is written."""
        if not record.name.startswith("aiokafka"):
            return True
        now_s = time.monotonic()
        if now_s - self._told_s.get(str(record.msg), -REPEAT_S) < REPEAT_S:
            return False
        self._told_s[str(record.msg)] = now_s
        return True


class _Worker(mode.Worker):
    """Faust's worker with our logging and signals."""

    def __init__(self, app: WorkerApp, **kwargs: Any) -> None:
        self._app = app
        self.departure: asyncio.Task[None] | None = None
        self.code = 0
        app.on_start_again = partial(self._end, START_AGAIN)
        super().__init__(
            app, quiet=True, override_logging=False, redirect_stdouts=False, daemon=True, **kwargs
        )

    def install_signal_handlers(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self._end, 0, signal.Signals(number).name)

    def _end(self, code: int, reason: str) -> None:
        """Finish what runs, leave the group and stop, all in a limited time."""
        if self.departure is not None:
            return
        self.code = code
        log.log(logging.ERROR if code else logging.INFO, "%s: finishing what runs", reason)
        late = threading.Timer(self._app.settings.stop_s, _leave, (code, "the stop took too long"))
        late.daemon = True
        late.start()
        self.departure = asyncio.ensure_future(self._depart(), loop=self.loop)

    async def _depart(self) -> None:
        try:
            await self._app.depart()
            log.info("left the group")
        finally:
            await self.stop()


def run(app: WorkerApp) -> NoReturn:
    """Run until SIGTERM or SIGINT, and end the process.

    The exit code is 0 after a planned stop, 75 where a new start helps, 1 otherwise. Threads that hang in
    a call to the store do not keep the process.
    """
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_Seldom())
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = _Worker(app, loop=loop)
    try:
        loop.run_until_complete(worker.start())
    except Exception as error:
        log.exception("the application does not start")
        _leave(1, repr(error))
    if worker.departure is not None:
        loop.run_until_complete(worker.departure)
        _leave(worker.code, "stopped")
    _leave(1, repr(worker.crash_reason))


def _leave(code: int, why: str) -> NoReturn:
    log.log(logging.ERROR if code else logging.INFO, "%s: ending with code %d", why, code)
    for handler in logging.getLogger().handlers:
        handler.flush()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
