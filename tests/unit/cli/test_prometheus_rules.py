"""Rules about Penstock itself: what they ask for exists, and Prometheus takes them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from click.testing import CliRunner
from penstock.api.metrics import METRICS
from penstock.cli import main
from penstock.cli.prometheus_file import Form, rule_file, rule_groups
from penstock.cli.prometheus_rules import Alert, Jobs, Recording
from penstock.streams.app import http as worker_http

FORMS: tuple[Form, ...] = get_args(Form)
_SUFFIX = {"counter": "_total", "gauge": "", "info": "_info"}
WORKER = [worker_http.READY, worker_http.LAG, worker_http.OLDEST, worker_http.HEARTBEAT]
WORKER += [worker_http.WATERMARK, worker_http.CIRCUIT, *worker_http.COUNTS.values()]
EXPORTED = {metric.name + _SUFFIX[metric.kind] for metric in METRICS}
EXPORTED |= {metric.name + _SUFFIX[metric.kind] for metric in WORKER} | {"up"}
LABELS = {
    "job", "known_by", "kind", "outcome", "quantile", "window", "topic", "partition", "circuit",
}  # fmt: skip
WORDS = {
    "absent", "and", "by", "delta", "deriv", "increase", "max", "min", "rate", "sum", "time",
}  # fmt: skip


def rules(form: Form) -> list[Recording | Alert]:
    return [rule for group in rule_groups(form, Jobs()).values() for rule in group]


def names_in(expr: str) -> set[str]:
    """Names of series in a PromQL expression."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|by \([^)]*\)|\"[^\"]*\"", " ", expr)
    return set(re.findall(r"[a-zA-Z_][\w:]*", bare)) - WORDS


@pytest.mark.parametrize("form", FORMS)
def test_every_series_is_exported_or_recorded(form: Form) -> None:
    recorded: set[str] = set()
    for rule in rules(form):
        assert names_in(rule.expr) <= EXPORTED | recorded, rule
        assert names_in(rule.expr), rule
        if isinstance(rule, Recording):
            recorded.add(rule.record)


@pytest.mark.parametrize("form", FORMS)
def test_rules_are_well_formed(form: Form) -> None:
    found = rules(form)
    names = [rule.name if isinstance(rule, Alert) else rule.record for rule in found]
    assert len(set(names)) == len(names)
    for rule in found:
        for left, right in ("()", "{}", "[]"):
            assert rule.expr.count(left) == rule.expr.count(right), rule
        assert set(re.findall(r"[{,](\w+)=", rule.expr)) <= LABELS, rule
        assert all(re.fullmatch(r"\d+[smh]", span) for span in re.findall(r"\[(.*?)\]", rule.expr))
        if isinstance(rule, Recording):
            assert re.fullmatch(r"[a-z_]+:penstock_\w+:\w+", rule.record)
        else:
            assert rule.name.startswith("Penstock")
            assert re.fullmatch(r"\d+m", rule.held_for)
            assert rule.summary
            assert rule.todo.endswith(".")


def test_what_the_issue_asks_for_is_watched() -> None:
    asked = " ".join(rule.expr for rule in rules("distributed"))
    for name in (
        "penstock_ingest_lag_seconds", "penstock_worker_lag_messages", "penstock_lost_events",
        "penstock_worker_rejected_total", "penstock_worker_watermark_age_seconds",
        "penstock_worker_retries_total", "absent(up", "penstock_watermark_timestamp_seconds",
    ):  # fmt: skip
        assert name in asked


def test_the_embedded_form_has_no_workers() -> None:
    embedded = rule_file(rule_groups("embedded", Jobs()))
    assert "penstock_worker" not in embedded
    assert "kafka" not in embedded.lower().replace("in the distributed form", "")


def test_jobs_and_limits_are_those_that_were_given() -> None:
    text = rule_file(rule_groups("distributed", Jobs(api="a", worker="w", max_pending_events=1000)))
    assert 'up{job="a"} == 0' in text
    assert 'up{job="w"} == 0' in text
    assert 'penstock_ingest_pending_events{job="a"} > 800' in text


def test_the_command(tmp_path: Path) -> None:
    path = tmp_path / "rules.yml"
    asked = ["export", "prometheus-rules", "--api-job", "mine", "--output", str(path)]
    done = CliRunner().invoke(main, asked)
    assert done.exit_code == 0, done.output
    as_json = CliRunner().invoke(main, [*asked[:4], "--json"]).stdout
    assert yaml.safe_load(path.read_text()) == json.loads(as_json)
    groups: list[dict[str, Any]] = json.loads(as_json)["groups"]
    assert all({"expr"} < set(rule) for group in groups for rule in group["rules"])


def promtool(*arguments: str) -> str:
    """What Prometheus' own tool says of a file that must please it."""
    tool = shutil.which("promtool")
    if tool is None:
        assert os.environ.get("CI") != "true", "promtool is missing: install Debian's prometheus"
        pytest.skip("promtool is not installed (Debian package prometheus)")
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("form", FORMS)
def test_prometheus_takes_them(form: Form, tmp_path: Path) -> None:
    path = tmp_path / "rules.yml"
    path.write_text(rule_file(rule_groups(form, Jobs())))
    assert f"SUCCESS: {len(rules(form))} rules found" in promtool("check", "rules", str(path))
