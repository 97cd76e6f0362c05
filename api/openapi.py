"""Export of docs/openapi.json: `python -m penstock.api.openapi docs/openapi.json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from ..schemas.config import Configuration
from ..schemas.errors import StoreError
from ..schemas.ports import PipelineStatus, Receipt
from .app import build_app, describe
from .auth import Access


class _Nothing:
    """Both ports, unplugged: describing the API asks neither."""

    async def post(
        self, body: bytes, form: Literal["frames", "json"], idempotency_key: str | None
    ) -> Receipt:
        raise StoreError("nothing is plugged in")

    def status(self) -> PipelineStatus:
        return PipelineStatus(0, 0, 0.0, 0, 0)

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        raise StoreError("nothing is plugged in")

    def ping(self) -> None:
        raise StoreError("nothing is plugged in")

    def free_bytes(self) -> int | None:
        return None

    def insert(self, name: str, rows: pa.Table, token: str) -> None:
        raise StoreError("nothing is plugged in")


def document() -> str:
    """The OpenAPI document as text."""
    nothing = _Nothing()
    app = build_app(nothing, nothing, Configuration(), Access(required=False))
    return json.dumps(describe(app), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document(), encoding="utf-8")
