"""The store, the broker and the network between fail under load; the workers live on."""

from __future__ import annotations

import shutil
import time

import pytest
from penstock.tests.faults.compare import compare
from penstock.tests.faults.conftest import MakeStack
from penstock.tests.support.kafka import Broker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.fault(50)
def test_store_killed(make_stack: MakeStack) -> None:
    """kill -9 of the store, three times, and started again after a while."""
    stack = make_stack()
    stack.add_workers(2)
    stack.add_senders(3)
    for _ in range(3):
        time.sleep(stack.random.uniform(0.5, 4.0))
        stack.store.kill()
        time.sleep(stack.random.uniform(0.0, 3.0))
        stack.store.start()
        stack.await_rows()
    stack.end_load()
    stack.settle()
    compare(stack)


@pytest.mark.fault(70)
def test_store_paused(make_stack: MakeStack) -> None:
    """A store that is silent for 30 s stops consumption without a rebalance, and drains afterwards."""
    stack = make_stack()
    workers = stack.add_workers(2)
    stack.add_senders(2)
    stack.await_rows()
    time.sleep(stack.random.uniform(0.0, 1.0))
    before = [(worker.pid, worker.metrics()["rebalances"]) for worker in workers]
    stack.store.pause()
    time.sleep(30)
    stack.store.resume()
    stack.await_rows()
    stack.end_load()
    stack.await_(lambda: stack.metric("lag_messages") == 0, 30, "no lag")
    assert before == [(worker.pid, worker.metrics()["rebalances"]) for worker in workers]
    stack.settle()
    compare(stack)


@pytest.mark.fault(50)
def test_broker_killed(make_stack: MakeStack, fault_broker: Broker) -> None:
    """kill -9 of the only broker, twice: what it acknowledged is there, what it did not is sent again."""
    stack = make_stack()
    stack.add_workers(2)
    stack.add_senders(2)
    stack.await_rows()
    for _ in range(2):
        time.sleep(stack.random.uniform(0.5, 3.0))
        fault_broker.kill()
        time.sleep(stack.random.uniform(0.0, 2.0))
        fault_broker.start()
        stack.await_rows()
    stack.end_load()
    stack.settle()
    compare(stack)


@pytest.mark.fault(45)
def test_answers_lost_after_writing(make_stack: MakeStack) -> None:
    """The store has written, and the worker does not hear of it: it must not write twice."""
    stack = make_stack(proxied=True)
    assert stack.proxy is not None
    stack.add_workers(2)
    stack.add_senders(3)
    for _ in range(8):
        time.sleep(stack.random.uniform(0.2, 1.5))
        stack.proxy.drop_responses(stack.random.randrange(1, 6))
    stack.end_load()
    stack.settle()
    assert stack.proxy.dropped >= 8
    compare(stack)


@pytest.mark.fault(60)
def test_network_to_the_store(make_stack: MakeStack) -> None:
    """Cut, silent, and slow."""
    stack = make_stack(proxied=True)
    assert stack.proxy is not None
    stack.add_workers(2)
    stack.add_senders(3)
    draw = stack.random
    for _ in range(2):
        stack.await_rows()
        time.sleep(draw.uniform(0.0, 1.5))
        stack.proxy.cut()
        time.sleep(draw.uniform(0.5, 4.0))
        stack.proxy.heal()
        stack.await_rows()
        time.sleep(draw.uniform(0.0, 1.5))
        stack.proxy.blackhole()
        time.sleep(draw.uniform(1.0, 8.0))
        stack.proxy.heal()
    stack.await_rows()
    stack.proxy.slow(200_000)
    time.sleep(3)
    stack.proxy.heal()
    stack.end_load()
    stack.settle()
    compare(stack)


@pytest.mark.fault(60)
def test_store_restored(make_stack: MakeStack) -> None:
    """An earlier copy of the store is put back: workers read again from where it ends."""
    stack = make_stack()
    stack.add_workers(2)
    stack.add_senders(2)
    stack.await_rows()
    time.sleep(stack.random.uniform(1.0, 6.0))
    copy = stack.folder / "copy"
    stack.store.stop()
    shutil.copytree(stack.store_folder, copy, symlinks=True)
    stack.store.start()
    stack.await_rows(500)
    time.sleep(stack.random.uniform(0.0, 4.0))
    stack.store.stop()
    shutil.rmtree(stack.store_folder)
    shutil.copytree(copy, stack.store_folder, symlinks=True)
    stack.store.start()
    stack.await_rows()
    stack.end_load()
    stack.settle()
    compare(stack, vanishing=True)
