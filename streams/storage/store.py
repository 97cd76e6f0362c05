"""The store: ClickHouse's engine, in this process (`chdb:///folder`) or behind HTTP (`clickhouse://`).

A narrow interface, so that the experimental backend stays behind it: SQL in, dictionaries or Arrow
out, Arrow inserts with a token. Clients are pooled, because each has one lock.
"""

from __future__ import annotations

import io
import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from ...schemas.errors import InvalidConfiguration, StoreError

# 159 timeout, 202 too many queries, 209 and 210 network, 241 memory, 243 disk, 252 too many parts; of
# clusters: 225 and 999 Keeper, 242 read-only, 279 nobody answers, 285, 286 and 319 quorum, 289 stale.
RETRYABLE_CODES = frozenset(
    {0, 159, 202, 209, 210, 225, 241, 242, 243, 252, 279, 285, 286, 289, 319, 999}
)
RETRY_S = (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)
MIN_FREE_BYTES = 32 << 20
_CODE = re.compile(r"\bCode: (\d+)")
_EXAMPLES = "chdb:///folder or clickhouse://user:password@host:8123/penstock"


class Store:
    """One database `penstock`; safe to share between threads.

    Args:
        url: `chdb:///absolute/folder` or `clickhouse://user:password@host:port/database`; or
            `@/path` of a file that holds it, so that no password is on a command line.
        pauses_s: how long to wait before each repetition of an insert that may succeed later.

    Attributes:
        retries: inserts repeated so far.
        impatient: set it, and nothing is repeated any more.

    Raises:
        InvalidConfiguration: the URL is neither.
    """

    def __init__(self, url: str, pauses_s: Sequence[float] = ()) -> None:
        if url.startswith("@"):
            url = _read(Path(url[1:]))
        parts = urlsplit(url)
        if parts.scheme == "chdb" and parts.path:
            self.folder: Path | None = Path(parts.path)
            self._dsn = f"chdb://{self.folder}"
        elif parts.scheme in ("clickhouse", "clickhouses") and parts.hostname:
            self.folder = None
            self._dsn = url
        else:
            shown = url if parts.password is None else url.replace(parts.password, "***")
            raise InvalidConfiguration(f"--store must look like {_EXAMPLES}, not {shown!r}")
        self._pauses_s = tuple(pauses_s)
        self.retries = 0
        self.impatient = threading.Event()
        self._idle: list[Client] = []
        self._lock = threading.Lock()

    @contextmanager
    def _client(self) -> Iterator[Client]:
        """A client that nobody else uses meanwhile: each has one lock, and queries run in parallel."""
        # chdb opens a folder once per process; opening is not safe from two threads at once.
        with self._lock:
            client = self._idle.pop() if self._idle else self._connect()
        try:
            yield client
        except (ClickHouseError, OSError, RuntimeError) as error:
            raise _store_error(error) from error
        finally:
            with self._lock:
                self._idle.append(client)

    def _connect(self) -> Client:
        try:
            if self.folder is not None:
                self.folder.mkdir(parents=True, exist_ok=True)
                return clickhouse_connect.get_client(dsn=self._dsn)
            return clickhouse_connect.get_client(dsn=self._dsn, autogenerate_session_id=False)
        except (ClickHouseError, OSError, RuntimeError) as error:
            raise _store_error(error) from error

    def command(self, sql: str) -> None:
        """Run a statement that answers nothing.

        Raises:
            StoreError: the store is away or refuses.
        """
        with self._client() as client:
            client.command(sql)

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Rows as dictionaries; `{name:Type}` placeholders take their values from `parameters`.

        Raises:
            StoreError: the store is away or refuses.
        """
        with self._client() as client:
            result = client.query(sql, parameters=dict(parameters or {}))
            return list(result.named_results())

    def arrow(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """The answer as one Arrow table.

        Raises:
            StoreError: the store is away or refuses.
        """
        with self._client() as client:
            return client.query_arrow(sql, parameters=dict(parameters or {}), use_strings=True)

    def insert(self, name: str, rows: pa.Table, token: str) -> None:
        """Insert rows; again with the same token, it changes nothing.

        Args:
            name: table within `penstock`; columns that are absent take their defaults.
            rows: Arrow table, columns named as the table's.
            token: what makes this insert this one.

        Raises:
            StoreError: the outcome is unknown; repeat with the same token.
        """
        if rows.num_rows == 0:
            return
        buffer = io.BytesIO()
        with pa.ipc.new_stream(buffer, rows.schema) as writer:
            writer.write_table(rows)
        settings = {
            "async_insert": 0,
            "insert_deduplication_token": token,
            # Of a distributed table: answer when the rows are where they belong.
            "distributed_foreground_insert": 1,
            # The rows of one insert are unique: replacing within it would cost a third of its time.
            "optimize_on_insert": 0,
            # On a disk that is quite full the engine may keep a part whose index lacks its end.
            "min_free_disk_bytes_to_perform_insert": MIN_FREE_BYTES,
        }
        for pause_s in (*self._pauses_s, None):
            try:
                with self._client() as client:
                    client.raw_insert(
                        f"penstock.{name}",
                        column_names=rows.column_names,
                        insert_block=buffer.getvalue(),
                        fmt="ArrowStream",
                        settings=settings,
                    )
                return
            except StoreError as error:
                if not error.retryable or pause_s is None or self.impatient.is_set():
                    raise
                self.retries += 1
                self.impatient.wait(pause_s)

    def ping(self) -> None:
        """Write and read a probe row.

        Raises:
            StoreError: not readable or not writable.
        """
        self.command("INSERT INTO penstock.probe SELECT now64(6)")
        if not self.query("SELECT at FROM penstock.probe ORDER BY at DESC LIMIT 1"):
            raise StoreError("the probe row that was just written cannot be read")

    def free_bytes(self) -> int | None:
        """Free disk space below the store; None where the store is elsewhere."""
        return None if self.folder is None else shutil.disk_usage(self.folder).free

    def close(self) -> None:
        """Close every client; no other call may be under way."""
        with self._lock:
            for client in self._idle:
                client.close()
            self._idle.clear()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InvalidConfiguration(f"--store: cannot read {path}: {error.strerror}") from error


def _store_error(error: Exception) -> StoreError:
    found = _CODE.search(str(error))
    code = int(found[1]) if found else 0
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return StoreError(first_line[:500], code, code in RETRYABLE_CODES)
