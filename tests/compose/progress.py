"""Commands that are run, with what they cost and what they said when they failed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_START_S = time.monotonic()
_TAIL = 4000


class Failed(Exception):
    """A step of the test did not do what it should; the text says which and what was seen."""


def say(text: str) -> None:
    """A line with the time since the start."""
    sys.stdout.write(f"[{time.monotonic() - _START_S:6.1f} s] {text}\n")
    sys.stdout.flush()


@contextmanager
def step(text: str) -> Iterator[None]:
    """Say that something begins, and how long it took."""
    say(f"{text} ...")
    start_s = time.monotonic()
    yield
    say(f"{text}: {time.monotonic() - start_s:.1f} s")


def run(
    command: Sequence[str],
    *,
    timeout_s: float = 600,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
) -> str:
    """Run a command and return its standard output.

    Raises:
        Failed: it ended with an error or took too long, with the end of what it said.
    """
    try:
        done = subprocess.run(
            command,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=timeout_s,
            cwd=cwd,
            env=None if env is None else dict(env),
        )
    except FileNotFoundError as error:
        raise Failed(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{' '.join(command)} took longer than {timeout_s:g} s") from error
    if done.returncode:
        said = (done.stdout + b"\n" + done.stderr).decode(errors="replace").strip()
        raise Failed(f"{' '.join(command)} ended with {done.returncode}:\n{said[-_TAIL:]}")
    return done.stdout.decode(errors="replace")


def succeeds(command: Sequence[str], *, timeout_s: float = 60) -> bool:
    """Whether a command is there and ends well."""
    try:
        run(command, timeout_s=timeout_s)
    except Failed:
        return False
    return True
