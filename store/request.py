"""A request of ClickHouse's HTTP interface: what its URL and headers say."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote_plus

from .errors import QueryFailed

# Parameters of the interface itself; every other one is a setting of the engine.
RESERVED = frozenset(
    {
        "buffer_size",
        "client_protocol_version",
        "close_session",
        "compress",
        "database",
        "decompress",
        "default_format",
        "enable_http_compression",
        "http_headers_progress_interval_ms",
        "http_zlib_compression_level",
        "password",
        "query",
        "query_id",
        "quota_key",
        "role",
        "send_progress_in_http_headers",
        "session_check",
        "session_id",
        "session_timeout",
        "stacktrace",
        "user",
        "wait_end_of_query",
    }
)


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks for, before its statement is read.

    Attributes:
        reserved: the interface's own parameters.
        settings: settings for this query.
        parameters: values of `{name:Type}` placeholders.
        headers: names in lower case.
    """

    method: str
    path: str
    reserved: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def flag(self, name: str) -> bool:
        """Whether a parameter of the interface is switched on."""
        return self.reserved.get(name, "0").lower() in ("1", "true")

    @property
    def database(self) -> str:
        """The database asked for, empty where none is."""
        return self.reserved.get("database") or self.headers.get("x-clickhouse-database", "")

    @property
    def default_format(self) -> str:
        """The format of an answer whose statement names none."""
        asked = self.headers.get("x-clickhouse-format") or self.reserved.get("default_format")
        return asked or "TabSeparated"

    @property
    def has_credentials(self) -> bool:
        """Whether the request names a user at all."""
        names = ("authorization", "x-clickhouse-user", "x-clickhouse-key")
        return any(name in self.headers for name in names) or bool(
            {"user", "password"} & set(self.reserved)
        )

    def credentials(self) -> tuple[str, str]:
        """Name and password, from the header Authorization, ClickHouse's own headers, or the URL.

        Raises:
            QueryFailed: 516: credentials of two kinds, or damaged ones.
        """
        basic = self.headers.get("authorization", "")
        own = "x-clickhouse-user" in self.headers or "x-clickhouse-key" in self.headers
        url = "user" in self.reserved or "password" in self.reserved
        if own and (basic or url):
            raise QueryFailed(516, "Authentication failed: give credentials in one way only")
        if own:
            headers = self.headers
            return headers.get("x-clickhouse-user", "default"), headers.get("x-clickhouse-key", "")
        if basic:
            return _basic(basic)
        return self.reserved.get("user", "default"), self.reserved.get("password", "")


def _basic(header: str) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    try:
        text = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise QueryFailed(516, "Authentication failed: damaged Authorization header") from error
    if scheme.lower() != "basic":
        raise QueryFailed(516, f"Authentication failed: {scheme} is not supported, use Basic")
    name, _, password = text.partition(":")
    return name, password


def read_request(
    method: str, path: str, query_string: bytes, headers: list[tuple[bytes, bytes]]
) -> Request:
    """Sort a request's parameters."""
    reserved: dict[str, str] = {}
    settings: dict[str, str] = {}
    parameters: dict[str, str] = {}
    for name, value in parse_qsl(query_string.decode("utf-8", "replace"), keep_blank_values=True):
        if name.startswith("param_"):
            parameters[name.removeprefix("param_")] = value
        elif name in RESERVED:
            reserved[name] = value
        else:
            settings[name] = value
    names = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
    return Request(method, unquote_plus(path), reserved, settings, parameters, names)
