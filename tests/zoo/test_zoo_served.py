"""Live cases of the zoo through public ingestion: what a server says of them, embedded."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from penstock.tests.contract.deployments import Deployment, embedded
from penstock.tests.support.kafka_events import eventually
from penstock.tests.zoo.case import Case, load
from penstock.tests.zoo.sending import FRAMES, bodies, configuration, length_s
from penstock.tests.zoo.test_zoo import check
from penstock.tests.zoo.traffic import SECOND_US

pytestmark = pytest.mark.slow

LIVE = [case for case in load() if case.live]
MINUTE_US = 60 * SECOND_US


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A server that was sent every case."""
    start_us = (
        (time.time_ns() // 1000 - (length_s(LIVE) + 120) * SECOND_US) // MINUTE_US * MINUTE_US
    )
    with embedded(tmp_path_factory.mktemp("zoo"), configuration(LIVE)) as server:
        for body in bodies(LIVE, start_us):
            post(server.url, body)
        yield server


def post(url: str, body: bytes) -> None:
    """Send a body; it may take long, because it closes ten minutes of every gate at once."""
    answer = httpx.post(f"{url}/v1/events", content=body, headers=FRAMES, timeout=240)
    assert answer.status_code in (200, 202), answer.text


@pytest.mark.parametrize("case", LIVE, ids=lambda case: case.id)
def test_through_public_ingestion(case: Case, asked: Deployment) -> None:
    def settled() -> dict[str, Any]:
        found: dict[str, Any] = asked.get(f"/v1/gates/{case.id}/verdict").json()
        return found if found["verdict"] == case.verdict else {}

    try:
        told = eventually(settled, 5)
    except AssertionError:
        told = asked.get(f"/v1/gates/{case.id}/verdict").json()
    check(case, told["verdict"], told["reasons"], told["action"], told["text"])
