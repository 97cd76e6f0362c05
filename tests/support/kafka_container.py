"""Kafka in a container, where Docker answers and has the image already."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from docker.errors import DockerException  # type: ignore[import-untyped]  # has no type information
from penstock.tests.support.kafka_jars import version
from penstock.tests.support.kafka_node import (
    CLUSTER_ID,
    NodeSettings,
    await_brokers,
)
from penstock.tests.support.ports import free_port
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import DockerClient

IMAGE = f"apache/kafka:{version()}"
_INSIDE = 9092


def images_present(*names: str) -> bool:
    """Whether Docker answers and has all these images; none is pulled."""
    with warnings.catch_warnings():
        # Docker's library leaves its socket open where nobody answers.
        warnings.simplefilter("ignore", ResourceWarning)
        found = _images_present(names)
        gc.collect()
    return found


def _images_present(names: tuple[str, ...]) -> bool:
    try:
        docker = DockerClient().client
    except DockerException:
        return False
    try:
        for name in names:
            docker.images.get(name)
    except DockerException:
        return False
    finally:
        docker.close()
    return True


@contextmanager
def container() -> Iterator[str]:
    """Run the image for as long as this is open; gives `host:port`."""
    if not images_present(testcontainers_config.ryuk_image):
        # Ryuk removes containers of a process that was killed; without it they stay until removed.
        testcontainers_config.ryuk_disabled = True
    port = free_port()
    node = DockerContainer(IMAGE, env=_environment(port)).with_bind_ports(_INSIDE, port)
    with node:
        bootstrap = f"127.0.0.1:{port}"
        try:
            await_brokers(bootstrap)
        except RuntimeError as error:
            out, err = node.get_logs()
            raise RuntimeError(f"{error}\n{(out + err).decode()[-4000:]}") from None
        yield bootstrap


def _environment(port: int) -> dict[str, str]:
    """The settings of our own nodes, as the image reads them: KAFKA_NODE_ID and so on."""
    settings = NodeSettings(
        voters=((1, 9093),), clients_port=_INSIDE, advertised_port=port, internal_port=9094
    )
    text = settings.properties(Path("/tmp/kafka-logs"))
    pairs = (line.split("=", 1) for line in text.splitlines() if line and line[0] != "#")
    found = {f"KAFKA_{name.replace('.', '_').upper()}": value for name, value in pairs}
    everywhere = f"CLIENTS://127.0.0.1:{_INSIDE}", f"CLIENTS://0.0.0.0:{_INSIDE}"
    found["KAFKA_LISTENERS"] = found["KAFKA_LISTENERS"].replace(*everywhere)
    return found | {"CLUSTER_ID": CLUSTER_ID, "KAFKA_HEAP_OPTS": "-Xmx512m"}
