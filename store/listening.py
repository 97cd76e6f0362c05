"""Where servers listen."""

from __future__ import annotations

import ipaddress
import socket

from ..schemas.errors import InvalidConfiguration


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        InvalidConfiguration: the address cannot be listened on.
    """
    try:
        return socket.create_server((host, port), backlog=1024)
    except OSError as error:
        raise InvalidConfiguration(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another --host or --port"
        ) from error
