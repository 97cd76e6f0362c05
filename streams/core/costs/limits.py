"""Rolling spend of users or tenants against a limit.

Tiles keep no users. A shell asks the raw rows for sums by key and minute (docs/costs.md) and holds
nothing: each evaluation is a pure function of the rows of one window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ....schemas.costs.budgets import SpendLimit
from ..windows import Ints
from .series import MINUTE_S


@dataclass(frozen=True, slots=True)
class Overspend:
    """A key above its limit: what it spent in the window that ends now, in nano-dollars.

    `since_s` is when its rolling sum last rose above the limit, as far as the rows reach back; an alert
    is the same one as long as it stays.
    """

    key: str
    spent: int
    limit: int
    since_s: int


def overspending(
    spec: SpendLimit, keys: Sequence[str], codes: Ints, minutes_s: Ints, nanousd: Ints, now_s: int
) -> list[Overspend]:
    """The keys above a limit in the window that ends at `now_s`, the largest spender first.

    Rows in any order; a minute may come in parts. The empty key (no user, no tenant) has no limit.

    Args:
        spec: the limit.
        keys: names.
        codes: key of each row, shape (n,).
        minutes_s: start of each row's minute, seconds since 1970 UTC, shape (n,). Two windows of
            rows tell `since_s`; one tells who is above.
        nanousd: what it cost, at least 0, shape (n,).
        now_s: event time, a whole minute; later rows are left out.
    """
    past = minutes_s < now_s
    codes, minutes_s, nanousd = codes[past], minutes_s[past], nanousd[past]
    inside = minutes_s >= now_s - spec.window_s
    spent = np.zeros(len(keys), np.int64)
    np.add.at(spent, codes[inside], nanousd[inside])
    found = []
    for key in np.flatnonzero(spent > spec.nanousd).tolist():
        if keys[key]:
            mine = codes == key
            since_s = _since(spec, minutes_s[mine], nanousd[mine], now_s)
            found.append(Overspend(keys[key], int(spent[key]), spec.nanousd, since_s))
    return sorted(found, key=lambda item: (-item.spent, item.key))


def _since(spec: SpendLimit, minutes_s: Ints, nanousd: Ints, now_s: int) -> int:
    """The last time at which the rolling sum rose above the limit, where it is above it now."""
    enters_s, leaves_s = minutes_s + MINUTE_S, minutes_s + MINUTE_S + spec.window_s
    times_s, at = np.unique(np.concatenate([enters_s, leaves_s]), return_inverse=True)
    changes = np.zeros(len(times_s), np.int64)
    np.add.at(changes, at, np.concatenate([nanousd, -nanousd]))
    above = (np.cumsum(changes) > spec.nanousd)[times_s <= now_s]
    below = np.flatnonzero(~above)
    return int(times_s[below[-1] + 1 if len(below) else 0])
