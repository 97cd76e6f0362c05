"""The Faust application on a real broker, in real processes that are killed, paused and stopped.

The store is a SQLite file (tests/support/faust_process.py), so that what is found here is Faust's doing
or ours, and not the store's.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Producer
from penstock.schemas.topics import EVENTS, PANES
from penstock.tests.support.faust_process import SESSION_TIMEOUT_S
from penstock.tests.support.faust_stack import PARTITIONS, SHARDS, Stack
from penstock.tests.support.kafka import Broker, KafkaMissing
from penstock.tests.support.openmetrics import families

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One for all: the topics have fixed names, so the shared broker cannot be used."""
    try:
        found = Broker(tmp_path_factory.mktemp("kafka"))
    except KafkaMissing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing))
        pytest.skip(str(missing))
    with found:
        yield found


@pytest.fixture
def stack(tmp_path: Path, broker: Broker) -> Iterator[Stack]:
    found = Stack(tmp_path, broker)
    yield found
    found.close()


def test_killed_and_stopped_under_load(stack: Stack) -> None:
    """Six ends under load, every second one by kill -9: nothing is lost, nothing doubled."""
    with stack.load():
        for number in range(6):
            processor = stack.start()
            enough = stack.stored() + 100
            stack.await_(lambda enough=enough: stack.stored() > enough, 30)  # type: ignore[misc]
            time.sleep(random.uniform(0.0, 0.5))
            kill = number % 2 == 0
            processor.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            assert processor.wait(15) == (-signal.SIGKILL if kill else 0)
        stack.start()
    stack.await_all()
    stack.check_exactly_once()
    stack.await_(lambda: not stack.lag())


def test_processors_come_and_go(stack: Stack) -> None:
    """Two processors, and a third that joins and leaves at once, not always in order."""
    (stack.folder / "slow").write_text("1.0")  # so that something is always being written
    first, second = stack.start(), stack.start()
    with stack.load():
        stack.await_(lambda: stack.stored() > 100)
        for number in range(3):
            third = stack.start()
            stack.await_(lambda pid=third.pid: has_joined(stack, pid))  # type: ignore[misc]
            time.sleep(random.uniform(0.0, 1.0))
            third.send_signal(signal.SIGKILL if number == 1 else signal.SIGTERM)
            third.wait(15)
    stack.await_all()
    assert first.poll() is None
    assert second.poll() is None
    stack.check_exactly_once()


def test_store_away(stack: Stack) -> None:
    """Consumption stops without a rebalance, with bounded memory, and every partition goes on."""
    processor = stack.start()
    stack.send_everywhere(10)
    stack.await_all()
    sizes = [_rss_bytes(processor.pid)]
    for away_s in (20, 60):
        gone = time.time()
        (stack.folder / "away").touch()
        stored = stack.stored()
        for _ in range(away_s):
            for partition in range(PARTITIONS):
                stack.send(partition, 5, value=b"x" * 100_000)
            time.sleep(1)
        sizes.append(_rss_bytes(processor.pid))
        assert stack.stored() <= stored
        (stack.folder / "away").unlink()
        back = time.time()
        stack.await_all()
        assert stack.logged("release", gone) == [], "no rebalance"
        resumed = stack.first_rows(back)
        assert len(resumed) == PARTITIONS
        assert max(resumed.values()) - back < 8, "a partition resumed late"
    assert stack.stored() == stack.sent.total()
    assert stack.logged("hole") == []
    assert max(sizes) < sizes[0] + 150 * 2**20, f"memory grew: {sizes}"


def test_zombie(stack: Stack) -> None:
    """A processor that was paused beyond the session timeout flushes nothing when it wakes."""
    zombie = stack.start()
    stack.send_everywhere(20)
    stack.await_all()
    (stack.folder / "slow").write_text("0.3")
    with stack.load():
        stack.await_(lambda: stack.stored() > 20 * PARTITIONS + 50)
        zombie.send_signal(signal.SIGSTOP)
        stack.start()
        time.sleep(12)
        assert SESSION_TIMEOUT_S < 12
        woken = time.time()
        zombie.send_signal(signal.SIGCONT)
        assert zombie.wait(10) == 75
    unique = 'SELECT count(DISTINCT partition * 1000000 + "offset") FROM rows'
    stack.await_(lambda: stack.ledger.ask(unique) == [(stack.sent.total(),)])
    flushed = [json.loads(row[3]) for row in stack.logged("flush", woken) if row[0] == zombie.pid]
    assert [started for started, _ in flushed if started > woken] == []
    assert stack.logged("hole") == []


