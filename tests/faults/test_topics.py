"""Topics grow and are made anew; brokers of three are lost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from penstock.schemas.kafka import parse_address
from penstock.schemas.topics import EVENTS
from penstock.streams.kafka.topics import Topics, ensure_topics
from penstock.streams.storage.store import Store
from penstock.tests.faults.compare import compare
from penstock.tests.faults.conftest import MakeStack
from penstock.tests.support.kafka import Cluster
from penstock.tests.support.recount import ask
from penstock.tests.support.senders import Habits
from penstock.tests.support.stack import Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def _grow(stack: Stack, partitions: int) -> None:
    store = Store(stack.store.url)
    try:
        ensure_topics(parse_address(stack.broker.bootstrap), store, Topics(partitions=partitions))
    finally:
        store.close()


@pytest.mark.fault(60)
def test_partitions_added(make_stack: MakeStack) -> None:
    """Boots stay at home while there are more partitions, and new ones may settle in the new ones."""
    stack = make_stack()
    stack.add_workers(2)
    stack.add_senders(2, Habits(boot_s=20.0))
    stack.add_senders(1, Habits(boot_s=20.0, stated=True))
    stack.await_rows()
    time.sleep(stack.random.uniform(0.0, 2.0))
    _grow(stack, 12)
    stack.partitions = 12
    # Some thirty boots, a third of which settles in the new ones.
    stack.add_senders(3, Habits(boot_s=1.0, stated=True))
    time.sleep(8)
    stack.await_ready()
    stack.await_rows()
    stack.end_load()
    stack.settle()
    compare(stack)
    moved = "SELECT boot_id FROM penstock.requests GROUP BY boot_id HAVING uniqExact(partition) > 1"
    assert ask(stack.store.url, moved) == []
    assert ask(stack.store.url, "SELECT max(partition) FROM penstock.requests")[0][0] > 7


@pytest.mark.fault(75)
def test_topic_made_anew(make_stack: MakeStack) -> None:
    """Offsets begin at 0 again: what was applied stays, what is sent again counts once."""
    stack = make_stack()
    stack.add_workers(2)
    senders = stack.add_senders(2)
    stack.await_rows()
    time.sleep(stack.random.uniform(0.0, 5.0))
    stack.end_load()
    stack.delete_topics(EVENTS)
    time.sleep(stack.random.uniform(0.0, 3.0))
    stack.prepare()
    for sender in senders:
        sender.resend()
    stack.add_senders(1)
    stack.await_rows()
    stack.end_load()
    stack.settle()
    compare(stack)
    lives = "SELECT DISTINCT incarnation FROM penstock.frames ORDER BY 1"
    assert ask(stack.store.url, lives) == [(1,), (2,)]


@pytest.mark.fault(100)
def test_brokers_lost(make_stack: MakeStack, tmp_path: Path) -> None:
    """One of three: it goes on. Two of three: it waits, and goes on when one is back."""
    with Cluster(tmp_path / "cluster") as cluster:
        stack = make_stack(broker=cluster, replication=3, partitions=4, shards=2)
        stack.add_workers(2)
        stack.add_senders(2, Habits(frames_per_s=10))
        stack.await_rows()
        first, second, _ = stack.random.sample((1, 2, 3), 3)
        cluster.kill(first)
        stack.await_rows()
        cluster.kill(second)
        time.sleep(stack.random.uniform(2.0, 12.0))
        cluster.start(second)
        stack.await_rows(within_s=90)
        cluster.start(first)
        stack.await_rows()
        stack.end_load()
        stack.settle()
        compare(stack)
