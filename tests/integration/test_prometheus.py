"""The exported rules in a real Prometheus that scrapes a real `penstock up`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from penstock.cli import main
from penstock.tests.support.ports import free_port
from penstock.tests.support.server import Server

pytestmark = pytest.mark.slow

WITHIN_S = 90.0
GOOD = {"event": "request", "model": "m", "status": "ok", "latency_ms": 5.0}
BAD = {"event": "request", "model": "m", "status": "no such status"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "penstock")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def prometheus(server: Server, tmp_path: Path) -> Iterator[str]:
    """Its URL. Rules as they are exported, but for how long a condition must hold: a second."""
    binary = shutil.which("prometheus")
    if binary is None:
        assert os.environ.get("CI") != "true", "prometheus is missing: install Debian's package"
        pytest.skip("prometheus is not installed (Debian package prometheus)")
    rules = tmp_path / "rules.yml"
    flags = ["export", "prometheus-rules", "--form", "embedded", "--output", str(rules)]
    assert CliRunner().invoke(main, flags).exit_code == 0
    text, changed = re.subn(r"(?m)^(\s+for): \d+[ms]$", r"\1: 1s", rules.read_text())
    assert changed > 5
    rules.write_text(text)
    config = tmp_path / "prometheus.yml"
    config.write_text(f"""
global: {{scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: penstock-api
    static_configs: [{{targets: ["{server.url.removeprefix("http://")}"]}}]
""")
    url = f"http://127.0.0.1:{free_port()}"
    command = [binary, f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"]
    command += [f"--web.listen-address={url.removeprefix('http://')}"]
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until(lambda: httpx.get(f"{url}/-/ready", timeout=5).status_code == 200)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + WITHIN_S
    while time.monotonic() < end_s:
        try:
            if holds():
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"not within {WITHIN_S:g} s")


def asked(url: str, path: str) -> Any:
    return httpx.get(f"{url}/api/v1/{path}", timeout=10).json()["data"]


def firing(url: str) -> set[str]:
    alerts = asked(url, "alerts")["alerts"]
    return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def rules(url: str) -> list[Any]:
    return [rule for group in asked(url, "rules")["groups"] for rule in group["rules"]]


def test_they_are_evaluated_and_fire(server: Server, prometheus: str) -> None:
    def all_evaluated() -> bool:
        return all(rule["health"] == "ok" for rule in rules(prometheus))

    until(all_evaluated)

    def scraped() -> bool:
        targets = asked(prometheus, "targets")["activeTargets"]
        return [(one["labels"]["job"], one["health"]) for one in targets] == [
            ("penstock-api", "up")
        ]

    until(scraped)
    httpx.post(f"{server.url}/v1/events", json=[GOOD], timeout=30)
    assert "PenstockDeadLetters" not in firing(prometheus)

    def refused() -> bool:
        now_us = time.time_ns() // 1000
        events = [GOOD | {"ts": now_us}, BAD | {"ts": now_us}]
        answer = httpx.post(f"{server.url}/v1/events", json=events, timeout=30)
        assert answer.json()["rejected"] == 1
        return "PenstockDeadLetters" in firing(prometheus)

    until(refused)
    until(lambda: "PenstockApiDown" not in firing(prometheus))  # a scrape may have been late
    assert all_evaluated()
    server.kill()
    until(lambda: "PenstockApiDown" in firing(prometheus))
