"""What `python -m penstock.tests.compose` says where it cannot run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from penstock.tests.compose.__main__ import main


@pytest.mark.parametrize(("ci", "code"), [("", 2), ("true", 1)])
def test_without_docker(
    ci: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main() == code
    assert (
        "not run: no Docker engine answers, and only root can start one" in capsys.readouterr().out
    )


def test_without_docker_or_apt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert main() == 2
    assert "install docker.io" in capsys.readouterr().out
