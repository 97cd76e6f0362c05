"""Changes of verdicts, read from the real store: long series, late rows, and rows that are written again."""

from __future__ import annotations

from pathlib import Path

from penstock.streams.core.gates.changes import VerdictChange
from penstock.streams.notify.verdicts import VerdictFeed
from penstock.streams.storage.store import Store
from penstock.tests.support.rows import at
from penstock.tests.support.store import insert, opened_store


def test_verdicts_are_read_on(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        read_on(store)


def read_on(store: Store) -> None:
    def judged(gate: str, second: int, verdict: str, epoch: int = 0, version: int = 1) -> None:
        row = {"gate_id": gate, "epoch": epoch, "as_of": at(second), "verdict": verdict}
        more = {"version": version, "kind": "canary", "evidence": '{"text": "why"}'}
        insert(store, "verdicts_rows", [row | more])

    def news(found: list[VerdictChange]) -> list[tuple[str, int, str, str]]:
        last.update({change.gate_id: change for change in found})
        return [(one.gate_id, one.epoch, one.verdict, one.before) for one in found]

    last: dict[str, VerdictChange] = {}
    feed = VerdictFeed(store)
    for second in range(0, 100, 10):
        judged("g", second, "UNDECIDED" if second < 50 else "PASS")
    judged("h", 0, "FAIL", 2)
    found = feed.changes(last, others=True)
    assert news(found) == [
        ("g", 0, "UNDECIDED", ""),
        ("g", 0, "PASS", "UNDECIDED"),
        ("h", 2, "FAIL", ""),
    ]
    assert found[1].as_of_us == round(at(50).timestamp() * 1e6)
    assert feed.documents(found[1:2]) == [(found[1], {"text": "why", "gate_kind": "canary"})]
    assert feed.changes(last, others=True) == []
    judged(
        "g", 95, "INVALID"
    )  # behind the newest one that was read, which a replica may have had first
    judged("g", 100, "INVALID")
    judged("g", 300, "PASS", 1)
    judged("new", 0, "NO_DATA")
    assert news(feed.changes(last)) == [("g", 0, "INVALID", "PASS"), ("g", 1, "PASS", "")]
    assert news(feed.changes(last, others=True)) == [("new", 0, "NO_DATA", "")]
    # Written again as another one, at the same moment of event time: it has another version.
    (first,) = feed.newest(["h"])
    judged("h", 0, "PASS", 2, 2)
    assert feed.documents([first]) == []
    assert news(feed.newest(["h", "nobody"])) == [("h", 2, "PASS", "")]
