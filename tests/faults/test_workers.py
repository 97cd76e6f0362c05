"""Workers are killed, stopped and paused under load."""

from __future__ import annotations

import time

import pytest
from penstock.tests.faults.conftest import MakeStack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.mark.fault(60)
def test_killed_at_random_moments(make_stack: MakeStack) -> None:
    """kill -9 of one of two workers, eight times; each is started again at once."""
    stack = make_stack()
    workers = stack.add_workers(2)
    stack.add_senders(3)
    for _ in range(8):
        time.sleep(stack.random.uniform(0.3, 4.0))
        worker = stack.random.choice(workers)
        worker.kill()
        worker.start()
    stack.end_load()
    stack.settle()
    stack.check()
