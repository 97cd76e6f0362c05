"""Cases as frames of their workers, sent slice by slice of event time, as a fleet would."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import yaml
from penstock.schemas.frames import FrameHeader, encode_frame
from penstock.tests.zoo.case import Case
from penstock.tests.zoo.traffic import SECOND_US, Event, events, traffic_of

FRAMES = {"Content-Type": "application/vnd.penstock.frames"}
SLICE_S, FRAME_S = 600, 30
"""Event time of a body, and of a frame in it."""
AFTER_S = 600
"""Event time after the last case ends, in which everything closes."""
BESIDE = "zoo-beside"
BOOT_TIMEOUT_S = 3600
"""Slices take as long as they take: nobody has vanished because a machine is slow."""


Boots = dict[tuple[str, str], list[Event]]


def configuration(cases: Sequence[Case]) -> str:
    """A penstock.yaml with the gates of these cases."""
    gates = [case.specification() for case in cases]
    return yaml.safe_dump({"time": {"boot_timeout_s": BOOT_TIMEOUT_S}, "gates": gates})


def length_s(cases: Sequence[Case]) -> int:
    """Event time that all of them take, with the end."""
    longest = max(traffic_of(case.traffic, case.seed).minutes for case in cases)
    return int(longest * 60) + AFTER_S


def bodies(cases: Sequence[Case], start_us: int) -> Iterator[bytes]:
    """One body of frames per slice, by the time they were built; every worker closes its boot with its last row.

    Another service beside them answers a request every five seconds to the end: it moves the
    watermark, and keeps the coverage of the fleet known when the cases' own traffic is over.

    Args:
        cases: live ones; all begin at once.
        start_us: when.
    """
    boots: Boots = defaultdict(list)
    for case in cases:
        for row in events(traffic_of(case.traffic, case.seed), case.id, start_us):
            boots[row["event"], row["worker_id"]].append(row)
        marker = {"ts": start_us, "release": "zoo", "model": case.id, "variant": "canary"}
        boots["release", f"{case.id}-deploy"].append({"event": "release", **marker})
    everything_us = start_us + (length_s(cases) + SLICE_S) * SECOND_US
    boots["request", BESIDE] = [
        {"event": "request", "ts": at, "model": BESIDE, "status": "ok", "latency_ms": 1.0}
        for at in range(start_us, everything_us, 5 * SECOND_US)
    ]
    for rows in boots.values():
        rows.sort(key=lambda row: row["ts"])
    sent = dict.fromkeys(boots, 0)
    for slice_s in range(0, length_s(cases), SLICE_S):
        ends = range(slice_s + FRAME_S, slice_s + SLICE_S + 1, FRAME_S)
        frames = [_frames(boots, sent, start_us + end_s * SECOND_US) for end_s in ends]
        yield b"".join(chain.from_iterable(frames))


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
