"""Cases as frames of their workers, sent slice by slice of event time, as a fleet would."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import yaml
from penstock.schemas.frames import FrameHeader, encode_frame
from penstock.tests.zoo.case import Case
from penstock.tests.zoo.traffic import SECOND_US, Event, events, traffic_of

FRAMES = {"Content-Type": "application/vnd.penstock.frames"}
SLICE_S = {"embedded": 600, "distributed": 50}
"""Event time of a body. Through several partitions, history must come as a fleet would tell it: a boot a
minute behind the foremost no longer holds windows back, and one partition may be read before another."""
FRAME_S = 50
AFTER_S = 150
"""Event time after the last case ends, in which everything closes."""
BESIDE = "zoo-beside"
BOOT_TIMEOUT_S = 3600
"""Slices take as long as they take: nobody has vanished because a machine is slow."""


class Sent(NamedTuple):
    """A body of frames, and what `/health/detailed` tells of the pipeline, at least, once it was counted."""

    body: bytes
    progress: str
    least: int


Boots = dict[tuple[str, str], list[Event]]


def configuration(cases: Sequence[Case]) -> str:
    """A penstock.yaml with the gates of these cases."""
    gates = [case.specification() for case in cases]
    return yaml.safe_dump({"time": {"boot_timeout_s": BOOT_TIMEOUT_S}, "gates": gates})


def length_s(cases: Sequence[Case]) -> int:
    """Event time that all of them take, with the end."""
    longest = max(traffic_of(case.traffic, case.seed).minutes for case in cases)
    return int(longest * 60) + AFTER_S


def bodies(cases: Sequence[Case], start_us: int, slice_s: int) -> Iterator[Sent]:
    """One body per slice, in the order in which workers would build their frames.

    The first is a sign of life of every worker; each closes its boot with its last row.

    Another service beside them answers a request every five seconds to the end: it moves the
    watermark, and keeps the coverage of the fleet known when the cases' own traffic is over.

    Args:
        cases: live ones; all begin at once.
        start_us: when.
        slice_s: a multiple of FRAME_S.
    """
    boots: Boots = defaultdict(list)
    for case in cases:
        for row in events(traffic_of(case.traffic, case.seed), case.id, start_us):
            boots[row["event"], row["worker_id"]].append(row)
        marker = {"ts": start_us, "release": "zoo", "model": case.id, "variant": "canary"}
        boots["release", f"{case.id}-deploy"].append({"event": "release", **marker})
    everything_us = start_us + (length_s(cases) + slice_s) * SECOND_US
    boots["request", BESIDE] = [
        {"event": "request", "ts": at, "model": BESIDE, "status": "ok", "latency_ms": 1.0}
        for at in range(start_us, everything_us, 5 * SECOND_US)
    ]
    for rows in boots.values():
        rows.sort(key=lambda row: row["ts"])
    sent = dict.fromkeys(boots, 0)
    greeting = list(_frames(boots, sent, start_us))
    yield Sent(b"".join(greeting), "active_boots", len(greeting))
    for first_s in range(0, length_s(cases), slice_s):
        ends_us = [
            start_us + (first_s + end_s) * SECOND_US
            for end_s in range(FRAME_S, slice_s + 1, FRAME_S)
        ]
        frames = (_frames(boots, sent, end_us) for end_us in ends_us)
        yield Sent(
            b"".join(chain.from_iterable(frames)), "watermark_us", ends_us[-1] - 15 * SECOND_US
        )


def _frames(boots: Boots, sent: dict[tuple[str, str], int], end_us: int) -> Iterator[bytes]:
    """What every boot has to tell by the end of an interval."""
    for boot, rows in boots.items():
        first = last = sent[boot]
        while last < len(rows) and rows[last]["ts"] < end_us:
            last += 1
        if first < len(rows):
            yield _frame(boot, rows, first, last, end_us - 1)
        sent[boot] = last


def _frame(
    boot: tuple[str, str], rows: Sequence[Mapping[str, Any]], first: int, last: int, clock_us: int
) -> bytes:
    """Rows `first` up to `last` of a boot; without any, a sign of life."""
    kind, worker = boot
    header = FrameHeader(
        kind=kind if last > first else "control",  # type: ignore[arg-type]  # told by its rows
        worker_id=worker,
        boot_id=f"{worker}-{kind}",
        seq0=first,
        count=last - first,
        next_seq=last,
        clock_us=clock_us,
        closing=last == len(rows),
    )
    return encode_frame(header, [_bare(row) for row in rows[first:last]])


def _bare(row: Mapping[str, Any]) -> dict[str, Any]:
    """Without what the frame's header says."""
    return {
        name: value
        for name, value in row.items()
        if name not in ("event", "worker_id", "boot_id", "seq")
    }
