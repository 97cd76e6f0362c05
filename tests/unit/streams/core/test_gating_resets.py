"""Resets among release markers: each begins an epoch of the one gate that it names."""

from __future__ import annotations

import itertools

from penstock.streams.core.gating import Epoch, Marker, current_epoch

SECOND = 1_000_000
R1 = {"variant": "canary", "release": "r1"}


def test_a_reset_counts_each_time_and_for_its_gate_alone() -> None:
    ordered = [
        Marker(10 * SECOND, R1),
        Marker(20 * SECOND + 5, R1, "mine"),
        Marker(30 * SECOND, R1, "mine"),
        Marker(40 * SECOND, R1, "another"),
        # The same release, marked again: it was in force all along.
        Marker(50 * SECOND, R1),
    ]
    wanted = {"variant": "canary"}
    for markers in itertools.permutations(ordered):
        assert current_epoch(markers, wanted, "mine") == Epoch(30, 30 * SECOND)
        assert current_epoch(markers, wanted, "another") == Epoch(40, 40 * SECOND)
        assert current_epoch(markers, wanted, "third") == Epoch(10, 10 * SECOND)
    # Also of a gate whose filter no release matched.
    assert current_epoch(ordered, {"model": "m"}, "mine") == Epoch(30, 30 * SECOND)
