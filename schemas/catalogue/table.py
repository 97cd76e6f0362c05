"""docs/alert-catalogue.md, made from the rules: `python -m penstock.schemas.catalogue.table PATH`."""

from __future__ import annotations

import sys
from pathlib import Path

from ..alerts.metrics import METRICS
from ..alerts.rules import AlertRule, Change, Limit, Signal, Threshold
from . import catalogue_rules

_HEAD = """\
# Alert rules that come with Penstock

Made from schemas/catalogue/ by `python -m penstock.schemas.catalogue.table docs/alert-catalogue.md`;
change it there, where each rule names the request that its numbers come from. Each links to its
runbook. How rules work: [alerts.md](alerts.md).

```yaml
alerts:
  catalogue:
    groups: [latency, errors, availability]   # without `groups` and `rules`: all
    products: [llm]           # of llm-, agent- and online- rules, those of yours; without it, all three
    rules: [dead-letters]     # single ones besides, whatever their group and product
    overrides:
      llm-latency-p95-high: {value: 2000, resolve_below: 1800}
      error-rate-high: {severity: critical, for_s: 60, min_requests: 200}
      deadman-requests: {absent_s: 900}
      errors-spike: {value: 6, min_baseline: 3}
      errors-hot-shard: {disabled: true}
```

`alerts: {catalogue: all}` takes everything. An override changes what it names; a new `value` ends the
rule's hysteresis unless that is given too. A rule under `alerts: rules:` takes the place of its namesake.
Rules whose signal the file does not define are left out, and `penstock check` lists them with what is
taken. In Python: `catalogue_rules(names, groups)`.

Rules of a signal need a drift monitor, budget or objective of that id. These will do, with your
numbers:

```yaml
drift:
  monitors:
    - {id: inputs, features: [input_tokens], categories: [language]}
    - {id: predictions, features: [output_score], categories: [output_class]}
costs:
  budgets:
    - {id: weekly, usd: 5000}
slos:
  - {id: availability, sli: {kind: availability}, target: 99.9 %, window: 30d}
```

What a value is: of drift the largest PSI of the monitor, of budget `weekly` what is spent or expected
over what is planned, of budget `availability` the spent share of the error budget, of burn rate
`availability` multiples of the rate of the budget over an hour.

Queries of the runbooks are for ClickHouse, as `clickhouse client` or Grafana asks it; embedded, the
store belongs to the server ([panes.md](panes.md)). Calls want `URL` and `KEY`, as in [api.md](api.md).
"""


def sentence(rule: AlertRule) -> str:
    """When a rule is broken, in one line.

    >>> from . import catalogue_rules
    >>> sentence(catalogue_rules(["error-rate-high"])[0])
    'error_rate over 5m > 1 %, each model, for 5 min'
    """
    where = f", each {rule.by.replace('_', ' and ')}" if rule.by else ""
    held = f", for {_time(rule.for_s)}" if rule.for_s else ""
    return f"{_condition(rule)}{where}{held}"


def _condition(rule: AlertRule) -> str:
    condition = rule.condition
    if isinstance(condition, Threshold):
        unit = METRICS[condition.metric].unit
        return f"{condition.metric} over {condition.window} {_limit(condition, unit)}"
    if isinstance(condition, Change):
        now = f"{condition.metric} over {condition.window}"
        before = f"the {condition.baseline} that ended {_time(condition.offset_s)} before"
        if condition.compare == "ratio":
            return f"{now} {_limit(condition, 'times')} {before}"
        return f"{now} less {before} {_limit(condition, METRICS[condition.metric].unit)}"
    if isinstance(condition, Signal):
        said = _limit(condition.limit, "number") if condition.limit else "says so"
        return f"{condition.kind.replace('_', ' ')} `{condition.id}` {said}"
    return f"no {condition.of} for {_time(condition.absent_s)}"


def _limit(limit: Limit, unit: str) -> str:
    if unit == "ratio":
        return f"{limit.op} {limit.value * 100:g} %"
    suffix = "" if unit in ("count", "number") else f" {unit}"
    return f"{limit.op} {limit.value:g}{suffix}"


def _time(seconds: int) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds % length == 0:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def markdown() -> str:
    """The page."""
    parts, group = [_HEAD], ""
    for rule in catalogue_rules():
        if rule.group != group:
            group = rule.group
            parts.append(f"\n## {group}\n\n| rule | fires when | severity |\n|---|---|---|\n")
        parts.append(
            f"| [{rule.id}](runbooks/{rule.id}.md) | {sentence(rule)} | {rule.severity} |\n"
        )
    return "".join(parts)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(markdown(), encoding="utf-8")
