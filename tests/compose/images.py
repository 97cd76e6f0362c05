"""The images of docker-compose.yml: pulled where that is possible, else built here under their names.

Stand-ins carry a label. On an engine that is not the test's own they are removed at the end: nobody
should take one for the real thing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from penstock.tests.compose.engine import Engine, EngineMissing, install_packages
from penstock.tests.compose.progress import Failed, run, say, step, succeeds
from penstock.tests.support.kafka_jars import KafkaMissing, install

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "compose"
LABEL = "org.penstock.stand-in"
_BASE_RECIPE = "debootstrap-1"  # another value makes the base image anew
_BASE_PACKAGES = "python3,python3-venv,ca-certificates"
_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_MIRROR = "http://deb.debian.org/debian"
_PULL_S = 300.0
_STAGES = ("libraries", "lean", "embedded")
_BUILD = ("build", "--quiet", "--network=host")


class Images:
    """Makes every image that the stack needs.

    Args:
        engine: where they are kept.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._registry = True
        self.stand_ins: list[str] = []

    def prepare(self, names: Mapping[str, str]) -> None:
        """Have all images ready.

        Args:
            names: image by service, as docker-compose.yml names them.

        Raises:
            Failed: one cannot be built.
            EngineMissing: a stand-in needs what is not installed here.
        """
        base, ours = _python_image(), names["worker"]
        if not self._real(base):
            self._base(base)
        with step(f"building {ours}"):
            for stage in _STAGES:  # tagged, so that tidying keeps them for the next build
                self._build(f"{ours}-{stage}", ROOT, "--target", stage)
            self._build(ours, ROOT)
        if not self._real(names["kafka"]):
            with step(f"building a stand-in for {names['kafka']}"):
                self._kafka(names["kafka"], base)
        if not self._real(names["clickhouse"]):
            with step(f"building a stand-in for {names['clickhouse']}"):
                self._clickhouse(names["clickhouse"], f"{ours}-embedded")

    def tidy(self) -> None:
        """Remove stand-ins from an engine that is somebody's, and what was replaced from our own."""
        if self._engine.own:
            self._engine.docker("image", "prune", "--force")
        elif self.stand_ins:
            self._engine.docker("image", "rm", *self.stand_ins)

    def _real(self, name: str) -> bool:
        """Whether an image is there that is none of ours; it is pulled where it is not."""
        if self._label(name) == "":
            return True
        if self._registry:
            try:
                with step(f"pulling {name}"):
                    self._engine.docker("pull", "--quiet", name, timeout_s=_PULL_S)
                return True
            except Failed as error:
                say(f"it cannot be pulled: {str(error).strip().splitlines()[-1][:160]}")
                self._registry = False
        self.stand_ins.append(name)
        return False

    def _label(self, name: str) -> str | None:
        """Value of our label, empty without one; None where there is no such image."""
        text = f'{{{{index .Config.Labels "{LABEL}"}}}}'
        try:
            found = self._engine.docker("image", "inspect", "--format", text, name).strip()
        except Failed:
            return None
        return "" if found == "<no value>" else found

    def _build(self, name: str, context: Path, *options: str) -> None:
        if "PIP_INDEX_URL" in os.environ:
            options += ("--build-arg", "PIP_INDEX_URL")  # docker reads the value itself
        self._engine.docker(*_BUILD, *options, "--tag", name, str(context), timeout_s=900)

    def _base(self, name: str) -> None:
        if self._label(name) == _BASE_RECIPE:
            return
        if os.geteuid() != 0:
            raise EngineMissing(f"{name} cannot be pulled, and only root can make a stand-in")
        if shutil.which("debootstrap") is None:
            install_packages(["debootstrap"], f"{name} cannot be pulled")
        with step(f"building a stand-in for {name}"), tempfile.TemporaryDirectory() as work:
            root = Path(work) / "root"
            options = ("--variant=minbase", f"--include={_BASE_PACKAGES}")
            run(("debootstrap", *options, "bookworm", str(root), _mirror()))
            if _BUNDLE.exists():  # whom this machine trusts, its images trust
                shutil.copy(_BUNDLE, root / _BUNDLE.relative_to("/"))
            for link in ("python", "python3"):
                (root / "usr/local/bin" / link).symlink_to("/usr/bin/python3")
            for cache in ("var/cache/apt/archives", "var/lib/apt/lists"):
                shutil.rmtree(root / cache)
                (root / cache / "partial").mkdir(parents=True)
            self._import(root, name)

    def _import(self, root: Path, name: str) -> None:
        changes = (f"LABEL {LABEL}={_BASE_RECIPE}", f"ENV PIP_CERT={_BUNDLE}", 'CMD ["python3"]')
        options = [part for change in changes for part in ("--change", change)]
        with subprocess.Popen(("tar", "-C", str(root), "-c", "."), stdout=subprocess.PIPE) as tar:
            command = ("docker", "import", *options, "-", name)
            done = subprocess.run(command, stdin=tar.stdout, capture_output=True, text=True)
        if done.returncode or tar.returncode:
            raise Failed(f"docker import of {name}: {done.stderr}")

    def _kafka(self, name: str, base: str) -> None:
        try:
            jars = install().jars
        except KafkaMissing as error:
            raise EngineMissing(f"no stand-in for {name}: {error}") from error
        with tempfile.TemporaryDirectory() as work:
            context = Path(work) / "context"
            shutil.copytree(HERE / "kafka", context)
            shutil.copytree(jars, context / "jars")
            self._build(name, context, "--build-arg", f"BASE={base}", "--label", f"{LABEL}=1")

    def _clickhouse(self, name: str, ours: str) -> None:
        """`penstock store` in the image of ours that has the engine."""
        options = ("--build-arg", f"PENSTOCK={ours}", "--label", f"{LABEL}=1")
        self._build(name, HERE / "clickhouse", *options)


def _python_image() -> str:
    found = re.search(r"^ARG PYTHON_IMAGE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def _mirror() -> str:
    """Where this machine gets Debian from."""
    query = ("apt-get", "indextargets", "--format", "$(REPO_URI)")
    if succeeds(query):
        found = run((*query, "Created-By: Packages", "Codename: bookworm", "Label: Debian")).split()
        if found:
            return found[0]
    return _MIRROR