def test_broker_silent(stack: Stack, broker: Broker) -> None:
    """Without heartbeats nothing is flushed, because others may own the partitions by then."""
    processor = stack.start()
    stack.send_everywhere(5)
    stack.await_all()
    (stack.folder / "slow").write_text("1.0")
    stack.send_everywhere(200)  # several flushes of a second each
    stack.await_(lambda: stack.stored() > 5 * PARTITIONS)
    broker.pause()
    paused = time.time()
    time.sleep(SESSION_TIMEOUT_S + 5)
    broker.resume()
    stack.await_all(40)
    stack.check_exactly_once()
    assert processor.poll() is None
    flushes = [json.loads(row[3])[0] for row in stack.logged("flush", paused)]
    ended = paused + SESSION_TIMEOUT_S + 5
    assert [at for at in flushes if paused + SESSION_TIMEOUT_S < at < ended] == []


def test_restored_store(stack: Stack) -> None:
    """Read on from the store's own cut, behind what was committed; what Kafka lacks is a gap."""
    stack.send_everywhere(50)
    processor = stack.start()
    stack.await_all()
    stack.await_(lambda: not stack.lag())
    processor.terminate()
    assert processor.wait(10) == 0
    stack.ledger.ask('DELETE FROM rows WHERE "offset" >= 20 + partition')
    stack.delete_before(7, 40)  # where the store ends at 26
    stack.start()
    stack.await_(lambda: stack.stored() == stack.sent.total() - 13)
    assert [row[2:] for row in stack.logged("hole")] == [(7, "26 40")]
    rows = stack.ledger.ask('SELECT count(*) FROM rows WHERE partition < 7 OR "offset" > 39')
    assert rows == [(7 * 50 + 10,)]
    stack.await_(lambda: "gap: offsets 27 to 39 of partition 7" in stack.state())


def test_store_goes_back_while_running(stack: Stack) -> None:
    """After an error the store may hold less than before: what it lost is read again."""
    stack.start()
    stack.send_everywhere(50)
    stack.await_all()
    (stack.folder / "away").touch()
    stack.await_(lambda: stack.logged("reset"))
    stack.ledger.ask('DELETE FROM rows WHERE "offset" >= 30 AND partition < 4')
    (stack.folder / "away").unlink()
    stack.send(0)
    stack.send(7)
    stack.await_all()
    assert stack.stored() == stack.sent.total()
    assert stack.logged("hole") == []


def test_first_message_alone(stack: Stack) -> None:
    """A committed offset of 0, and one message at offset 0: Faust takes either for nothing."""
    stack.commit(dict.fromkeys(range(PARTITIONS), 0))
    stack.send(3)
    first = stack.start()
    stack.await_all()
    stack.await_(lambda: not stack.lag())
    first.terminate()
    assert first.wait(10) == 0
    stack.start()
    stack.send(3)
    stack.await_all()
    stack.check_exactly_once()


def test_planned_stop_hands_over(stack: Stack) -> None:
    """The other processor goes on in less than two seconds."""
    first, second = stack.start(), stack.start()
    both = {first.pid, second.pid}
    taken = "SELECT partition, min(at) FROM rows WHERE pid = ? AND at > ? GROUP BY 1"
    with stack.load():
        stack.await_(lambda: both <= {row[0] for row in stack.logged("flush")})
        time.sleep(1)
        stopped = time.time()
        first.terminate()
        assert first.wait(10) == 0
        left = time.time()
        stack.await_(lambda: len(stack.ledger.ask(taken, second.pid, stopped)) == PARTITIONS)
    assert left - stopped < 2
    assert max(stack.first_rows(stopped).values()) - stopped < 2
    stack.await_all()
    stack.check_exactly_once()
    # The last deltas of the processor that left were sent, and the shards have found their new holder.
    stack.await_(lambda: len(stack.logged("assign shard", stopped)) == SHARDS / 2)


