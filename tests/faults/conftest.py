"""Which scenarios run, with which seeds, and what they share.

PENSTOCK_FAULTS=all runs all of them. With `rotate` a quarter of the long ones runs, chosen by the commit,
and all that take seconds. Without either, naming tests/faults on the command line runs what is named.
PENSTOCK_FAULT_SEED is the first seed, random by default; PENSTOCK_FAULT_ROUNDS is how many there are.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from penstock.tests.support.kafka import Broker, KafkaMissing
from penstock.tests.support.stack import Stack

PARTS = 4
SHORT_S = 12
MARKER = "fault(seconds): a scenario of faults that takes about so long"
MakeStack = Callable[..., Stack]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        rounds = int(os.environ.get("PENSTOCK_FAULT_ROUNDS", "1"))
        given = os.environ.get("PENSTOCK_FAULT_SEED")
        first = int(given) if given else random.SystemRandom().randrange(1_000_000)
        seeds = [first + number for number in range(rounds)]
        metafunc.parametrize("seed", seeds, ids=[f"seed={seed}" for seed in seeds])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not _rotates(config):
        return
    long = [item for item in items if _seconds(item) > SHORT_S]
    number, why = _turn()
    chosen = _parts(long)[number]
    left = [item for item in long if _name(item) not in chosen]
    if left:
        items[:] = [item for item in items if item not in left]
        config.hook.pytest_deselected(items=left)
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            told = ", ".join(sorted(chosen)) or "none"
            reporter.write_line(f"faults: part {number + 1} of {PARTS} by {why}: {told}")


def _rotates(config: pytest.Config) -> bool:
    how = os.environ.get("PENSTOCK_FAULTS", "")
    if how not in ("", "all", "rotate"):
        raise pytest.UsageError(f"PENSTOCK_FAULTS is all or rotate, not {how!r}")
    named = any("faults" in argument for argument in config.args)
    return how == "rotate" or (not how and not named)


def _seconds(item: pytest.Item) -> float:
    marker = item.get_closest_marker("fault")
    return float(marker.args[0]) if marker else 0.0


def _name(item: pytest.Item) -> str:
    return getattr(item, "originalname", None) or item.name


def _parts(items: list[pytest.Item]) -> list[set[str]]:
    """The names in parts that take about the same time, the same ones at every commit."""
    seconds = {_name(item): _seconds(item) for item in items}
    parts: list[set[str]] = [set() for _ in range(PARTS)]
    for name in sorted(seconds, key=lambda name: (-seconds[name], name)):
        min(parts, key=lambda part: sum(seconds[n] for n in part)).add(name)
    return parts


def _turn() -> tuple[int, str]:
    """Which part, and by what it was chosen."""
    command = ["git", "rev-parse", "HEAD"]
    folder = Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        day = int(time.time() // 86_400)
        return day % PARTS, "the date"
    commit = done.stdout.strip()
    return int(commit, 16) % PARTS, f"commit {commit[:12]}"


@pytest.fixture(scope="session")
def fault_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One that scenarios kill and start again; each makes its topics anew."""
    try:
        found = Broker(tmp_path_factory.mktemp("kafka"))
    except KafkaMissing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing))
        pytest.skip(str(missing))
    with found:
        yield found


@pytest.fixture
def make_stack(tmp_path: Path, fault_broker: Broker, seed: int) -> Iterator[MakeStack]:
    """Makes the stack of a scenario: a store with migrations and topics, no workers yet."""
    with ExitStack() as open_ones:

        def make(**settings: Any) -> Stack:
            given: dict[str, Any] = {
                "folder": tmp_path / "stack",
                "broker": fault_broker,
                "seed": seed,
            } | settings
            return open_ones.enter_context(Stack(**given))

        yield make
