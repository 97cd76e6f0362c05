"""The server of a demo: `penstock up` as a process, and questions to its API."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from ..schemas.errors import PenstockError
from .view import LIVE_METRICS, Figures, WindowRow

GATE, TWO_ARMS = "canary-limits", "canary"
DEFAULT_PORT = 8080
_READY_S = 90.0
_LISTENING = re.compile(r"listening on (http://[0-9.]+:[0-9]+)\b")


class DemoFailed(PenstockError):
    """Something of the demo does not work; the text says what."""

    slug = "demo-failed"


class Api:
    """Questions to a server.

    Args:
        url: its address.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        # Not by way of a proxy that the environment may name.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str, **parameters: Any) -> Any:
        """The JSON answer of a GET.

        Raises:
            DemoFailed: it is an error, or there is none.
        """
        query = urlencode(parameters, doseq=True)
        return self._asked("GET", urllib.request.Request(f"{self.url}{path}?{query}"))

    def post(self, path: str, body: Any) -> Any:
        """The JSON answer of a POST.

        Raises:
            DemoFailed: it is an error, or there is none.
        """
        headers = {"Content-Type": "application/json"}
        data = json.dumps(body).encode()
        return self._asked("POST", urllib.request.Request(f"{self.url}{path}", data, headers))

    def _asked(self, method: str, request: urllib.request.Request) -> Any:
        try:
            with self._opener.open(request, timeout=40) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            detail = error.read(500).decode(errors="replace")
            raise DemoFailed(f"{method} {request.full_url}: {error.code} {detail}") from error
        except (OSError, ValueError) as error:
            raise DemoFailed(f"{method} {request.full_url}: {error}\n{self.tail()}") from error

    def tail(self) -> str:
        """The last lines of the server's output, where it is known."""
        return ""


class Server(Api):
    """A running `penstock up`, and what its API says.

    Args:
        process: the server.
        url: its address.
        log: file with its output.
    """

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        super().__init__(url)
        self.process = process
        self._log = log

    def tail(self) -> str:
        """The last lines of the server's output."""
        if not self._log.exists():
            return ""
        return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])

    def wait_ready(self) -> None:
        """Wait until /ready says so.

        Raises:
            DemoFailed: the server ended, or takes too long.
        """
        deadline = time.monotonic() + _READY_S
        while True:
            try:
                self.get("/ready")
                return
            except DemoFailed as error:
                if self.process.poll() is not None:
                    raise DemoFailed(f"the server ended:\n{self.tail()}") from error
                if time.monotonic() > deadline:
                    raise DemoFailed(f"the server is not ready:\n{self.tail()}") from error
            time.sleep(0.1)

    def verdict(self, gate: str = GATE) -> dict[str, Any]:
        """A gate's newest answer."""
        answer: dict[str, Any] = self.get(f"/v1/gates/{gate}/verdict")
        return answer

    def windows(self, window: str, metrics: tuple[str, ...], end_us: int | None) -> list[WindowRow]:
        """The newest window of each variant that ends at or before `end_us`."""
        until = {} if end_us is None else {"end": iso(end_us)}
        answer = self.get(
            "/v1/windows", window=window, metric=",".join(metrics), grouping="release", **until
        )
        return [
            {
                "window": window,
                "variant": series["slice"]["variant"],
                "release": series["slice"]["release"],
                "end": point["end"],
                "coverage": point["coverage"],
                "coverage_state": point["coverage_state"],
                **point["values"],
            }
            for series in answer["series"]
            for point in series["points"][-1:]
        ]

    def figures(self) -> Figures:
        """What the terminal shows while the replay runs."""
        rows = self.windows("1m", LIVE_METRICS, None)
        newest = max((row["end"] for row in rows), default="")
        return Figures([row for row in rows if row["end"] == newest], self.verdict())


@contextmanager
def each_second(look: Callable[[], None]) -> Iterator[None]:
    """Ask a server something every second, in a thread, while the block runs.

    Args:
        look: asks; where it gets no answer, whoever asks at the end will be told what is wrong.
    """
    stop = threading.Event()

    def follow() -> None:
        while not stop.wait(1.0):
            with suppress(DemoFailed):
                look()

    thread = threading.Thread(target=follow, name="demo-figures", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def running_server(folder: Path, port: int | None, *, leave_open: bool) -> Iterator[Server]:
    """`penstock up` as a process; stopped at the end, unless it is to be left running.

    Args:
        folder: with its penstock.yaml; the store and the log are put beside it.
        port: None for 8080, or a free one when that is taken.
        leave_open: leave it running where the block ends without an exception.

    Raises:
        DemoFailed: it does not start.
    """
    server = _start(folder, DEFAULT_PORT if port is None else port)
    if server is None and port is None:
        server = _start(folder, 0)
    if server is None:
        raise DemoFailed(f"port {port} is taken by something else")
    finished = False
    try:
        server.wait_ready()
        yield server
        finished = True
    finally:
        if not (leave_open and finished):
            _stop(server.process)


def _start(folder: Path, port: int) -> Server | None:
    """Start a server and wait until it listens; None when something else has the port.

    Its own log says that it listens. Asking the port would not do: whoever else has it may answer.
    """
    log = folder / "server.log"
    command = [sys.executable, "-m", "penstock", "up", "--data", str(folder / "data")]
    command += ["--port", str(port), "--config", str(folder / "penstock.yaml")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the demo, which then stops it in order
        )
    deadline = time.monotonic() + _READY_S
    try:
        while True:
            ended = process.poll() is not None  # before reading, so that all of the log is there
            text = log.read_text(encoding="utf-8", errors="replace")
            found = _LISTENING.search(text)
            if found:
                return Server(process, found[1], log)
            if ended and "cannot listen on" in text:
                return None
            if ended or time.monotonic() > deadline:
                last = "\n".join(text.splitlines()[-15:])
                raise DemoFailed(f"the server does not start:\n{last}")
            time.sleep(0.05)
    except BaseException:
        _stop(process)
        raise


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def iso(time_us: int) -> str:
    """A time as the API writes it, from microseconds since 1970 UTC."""
    return datetime.fromtimestamp(time_us / 1e6, UTC).isoformat().replace("+00:00", "Z")


def parse_us(text: str) -> int:
    """Microseconds since 1970 UTC of a time as the API writes it."""
    return round(datetime.fromisoformat(text).timestamp() * 1e6)
