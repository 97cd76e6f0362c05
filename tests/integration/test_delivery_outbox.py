"""The outbox in a real store, and the dispatcher in its threads, from the planner to a server."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from penstock.schemas.alerts.routing import Receiver
from penstock.schemas.alerts.section import Alerts
from penstock.schemas.errors import StoreError
from penstock.streams.core.alerts.notify import NotifyState, plan_notifications
from penstock.streams.delivery.carrier import Ways
from penstock.streams.delivery.compose import compose
from penstock.streams.delivery.dispatcher import Dispatcher
from penstock.streams.delivery.errors import DeliveryDelayed
from penstock.streams.delivery.message import Message
from penstock.streams.delivery.outbox import MemoryOutbox, Outbox
from penstock.streams.delivery.schedule import Policy
from penstock.streams.delivery.secret import Secrets
from penstock.streams.delivery.sender import Sender
from penstock.streams.delivery.stored_outbox import StoredOutbox
from penstock.streams.storage.migrate import known_migrations
from penstock.streams.storage.store import Store
from penstock.tests.support.hook_server import HookServer, Reply
from penstock.tests.support.store import unique
from penstock.tests.unit.streams.delivery.planned import BEGAN_S, ended, firing

TABLE = "deliveries_test"
NOW_US = time.time_ns() // 1000  # tables drop what is old, and dispatchers give it up


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store(f"chdb://{tmp_path_factory.mktemp('outbox') / 'db'}")
    try:
        store.command("CREATE DATABASE IF NOT EXISTS penstock")
        (migration,) = [one for one in known_migrations() if one.name == "deliveries"]
        store.command(migration.statements[0].replace("deliveries_rows", TABLE))
        yield store
    finally:
        store.close()


@pytest.fixture
def queue() -> str:
    return unique("queue")


def message(key: str, lane: str = "a", receiver: str = "hook") -> Message:
    return Message(key, receiver, (lane, "b'\\\""), json.dumps({"key": key, "text": "é\n"}))


def lives(store: Store, queue: str) -> Callable[[], StoredOutbox]:
    return lambda: StoredOutbox(store, queue, TABLE)


def keys(outbox: Outbox, after_us: int = 10**6) -> list[str]:
    return [delivery.key for delivery in outbox.due(NOW_US + after_us)]


def test_the_next_life_goes_on_where_the_last_one_ended(opened: Store, queue: str) -> None:
    life, key = lives(opened, queue), unique("k")
    first = life()
    items = [message(key + n, lane) for n, lane in (("1", "a"), ("2", "a"), ("3", "b"), ("4", "c"))]
    assert first.put(items[:2], NOW_US + 1) == 2
    assert first.put(items, NOW_US + 2) == 2
    first.mark_delivered(key + "1", NOW_US + 3)
    first.mark_failed(key + "2", "HTTP 503: away", NOW_US + 4, next_us=NOW_US + 50)
    first.mark_failed(key + "3", "HTTP 400: no", NOW_US + 5, next_us=None)
    second = life()
    assert second.waiting() == first.waiting()
    assert [d.message for d in second.waiting()] == [items[1], items[3]]
    assert (second.waiting()[0].attempts, second.waiting()[0].reason) == (1, "HTTP 503: away")
    assert keys(second, 49) == []
    assert (
        second.put(items, NOW_US + 60) == 0
    )  # planned again: what was delivered or given up stays so
    assert keys(second, 60) == [key + "2"]
    second.mark_delivered(key + "2", NOW_US + 61)
    assert keys(life()) == [key + "4"]
    rows = opened.query(
        f"SELECT key, state, attempts FROM penstock.{TABLE} FINAL"
        " WHERE queue = {queue:String} ORDER BY key",
        {"queue": queue},
    )
    assert [(row["state"], row["attempts"]) for row in rows] == [
        ("delivered", 1),
        ("delivered", 2),
        ("dead", 1),
        ("waiting", 0),
    ]


def test_delivered_stays_delivered_whatever_an_old_process_writes(
    opened: Store, queue: str
) -> None:
    life, key = lives(opened, queue), unique("k")
    old = life()
    old.put([message(key)], NOW_US + 1)
    new = life()
    new.mark_delivered(key, NOW_US + 2)
    for at_us in (3, 4, 5):
        old.mark_failed(key, "late", NOW_US + at_us, next_us=NOW_US + at_us)
    assert keys(life()) == []


def test_queues_are_apart(opened: Store, queue: str) -> None:
    key = unique("k")
    lives(opened, queue)().put([message(key)], NOW_US + 1)
    assert keys(lives(opened, unique("queue"))()) == []
    assert keys(lives(opened, queue)()) == [key]


class Faulty(Store):
    """A store that is away when it is told so."""

    away = False
    silent = False  # it stores, and does not say so

    def insert(self, name: str, rows: Any, token: str) -> None:
        if not self.away:
            super().insert(name, rows, token)
        if self.away or self.silent:
            raise StoreError("away", 210, True)


@pytest.fixture
def faulty(opened: Store) -> Iterator[Faulty]:
    store = Faulty(f"chdb://{opened.folder}")
    yield store
    store.close()


def test_a_store_that_is_away_repeats_no_message(
    opened: Store, faulty: Faulty, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    key, outbox = unique("k"), lives(faulty, queue)()
    outbox.put([message(key)], NOW_US + 1)
    faulty.away = True
    with pytest.raises(StoreError):  # the planner must not take it for durable
        outbox.put([message(key + "2")], NOW_US + 2)
    outbox.mark_delivered(key, NOW_US + 3)
    assert "not stored yet" in caplog.text
    assert keys(outbox) == []
    assert keys(lives(opened, queue)()) == [key]  # a crash now would send it again
    faulty.away = False
    assert keys(outbox) == []
    assert keys(lives(opened, queue)()) == []


def test_what_was_stored_without_an_answer_is_not_forgotten(faulty: Faulty, queue: str) -> None:
    key, outbox = unique("k"), lives(faulty, queue)()
    faulty.silent = True
    with pytest.raises(StoreError):
        outbox.put([message(key)], NOW_US + 1)
    assert keys(outbox) == []
    faulty.silent = False
    assert outbox.put([message(key)], NOW_US + 2) == 0
    assert keys(outbox) == [key]
    for _ in range(2):  # once more changes nothing
        outbox.mark_delivered(key, NOW_US + 3)
    assert outbox.put([message(key)], NOW_US + 4) == outbox.put([], NOW_US + 5) == 0
    assert keys(outbox) == []


# -- the dispatcher

ROUTES = Alerts.model_validate(
    {
        "receivers": [{"kind": "webhook", "name": "hook", "url": "http://127.0.0.1:1/"}],
        "route": {"receivers": ["hook"], "group_wait_s": 0, "group_interval_s": 1},
    }
)
QUICK = Policy(first_s=0.01, longest_s=0.02)


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def dispatcher(
    outbox: Outbox, receivers: Sequence[Receiver], send: Any = None, totals: Any = None
) -> Dispatcher:
    ways = Ways(
        outbox,
        send or Sender(Secrets({})),
        Counter() if totals is None else totals,
        lambda: time.time_ns() // 1000,
        QUICK,
    )
    return Dispatcher(receivers, ways, poll_s=0.01)


def hook(server: HookServer, name: str = "hook") -> Receiver:
    return ROUTES.receivers[0].model_copy(update={"url": server.url, "name": name})


def test_from_the_planner_to_the_receiver_through_a_restart(opened: Store, queue: str) -> None:
    """The server fails at first; the process ends in between; the end comes after the beginning."""
    life, alert, state = lives(opened, queue), firing(1), NotifyState()

    def plan(item: Any, now_s: int) -> None:
        nonlocal state
        state, due = plan_notifications(
            ROUTES.route, ROUTES.receivers, [item], {}, (), state, now_s
        )
        life().put(
            [m for n in due for m in compose(n, ROUTES.receivers[0])], time.time_ns() // 1000
        )

    plan(alert, BEGAN_S + 300)
    with HookServer(Reply(500), Reply(429), Reply()) as server:
        first = dispatcher(life(), [hook(server)])
        first.start()
        until(lambda: server.seen)
        first.stop()
        plan(ended(alert), BEGAN_S + 600)
        second = dispatcher(life(), [hook(server)])
        second.start()
        until(lambda: not life().waiting())
        second.stop()
        told = [json.loads(seen.body)["status"] for seen in server.seen]
    assert told[-2:] == ["firing", "resolved"]
    assert set(told[:-1]) == {"firing"}
    assert len({seen.headers["Idempotency-Key"] for seen in server.seen}) == 2


def test_a_receiver_that_hangs_holds_up_nobody_else() -> None:
    outbox, answers, sent = MemoryOutbox(), threading.Event(), list[str]()

    def send(receiver: Receiver, item: Message, _: float) -> None:
        sent.append(item.key)
        if receiver.name == "slow":
            answers.wait(120)

    outbox.put([message("1", receiver="slow"), message("2", receiver="quick")], NOW_US + 1)
    outbox.put([message("3", receiver="quick")], NOW_US + 2)
    receivers = [ROUTES.receivers[0].model_copy(update={"name": n}) for n in ("slow", "quick")]
    running = dispatcher(outbox, receivers, send)
    running.start()
    until(lambda: [delivery.key for delivery in outbox.waiting()] == ["1"])
    answers.set()
    running.stop()
    assert sorted(sent) == ["1", "2", "3"]  # nobody tried the slow one twice meanwhile
    assert outbox.waiting() == []


def test_each_is_sent_once_where_nothing_fails() -> None:
    sent: Counter[str] = Counter()
    outbox, totals = MemoryOutbox(), Counter[str]()

    def send(_: Receiver, item: Message, __: float) -> None:
        sent[item.key] += 1

    receivers = [ROUTES.receivers[0].model_copy(update={"name": f"r{i}"}) for i in range(20)]
    running = dispatcher(outbox, receivers, send, totals)
    running.start()
    assert running.alive
    for number in range(400):
        outbox.put([message(str(number), str(number % 7), f"r{number % 20}")], NOW_US + number)
        running.wake()
    until(lambda: not outbox.waiting())
    running.stop()
    assert set(sent.values()) == {1}
    assert len(sent) == totals["deliveries"] == 400


def test_new_receivers_at_run_time() -> None:
    outbox, tried = MemoryOutbox(), threading.Event()

    def send(receiver: Receiver, _: Message, __: float) -> None:
        tried.set()
        if receiver.send_resolved:
            raise DeliveryDelayed("not yet")

    old = ROUTES.receivers[0]
    running = dispatcher(outbox, [old], send)
    running.start()
    outbox.put([message("1")], time.time_ns() // 1000)
    running.wake()
    assert tried.wait(120)
    running.reconfigure([old])  # the same: what is known of it stays
    running.reconfigure([old.model_copy(update={"send_resolved": False})])
    until(lambda: not outbox.waiting())
    running.reconfigure([])
    outbox.put([message("2")], time.time_ns() // 1000)
    until(lambda: not outbox.waiting())
    running.stop()
    assert {k: d.state for k, d in outbox.finished.items()} == {"1": "delivered", "2": "dead"}


def test_a_defect_is_logged_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    outbox, tries = MemoryOutbox(), list[str]()

    def send(_: Receiver, item: Message, __: float) -> None:
        tries.append(item.key)
        if len(tries) < 3:
            raise ZeroDivisionError

    running = dispatcher(outbox, ROUTES.receivers, send)
    running.start()
    outbox.put([message("1")], NOW_US)
    until(lambda: not outbox.waiting())
    running.stop()
    assert tries == ["1"] * 3
    assert "hook: deliveries failed" in caplog.text


def test_one_that_was_never_started_can_be_stopped() -> None:
    never = dispatcher(MemoryOutbox(), ROUTES.receivers)
    assert not never.alive
    never.stop()
