"""Alerts that the faults of the demo must raise, and what must be found out about each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..producers.faults import FaultName
from .faults_view import WORDS


@dataclass(frozen=True, slots=True)
class Expected:
    """An alert that must fire.

    Attributes:
        why: it fires.
        names: what its explanation must say.
    """

    why: str
    names: tuple[str, ...]

    def lacks(self, said: str) -> list[str]:
        """Which names an explanation does not say."""
        return [name for name in self.names if name not in said]


_DECODE = ("phase decode explains", "step ")
_UPSTREAM = ("error type upstream ",)
_NONE_LEFT = ("nothing is left of it, in any slice",)
EXPECTED: Mapping[FaultName, Mapping[str, Expected]] = {
    "slow": {
        "llm-latency-p95-high": Expected(
            "decoding takes twice as long, and most of the latency is decoding", _DECODE
        ),
        "latency-degraded": Expected("twice what it was half an hour ago", _DECODE),
        "gpu-utilization-high": Expected(
            "the device waits for the host a smaller part of each step",
            ("no slice stands out", "step "),
        ),
    },
    "errors": {
        "error-rate-high": Expected("15 % of the requests fail", _UPSTREAM),
        "error-rate-critical": Expected("more than 5 % do", _UPSTREAM),
        "error-rate-very-high": Expected("more than 10 % do", _UPSTREAM),
        "success-rate-low": Expected("fewer than 95 % succeed", _UPSTREAM),
        "errors-spike": Expected("more than ten times as many as half an hour ago", _UPSTREAM),
        "slo-burn-rate": Expected(
            "98 % were promised, and the budget burns faster than it may", _UPSTREAM
        ),
        "error-budget-low": Expected(
            "the month so far is this hour, and its budget is gone within minutes", _UPSTREAM
        ),
        "slo-breached": Expected("the same, a few minutes later", _UPSTREAM),
    },
    "safety": {
        "safety-violations": Expected(
            "3 % of the answers carry a safety flag", ("no slice stands out",)
        )
    },
    "cost": {
        "cost-per-1k-tokens-jump": Expected(
            "tokens cost 1.6 times as much", ("no slice stands out", "requests: input tokens")
        )
    },
    "drift": {
        "data-drift": Expected(
            "the routes that requests take have changed", ("route changed most", "route agent ")
        )
    },
    "outage": {
        "no-healthy-replicas": Expected("every worker says that its engine is down", _NONE_LEFT),
        "replicas-degraded": Expected("fewer are healthy than are wanted", _NONE_LEFT),
        "throughput-low": Expected("nothing is answered", _NONE_LEFT),
        "token-throughput-low": Expected("no token is generated", _NONE_LEFT),
        "deadman-requests": Expected("no request for five minutes", _NONE_LEFT),
        "deadman-model": Expected("none for ten minutes, and there is one model", _NONE_LEFT),
    },
    "silent-worker": {
        "workers-lost": Expected(
            "one of five workers says nothing any more", ("worker=worker-1 explains 100 %",)
        )
    },
}
"""Per fault, the rules that must fire, each once, why, and what must have been found out; no other may."""


def expected(faults: Iterable[FaultName]) -> dict[str, Expected]:
    """Rules that must fire."""
    return {rule: item for name in faults for rule, item in EXPECTED[name].items()}


def markdown() -> str:
    """The table of docs/demo.md: what goes wrong, rules that must fire and why, what explains them."""
    lines = []
    for fault, rules in EXPECTED.items():
        told = "; ".join(f"`{rule}`: {item.why}" for rule, item in rules.items())
        names = {", ".join(f'"{name.strip()}"' for name in item.names) for item in rules.values()}
        lines.append(f"| `{fault}` | {WORDS[fault]} | {told} | {'; '.join(sorted(names))} |")
    return "\n".join(lines)
