"""Verdicts that the notifier tells: ended at every step, from the start on, under another specification."""

from __future__ import annotations

import json
from collections.abc import Callable

from penstock.schemas.gates.absolute import AbsoluteGate
from penstock.tests.unit.streams.notify.world import START_S, Ended, Town, ends, fires


def gate(
    name: str, ratio: float = 0.01, notify: tuple[str, ...] = ("hook", "boss")
) -> AbsoluteGate:
    limit = {"metric": "error_rate", "max_ratio": ratio}
    return AbsoluteGate.model_validate({"id": name, "metrics": [limit], "notify": notify})


ONE, TWO = gate("one"), gate("two", notify=("hook",))


def verdicts(town: Town, name: str = "hook") -> list[tuple[str, int, str]]:
    """What a receiver was told of gates, in order."""
    bodies = [json.loads(m.body) for m in town.sent.values() if m.receiver == name]
    return [(b["gate"], b["epoch"], b["verdict"]) for b in bodies if b.get("kind") == "verdict"]


def steps(town: Town) -> list[Callable[[], None]]:
    """Two gates change their minds while an alert fires and ends."""

    def at(second: int, *actions: Callable[[], None]) -> Callable[[], None]:
        def step() -> None:
            town.now_s = START_S + second
            for action in actions:
                action()

        return step

    def judge(who: AbsoluteGate, second: int, verdict: str, epoch: int = 0) -> Callable[[], None]:
        return lambda: town.store.judge(who, START_S + second, verdict, epoch)

    return [
        at(0, judge(ONE, 0, "UNDECIDED")),
        at(10, judge(ONE, 10, "UNDECIDED"), judge(TWO, 10, "FAIL")),
        at(20, judge(ONE, 20, "PASS"), lambda: town.store.change(fires("a", START_S + 20))),
        at(30, judge(ONE, 30, "PASS"), judge(TWO, 30, "FAIL")),
        at(40, judge(ONE, 35, "INVALID"), judge(ONE, 40, "PASS")),
        at(50, judge(TWO, 50, "NO_DATA", 1), lambda: town.store.change(ends("a", START_S + 50))),
        at(60, judge(TWO, 60, "PASS", 1)),
    ]


def story(end_at: int, after: bool) -> Town:
    """The process ends at an operation."""
    town = Town(gates=(ONE, TWO))
    town.store.end_at, town.store.end_after = end_at, after
    for step in steps(town):
        step()
        try:
            town.turn()
        except Ended:
            town.kill()
            town.turn()
    town.store.end_at = -1
    town.turn()
    town.notifier.stop()
    return town


def test_ended_at_every_step_each_change_is_told_once() -> None:
    whole = story(-1, False)
    expected = [
        ("two", 0, "FAIL"),
        ("one", 0, "PASS"),
        ("one", 0, "INVALID"),
        ("one", 0, "PASS"),
        ("two", 1, "PASS"),
    ]
    assert verdicts(whole) == expected
    assert verdicts(whole, "boss") == [item for item in expected if item[0] == "one"]
    assert whole.attempts == len(whole.sent)
    messages = {key: message.body for key, message in whole.sent.items()}
    for end_at in range(whole.store.operations):
        again = story(end_at, bool(end_at % 2))
        assert {k: m.body for k, m in again.sent.items()} == messages, end_at
        assert verdicts(again) == expected, end_at


def test_of_a_gate_that_is_new_here_its_verdict_now_is_told() -> None:
    town = Town(gates=(ONE, TWO))
    for second, verdict in ((0, "FAIL"), (10, "UNDECIDED"), (20, "PASS"), (30, "PASS")):
        town.store.judge(ONE, START_S + second, verdict)
    town.store.judge(TWO, START_S, "FAIL")
    town.store.judge(TWO, START_S + 10, "UNDECIDED")
    town.turn()
    assert verdicts(town) == [("one", 0, "PASS")]
    assert town.notifier.totals["notifications"] == 2  # to two receivers
    town.notifier.stop()


def test_what_changed_while_nobody_looked_is_told_in_order() -> None:
    town = Town(gates=(ONE,))
    town.store.judge(ONE, START_S, "PASS")
    town.turn()
    town.kill()
    for second, verdict in ((10, "INVALID"), (20, "UNDECIDED"), (30, "FAIL")):
        town.store.judge(ONE, START_S + second, verdict)
    town.turn()
    told = [verdict for _, _, verdict in verdicts(town)]
    assert told == ["PASS", "INVALID", "UNDECIDED", "FAIL"]
    town.notifier.stop()


def test_a_verdict_under_a_former_specification_is_not_told_as_the_present_one() -> None:
    town = Town(gates=(gate("one", 0.001),))
    town.store.judge(ONE, START_S, "PASS")
    town.turn()
    assert verdicts(town) == []
    town.store.judge(town.gates[0], START_S + 10, "PASS")
    town.turn()
    assert verdicts(town) == [("one", 0, "PASS")]
    town.notifier.stop()


def test_a_verdict_that_was_written_again_meanwhile_is_read_again() -> None:
    town = Town(gates=(ONE,))
    town.store.judge(ONE, START_S, "UNDECIDED")
    town.turn()
    town.store.judge(ONE, START_S + 10, "INVALID")
    ask = town.store._verdicts

    def replaced(sql: str, given: dict[str, object]) -> list[dict[str, object]]:
        found = [dict(item) for item in ask(sql, given)]
        if found and found[-1]["verdict"] == "INVALID":  # as soon as it was read
            town.store.rows["verdicts"].pop()
            town.store.judge(ONE, START_S + 10, "FAIL")
        return found

    town.store._verdicts = replaced  # type: ignore[method-assign, assignment] # once
    town.turn(1)
    town.store._verdicts = ask  # type: ignore[method-assign]
    assert verdicts(town) == []
    town.turn()
    assert verdicts(town) == [("one", 0, "FAIL")]
    town.notifier.stop()


def test_a_gate_that_no_longer_tells_is_forgotten() -> None:
    town = Town(gates=(ONE, TWO))
    town.store.judge(ONE, START_S, "PASS")
    town.turn()
    town.gates = (TWO,)
    town.kill()
    town.store.judge(ONE, START_S + 10, "FAIL")
    town.turn()
    assert verdicts(town) == [("one", 0, "PASS")]
    town.notifier.stop()
