"""Live cases of the zoo through public ingestion, and what a server says of them, in both forms.

Embedded every case is asked; distributed a handful, or every one with PENSTOCK_ZOO=all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import httpx
import pytest
from penstock.tests.contract.deployments import FORMS, Deployment
from penstock.tests.zoo.case import Case, load
from penstock.tests.zoo.sending import FRAMES, bodies, configuration, length_s
from penstock.tests.zoo.test_zoo import check
from penstock.tests.zoo.traffic import SECOND_US

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LIVE = [case for case in load() if case.live and not case.core_only]
HANDFUL = {
    "errors",
    "retry-storm",
    "one-bad-host",
    "never-comes",
    "within-limits",
    "fewer-accepted",
}
CASES = {
    "embedded": LIVE,
    "distributed": LIVE
    if os.environ.get("PENSTOCK_ZOO") == "all"
    else [case for case in LIVE if case.id in HANDFUL],
}
PATIENCE_S = {"embedded": 10.0, "distributed": 120.0}
MINUTE_US = 60 * SECOND_US


@pytest.fixture(scope="module")
def asked(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """A deployment of this form that was sent all its cases."""
    form: str = request.param
    cases = CASES[form]
    ago_us = (length_s(cases) + 120) * SECOND_US
    start_us = (time.time_ns() // 1000 - ago_us) // MINUTE_US * MINUTE_US
    with FORMS[form](tmp_path_factory.mktemp("zoo"), configuration(cases)) as found:
        for body in bodies(cases, start_us):
            post(found.url, body)
        yield found


def post(url: str, body: bytes) -> None:
    """Send a body; it may take long, because it closes ten minutes of every gate at once."""
    answer = httpx.post(f"{url}/v1/events", content=body, headers=FRAMES, timeout=600)
    assert answer.status_code in (200, 202), answer.text


@pytest.mark.parametrize(
    ("asked", "case"),
    [(form, case) for form, cases in CASES.items() for case in cases],
    indirect=["asked"],
    ids=lambda value: value.id if isinstance(value, Case) else value,
)
def test_through_public_ingestion(asked: Deployment, case: Case) -> None:
    until = time.monotonic() + PATIENCE_S[asked.form]
    while True:
        told = asked.get(f"/v1/gates/{case.id}/verdict").json()
        if told["verdict"] == case.verdict or time.monotonic() > until:
            break
        time.sleep(0.1)
    check(case, told["verdict"], told["reasons"], told["action"], told["text"])
