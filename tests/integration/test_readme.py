"""The README's examples work as they are pasted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from penstock.schemas.config import parse
from penstock.tests.support.server import Server

README = (Path(__file__).parents[2] / "README.md").read_text()


def block(language: str) -> str:
    """The first fenced block of a language."""
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


def test_emitting_from_ones_own_code(tmp_path: Path) -> None:
    server = Server(tmp_path / "data")
    server.start()
    try:
        code = block("python").replace("http://127.0.0.1:8080", server.url)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")}
        environment["TMPDIR"] = str(tmp_path)  # no leftovers of another worker's spool
        subprocess.run([sys.executable, "-W", "error", "-c", code], env=environment, check=True)
        found = server.get("/v1/requests").json()["requests"]
        assert [(row["route"], row["status"], row["output_tokens"]) for row in found] == [
            ("/chat", "ok", 118)
        ]
        deadline = time.monotonic() + 10
        while (totals := server.get("/v1/coverage").json()["totals"])["stored"] != 2:
            assert time.monotonic() < deadline, totals
            time.sleep(0.1)
        assert totals["missing"] == 0
        curl = re.search(r"curl -X POST .*?}'\n", README, re.DOTALL)
        assert curl is not None
        command = curl[0].replace("http://127.0.0.1:8080", server.url)
        told = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
        assert '"accepted":1' in told.stdout
    finally:
        server.stop()


def test_the_gate_example_is_valid() -> None:
    assert [gate.id for gate in parse(block("yaml")).gates] == ["canary-limits"]
