"""The application under test: a real store, and an ingest port that answers what it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
from penstock.schemas.config import parse
from penstock.schemas.ports import PipelineStatus, Receipt
from starlette.types import ASGIApp

CONFIGURATION = parse("""
gates:
  - {id: one, filter: {variant: canary}, metrics: [{metric: error_rate, max_ratio: 0.01}]}
  - {id: two, metrics: [{metric: latency, field: ttft_ms, max_ms: 1200}]}
  - {id: three, metrics: [{metric: cost_per_1k_tokens_usd, max_usd: 1, cap_usd: 1}]}
""")

STATUS = PipelineStatus(
    watermark_us=1_767_225_600_000_000,
    newest_event_us=1_767_225_602_500_000,
    lag_s=2.5,
    pending_events=7,
    active_boots=3,
    totals={"frames": 4, "accepted": 10, "duplicate": 1, "rejected": 2, "late": 3, "flushes": 5},
    ingest_s={0.5: 0.01, 0.99: 0.2},
)


@dataclass
class Ingest:
    """Remembers what it got; `answer` is what it gives, or raises."""

    answer: Receipt | Exception = field(default_factory=lambda: Receipt(accepted=1))
    state: PipelineStatus = STATUS
    got: list[tuple[bytes, str, str | None]] = field(default_factory=list)

    async def post(
        self, body: bytes, form: Literal["frames", "json"], idempotency_key: str | None
    ) -> Receipt:
        self.got.append((body, form, idempotency_key))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def status(self) -> PipelineStatus:
        return self.state


class Client:
    """Asks an application without a network, one call at a time."""

    def __init__(self, app: ASGIApp, headers: dict[str, str] | None = None) -> None:
        self._app = app
        self._headers = headers or {}

    def request(self, method: str, url: str, **more: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app, raise_app_exceptions=False)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://penstock", headers=self._headers
            ) as client:
                return await client.request(method, url, **more)

        return asyncio.run(ask())

    def get(self, url: str, **parameters: Any) -> httpx.Response:
        return self.request("GET", url, params=parameters or None)

    def ok(self, url: str, **parameters: Any) -> Any:
        """The JSON of an answer that must be 200."""
        answer = self.get(url, **parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def problem(self, status: int, url: str, **parameters: Any) -> Any:
        """The problem of an answer that must be one."""
        return problem_of(self.get(url, **parameters), status)


def problem_of(answer: httpx.Response, status: int) -> Any:
    """The body of a problem, checked for its form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert set(body) - {"errors"} == {"type", "title", "status", "detail", "instance"}
    assert body["status"] == status
    assert body["instance"] == answer.request.url.path
    assert body["detail"]
    return body


async def eventually(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)
