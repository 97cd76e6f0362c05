"""`penstock api` in a process of its own, and any other command of ours."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from penstock.tests.support.ports import free_port

START_S = 60.0
PENSTOCK = [sys.executable, "-m", "penstock"]


def penstock(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*PENSTOCK, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


class Api:
    """A `penstock api` process."""

    def __init__(self, folder: Path, kafka: str, store: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self.log = folder / "api.log"
        self._command = [*PENSTOCK, "api", "--kafka", kafka, "--store", store, "--port", str(port)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *flags: str) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([*self._command, *flags], stdout=log, stderr=log)
        until = time.monotonic() + START_S
        while time.monotonic() < until and self._process.poll() is None:
            with contextlib.suppress(httpx.HTTPError):
                if self.get("/healthz").status_code == 200:
                    return
            time.sleep(0.05)
        self.kill()
        raise RuntimeError(f"penstock api did not start:\n{self.log.read_text()[-4000:]}")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(30)
        finally:
            self.kill()
        return code

    def get(self, path: str, **query: Any) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", params=query, timeout=30)

    def post(self, body: Any, **headers: str) -> httpx.Response:
        frames = isinstance(body, bytes)
        form = "application/vnd.penstock.frames" if frames else "application/json"
        content = body if frames else json.dumps(body).encode()
        headers = {"Content-Type": form, **headers}
        return httpx.post(f"{self.url}/v1/events", content=content, headers=headers, timeout=30)
