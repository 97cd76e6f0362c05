"""One answer: its headers, its bytes, its errors, as ClickHouse sends them."""

from __future__ import annotations

import asyncio
import json
import secrets
import string
import tempfile
import threading
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import TimeoutError as NotYet
from typing import IO, Any

from .blocks import BlockEncoder
from .coding import Encoder, chosen, encoder
from .errors import ClientGone, QueryFailed
from .execute import Summary
from .request import Request

Message = dict[str, Any]
Send = Callable[[Message], Awaitable[None]]

DISPLAY_NAME = "penstock-store"
# An answer up to this size is sent whole, so that its headers tell what it cost or that it failed.
_HELD_BYTES = 1 << 20
_SENT_BYTES = 1 << 16
_IN_MEMORY_BYTES = 16 << 20
_WAIT_S = 0.5
_TEXT = "text/plain; charset=UTF-8"
_CONTENT_TYPES = {
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "CSVWithNamesAndTypes": "text/csv; charset=UTF-8; header=present",
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "JSONCompactEachRow": "application/x-ndjson; charset=UTF-8",
    "Native": "application/octet-stream",
    "Parquet": "application/octet-stream",
    "RowBinary": "application/octet-stream",
    "Arrow": "application/vnd.apache.arrow.file",
    "ArrowStream": "application/vnd.apache.arrow.stream",
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TabSeparatedWithNames": "text/tab-separated-values; charset=UTF-8",
    "TabSeparatedWithNamesAndTypes": "text/tab-separated-values; charset=UTF-8",
    "XML": "application/xml; charset=UTF-8",
}


class Answer:
    """The answer of one request, written by the thread that runs it.

    Args:
        version: of the engine, told with errors.
        timezone: of the engine, told in a header.
    """

    def __init__(self, request: Request, version: str, timezone: str, send: Send) -> None:
        self._request = request
        self._version = version
        self._timezone = timezone
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._tag = "".join(secrets.choice(string.ascii_lowercase) for _ in range(16))
        self._encoder: Encoder | None = None
        self._begun = False
        self._form = ""
        self._held: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115
        self._held_bytes = 0
        self._small = bytearray()
        self._most_held = 1 << 62 if request.flag("wait_end_of_query") else _HELD_BYTES
        self.query_id = request.reserved.get("query_id") or str(uuid.uuid4())
        self.summary = Summary()
        self.gone = threading.Event()

    def start(self, form: str) -> None:
        """The statement runs; its answer is of this format, empty where it has none."""
        self._form = form

    def write(self, data: bytes) -> None:
        """The next bytes; blocks until the client takes them.

        Raises:
            ClientGone: it will not.
        """
        if self.gone.is_set():
            raise ClientGone
        if not self._begun and self._held_bytes + len(data) <= self._most_held:
            self._held.write(data)
            self._held_bytes += len(data)
            return
        self._release()
        # Blocks of a few rows are sent together: a hand-over to the loop costs more than they do.
        if len(data) < _SENT_BYTES:
            self._small += data
            data = b""
        if data or len(self._small) >= _SENT_BYTES:
            small, self._small = bytes(self._small), bytearray()
            self._write(small)
            self._write(data)

    def finish(self) -> None:
        """The end of an answer that succeeded."""
        self._release()
        self._end(bytes(self._small))

    def fail(self, error: QueryFailed) -> None:
        """The end of an answer that failed.

        Where its headers are sent, they cannot say so any more: the error follows the rows, and the
        body is left without its end, so that no client takes it for whole.
        """
        text = f"{error.text} (version {self._version})\n"
        if self._begun:
            block = (
                f"\r\n__exception__\r\n{self._tag}\r\n{text}{len(text.encode())} {self._tag}"
                "\r\n__exception__\r\n"
            )
            self._end(bytes(self._small) + block.encode(), more=True)
            return
        self._held.close()
        self._held_bytes = 0
        headers = {"X-ClickHouse-Exception-Code": str(error.code), "Content-Type": _TEXT}
        if error.code == 194:
            headers["WWW-Authenticate"] = 'Basic realm="penstock store"'
        self._begin(error.status, headers)
        self._end(text.encode())

    def close(self) -> None:
        """Let go of what was held back, whatever became of it."""
        self._held.close()

    def _release(self) -> None:
        """Send headers and what was held back."""
        if self._begun:
            return
        self._begin(200, {})
        self._held.seek(0)
        while piece := self._held.read(_HELD_BYTES):
            self._write(piece)
        self._held.close()

    def _begin(self, status: int, extra: dict[str, str]) -> None:
        self._begun = True
        form = self._form
        headers = {
            "Content-Type": _CONTENT_TYPES.get(form, _TEXT),
            "X-ClickHouse-Server-Display-Name": DISPLAY_NAME,
            "X-ClickHouse-Query-Id": self.query_id,
            "X-ClickHouse-Timezone": self._timezone,
            "X-ClickHouse-Exception-Tag": self._tag,
            "X-ClickHouse-Summary": json.dumps(self.summary.told()),
            "Access-Control-Expose-Headers": (
                "X-ClickHouse-Query-Id,X-ClickHouse-Summary,X-ClickHouse-Server-Display-Name,"
                "X-ClickHouse-Format,X-ClickHouse-Timezone,X-ClickHouse-Exception-Code,"
                "X-ClickHouse-Exception-Tag"
            ),
            **({"X-ClickHouse-Format": form} if form else {}),
            **extra,
        }
        self._choose_encoder(headers, empty=status == 200 and not self._form)
        pairs = [(key.lower().encode(), value.encode()) for key, value in headers.items()]
        self._wait({"type": "http.response.start", "status": status, "headers": pairs})

    def _choose_encoder(self, headers: dict[str, str], empty: bool) -> None:
        request = self._request
        if empty:
            headers["Content-Length"] = "0"
        elif request.flag("compress"):
            method = request.settings.get("network_compression_method", "LZ4")
            self._encoder = BlockEncoder(method)
        elif request.reserved.get("enable_http_compression", "1") not in ("0", "false") and (
            name := chosen(request.headers.get("accept-encoding", ""))
        ):
            headers["Content-Encoding"] = name
            self._encoder = encoder(name)

    def _write(self, data: bytes) -> None:
        # In pieces: what the server is given at once it holds until the client has taken it.
        for at in range(0, len(data), _HELD_BYTES):
            piece = data if len(data) <= _HELD_BYTES else data[at : at + _HELD_BYTES]
            body = self._encoder.compress(piece) if self._encoder else piece
            if body:
                self._wait({"type": "http.response.body", "body": body, "more_body": True})

    def _end(self, data: bytes, more: bool = False) -> None:
        if self._encoder:
            data = self._encoder.compress(data) + self._encoder.flush()
        self._wait({"type": "http.response.body", "body": data, "more_body": more})

    def _wait(self, message: Message) -> None:
        """Send from this thread.

        Raises:
            ClientGone: nobody will take it.
        """

        async def run() -> None:
            await self._send(message)

        sending = asyncio.run_coroutine_threadsafe(run(), self._loop)
        while True:
            try:
                sending.result(_WAIT_S)
                return
            except NotYet:
                if self.gone.is_set():
                    sending.cancel()
                    raise ClientGone from None
