"""Every rule has a page, and what the pages tell to paste works."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from penstock.schemas.alerts.rules import AlertRule
from penstock.schemas.catalogue import catalogue_rules
from penstock.schemas.catalogue.table import sentence
from penstock.schemas.config import parse
from penstock.schemas.errors import StoreError
from penstock.tests.support.store import opened_store

ROOT = Path(__file__).parents[4]
RULES = catalogue_rules()
# Rules that spend limits and forecasts bring along.
BROUGHT = [
    rule
    for rule in parse(
        "costs: {spend_limits: [{id: a, by: tenant, usd: 1}], forecasts: [{id: a}]}"
    ).rules
    if rule.runbook is not None
]
HEADINGS = ["Symptoms", "Immediate actions", "Steps", "Mitigation", "Escalation"]
_CALL = re.compile(r'curl -s -H "Authorization: Bearer \$KEY" "\$URL(/\S*)"')


def page(rule: AlertRule) -> str:
    assert rule.runbook is not None
    return (ROOT / rule.runbook).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Code of a page, as it is pasted."""
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```$", text, re.S | re.M)
    return [textwrap.dedent(code).strip() for code in found]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_page_says_when_its_rule_fires_and_has_five_headings(rule: AlertRule) -> None:
    text = page(rule)
    assert text.startswith(
        f"# {rule.id}\n\nFires when: {sentence(rule)}. Severity {rule.severity};"
    )
    assert re.findall(r"^## (.*)$", text, re.M) == HEADINGS
    sections = re.split(r"^## .*$", text, flags=re.M)[1:]
    assert all(section.strip() for section in sections)
    assert blocks(text, "sql")


@pytest.mark.parametrize("rule", BROUGHT, ids=lambda rule: rule.id)
def test_so_does_a_page_of_rules_that_are_brought_along(rule: AlertRule) -> None:
    text, (_, kind) = page(rule), rule.id.split(".")
    assert text.startswith(f"# {kind}\n\nFires when: ")
    assert f"rule `<id>.{kind}`" in text
    assert f". Severity {rule.severity};" in text
    assert re.findall(r"^## (.*)$", text, re.M) == HEADINGS
    assert blocks(text, "sql")


def test_there_is_no_page_without_a_rule() -> None:
    pages = {path.stem for path in (ROOT / "docs/runbooks").glob("*.md")}
    assert {rule.id for rule in BROUGHT} == {"a.spend-limit", "a.capacity"}
    assert pages == {rule.id.removeprefix("a.") for rule in (*RULES, *BROUGHT)}


def test_every_query_runs(tmp_path: Path) -> None:
    queries = {sql: rule.id for rule in (*RULES, *BROUGHT) for sql in blocks(page(rule), "sql")}
    assert len(queries) > len(RULES)
    failed = {}
    with opened_store(tmp_path) as store:
        for sql, name in queries.items():
            try:
                assert store.query(sql) == []
            except StoreError as error:
                failed[name] = str(error)
    assert failed == {}


def test_every_call_is_one_of_the_api() -> None:
    described = json.loads((ROOT / "docs/openapi.json").read_text(encoding="utf-8"))["paths"]
    for rule in (*RULES, *BROUGHT):
        for code in blocks(page(rule), "sh"):
            found = _CALL.fullmatch(code)
            assert found is not None, code
            url = urlsplit(found[1])
            known = {item["name"] for item in described[url.path]["get"].get("parameters", [])}
            assert parse_qs(url.query).keys() <= known, code
