"""`penstock doctor`: what is wrong with what Penstock stands on, and what to do about it.

It changes nothing but a probe row in the store, and makes no topic, table, folder or key.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from confluent_kafka import KafkaException

from ...schemas.config import Retention
from ...schemas.errors import PenstockError, StoreError
from ..dead_letters.seal import load_key
from ..storage.migrate import planned
from ..storage.store import Store

State = Literal["ok", "warn", "fail", "skip"]

TIMEOUT_S = 10.0
CLOCK_WARN_S, CLOCK_FAIL_S = 1.0, 30.0
PARTS_WARN, PARTS_FAIL = 300, 1000  # active parts of a partition: from 1000 inserts are slowed down
FREE_WARN, FREE_FAIL = 2 * 2**30, 256 * 2**20  # bytes, as /health/detailed
_DENIED = 497  # ClickHouse's code


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at.

    Attributes:
        state: ok; warn: it works, but look; fail: it does not work; skip: it was not looked at.
        what: what was looked at.
        found: what it is.
        todo: what to do about it; empty where it is ok.
    """

    state: State
    what: str
    found: str
    todo: str = ""


def tried(what: str, todo: str, look: Callable[[], Iterable[Line]]) -> list[Line]:
    """What a look told; where it failed altogether, a line that says so."""
    lines: list[Line] = []
    try:
        lines.extend(look())
    except PenstockError as error:
        lines.append(Line("fail", what, str(error), todo))
    except KafkaException as error:
        lines.append(Line("fail", what, error.args[0].str(), todo))
    return lines


def check_store(store: Store, retention: Retention) -> list[Line]:
    """The store: reachable, migrated, writable, its clock, parts and disks."""
    if store.folder is not None and not store.folder.exists():
        todo = (
            "give the folder that `penstock up` or `penstock store` keeps, with its `store` in it"
        )
        return [Line("fail", "store", f"there is no folder {store.folder}", todo)]
    todo = "does it run there, and do user and password fit?"
    if store.folder is not None:
        todo = "a folder belongs to one process: stop it, or ask the running server with --url"
    lines = tried("store", todo, lambda: _storeclock_line(store))
    if lines[0].state == "fail":
        return lines
    lines += tried("store schema", "run penstock migrate", lambda: _schema(store, retention))
    writes = "give the store's writer, or look at the disk; for a new store run penstock migrate"
    lines += tried("store writes", writes, lambda: _writable(store))
    lines += _system(store, "store parts", _parts)
    lines += _system(store, "store disks", _disks)
    return lines


def _storeclock_line(store: Store) -> list[Line]:
    began_us = time.time_ns() // 1000
    (row,) = store.query("SELECT version() AS version, toUnixTimestamp64Micro(now64(6)) AS us")
    ended_us = time.time_ns() // 1000
    apart_us = max(began_us - int(row["us"]), int(row["us"]) - ended_us, 0)
    return [
        Line("ok", "store", f"ClickHouse {row['version']} answers"),
        clock_line("store clock", apart_us / 1e6),
    ]


def clock_line(what: str, apart_s: float) -> Line:
    """How far a clock is apart from ours, in seconds."""
    found = f"{apart_s:.1f} s apart from this machine's" if apart_s > 0.05 else "as this machine's"
    todo = "let NTP set the clocks: events from the future count at their arrival"
    if apart_s >= CLOCK_FAIL_S:
        return Line("fail", what, found, todo)
    return Line("warn", what, found, todo) if apart_s >= CLOCK_WARN_S else Line("ok", what, found)


def _schema(store: Store, retention: Retention) -> list[Line]:
    plan = planned(store, retention)
    if plan.pending:
        names = ", ".join(f"{one.version:04d} {one.name}" for one in plan.pending)
        return [Line("fail", "store schema", f"not applied: {names}", "run penstock migrate")]
    lines = [Line("ok", "store schema", "current")]
    if plan.statements:
        todo = "run penstock migrate --config with the file that was given here"
        found = f"{len(plan.statements)} times to live differ from the configuration"
        return [*lines, Line("warn", "retention", found, todo)]
    days = f"{retention.hot_days}, {retention.warm_days} and {retention.cold_days} days"
    return [*lines, Line("ok", "retention", f"set to {days}")]


