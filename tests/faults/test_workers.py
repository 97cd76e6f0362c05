"""Workers are killed, stopped and paused under load."""

from __future__ import annotations

import signal
import time

import pytest
from penstock.tests.faults.compare import compare
from penstock.tests.faults.conftest import MakeStack
from penstock.tests.faults.failing_worker import VARIABLE
from penstock.tests.support.kafka import Broker
from penstock.tests.support.recount import ask
from penstock.tests.support.worker import START_AGAIN

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TABLES = ("requests", "frames", "coverage", "panes", "windows", "checkpoints")
GATE = """
gates:
  - id: canary
    filter: {variant: canary}
    metrics:
      - {metric: error_rate, max_ratio: 0.2}
"""


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
    compare(stack)


@pytest.mark.fault(60)
def test_stopped_in_order(make_stack: MakeStack, fault_broker: Broker) -> None:
    """SIGTERM in flight, of one worker or both; then one after the other, and store and broker too."""
    stack = make_stack()
    workers = stack.add_workers(2)
    stack.add_senders(3)
    for _ in range(4):
        time.sleep(stack.random.uniform(0.3, 3.0))
        chosen = stack.random.sample(workers, stack.random.choice((1, 1, 2)))
        for worker in chosen:
            worker.stop()
        for worker in chosen:
            worker.start()
    stack.await_ready()
    for worker in workers:
        worker.stop()
        worker.start()
        stack.await_ready([worker])
    stack.store.stop()
    stack.store.start()
    stack.await_rows()
    fault_broker.stop()
    fault_broker.start()
    stack.await_rows()
    stack.end_load()
    stack.settle()
    compare(stack)


@pytest.mark.fault(70)
def test_zombie(make_stack: MakeStack) -> None:
    """A worker is paused until others have its partitions, and wakes up with work in its hands."""
    stack = make_stack()
    workers = stack.add_workers(2)
    stack.add_senders(3)
    stack.await_rows()
    for _ in range(2):
        time.sleep(stack.random.uniform(0.0, 2.0))
        zombie = stack.random.choice(workers)
        zombie.pause()
        time.sleep(12)
        zombie.resume()
        stack.await_(lambda: START_AGAIN in zombie.endings, 20, "the zombie ends")  # noqa: B023
        stack.await_ready()
        zombie.endings.clear()
    stack.end_load()
    stack.settle()
    compare(stack)


@pytest.mark.fault(80)
def test_rebalance_storm(make_stack: MakeStack) -> None:
    """A worker comes or goes every three seconds, in order or not."""
    stack = make_stack()
    stack.add_workers(1)
    stack.add_senders(2)
    stack.await_rows()
    others = [stack.add_worker(start=False) for _ in range(2)]
    for number in range(10):
        time.sleep(3)
        other = others[number // 2 % 2]
        if not other.running:
            other.start()
            stack.await_(lambda: other.metrics()["rebalances"] > 0, 60, "it joins")  # noqa: B023
        elif stack.random.random() < 0.5:
            other.kill()
        else:
            other.stop()
    stack.end_load()
    stack.settle()
    compare(stack)


@pytest.mark.fault(110)
def test_killed_between_two_inserts(make_stack: MakeStack) -> None:
    """Between raw rows and ledger, ledger and delta, panes, windows and checkpoint."""
    stack = make_stack()
    stack.add_workers(1)
    stack.add_senders(2)
    worker = stack.add_worker(module="penstock.tests.faults.failing_worker", start=False)
    points = [f"after:{table}_rows" for table in TABLES] + ["before:checkpoints_rows"]
    stack.random.shuffle(points)
    for point in points:
        failpoint = f"{point}:{stack.random.randrange(1, 4)}"
        deaths = len(worker.endings)
        worker.start(**{VARIABLE: failpoint})
        stack.await_(lambda: len(worker.endings) > deaths, 120, failpoint)  # noqa: B023
        assert worker.endings[-1] == -signal.SIGKILL
        worker.kill()
    worker.start()
    stack.await_ready()
    stack.end_load()
    stack.settle()
    compare(stack, endings=frozenset({START_AGAIN, -signal.SIGKILL}))


@pytest.mark.fault(60)
def test_configuration_changes(make_stack: MakeStack) -> None:
    """The store is migrated again, and workers learn of a gate one after the other, under load."""
    stack = make_stack()
    workers = stack.add_workers(2)
    stack.add_senders(2)
    stack.await_rows()
    stack.config.write_text(GATE)
    for worker in workers:
        time.sleep(stack.random.uniform(0.0, 2.0))
        stack.prepare()
        worker.stop()
        worker.start()
        stack.await_ready([worker])
    stack.await_rows()
    stack.end_load()
    stack.settle()
    verdicts = "SELECT count() FROM penstock.verdicts WHERE gate_id = 'canary'"
    assert ask(stack.store.reader_url, verdicts)[0][0] > 0
    compare(stack)
