"""Apache Kafka as jars: fetched once with Maven, checked against tests/kafka/checksums.txt.

`python -m penstock.tests.support.kafka_jars` fetches them and prints their folder; with `--checksums`
it prints what checksums.txt should say of them.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

RECIPE = Path(__file__).parents[1] / "kafka"
DEFAULT_FOLDER = Path(__file__).parents[2] / ".build" / "kafka-jars"
JAVA = 17
_FETCH_S = 600


class KafkaMissing(Exception):
    """Kafka cannot run from jars here; the text says what to install."""


@dataclass(frozen=True, slots=True)
class Installation:
    """A Kafka that can be started.

    Attributes:
        java: path of the program.
        jars: folder of the jars.
        archive: where its loaded classes are kept for quicker starts (AppCDS); the JVM goes without
            where the file is absent or of another Java.
        checkpoint: where the features of a newly formatted node are kept.
    """

    java: str
    jars: Path
    archive: Path
    checkpoint: Path

    def command(self, main: str, *arguments: str, options: tuple[str, ...] = ()) -> list[str]:
        """Command line of a Java main class.

        Args:
            main: class to run.
            arguments: its own.
            options: the JVM's.
        """
        classpath = os.pathsep.join(str(jar) for jar in sorted(self.jars.iterdir()))
        log = f"-Dlog4j2.configurationFile={RECIPE / 'log4j2.properties'}"
        return [self.java, "-XX:+UseSerialGC", *options, log, "-cp", classpath, main, *arguments]


def version() -> str:
    """Kafka's version in the pom."""
    found = re.search(r"<kafka\.version>([^<]+)<", (RECIPE / "pom.xml").read_text())
    assert found is not None
    return found[1]


@functools.cache
def install(root: Path | None = None) -> Installation:
    """Kafka, fetched and prepared where it was not yet.

    Args:
        root: folder of the cache; by default PENSTOCK_KAFKA_JARS, else `.build/kafka-jars`.

    Raises:
        KafkaMissing: without Java or Maven.
        ValueError: where a jar is not the one that was pinned.
    """
    java = _java()
    root = root or Path(os.environ.get("PENSTOCK_KAFKA_JARS") or DEFAULT_FOLDER).absolute()
    recipe = b"".join((RECIPE / name).read_bytes() for name in ("pom.xml", "checksums.txt"))
    folder = root / f"{version()}-{hashlib.sha256(recipe).hexdigest()[:12]}"
    jars = folder / "jars"
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        if not jars.is_dir():
            _fetch(jars)
    check(jars)
    runtime = hashlib.sha256(_java_version(java).encode()).hexdigest()[:12]
    archive = folder / f"classes-{runtime}.jsa"
    return Installation(java, jars, archive, folder / "bootstrap.checkpoint")


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """One process at a time prepares a folder."""
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(f"{home}/bin/java") if home else shutil.which("java")
    if java is None:
        raise KafkaMissing(f"no Java: install a Java runtime, version {JAVA} or newer")
    text = _java_version(java)
    found = re.search(r'version "(\d+)', text)
    if found is None or int(found[1]) < JAVA:
        raise KafkaMissing(
            f"Kafka needs Java {JAVA} or newer, and {java} is {text.splitlines()[0]}"
        )
    return java


@functools.cache
def _java_version(java: str) -> str:
    return subprocess.run([java, "-version"], capture_output=True, text=True, check=True).stderr


def _fetch(jars: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaMissing("no Maven (mvn) to fetch Kafka's jars with, and none are cached")
    partial = Path(tempfile.mkdtemp(dir=jars.parent))
    try:
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime"]
        where = ["-f", str(RECIPE / "pom.xml"), f"-DoutputDirectory={partial}"]
        done = subprocess.run(
            [maven, "-B", "-q", *where, *goal], capture_output=True, text=True, timeout=_FETCH_S
        )
        if done.returncode:
            raise KafkaMissing(f"Maven could not fetch Kafka's jars:\n{done.stdout[-2000:]}")
        partial.rename(jars)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def checksums(jars: Path) -> str:
    """What checksums.txt says of a folder of jars: `sha256  name` by name."""
    return "".join(
        f"{hashlib.sha256(jar.read_bytes()).hexdigest()}  {jar.name}\n"
        for jar in sorted(jars.iterdir())
    )


def check(jars: Path) -> None:
    """Compare a folder of jars with checksums.txt.

    Raises:
        ValueError: naming the jars that differ, are missing or are too many.
    """
    found = set(checksums(jars).splitlines())
    wanted = set((RECIPE / "checksums.txt").read_text().splitlines())
    if found != wanted:
        lines = "\n".join(sorted(found ^ wanted, key=lambda line: line.split()[1]))
        raise ValueError(
            f"jars in {jars} differ from tests/kafka/checksums.txt; remove the folder to fetch them "
            f"again:\n{lines}"
        )


def main() -> None:
    """Fetch the jars where they are not cached, and print their folder or their checksums."""
    if sys.argv[1:] == ["--checksums"]:
        with tempfile.TemporaryDirectory() as folder:
            _fetch(Path(folder) / "jars")
            sys.stdout.write(checksums(Path(folder) / "jars"))
    else:
        sys.stdout.write(f"{install().jars}\n")


if __name__ == "__main__":
    main()