def _writable(store: Store) -> list[Line]:
    began = time.perf_counter()
    store.ping()
    took_ms = (time.perf_counter() - began) * 1000
    found = f"a probe row took {took_ms:.0f} ms"
    if took_ms > 1000:
        return [Line("warn", "store writes", found, "look at its disk and its load")]
    return [Line("ok", "store writes", found)]


def _system(store: Store, what: str, look: Callable[[Store], list[Line]]) -> list[Line]:
    """A look at system tables, which a user may not be let see."""
    try:
        return look(store)
    except StoreError as error:
        if error.code == _DENIED:
            return [Line("skip", what, "this user may not see it", "ask as the writer")]
        return [Line("fail", what, str(error), "look at the log of the store")]


def _parts(store: Store) -> list[Line]:
    rows = store.query(
        "SELECT table, partition, count() AS n FROM system.parts WHERE active"
        " AND database = 'penstock' GROUP BY table, partition ORDER BY n DESC LIMIT 1"
    )
    if not rows:
        return [Line("ok", "store parts", "none yet")]
    row = rows[0]
    found = f"at most {row['n']} in a partition ({row['table']} {row['partition']})"
    todo = "merges do not keep up: fewer and larger inserts, a faster disk, or more memory"
    many = int(row["n"])
    state: State = "fail" if many >= PARTS_FAIL else "warn" if many >= PARTS_WARN else "ok"
    return [Line(state, "store parts", found, "" if state == "ok" else todo)]


def _disks(store: Store) -> list[Line]:
    rows = store.query("SELECT name, path, free_space, total_space FROM system.disks")
    return [
        _space(f"store disk {row['name']}", int(row["free_space"]), int(row["total_space"]))
        for row in rows
    ]


def _space(what: str, free: int, total: int) -> Line:
    found = f"{free / 2**30:.1f} GiB of {total / 2**30:.1f} GiB are free"
    todo = "make room, or shorten retention in penstock.yaml and run penstock migrate"
    if free < FREE_FAIL:
        return Line("fail", what, found, todo)
    if free < max(FREE_WARN, total // 20):
        return Line("warn", what, found, todo)
    return Line("ok", what, found)


def check_data(data: Path, sealing_key: Path | None = None) -> list[Line]:
    """A data folder: there, writable, with space, and its sealing key can be read."""
    if not data.is_dir():
        return [Line("fail", "data", f"there is no folder {data}", "give the one of `penstock up`")]
    usage = shutil.disk_usage(data)
    lines = [_space("data disk", usage.free, usage.total)]
    if not os.access(data, os.W_OK | os.X_OK):
        lines.append(Line("fail", "data", f"{data} cannot be written", "give it to this user"))
    key = sealing_key or data / "sealing.key"
    if sealing_key is None and not key.exists():
        return [*lines, Line("ok", "sealing key", f"none yet: {key} is made at the first start")]
    return lines + check_sealing_key(key)


def check_sealing_key(path: Path) -> list[Line]:
    """The key that dead letters are sealed with."""

    def look() -> list[Line]:
        load_key(path)
        return [Line("ok", "sealing key", f"{path} can be read")]

    return tried("sealing key", "without it dead letters cannot be opened: restore it", look)


def check_url(url: str) -> list[Line]:
    """An API, or a worker: whether it answers, and whether it can work."""
    return [_asked(f"{url.rstrip('/')}/{name}", name) for name in ("healthz", "readyz")]


def _asked(url: str, name: str) -> Line:
    if not url.startswith(("http://", "https://")):
        return Line("fail", name, f"{url} is no URL", "give http://host:port")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=TIMEOUT_S) as answer:
            return Line("ok", name, f"{url} answers {answer.status}")
    except urllib.error.HTTPError as error:
        with error:
            body = error.read(10_000).decode(errors="replace")
        return Line("fail", name, f"{error.code}: {_detail(body)}", "mend what it names")
    except (urllib.error.URLError, OSError, ValueError) as error:
        return Line("fail", name, f"{url}: {error}", "does it run there?")


def _detail(body: str) -> str:
    try:
        told = json.loads(body)
    except ValueError:
        return body.strip()[:300]
    return str(told.get("detail", told)) if isinstance(told, dict) else str(told)
