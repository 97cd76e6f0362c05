"""Errors as application/problem+json (RFC 9457): one form for every fault of every route."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from ..schemas.errors import (
    Backpressure,
    BrokerAway,
    InvalidQuery,
    PenstockError,
    StoreError,
    Unauthorized,
)

MEDIA_TYPE = "application/problem+json"


class FieldProblem(BaseModel):
    """One parameter that is wrong."""

    field: str = Field(examples=["query.limit"])
    message: str = Field(examples=["Input should be less than or equal to 1000"])


class Problem(BaseModel):
    """What went wrong, and what to do about it."""

    type: str = Field(
        description="What kind of problem: `urn:penstock:problem:` and a slug of docs/api.md.",
        examples=["urn:penstock:problem:not-found"],
    )
    title: str = Field(examples=["Not found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["no request has the id 'r-17'"])
    instance: str = Field(description="Path that was asked.", examples=["/v1/requests/r-17"])
    errors: list[FieldProblem] = Field(default=[], description="Each parameter that is wrong.")


def problem(
    request: Request,
    status: int,
    slug: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
    errors: list[dict[str, str]] | None = None,
) -> Response:
    """A problem as a response."""
    body: dict[str, Any] = {
        "type": f"urn:penstock:problem:{slug}",
        "title": slug.replace("-", " ").capitalize(),
        "status": status,
        "detail": detail,
        "instance": request.url.path,
    }
    if errors:
        body["errors"] = errors
    return Response(orjson.dumps(body), status, dict(headers or {}), MEDIA_TYPE)


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route in OpenAPI: the problems it may answer with."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


def install(app: FastAPI) -> None:
    """Answer every error of the application as a problem."""
    app.add_exception_handler(PenstockError, _of_penstock)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(Exception, _of_bug)


async def _of_penstock(request: Request, error: Exception) -> Response:
    assert isinstance(error, PenstockError)
    headers = {}
    if isinstance(error, Backpressure):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    elif isinstance(error, BrokerAway) or (isinstance(error, StoreError) and error.retryable):
        headers["Retry-After"] = "1"
    elif isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = 'Bearer realm="penstock"'
    return problem(request, error.http_status, error.slug, str(error), headers)


async def _of_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [
        {"field": ".".join(map(str, item["loc"])), "message": str(item["msg"])}
        for item in error.errors()
    ]
    detail = "; ".join(f"{item['field']}: {item['message']}" for item in errors)
    return problem(request, 422, InvalidQuery.slug, detail, errors=errors)


async def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    detail = error.detail
    if error.status_code == 404 and detail == phrase:
        detail = "there is nothing at this path; /openapi.json lists what there is"
    elif error.status_code == 405:
        detail = f"{request.method} is not answered here"
    slug = phrase.lower().replace(" ", "-")
    return problem(request, error.status_code, slug, detail, error.headers)


async def _of_bug(request: Request, error: Exception) -> Response:
    # The text of an unforeseen error may hold data; the server's log has it, the answer does not.
    return problem(
        request, 500, PenstockError.slug, f"{type(error).__name__}: see the server's log"
    )
