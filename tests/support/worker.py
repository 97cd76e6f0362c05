"""A real `penstock worker` that tests stop, kill and pause, under a supervisor as in production."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import httpx
from penstock.tests.support.openmetrics import families
from penstock.tests.support.ports import free_port

START_AGAIN = 75  # the exit code of a worker that a new start heals


class Worker:
    """`penstock worker`, started again when it ends by itself with 75 or 70, as a supervisor does.

    Args:
        name: of its log.
        command: what is run.
        environment: of the process.
        folder: where it runs and its log is.

    Attributes:
        endings: exit codes of ends that nobody asked for.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: dict[str, str], folder: Path
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.endings: list[int] = []
        self._folder = folder
        self._environment = environment
        self.port = free_port()
        self._command = [*command, "--metrics-port", str(self.port)]
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._tended = False
        self._logged = 0

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._process is not None and self._process.poll() is None

    def start(self, **environment: str) -> None:
        """Start; does not wait. `environment` is for this one life."""
        with self._lock:
            assert self._process is None, "it runs already"
            self._launch(environment)
            self._tended = True

    def _launch(self, environment: dict[str, str]) -> None:
        with self.log.open("ab") as log:
            self._logged = log.tell()
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env=self._environment | environment,
            )

    def tend(self) -> None:
        """Start it again where it ended by itself."""
        with self._lock:
            if not self._tended or self._process is None or self._process.poll() is None:
                return
            self.endings.append(self._process.returncode)
            self._launch({})

    def kill(self) -> None:
        """kill -9, where it runs."""
        with self._lock:
            self._tended = False
            if self._process is not None:
                self._process.kill()
                self._process.wait()
                self._process = None

    def stop(self, within_s: float = 30.0) -> None:
        """SIGTERM; it must end in order."""
        with self._lock:
            self._tended = False
            assert self._process is not None
            self._process.send_signal(signal.SIGTERM)
            code = self._process.wait(within_s)
            self._process = None
        # Python itself ends by the signal, while it has not read our code yet.
        if code == -signal.SIGTERM and self.log.stat().st_size == self._logged:
            return
        assert code == 0, f"{self.name} ended with {code}:\n{self.tail()}"

    def pause(self) -> None:
        """SIGSTOP."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def is_ready(self) -> bool:
        """Whether it works on all that is its own."""
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz", timeout=2).status_code == 200
        return False

    def metrics(self) -> dict[str, float]:
        """By name without prefix and suffix, the sum over the labels."""
        text = httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=5).text
        found: dict[str, float] = {}
        for family in families(text):
            for sample in family.samples:
                name = sample.name.removeprefix("penstock_worker_").removesuffix("_total")
                found[name] = found.get(name, 0.0) + sample.value
        return found

    def tail(self, characters: int = 3000) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""
