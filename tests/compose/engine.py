"""A Docker engine: the one that answers, or one of our own for as long as the test takes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from penstock.tests.compose.progress import Failed, run, say, step, succeeds

CACHE = Path(__file__).resolve().parents[2] / ".build" / "docker"
COMPOSE_VERSION = "v2.40.3"
_START_S = 60.0
_STOP_S = 60.0
_PID_FILE = CACHE / "dockerd.pid"
# Addresses that are set aside for measurements: they meet no network that a machine is likely to be in.
_NETWORKS = ("--default-address-pool", "base=198.18.0.0/16,size=24", "--bip", "198.18.255.1/24")


class EngineMissing(Exception):
    """Docker cannot be had here; the text says why."""


@dataclass(frozen=True, slots=True)
class Engine:
    """How to speak to Docker.

    Attributes:
        own: whether it was started by this test, so that what is left in it disturbs nobody.
        compose: the command that is `docker compose`.
    """

    own: bool
    compose: tuple[str, ...]

    def docker(self, *arguments: str, timeout_s: float = 600, stdin: bytes | None = None) -> str:
        """Run `docker` and return its output.

        Raises:
            Failed: it ended with an error.
        """
        return run(("docker", *arguments), timeout_s=timeout_s, stdin=stdin)


@contextmanager
def engine() -> Iterator[Engine]:
    """Docker, found or started; one that was started is stopped at the end.

    Raises:
        EngineMissing: there is none and none can be started.
    """
    if succeeds(("docker", "version")):
        say("an engine answers: it is used, and left as it is")
        yield Engine(False, _compose())
        return
    _install()
    (CACHE / "data").mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="penstock-docker-"))  # a socket's path must be short
    process = None
    before = os.environ.get("DOCKER_HOST")
    try:
        os.environ["DOCKER_HOST"] = f"unix://{work}/docker.sock"
        process = _start(work)
        yield Engine(True, _compose())
    finally:
        if process is not None:
            _stop(process)
        for folder in (work, CACHE.resolve()):
            _unmount(folder)
        if before is None:
            os.environ.pop("DOCKER_HOST", None)
        else:
            os.environ["DOCKER_HOST"] = before
        shutil.rmtree(work, ignore_errors=True)


def install_packages(names: Sequence[str], reason: str) -> None:
    """Install Debian packages.

    Raises:
        EngineMissing: not root, or no apt.
    """
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise EngineMissing(f"{reason}: install {', '.join(names)} (or run as root on Debian)")
    with step(f"apt-get install {' '.join(names)}"):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        run(("apt-get", "update", "-qq"), env=environment)
        run(("apt-get", "install", "-qq", "-y", "--no-install-recommends", *names), env=environment)


def _install() -> None:
    if os.geteuid() != 0:
        raise EngineMissing("no Docker engine answers, and only root can start one")
    if shutil.which("dockerd") is None or shutil.which("docker") is None:
        install_packages(["docker.io"], "no Docker engine answers")


def _start(work: Path) -> subprocess.Popen[bytes]:
    _stop_leftover()
    command = ["dockerd", "--data-root", str(CACHE / "data"), "--exec-root", str(work / "exec")]
    # It listens on a unix socket and nowhere else.
    command += ["--pidfile", str(work / "pid"), "--host", os.environ["DOCKER_HOST"], *_NETWORKS]
    log = CACHE / "dockerd.log"
    with step("starting dockerd"), log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for the test, which then stops it
        )
        _PID_FILE.write_text(str(process.pid))
        until = time.monotonic() + _START_S
        while time.monotonic() < until and process.poll() is None:
            if succeeds(("docker", "version"), timeout_s=10):
                return process
            time.sleep(0.2)
    _stop(process)
    raise EngineMissing(f"dockerd does not run here:\n{log.read_text(errors='replace')[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    _PID_FILE.unlink(missing_ok=True)
    say("dockerd is stopped")


def _unmount(folder: Path) -> None:
    """dockerd leaves its data root and namespaces mounted: nobody could remove the folders."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    points = [line.split()[1].replace("\\040", " ") for line in lines]
    for point in reversed([point for point in points if Path(point).is_relative_to(folder)]):
        succeeds(("umount", point))


def _stop_leftover() -> None:
    """A run that was killed leaves its dockerd, which holds the data root."""
    if not _PID_FILE.exists():
        return
    pid = int(_PID_FILE.read_text())
    name = Path(f"/proc/{pid}/cmdline")
    if name.exists() and str(CACHE / "data").encode() in name.read_bytes():
        say(f"stopping dockerd of an earlier run (pid {pid})")
        os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + _STOP_S
        while name.exists() and time.monotonic() < until:
            time.sleep(0.2)
    _PID_FILE.unlink(missing_ok=True)


def _compose() -> tuple[str, ...]:
    if succeeds(("docker", "compose", "version")):
        return ("docker", "compose")
    binary = CACHE / f"docker-compose-{COMPOSE_VERSION}"
    if not binary.exists():
        _build_compose(binary)
    return (str(binary),)


def _build_compose(binary: Path) -> None:
    if shutil.which("go") is None:
        raise EngineMissing(
            "no `docker compose`: install Docker's compose plugin, or Go to build it with"
        )
    package = "github.com/docker/compose/v2"
    with (
        step(f"building docker compose {COMPOSE_VERSION} from its Go module (once)"),
        tempfile.TemporaryDirectory() as work,
    ):
        # A module of one's own: `go install` refuses a module that excludes versions of others.
        folder = Path(work)
        (folder / "go.mod").write_text("module penstock/compose\n\ngo 1.24\n")
        try:
            run(("go", "get", f"{package}/cmd@{COMPOSE_VERSION}"), cwd=folder)
            flags = f"-s -w -X {package}/internal.Version={COMPOSE_VERSION}"
            made = folder / "docker-compose"
            build = ("go", "build", "-trimpath", "-ldflags", flags, "-o", str(made))
            run((*build, f"{package}/cmd"), cwd=folder, timeout_s=1500)
        except Failed as error:
            raise EngineMissing(f"docker compose cannot be built: {error}") from error
        shutil.move(made, binary.with_suffix(".new"))
        binary.with_suffix(".new").replace(binary)
