"""Live cases of the zoo through public ingestion, what a server says of them, and replay, in both forms.

A handful with each kind of gate; PENSTOCK_ZOO=all asks every case, ten of them of one server.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from penstock.tests.contract.deployments import FORMS, Deployment
from penstock.tests.zoo.case import Case, load, wrong
from penstock.tests.zoo.sending import FRAMES, SLICE_S, Sent, bodies, configuration, length_s
from penstock.tests.zoo.traffic import SECOND_US

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

HANDFUL = ("single-worker", "slow-first-token", "over-the-limit", "unsafe-release", "one-of-ten")
"""A rate and a latency of two arms, one arm, the rollback gate, and too little; ten minutes at most."""
PER_SERVER = 10
PATIENCE_S = {"embedded": 90.0, "distributed": 150.0}
MINUTE_US = 60 * SECOND_US


@dataclass(frozen=True)
class Batch:
    """Cases that one server is sent at once, of about the same length."""

    form: str
    cases: tuple[Case, ...]


def batches(wanted: str) -> list[Batch]:
    """Those of both forms: a handful, or every case for `all`."""
    cases = {case.id: case for case in load() if case.live and not case.core_only}
    chosen = list(cases.values()) if wanted == "all" else [cases[name] for name in HANDFUL]
    chosen.sort(key=lambda case: length_s([case]))
    starts = range(0, len(chosen), PER_SERVER)
    return [Batch(form, tuple(chosen[at : at + PER_SERVER])) for form in FORMS for at in starts]


@pytest.fixture(scope="module")
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """A deployment that was sent all cases of a batch, once."""
    batch: Batch = request.param
    ago_us = (length_s(batch.cases) + SLICE_S[batch.form] + 120) * SECOND_US
    start_us = (time.time_ns() // 1000 - ago_us) // MINUTE_US * MINUTE_US
    folder = tmp_path_factory.mktemp("zoo")
    with FORMS[batch.form](folder, configuration(batch.cases)) as found:
        for number, sent in enumerate(bodies(batch.cases, start_us, SLICE_S[batch.form])):
            for _ in range(1 + number % 2):  # every other one twice, as by a retry
                post(found, sent.body)
            if batch.form == "distributed":
                await_counted(found, sent)
        yield found


def post(server: Deployment, body: bytes) -> None:
    """Send a body; it may take long, because it closes ten minutes of every gate at once."""
    answer = httpx.post(f"{server.url}/v1/events", content=body, headers=FRAMES, timeout=600)
    assert answer.status_code in (200, 202), answer.text


def await_counted(server: Deployment, sent: Sent) -> None:
    """Until the workers have come so far."""
    until = time.monotonic() + PATIENCE_S[server.form]
    while True:
        pipeline = server.get("/health/detailed").json()["components"]["pipeline"]
        if pipeline[sent.progress] >= sent.least:
            break
        assert time.monotonic() < until, pipeline
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("served", "case"),
    [
        pytest.param(batch, case, id=f"{batch.form}-{case.id}")
        for batch in batches(os.environ.get("PENSTOCK_ZOO", ""))
        for case in batch.cases
    ],
    indirect=["served"],
    scope="module",
)
def test_through_public_ingestion(served: Deployment, case: Case) -> None:
    until = time.monotonic() + PATIENCE_S[served.form]
    while True:
        told = served.get(f"/v1/gates/{case.id}/verdict").json()
        found = wrong(case, told["verdict"], told["reasons"], told["action"])
        if not found or time.monotonic() > until:
            break
        time.sleep(0.1)
    assert not found, told["text"]
    if not served.get(f"/v1/gates/{case.id}/epochs").json()["epochs"]:
        # No marker and no request was ever of its treatment: nothing was evaluated.
        assert case.reasons == ("no_traffic",)
        return
    again = served.get(f"/v1/gates/{case.id}/replay").json()
    assert again["verdicts"] == again["same"] > 0, again["differing"][:1]
