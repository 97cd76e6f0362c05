"""Ports for servers that tests start, stop and start again."""

from __future__ import annotations

import contextlib
import random
import socket


def unused_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that stay free between a stop and a start.

    They lie below those that the system gives to outgoing connections, so that none of these can
    take one meanwhile.
    """
    draw = random.SystemRandom()  # not the generator that Hypothesis seeds
    found: set[int] = set()
    while len(found) < count:
        port = draw.randrange(15_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.add(port)
    return list(found)
