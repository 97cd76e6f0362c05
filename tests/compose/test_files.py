"""docker-compose.yml and what it mounts, read as files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from penstock.schemas.config import load
from penstock.tests.compose.images import ROOT

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())[
    "services"
]
OURS = ("secrets", "migrate", "topics", "worker", "notify", "api", "demo")


@pytest.mark.parametrize("name", SERVICES)
def test_versions_are_pinned(name: str) -> None:
    assert re.search(r":\d+\.\d+\.\d+", SERVICES[name]["image"])


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_open_on_loopback_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("${PENSTOCK_BIND:-127.0.0.1}:")


@pytest.mark.parametrize("name", OURS)
def test_our_processes_may_next_to_nothing(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "user" not in service or name == "secrets"


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_in_the_environment(name: str) -> None:
    for key, value in SERVICES[name].get("environment", {}).items():
        if re.search("PASSWORD|SECRET|KEY|TOKEN|STORE", key):
            assert re.match(r"@?/run/penstock/", value), f"{key} names no file"


def test_a_worker_can_be_scaled() -> None:
    assert not {"ports", "container_name", "hostname"} & set(SERVICES["worker"])


@pytest.mark.parametrize("name", ["kafka", "clickhouse", "worker", "notify", "api", "grafana"])
def test_what_stays_has_a_check_and_a_limit(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["restart"] == "unless-stopped"
    assert service["mem_limit"]


def test_secrets_of_receivers_are_files_that_git_passes_over() -> None:
    (mounted,) = [one for one in SERVICES["notify"]["volumes"] if ":/run/secrets:" in one]
    folder = ROOT / mounted.partition(":")[0]
    assert mounted.endswith(":ro")
    assert (folder / ".gitignore").read_text().splitlines() == ["*", "!.gitignore"]


def test_mounted_files_are_there_and_valid() -> None:
    sources = [
        volume.partition(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if isinstance(volume, str) and volume.startswith("./")
    ]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
    assert load(ROOT / "deploy" / "penstock.yaml").gates
    ElementTree.parse(ROOT / "deploy" / "clickhouse" / "config.xml")
    for path in (ROOT / "deploy" / "grafana" / "provisioning").rglob("*.yaml"):
        assert yaml.safe_load(path.read_text())["apiVersion"] == 1


def test_panels_do_not_overlap() -> None:
    for path in (ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"):
        taken: set[tuple[int, int]] = set()
        for panel in json.loads(Path(path).read_text())["panels"]:
            at = panel["gridPos"]
            cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
            assert not cells & taken, panel["title"]
            assert at["x"] + at["w"] <= 24
            taken |= cells


def test_kafka_is_the_one_that_the_other_tests_use() -> None:
    pom = (ROOT / "tests" / "kafka" / "pom.xml").read_text()
    found = re.search(r"<kafka\.version>([^<]+)<", pom)
    assert found is not None
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{found[1]}"
