"""Live cases of the zoo through public ingestion, and what a server says of them, in both forms.

A handful, embedded; PENSTOCK_ZOO=handful asks those through Kafka too, PENSTOCK_ZOO=all every case in
both forms.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import httpx
import pytest
from penstock.tests.contract.deployments import FORMS, Deployment
from penstock.tests.zoo.case import Case, load, wrong
from penstock.tests.zoo.sending import FRAMES, bodies, configuration, length_s
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
PATIENCE_S = {"embedded": 90.0, "distributed": 150.0}
MINUTE_US = 60 * SECOND_US


WIDTH = os.environ.get("PENSTOCK_ZOO", "")
CASES = {"embedded": [case for case in LIVE if case.id in HANDFUL]}
if WIDTH == "handful":
    CASES = dict.fromkeys(FORMS, CASES["embedded"])
if WIDTH == "all":
    CASES = dict.fromkeys(FORMS, LIVE)

Ask = Callable[[str], Deployment]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Form -> a deployment that was sent all cases of that form, once."""
    with ExitStack() as stack:

        @cache
        def deployment(form: str) -> Deployment:
            cases = CASES[form]
            ago_us = (length_s(cases) + 120) * SECOND_US
            start_us = (time.time_ns() // 1000 - ago_us) // MINUTE_US * MINUTE_US
            opened = FORMS[form](tmp_path_factory.mktemp("zoo"), configuration(cases))
            found = stack.enter_context(opened)
            for body in bodies(cases, start_us):
                post(found.url, body)
            return found

        yield deployment


def post(url: str, body: bytes) -> None:
    """Send a body; it may take long, because it closes ten minutes of every gate at once."""
    answer = httpx.post(f"{url}/v1/events", content=body, headers=FRAMES, timeout=600)
    assert answer.status_code in (200, 202), answer.text


@pytest.mark.parametrize(
    ("form", "case"),
    [(form, case) for form, cases in CASES.items() for case in cases],
    ids=lambda value: value.id if isinstance(value, Case) else value,
)
def test_through_public_ingestion(served: Ask, form: str, case: Case) -> None:
    server = served(form)
    until = time.monotonic() + PATIENCE_S[form]
    while True:
        told = server.get(f"/v1/gates/{case.id}/verdict").json()
        found = wrong(case, told["verdict"], told["reasons"], told["action"])
        if not found or time.monotonic() > until:
            break
        time.sleep(0.1)
    assert not found, told["text"]
