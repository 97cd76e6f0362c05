"""One Kafka node as a process: broker and controller in one, on 127.0.0.1."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from string import Template

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from penstock.tests.support.kafka_jars import RECIPE, Installation, install, lock
from penstock.tests.support.ports import unused_ports

CLUSTER_ID = "cGVuc3RvY2stdGVzdC1rZg"
_STARTED = b"Kafka Server started"
_START_S = 60.0
_STOP_S = 30.0


def await_brokers(bootstrap: str, count: int = 1, within_s: float = _START_S) -> None:
    """Wait until a cluster answers and names so many brokers.

    Raises:
        RuntimeError: where it does not in time.
    """
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    until, found = time.monotonic() + within_s, "no answer"
    while time.monotonic() < until:
        try:
            brokers = client.list_topics(timeout=1).brokers
        except KafkaException as error:
            found = str(error)
            continue
        if len(brokers) == count:
            return
        found = f"{len(brokers)} brokers"
        time.sleep(0.05)
    raise RuntimeError(f"{bootstrap} should have {count} brokers, but: {found}")


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """A node and its neighbours.

    Attributes:
        voters: controllers of the cluster by node id: `(1, port), (2, port)...`.
        number: this node's id.
        clients_port: where clients connect.
        advertised_port: what clients are told; that of a proxy, or clients_port.
        internal_port: where brokers connect, and whoever goes round a proxy.
        replicas: of every topic that does not say, and of the internal ones.
        in_sync: replicas that must have a message before acks=all is answered.
        protocol: of the clients' listener: PLAINTEXT or SASL_SSL.
        session_ms: silence after which a broker is taken as dead.
        heap_mib: of the JVM.
        more: further lines of server.properties.
        options: further options of the JVM.
    """

    voters: tuple[tuple[int, int], ...]
    clients_port: int
    advertised_port: int
    internal_port: int
    number: int = 1
    replicas: int = 1
    in_sync: int = 1
    protocol: str = "PLAINTEXT"
    session_ms: int = 1500
    heap_mib: int = 512
    more: str = ""
    options: tuple[str, ...] = ()

    def properties(self, data: Path) -> str:
        """Text of server.properties.

        Args:
            data: folder of the log.
        """
        template = Template((RECIPE / "server.properties").read_text())
        text = template.substitute(
            node=self.number,
            voters=",".join(f"{number}@127.0.0.1:{port}" for number, port in self.voters),
            data=data,
            clients_port=self.clients_port,
            advertised_port=self.advertised_port,
            internal_port=self.internal_port,
            controller_port=dict(self.voters)[self.number],
            protocol=self.protocol,
            replicas=self.replicas,
            in_sync=self.in_sync,
            session_ms=self.session_ms,
        )
        return text + self.more


class Node:
    """A node on a folder of its own; a later `start` finds again what an earlier one stored.

    Args:
        folder: of its configuration, data and output.
        settings: ports and the like.
        kafka: jars to run.
    """

    def __init__(self, folder: Path, settings: NodeSettings, kafka: Installation) -> None:
        self._kafka = kafka
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._log_from = 0
        self._config = folder / "server.properties"
        self._data = folder / "data"
        self.log = folder / "kafka.log"
        folder.mkdir(parents=True, exist_ok=True)
        self._config.write_text(settings.properties(self._data))

    @property
    def running(self) -> bool:
        """Whether the process is there, paused or not."""
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Start the process and return at once; `wait` says when it is ready."""
        assert not self.running, "this node runs already"
        if not self._data.exists():
            self._format()
        options = (f"-Xmx{self._settings.heap_mib}m", *self._settings.options)
        if self._kafka.archive.exists():
            options += (f"-XX:SharedArchiveFile={self._kafka.archive}",)
        command = self._kafka.command("kafka.Kafka", str(self._config), options=options)
        self._log_from = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def wait(self) -> None:
        """Wait until it answers clients.

        Raises:
            RuntimeError: where it ended or took too long, with the end of its log.
        """
        until = time.monotonic() + _START_S
        while self.running and time.monotonic() < until:
            with self.log.open("rb") as log:
                log.seek(self._log_from)
                if _STARTED in log.read():
                    return
            time.sleep(0.02)
        self.kill()
        raise RuntimeError(f"Kafka did not become ready:\n{self.log_tail()}")

    def stop(self) -> None:
        """SIGTERM, and wait until it has ended; nothing where it does not run.

        Raises:
            RuntimeError: where it had to be killed, with the end of its log.
        """
        if self._process is None:
            return
        self.resume()
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"Kafka did not stop on SIGTERM:\n{self.log_tail()}") from None
        self._process = None

    def kill(self) -> None:
        """SIGKILL, and wait until it has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def log_tail(self, lines: int = 40) -> str:
        """The end of what it wrote, for messages of errors."""
        if not self.log.exists():
            return "(it wrote nothing)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _signal(self, number: int) -> None:
        if self.running and self._process is not None:
            self._process.send_signal(number)

    def _format(self) -> None:
        # What `StorageTool format` does, without a JVM of a second: the features come from a node
        # that it formatted once.
        self._data.mkdir()
        shutil.copy(self._kafka.checkpoint, self._data / "bootstrap.checkpoint")
        directory = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        (self._data / "meta.properties").write_text(
            f"version=1\ncluster.id={CLUSTER_ID}\nnode.id={self._settings.number}\n"
            f"directory.id={directory}\n"
        )


@cache
def prepared() -> Installation:
    """Kafka's jars, with a formatted node's features and an archive of classes beside them.

    Takes some seconds where they are not cached yet.

    Raises:
        KafkaMissing: without Java, or without Maven where the jars are not cached.
    """
    kafka = install()
    with lock(kafka.jars.parent):
        if kafka.archive.exists() and kafka.checkpoint.exists():
            return kafka
        kafka.archive.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(dir=kafka.jars.parent) as work:
            _format_once(kafka, Path(work))
            _run_once(kafka, Path(work))
    return kafka


def _alone() -> NodeSettings:
    clients, internal, controller = unused_ports(3)
    return NodeSettings(((1, controller),), clients, clients, internal)


def _format_once(kafka: Installation, work: Path) -> None:
    config = work / "format.properties"
    config.write_text(_alone().properties(work / "formatted"))
    arguments = ("format", "-t", CLUSTER_ID, "-c", str(config))
    command = kafka.command("kafka.tools.StorageTool", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, timeout=_START_S)
    if done.returncode:
        raise RuntimeError(f"Kafka's StorageTool failed:\n{done.stderr[-2000:]}")
    os.replace(work / "formatted" / "bootstrap.checkpoint", kafka.checkpoint)


def _run_once(kafka: Installation, work: Path) -> None:
    """The archive is written at the end of a run."""
    archive = work / kafka.archive.name
    settings = replace(_alone(), options=(f"-XX:ArchiveClassesAtExit={archive}",))
    node = Node(work / "node", settings, kafka)
    node.launch()
    node.wait()
    node.stop()
    os.replace(archive, kafka.archive)