def test_undelivered_messages_are_read_again(stack: Stack) -> None:
    """What Faust takes from the broker and does not deliver, in the middle and at the end."""
    (stack.folder / "lossy").touch()
    stack.start()
    stack.send_everywhere(21)  # 3 and 20, the last one, are not delivered
    stack.await_all()
    stack.check_exactly_once()
    assert "reading" in stack.state()


def test_messages_of_others(stack: Stack) -> None:
    """Without a value, without a key, in transactions: all are read, and the end is seen as such."""
    stack.tell(EVENTS, None, 0)
    producer = Producer(
        {"bootstrap.servers": stack.broker.direct, "transactional.id": "t", "log_level": 0}
    )
    producer.init_transactions(20)
    for _ in range(3):
        producer.begin_transaction()
        producer.produce(EVENTS, b"in a transaction", partition=1)
        producer.commit_transaction(20)
    stack.start()
    stack.await_(lambda: stack.stored() == 4)
    rows = stack.ledger.ask('SELECT partition, "offset", value FROM rows ORDER BY 1, 2')
    expected = [(1, offset, b"in a transaction") for offset in (0, 2, 4)]
    assert rows == [(0, 0, b""), *expected]
    stack.await_(lambda: stack.logged("apply") and _last_told(stack)["behind"] == {})
    assert "gap" not in stack.state()
    stack.tell(PANES, b"poison")
    stack.await_(lambda: len(stack.logged("assign shard")) >= 2 * SHARDS)
    told = len(stack.logged("apply"))
    stack.await_(lambda: len(stack.logged("apply")) > told)


def test_topic_made_anew(stack: Stack) -> None:
    """Offsets that go back mean another log: the process ends, and the next one learns of it."""
    processor = stack.start()
    stack.send_everywhere(20)
    stack.await_all()
    stack.make_topics()
    for partition in range(PARTITIONS):
        stack.tell(EVENTS, b"new", partition)
    assert processor.wait(30) == 75
    assert "made anew" in stack.state()


def test_tls_and_password(tmp_path: Path) -> None:
    with Broker(tmp_path / "kafka", secure=True) as broker:
        broker.address = broker.address_for("SCRAM-SHA-512")
        stack = Stack(tmp_path, broker)
        try:
            stack.start()
            stack.send_everywhere(3)
            stack.await_all()
            stack.await_(lambda: stack.logged("apply"))  # what it sends itself comes back
        finally:
            stack.close()


def test_metrics(stack: Stack) -> None:
    """What a processor tells of itself, while it works and while it cannot."""
    stack.start()
    stack.await_(lambda: (stack.folder / "port").exists())
    with httpx.Client(base_url=f"http://127.0.0.1:{(stack.folder / 'port').read_text()}") as http:
        stack.await_(lambda: http.get("/readyz").status_code == 200)
        assert http.get("/healthz").json() == {"status": "ok"}
        assert http.get("/nothing").status_code == 404
        stack.send_everywhere(4)
        stack.await_all()
        stack.await_(lambda: _sample(http, "messages_total") == 4 * PARTITIONS)
        stack.await_(lambda: _sample(http, "lag_messages") == 0)
        (stack.folder / "away").touch()
        stack.send_everywhere(1)
        stack.await_(lambda: _sample(http, "lag_messages") == PARTITIONS)
        stack.await_(lambda: _sample(http, "oldest_message_age_seconds") > 1)
        assert _sample(http, "retries_total") > 0
        assert _sample(http, "circuit_state") > 0
        assert http.get("/healthz").status_code == 200
        stack.await_(lambda: http.get("/readyz").status_code == 503)


def has_joined(stack: Stack, pid: int) -> bool:
    return any(row[0] == pid for row in stack.logged("assign"))


def _sample(http: httpx.Client, name: str) -> float:
    """The sum over the labels."""
    found = families(http.get("/metrics").text)
    samples = [sample for family in found for sample in family.samples]
    return sum(float(s.value) for s in samples if s.name == f"penstock_worker_{name}")


def _last_told(stack: Stack) -> dict[str, dict[str, int]]:
    told: dict[str, dict[str, int]] = json.loads(stack.logged("apply")[-1][3])
    return told


def _rss_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024
