"""Verdicts told to people and to pipelines: text, JSON, JUnit, GitHub."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from ..streams.core.gates.offline.conclude import amount
from .gate_asking import EXIT_CODES

Body = dict[str, Any]
_WORST = ("FAIL", "INVALID", "NO_DATA", "UNDECIDED", "PASS")
_HEAD = ("metric", "decision", "estimate", "interval", "allowed", "e FAIL", "e PASS", "n")
_LEVELS = {"PASS": "notice", "UNDECIDED": "warning"}
_CONCLUSIONS = {"PASS": "success", "FAIL": "failure", "UNDECIDED": "neutral"}
# What XML 1.0 cannot hold at all.
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Told:
    """The verdict of one gate, as `Verdict.to_dict` or the server tells it."""

    gate: str
    kind: str
    body: Body

    @property
    def verdict(self) -> str:
        """PASS, FAIL, UNDECIDED, NO_DATA or INVALID."""
        return str(self.body["verdict"])

    @property
    def text(self) -> str:
        """One sentence."""
        return str(self.body["text"])


def worst_of(told: Sequence[Told]) -> str:
    """What several gates say together: FAIL before what cannot be told, PASS only if all pass."""
    verdicts = {one.verdict for one in told}
    return next(name for name in _WORST if name in verdicts)


def as_text(told: Sequence[Told]) -> str:
    """A line of decision per gate, each with its table of evidence."""
    return "\n\n".join("\n".join(_gate_lines(one)) for one in told) + "\n"


def _gate_lines(told: Told) -> Iterator[str]:
    yield f"{told.gate}: {told.text}"
    yield from (f"  {line}" for line in table_of(told.body["evidence"]))
    for check in told.body.get("checks", ()):
        if not check.get("ok", True) or check["check"] == "input":
            yield f"  {check['check']}: {check.get('text', 'not ok')}"


def table_of(evidence: Sequence[Body]) -> list[str]:
    """The evidence as lines of equal columns; e-values as powers of ten over their thresholds."""
    if not evidence:
        return []
    rows = [_HEAD, *(_row(item) for item in evidence)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEAD))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _row(item: Body) -> tuple[str, ...]:
    unit = str(item["unit"])
    ends = [_amount(item[end], unit) for end in ("low", "high")]
    return (
        str(item["metric"]) + ("" if item["critical"] else " (advisory)"),
        str(item["decision"]),
        _amount(item["estimate"], unit),
        f"{ends[0]} to {ends[1]}",
        str(item["declared"]),
        f"{item['log10_e_fail']:.3g}/{item['threshold_fail']:.3g}",
        f"{item['log10_e_pass']:.3g}/{item['threshold_pass']:.3g}",
        f"{item['n']:,}",
    )


def _amount(value: float | None, unit: str) -> str:
    return "-" if value is None else amount(value, unit)


def as_json(told: Sequence[Told]) -> str:
    """One document: the verdict of all, its exit code, and each gate's."""
    verdict = worst_of(told)
    gates = [{"gate": one.gate, "kind": one.kind, **one.body} for one in told]
    document = {"verdict": verdict, "exit_code": EXIT_CODES[verdict], "gates": gates}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def as_junit(told: Sequence[Told]) -> str:
    """JUnit XML: FAIL is a failure, NO_DATA and INVALID are errors, UNDECIDED is skipped."""
    tags = {"FAIL": "failure", "UNDECIDED": "skipped", "NO_DATA": "error", "INVALID": "error"}
    counts = dict.fromkeys(("failure", "error", "skipped"), 0)
    suite = ElementTree.Element("testsuite", name="penstock gate run")
    for one in told:
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"gate.{one.kind}", name=_xml(one.gate)
        )
        lines = _xml("\n".join(_gate_lines(one)))
        tag = tags.get(one.verdict)
        if tag is None:
            ElementTree.SubElement(case, "system-out").text = lines
            continue
        counts[tag] += 1
        ElementTree.SubElement(case, tag, message=_xml(one.text), type=one.verdict).text = lines
    suite.set("tests", str(len(told)))
    for tag, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(name, str(counts[tag]))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    head = '<?xml version="1.0" encoding="utf-8"?>\n'
    return head + ElementTree.tostring(root, encoding="unicode") + "\n"


def _xml(text: str) -> str:
    return _NOT_XML.sub("?", text)


def as_github(told: Sequence[Told]) -> str:
    """Workflow commands: one annotation per gate, then the tables in a group."""
    lines = []
    for one in told:
        level = _LEVELS.get(one.verdict, "error")
        title = _property(f"gate {one.gate}: {one.verdict}")
        lines.append(f"::{level} title={title}::{_data(one.text)}")
        lines += [f"::group::gate {one.gate}", *_gate_lines(one), "::endgroup::"]
    return "\n".join(lines) + "\n"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def as_markdown(told: Sequence[Told]) -> str:
    """A job summary: the decision and the evidence of each gate."""
    parts = []
    for one in told:
        table = "\n".join(table_of(one.body["evidence"]))
        parts.append(f"### Gate `{one.gate}`: {one.verdict}\n\n{one.text}\n")
        parts += [f"```text\n{table}\n```\n"] if table else []
    return "\n".join(parts)


def as_check_run(told: Sequence[Told], head_sha: str) -> str:
    """The body of GitHub's `POST /repos/{owner}/{repo}/check-runs`: UNDECIDED is neutral."""
    verdict = worst_of(told)
    title = f"{verdict}: {', '.join(one.gate for one in told if one.verdict == verdict)}"
    document = {
        "name": "penstock gates",
        "head_sha": head_sha,
        "status": "completed",
        "conclusion": _CONCLUSIONS.get(verdict, "action_required"),
        "output": {"title": title, "summary": as_markdown(told)},
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
