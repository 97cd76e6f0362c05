"""Recounts what a store publishes over HTTP: every window from the rows, every row from what was sent.

Plain numpy over rows that the store answers; it shares no code with streams/core. tests/support/audit.py
does the same for the folder of an embedded store.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import clickhouse_connect
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from clickhouse_connect.driver.exceptions import ClickHouseError
from penstock.tests.support.audit import DIMENSIONS, LOG_GAMMA, differs

Values = npt.NDArray[Any]

STEP_GROUPINGS = ("fleet", "model", "model_version", "release", "model_adapter")
SUMS = ("input_tokens", "output_tokens")
PERCENTS = (50, 90, 95, 99)
COUNTERS = ("received", "duplicate", "rejected", "late")
PANE_US = 10_000_000
_NAMES = ("model", "model_version", "adapter", "route", "release", "variant", "tenant")
_REQUESTS = f"""
    SELECT toUnixTimestamp64Micro(ts) AS at, {", ".join(f"toString({n}) AS {n}" for n in _NAMES)},
        toString(status) AS status, toString(error_type) AS error_type,
        ifNull(input_tokens, 0) AS input_tokens, ifNull(output_tokens, 0) AS output_tokens,
        toInt64(round(ifNull(cost_usd, 0) * 1e9)) AS cost_nano, latency_ms, ttft_ms
    FROM (SELECT * FROM penstock.requests) ORDER BY at
"""
_STEPS = f"""
    SELECT toUnixTimestamp64Micro(ts) AS at, step_ms,
        {", ".join(f"toString({n}) AS {n}" for n in _NAMES if n not in ("route", "tenant"))}
    FROM (SELECT * FROM penstock.steps) ORDER BY at
"""
# Feedback counts where its request is.
_FEEDBACK = f"""
    SELECT toUnixTimestamp64Micro(r.ts) AS at, {", ".join(f"toString(r.{n}) AS {n}" for n in _NAMES)}
    FROM penstock.feedback AS f INNER JOIN penstock.requests AS r ON f.request_id = r.request_id
    WHERE f.request_id != '' ORDER BY at
"""
_LEDGER = """
    SELECT intDiv(toUnixTimestamp64Micro(clock_ts), 10000000) * 10000000 AS at,
        sum(arraySum(x -> x.2 - x.1, ranges)) AS received, sum(duplicate) AS duplicate,
        sum(rejected) AS rejected, sum(late) AS late
    FROM penstock.frames GROUP BY at ORDER BY at
"""
_WINDOWS = f"""
    SELECT window_s, toUnixTimestamp(end) AS end_s, toString(grouping) AS grouping, {", ".join(_NAMES)},
        requests, ok, errors, timeouts, error_rate, request_rate, errors_by_type, cost_usd,
        {", ".join(SUMS)}, {", ".join(f"{n}_p{p}" for n in ("latency_ms", "ttft_ms") for p in PERCENTS)},
        steps, step_ms_p50, step_ms_p99, feedback, missing, gap, {", ".join(COUNTERS)}
    FROM penstock.windows
