"""POST /v1/events: events in, answered when they are durable."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.concurrency import run_in_threadpool

from ..schemas.errors import InvalidFrame, InvalidQuery
from ..schemas.ports import IngestPort, Receipt
from .answers import Answer
from .bodies import FORMS, decompress, encoding_of, form_of, read_bounded
from .models import ReceiptAnswer
from .problems import described

MAX_REJECTIONS = 100
# Below this, handing bytes to a thread costs more than decompressing them.
_SMALL_BODY = 64 * 1024
_EXAMPLE = {
    "event": "request",
    "ts": "2026-01-01T00:00:00.250Z",
    "worker_id": "w-1",
    "request_id": "r-17",
    "model": "chat",
    "status": "ok",
    "latency_ms": 812.5,
    "ttft_ms": 104.2,
    "output_tokens": 96,
}
_SCHEMAS: dict[str, dict[str, Any]] = {
    "application/json": {
        "schema": {
            "oneOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}],
            "description": "One event or an array of them; docs/events.md has the fields.",
        },
        "example": [_EXAMPLE],
    },
    "application/x-ndjson": {
        "schema": {"type": "string", "description": "One event per line."},
        "example": '{"event":"request","ts":1767225600250000,"model":"chat","status":"ok"}\n',
    },
    "application/vnd.penstock.frames": {
        "schema": {
            "type": "string",
            "format": "binary",
            "description": "Frames, one after another; docs/frames.md specifies them.",
        }
    },
}
_REQUEST_BODY = {"requestBody": {"required": True, "content": {t: _SCHEMAS[t] for t in FORMS}}}


class Events:
    """Takes bodies apart as far as HTTP goes and hands them to the port."""

    def __init__(self, ingest: IngestPort, max_body_mb: int) -> None:
        self._ingest = ingest
        self._limit_bytes = max_body_mb * 2**20

    async def post(
        self,
        request: Request,
        idempotency_key: Annotated[
            str | None,
            Header(
                description="Makes the POST repeatable: again with this key it changes nothing."
            ),
        ] = None,
        content_encoding: Annotated[
            str | None, Header(description="identity, gzip or zstd.", examples=["zstd"])
        ] = None,
    ) -> Response:
        """Store events. 202 tells how many were new, repeated, or rejected and why.

        The answer comes when the rows are durable. One bad row never blocks its neighbours: it goes
        to quarantine and is listed here, up to 100 of them. Frames carry their own identity, so
        sending one again changes nothing; JSON without an Idempotency-Key counts again.
        """
        form, encoding = form_of(request.headers), encoding_of(request.headers)
        key = _checked(idempotency_key)
        declared = request.headers.get("content-length")
        body = await read_bounded(request.stream(), declared, self._limit_bytes)
        if encoding != "identity":
            body = await self._decompressed(body, encoding)
        if not body:
            raise InvalidFrame("the body is empty")
        return Answer(told(await self._ingest.post(body, form, key)), 202)

    async def _decompressed(self, body: bytes, encoding: str) -> bytes:
        if len(body) < _SMALL_BODY:
            return decompress(body, encoding, self._limit_bytes)
        return await run_in_threadpool(decompress, body, encoding, self._limit_bytes)


def told(receipt: Receipt) -> dict[str, Any]:
    """A receipt as the API answers it."""
    return {
        "accepted": receipt.accepted,
        "duplicate": receipt.duplicate,
        "rejected": receipt.rejected,
        "rejections": [
            {"index": item.index, "reason": item.reason, "detail": item.detail}
            for item in receipt.rejections[:MAX_REJECTIONS]
        ],
    }


def routes(ingest: IngestPort, max_body_mb: int) -> APIRouter:
    """The routes of this module."""
    router = APIRouter(tags=["events"])
    router.add_api_route(
        "/v1/events",
        Events(ingest, max_body_mb).post,
        methods=["POST"],
        status_code=202,
        response_model=ReceiptAnswer,
        responses=described(400, 401, 403, 409, 413, 415, 422, 429, 503),
        openapi_extra=_REQUEST_BODY,
        summary="Store events",
    )
    return router


def _checked(key: str | None) -> str | None:
    if key is not None and not (0 < len(key) <= 255 and key.isascii() and key.isprintable()):
        raise InvalidQuery("Idempotency-Key must be 1 to 255 printable ASCII characters")
    return key
