"""A real `penstock up` in a process of its own, for tests that talk to it and kill it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
from penstock.tests.support.ports import free_port

START_S = 60.0


class Server:
    """`penstock up` on a folder of its own.

    Args:
        data: folder of the store; a later `start` finds again what an earlier one stored.
        config: text of its penstock.yaml.
    """

    def __init__(self, data: Path, config: str = "") -> None:
        self._data = data
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.store_url = f"chdb://{data / 'store'}"
        self._process: subprocess.Popen[bytes] | None = None
        data.mkdir(parents=True, exist_ok=True)
        self._config = data / "penstock.yaml"
        self._config.write_text(config)
        self.log = data / "server.log"
        self.sealing_key = data / "sealing.key"

    def start(self, *flags: str) -> None:
        """Start and wait until it is ready."""
        command = [sys.executable, "-m", "penstock", "up", "--data", str(self._data)]
        command += ["--port", str(self._port), "--config", str(self._config), *flags]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            if self._process.poll() is not None:
                break
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/ready", timeout=5).status_code == 200:
                    return
            time.sleep(0.05)
        self.kill()
        raise RuntimeError(f"penstock up did not become ready:\n{self.log.read_text()[-4000:]}")

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def signal(self, number: int) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        try:
            code = self._process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._process = None
        return code

    def stop(self) -> None:
        """Stop it in order, where it runs."""
        if self._process is not None:
            code = self.signal(signal.SIGTERM)
            assert code in (0, -signal.SIGTERM), (
                f"exit code {code}:\n{self.log.read_text()[-4000:]}"
            )

    def get(self, path: str, **query: object) -> httpx.Response:
        """GET, any status."""
        return httpx.get(f"{self.url}{path}", params=query, timeout=90)  # type: ignore[arg-type]