"""


@dataclass(frozen=True, slots=True)
class Recount:
    """What was compared, and what differs.

    Attributes:
        windows: how many were compared.
        wrong: window, slice, column, what is stored, what the rows give.
    """

    windows: int
    wrong: Sequence[tuple[Any, ...]]


@dataclass(slots=True)
class _Slice:
    """The rows of one slice, ascending by time."""

    at: Values
    columns: dict[str, Values] = field(default_factory=dict)

    def part(self, low_us: int, high_us: int) -> dict[str, Values]:
        low, high = np.searchsorted(self.at, (low_us, high_us))
        return {name: column[low:high] for name, column in self.columns.items()}


class _Rows:
    """Rows of one kind, found by slice."""

    def __init__(self, table: pa.Table) -> None:
        self._columns = {name: _values(table[name]) for name in table.column_names}
        self._slices: dict[tuple[str, ...], _Slice] = {}

    def of(self, grouping: str, values: Sequence[str]) -> _Slice:
        key = (grouping, *values)
        if key not in self._slices:
            keep = np.ones(len(self._columns["at"]), bool)
            for name, value in zip(DIMENSIONS[grouping], values, strict=True):
                keep &= self._columns[name] == value
            columns = {name: column[keep] for name, column in self._columns.items()}
            self._slices[key] = _Slice(columns["at"], columns)
        return self._slices[key]


def _values(column: Any) -> Values:
    for is_such, wider in ((pa.types.is_floating, pa.float64), (pa.types.is_integer, pa.int64)):
        if is_such(column.type):
            return np.asarray(column.cast(wider()).to_numpy())
    return np.array(column.to_pylist(), object)


def recount(url: str, wanted: Callable[[int, int], bool] = lambda *_: True) -> Recount:
    """Compare every stored row of a window with the raw rows.

    Args:
        url: of the store, as a user who reads without narrow limits.
        wanted: which windows, by length and end in seconds.
    """
    client = clickhouse_connect.get_client(dsn=url, autogenerate_session_id=False)
    try:
        kinds = [
            _Rows(client.query_arrow(sql, use_strings=True))
            for sql in (_REQUESTS, _STEPS, _FEEDBACK)
        ]
        ledger = _Rows(client.query_arrow(_LEDGER, use_strings=True)).of("fleet", ())
        windows = list(client.query(_WINDOWS).named_results())
    finally:
        client.close()
    wrong: list[tuple[Any, ...]] = []
    compared = 0
    for window in windows:
        if not wanted(window["window_s"], window["end_s"]):
            continue
        compared += 1
        names = [window[name] for name in DIMENSIONS[window["grouping"]]]
        found = _recounted(window, names, kinds, ledger)
        key = (window["window_s"], window["end_s"], window["grouping"], tuple(names))
        wrong += [
            (*key, name, window[name], value)
            for name, value in found.items()
            if differs(window[name], value)
        ]
    return Recount(compared, wrong)


def _recounted(
    window: dict[str, Any], names: Sequence[str], kinds: Sequence[_Rows], ledger: _Slice
) -> dict[str, Any]:
    grouping, window_s = window["grouping"], window["window_s"]
    stretch = (window["end_s"] - window_s) * 1_000_000, window["end_s"] * 1_000_000
    requests, steps, feedback = kinds
    found = _traffic(requests.of(grouping, names).part(*stretch), window_s)
    none = np.zeros(0)
    durations = none
    if grouping in STEP_GROUPINGS:
        durations = steps.of(grouping, names).part(*stretch)["step_ms"]
    found["steps"] = len(durations)
    found |= _quantiles("step_ms", durations, (50, 99))
    found["feedback"] = len(feedback.of(grouping, names).part(*stretch)["at"])
    told = ledger.part(*stretch)
    return found | {name: int(told[name].sum()) for name in COUNTERS}


def _traffic(rows: dict[str, Values], window_s: int) -> dict[str, Any]:
    status = rows["status"]
    failed = (status == "error") | (status == "timeout")
    requests, errors = len(status), int(failed.sum())
    found: dict[str, Any] = {
        "requests": requests,
        "ok": int((status == "ok").sum()),
        "errors": errors,
        "timeouts": int((status == "timeout").sum()),
        "error_rate": errors / requests if requests else None,
        "request_rate": requests / window_s,
        "errors_by_type": dict(Counter(kind or "other" for kind in rows["error_type"][failed])),
        "cost_usd": int(rows["cost_nano"].sum()) / 1e9,
    }
    found |= {name: int(rows[name].sum()) for name in SUMS}
    for name in ("latency_ms", "ttft_ms"):
        found |= _quantiles(name, rows[name], PERCENTS)
    return found


def _quantiles(name: str, values: Values, percents: Sequence[int]) -> dict[str, float | None]:
    """The log bin that holds rank floor(p (n - 1)), as its estimate."""
    ordered = np.sort(values[~np.isnan(values.astype(float))])
    if len(ordered) == 0:
        return {f"{name}_p{percent}": None for percent in percents}
    found: dict[str, float | None] = {}
    for percent in percents:
        value = float(ordered[math.floor(percent / 100 * (len(ordered) - 1))])
        exponent = math.ceil(math.log(value) / LOG_GAMMA)
        found[f"{name}_p{percent}"] = 2 * math.exp(exponent * LOG_GAMMA) / (1.01 / 0.99 + 1)
    return found


def stored(url: str) -> dict[tuple[str, str], tuple[int, ...]]:
    """What the views hold, by kind and boot: rows, identities, and sums that tell rows apart."""
    found: dict[tuple[str, str], tuple[int, ...]] = {}
    client = clickhouse_connect.get_client(dsn=url, autogenerate_session_id=False)
    try:
        for kind, value in CHECKED.items():
            rows = client.query(
                "SELECT boot_id, count(), uniqExact(seq), sum(seq), sum(toInt64(round("
                f"ifNull({value}, 0)))) FROM penstock.{TABLES[kind]} GROUP BY boot_id"
            ).result_rows
            found |= {(kind, boot_id): tuple(map(int, counts)) for boot_id, *counts in rows}
    finally:
        client.close()
    return found


TABLES = {"request": "requests", "step": "steps", "feedback": "feedback"}
# What of each row is summed; senders sum the same.
CHECKED = {"request": "latency_ms * 1000", "step": "step_ms * 1000", "feedback": "quality * 1000"}


def coverage(url: str) -> dict[str, dict[str, Any]]:
    """Rows of the view coverage by boot."""
    client = clickhouse_connect.get_client(dsn=url, autogenerate_session_id=False)
    try:
        columns = "boot_id, expected, received, stored, missing, gap, rejected, duplicate, state"
        found: dict[str, dict[str, Any]] = defaultdict(dict)
        for row in client.query(f"SELECT {columns} FROM penstock.coverage").named_results():
            assert row["boot_id"] not in found, "a boot is there twice"
            found[row["boot_id"]] = dict(row)
        return found
    finally:
        client.close()


class Watcher(threading.Thread):
    """Asks the reader all the time whether each row is there once, and whether rows vanish.

    Attributes:
        doubled: counts that differed from the unique identities, at any moment.
        vanished: counts that went down.
        looks: answers that there were.
    """

    def __init__(self, url: str) -> None:
        super().__init__(name="watcher", daemon=True)
        self.doubled: list[tuple[int, int]] = []
        self.vanished: list[tuple[int, int]] = []
        self.looks = 0
        self.ending = threading.Event()
        self._url = url

    def run(self) -> None:
        """Ask."""
        highest = 0
        while not self.ending.wait(0.3):
            with contextlib.suppress(ClickHouseError, OSError):
                count, unique = ask(
                    self._url, "SELECT count(), uniqExact(boot_id, seq) FROM penstock.requests"
                )[0]
                self.looks += 1
                if count != unique:
                    self.doubled.append((count, unique))
                if count < highest:
                    self.vanished.append((highest, count))
                highest = max(highest, count)


def ask(url: str, sql: str, timeout_s: int = 10) -> list[tuple[Any, ...]]:
    """Rows of one query, by a client of its own."""
    client = clickhouse_connect.get_client(
        dsn=url,
        autogenerate_session_id=False,
        connect_timeout=timeout_s,
        send_receive_timeout=timeout_s,
        query_retries=0,
    )
    try:
        return [tuple(row) for row in client.query(sql).result_rows]
    finally:
        client.close()
