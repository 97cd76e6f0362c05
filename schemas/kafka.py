"""Where Kafka is and how to speak to it: one address for every client library.

`kafka://[user:password@]host:port[,host:port...][?tls=true&sasl=SCRAM-SHA-512&ca=/path]`; a bare
`host:port[,host:port]` is taken as plaintext.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from .errors import InvalidConfiguration

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_OPTIONS = frozenset({"tls", "sasl", "ca", "certificate", "key"})
_EXAMPLE = "host:9092 or kafka://user:password@host:9092?tls=true&sasl=SCRAM-SHA-512"


@dataclass(frozen=True, slots=True)
class KafkaAddress:
    """A cluster and how to be let in.

    Attributes:
        bootstrap: `host:port` of one or more brokers.
        tls: whether the connection is encrypted.
        mechanism: of SASL, empty for none.
        user: for SASL.
        password: for SASL; never printed.
        ca: file of the authorities trusted instead of the system's, empty for those.
        certificate: file of the client's certificate, empty for none.
        key: file of the client's key.
    """

    bootstrap: tuple[str, ...]
    tls: bool = False
    mechanism: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    ca: str = ""
    certificate: str = ""
    key: str = ""

    @property
    def servers(self) -> str:
        """The brokers as clients want them: `host:port,host:port`."""
        return ",".join(self.bootstrap)

    @property
    def protocol(self) -> str:
        """PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
        return ("SASL_" if self.mechanism else "") + ("SSL" if self.tls else "PLAINTEXT")

    def librdkafka(self) -> dict[str, str]:
        """Settings for confluent-kafka."""
        found = {"bootstrap.servers": self.servers, "security.protocol": self.protocol}
        if self.mechanism:
            found |= {
                "sasl.mechanism": self.mechanism,
                "sasl.username": self.user,
                "sasl.password": self.password,
            }
        files = {
            "ssl.ca.location": self.ca,
            "ssl.certificate.location": self.certificate,
            "ssl.key.location": self.key,
        }
        return found | {name: value for name, value in files.items() if value}


def parse_address(text: str) -> KafkaAddress:
    """Read an address.

    Raises:
        InvalidConfiguration: saying what is wrong with it, without its password.

    >>> parse_address("kafka://me:secret@a:9092,b:9092?tls=true&sasl=PLAIN").servers
    'a:9092,b:9092'
    """
    try:
        parts = urlsplit(text if "://" in text else f"kafka://{text}")
    except ValueError as error:  # whose text may hold the password
        raise InvalidConfiguration(f"no address; a Kafka address looks like {_EXAMPLE}") from error
    if parts.fragment:
        raise InvalidConfiguration("write %23 for # in the user or password of a Kafka address")
    if parts.scheme != "kafka" or not parts.netloc or parts.path.strip("/"):
        raise InvalidConfiguration(f"a Kafka address looks like {_EXAMPLE}")
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise InvalidConfiguration(
            f"the options of a Kafka address are {', '.join(sorted(_OPTIONS))};"
            " write %3F for ? in its user or password"
        )
    mechanism = options.get("sasl", "PLAIN" if credentials else "")
    if mechanism and mechanism not in MECHANISMS:
        raise InvalidConfiguration(f"sasl is one of {', '.join(MECHANISMS)}")
    if bool(mechanism) != bool(user and password):
        raise InvalidConfiguration("SASL needs a user and a password, and only SASL does")
    return KafkaAddress(
        bootstrap=tuple(_with_port(host) for host in hosts.split(",")),
        tls=_flag(options.get("tls", "false")),
        mechanism=mechanism,
        user=unquote(user),
        password=unquote(password),
        ca=options.get("ca", ""),
        certificate=options.get("certificate", ""),
        key=options.get("key", ""),
    )


def _with_port(host: str) -> str:
    name, _, port = host.rpartition(":")
    if not name or not port.isdigit() or not 0 < int(port) < 65536:
        # Not repeated: of a mistyped address it may be the password.
        raise InvalidConfiguration(
            f"every broker is host:port; a Kafka address looks like {_EXAMPLE}"
        )
    return host


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise InvalidConfiguration("tls is true or false")
    return text.lower() == "true"
