"""Ports for servers that tests start, stop and start again."""

from __future__ import annotations

import contextlib
import os
import random
import socket

FIRST, LAST = 15_000, 32_000
BESIDE = 8  # so many test processes may run side by side without ever choosing the same port
_given: set[int] = set()


def unused_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that stay free until they are used, and between a stop and a start.

    They lie below those that the system gives to outgoing connections, so that none of these can
    take one meanwhile; each is given once, and no other process of pytest-xdist is given it.
    """
    draw = random.SystemRandom()  # not the generator that Hypothesis seeds
    mine = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % BESIDE
    found: set[int] = set()
    while len(found) < count:
        port = draw.randrange(FIRST + mine, LAST, BESIDE)
        if port not in _given:
            with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
                found.add(port)
                _given.add(port)
    return list(found)


def free_port() -> int:
    """One of them."""
    return unused_ports(1)[0]
