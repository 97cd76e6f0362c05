from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from penstock import EmitterSettings
from penstock.tests.unit.producers.event_server import EventServer, event_server


@pytest.fixture
def server() -> Iterator[EventServer]:
    with event_server() as running:
        yield running


@pytest.fixture
def settings(tmp_path: Path) -> EmitterSettings:
    """Settings of a hurried emitter that spools below tmp_path."""
    return EmitterSettings(
        flush_interval_s=0.02,
        spool_dir=tmp_path / "spool",
        retry_base_s=0.02,
        retry_cap_s=0.1,
        timeout_s=10.0,
        close_timeout_s=20.0,
        hash_key="k",
    )


@pytest.fixture(autouse=True)
def no_penstock_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URL", "DISABLED", "API_KEY", "HASH_KEY", "TRANSPORT_TIMING"):
        monkeypatch.delenv(f"PENSTOCK_{name}", raising=False)


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    yield
    left = [t.name for t in threading.enumerate() if t.name.startswith("penstock-")]
    assert not left, f"emitter threads outlived the test: {left}"
