"""Carriers work side by side, and none of what they count is lost."""

from __future__ import annotations

import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from penstock.streams.delivery.carrier import Ways
from penstock.streams.delivery.outbox import Outbox


def test_carriers_count_at_the_same_time() -> None:
    totals: Counter[str] = Counter()
    ways = Ways(cast(Outbox, None), lambda *_: None, totals, lambda: 0)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(count, ways) for _ in range(8)]:
                done.result()
    finally:
        sys.setswitchinterval(before)
    assert totals == {"deliveries": 16_000}


def count(ways: Ways) -> None:
    for _ in range(2000):
        ways.count("deliveries")
