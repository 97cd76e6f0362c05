"""Answers in formats that must be written in one piece: through a named pipe, in bounded memory."""

from __future__ import annotations

import os
import select
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_PIECE_BYTES = 1 << 18
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ of Linux


class PipedAnswer:
    """Runs a statement that writes its answer to a path, and yields what it writes.

    Args:
        run: runs the statement that writes to the given path; called in a thread of its own.
    """

    def __init__(self, run: Callable[[str], Any]) -> None:
        self._run = run
        self._failure: Exception | None = None
        self.result: Any = None

    def pieces(self) -> Iterator[bytes]:
        """The answer piece by piece; `result` holds afterwards what `run` returned.

        Raises:
            Exception: what `run` raised, after the pieces that it wrote before.
        """
        with tempfile.TemporaryDirectory(prefix="penstock-store-") as folder:
            path = Path(folder) / "answer"
            os.mkfifo(path, 0o600)
            # Without blocking: the statement may fail before it opens the other end.
            reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            ended, ending = os.pipe()
            runner = threading.Thread(target=self._work, args=(str(path), ending), daemon=True)
            runner.start()
            try:
                yield from _read(reading, ended)
                runner.join()
            finally:
                _drain(reading, ended)
                runner.join()
                os.close(reading)
                os.close(ended)
                os.close(ending)
        if self._failure is not None:
            raise self._failure

    def _work(self, path: str, ending: int) -> None:
        try:
            self.result = self._run(path)
        except Exception as error:  # noqa: BLE001 - raised again by the thread that reads
            self._failure = error
        finally:
            os.write(ending, b"x")


def _read(reading: int, ended: int) -> Iterator[bytes]:
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    poll.register(ended, select.POLLIN)
    over = False
    while True:
        happened = dict(poll.poll())
        if happened.get(reading, 0) & select.POLLIN:
            if piece := os.read(reading, _PIECE_BYTES):
                yield piece
            continue
        if over:
            return
        if ended in happened:
            over = True  # once more, for what was written before
        elif happened.get(reading, 0) & select.POLLHUP:
            # The writer has closed; only the end of the statement is waited for.
            poll.unregister(reading)


def _drain(reading: int, ended: int) -> None:
    """Take what is still written, so that the statement does not wait for a reader."""
    for _ in _read(reading, ended):
        pass
