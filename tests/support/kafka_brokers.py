"""Kafka brokers that a test starts, stops and kills: one node or three, on 127.0.0.1, from jars."""

from __future__ import annotations

import secrets
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._scram import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from penstock.tests.support.certificates import make_certificates
from penstock.tests.support.kafka_node import (
    Node,
    NodeSettings,
    await_brokers,
    prepared,
)
from penstock.tests.support.ports import unused_ports

_USER = "penstock"
# Half the usual patience with a controller, so that a lost leader is replaced in about 5 s.
_IMPATIENT = "\ncontroller.quorum.fetch.timeout.ms=1000\n"


def unique(prefix: str) -> str:
    """A name of a topic or group that no other test uses."""
    return f"{prefix}-{secrets.token_hex(4)}"


class Broker:
    """One Kafka node. Topics are not made by being named; see `penstock topics`.

    Args:
        folder: of its own: data and output. A later `start` finds again what an earlier one stored.
        port: where clients connect; by default any free one.
        advertised_port: what clients are told to connect to, that of a proxy in between. By default
            `port`.
        secure: clients must use TLS and a password; see `address`.
        heap_mib: of the JVM.

    Attributes:
        port: where clients connect.
        bootstrap: `host:port` for clients, through the proxy where there is one.
        direct: `host:port` round the proxy, in plaintext.
        address: what `penstock --kafka` takes; with user, password and CA where it is secure.

    Raises:
        KafkaMissing: where there are no jars and none can be fetched.
    """

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        advertised_port: int = 0,
        secure: bool = False,
        heap_mib: int = 512,
    ) -> None:
        kafka = prepared()
        clients, internal, controller = unused_ports(3)
        self._password = secrets.token_urlsafe(12) if secure else ""
        self._ca = make_certificates(folder / "tls").ca if secure else None
        self.port = port or clients
        settings = NodeSettings(
            voters=((1, controller),),
            clients_port=self.port,
            advertised_port=advertised_port or self.port,
            internal_port=internal,
            protocol="SASL_SSL" if secure else "PLAINTEXT",
            heap_mib=heap_mib,
            more=_secured(folder / "tls" / "both.pem", self._password) if secure else "",
        )
        self._node = Node(folder, settings, kafka)
        self.bootstrap = f"127.0.0.1:{settings.advertised_port}"
        self.direct = f"127.0.0.1:{settings.internal_port}"
        self.address = self.address_for("PLAIN") if secure else self.bootstrap

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.kill()

    def address_for(self, mechanism: str) -> str:
        """Address of a secure broker.

        Args:
            mechanism: PLAIN or SCRAM-SHA-512.
        """
        assert self._ca is not None, "this broker was not made with secure=True"
        credentials = f"{_USER}:{quote(self._password)}"
        options = f"tls=true&sasl={mechanism}&ca={quote(str(self._ca))}"
        return f"kafka://{credentials}@{self.bootstrap}?{options}"

    def start(self) -> None:
        """Start and wait until it is ready."""
        try:
            self._node.launch()
            self._node.wait()
            if self._password:
                _add_scram_user(self.direct, self._password)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """SIGTERM, and wait until it has ended."""
        self._node.stop()

    def kill(self) -> None:
        """SIGKILL."""
        self._node.kill()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing is answered."""
        self._node.pause()

    def resume(self) -> None:
        """SIGCONT."""
        self._node.resume()

    def log_tail(self, lines: int = 40) -> str:
        """The end of what it wrote, for messages of errors."""
        return self._node.log_tail(lines)


def _secured(keystore: Path, password: str) -> str:
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule"
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule"
    listener = "listener.name.clients"
    return f"""
{listener}.ssl.keystore.type=PEM
{listener}.ssl.keystore.location={keystore}
{listener}.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
{listener}.plain.sasl.jaas.config={plain} required user_{_USER}="{password}";
{listener}.scram-sha-512.sasl.jaas.config={scram} required;
"""


def _add_scram_user(bootstrap: str, password: str) -> None:
    credential = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    user = UserScramCredentialUpsertion(_USER, credential, password.encode())
    client = AdminClient({"bootstrap.servers": bootstrap})
    client.alter_user_scram_credentials([user])[_USER].result(10)


class Cluster:
    """Combined nodes that keep every message in each of them; two of three must have it.

    Args:
        folder: of its own; every node has one in it.
        nodes: how many, numbered from 1.

    Attributes:
        bootstrap: `host:port` of every node, by commas.
    """

    def __init__(self, folder: Path, nodes: int = 3) -> None:
        kafka = prepared()
        ports = unused_ports(3 * nodes)
        clients, internal, controllers = ports[:nodes], ports[nodes : 2 * nodes], ports[2 * nodes :]
        voters = tuple(enumerate(controllers, start=1))
        self.bootstrap = ",".join(f"127.0.0.1:{port}" for port in clients)
        self._nodes = {
            number: Node(
                folder / f"node-{number}",
                NodeSettings(
                    voters=voters,
                    clients_port=clients[number - 1],
                    advertised_port=clients[number - 1],
                    internal_port=internal[number - 1],
                    number=number,
                    replicas=nodes,
                    in_sync=nodes // 2 + 1,
                    session_ms=2500,
                    heap_mib=256,
                    more=_IMPATIENT,
                    # Three compilers on two cores would slow down the start.
                    options=("-XX:TieredStopAtLevel=1",),
                ),
                kafka,
            )
            for number, _ in voters
        }

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.kill()

    def start(self, node: int | None = None) -> None:
        """Start one node, or all that do not run, and wait until the running ones know each other.

        A lone node waits in vain for a second one: two of three make a quorum.
        """
        wanted = [self._nodes[node]] if node else [n for n in self._nodes.values() if not n.running]
        try:
            for each in wanted:
                each.launch()
            for each in wanted:
                each.wait()
            await_brokers(self.bootstrap, sum(n.running for n in self._nodes.values()))
        except BaseException:
            self.kill()
            raise

    def stop(self, node: int) -> None:
        """SIGTERM one node, and wait until it has handed over and ended."""
        self._nodes[node].stop()

    def kill(self, node: int | None = None) -> None:
        """SIGKILL one node, or all."""
        for each in [self._nodes[node]] if node else self._nodes.values():
            each.kill()

    def pause(self, node: int) -> None:
        """SIGSTOP one node."""
        self._nodes[node].pause()

    def resume(self, node: int) -> None:
        """SIGCONT one node."""
        self._nodes[node].resume()

    def log_tail(self, node: int, lines: int = 40) -> str:
        """The end of what a node wrote, for messages of errors."""
        return self._nodes[node].log_tail(lines)
