"""Runs one request in a thread: statement, connection, settings, rows in, rows out."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from .access import NO_EXPRESSIONS, within_limits
from .blocks import unpacked
from .bodies_held import held
from .coding import decoded
from .engine import DATABASE, ENGINE_ERRORS, Engine, apply_settings, quoted_name
from .errors import QueryFailed, from_engine
from .native import with_protocol
from .pipe import PipedAnswer
from .policy import VALUES_LOOKED_THROUGH_BYTES, Policy, has_denied_name
from .request import Request
from .sessions import Sessions
from .statement import MAX_QUERY_BYTES, Parser, Statement, split_insert
from .users import User

_SELECT = "SelectWithUnionQuery"
# Formats whose chunks, one behind the other, are the whole.
_CHUNKED = {
    name.lower(): name
    for name in (
        "CSV",
        "JSONCompactEachRow",
        "JSONEachRow",
        "JSONLines",
        "JSONStringsEachRow",
        "LineAsString",
        "NDJSON",
        "Native",
        "RowBinary",
        "TSKV",
        "TSV",
        "TSVRaw",
        "TabSeparated",
        "TabSeparatedRaw",
    )
}


class Sink(Protocol):
    """Where an answer goes; every call may block until the client has taken it."""

    def start(self, form: str) -> None:
        """The statement runs; its answer is of this format, empty where it has none."""
        ...

    def write(self, data: bytes) -> None:
        """The next bytes of the answer.

        Raises:
            ClientGone: nobody reads them.
        """
        ...


@dataclass(slots=True)
class Summary:
    """What X-ClickHouse-Summary tells."""

    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    result_rows: int = 0
    result_bytes: int = 0
    started_s: float = field(default_factory=time.perf_counter)

    def told(self) -> dict[str, str]:
        """As ClickHouse tells it: numbers as text."""
        return {
            "read_rows": str(self.read_rows),
            "read_bytes": str(self.read_bytes),
            "written_rows": str(self.written_rows),
            "written_bytes": str(self.written_bytes),
            "total_rows_to_read": str(self.read_rows),
            "result_rows": str(self.result_rows),
            "result_bytes": str(self.result_bytes),
            "elapsed_ns": str(int((time.perf_counter() - self.started_s) * 1e9)),
        }


@dataclass(slots=True)
class Job:
    """One request on its way through the engine.

    Attributes:
        body: yields the pieces of the body as they arrive.
        limit_bytes: length of a body, after decompression.
        tag: stands in the text of the statement, so that it can be found and ended.
        reads: whether it only reads, so that it may be ended when nobody waits for it.
    """

    user: User
    request: Request
    body: Iterator[bytes]
    sink: Sink
    limit_bytes: int
    summary: Summary
    tag: str = field(default_factory=lambda: uuid.uuid4().hex)
    reads: bool = False


class Executor:
    """Runs jobs on an engine; safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        self._limits = engine.limits
        self._parser = Parser(engine)
        self._policy = Policy(engine)
        self.sessions = Sessions(engine)

    def execute(self, job: Job) -> None:
        """Run a job to its end.

        Raises:
            QueryFailed: the statement is refused or fails.
            ClientGone: nobody reads the answer.
        """
        request = job.request
        statement, data = self._read(job)
        self._policy.check(job.user, statement, request)
        job.reads = statement.kind == _SELECT
        settings = within_limits(job.user.role, request.settings, self._limits)
        try:
            with self.sessions.connection(job.user, request) as connection:
                _run(connection, job, statement, data, settings)
        except ENGINE_ERRORS as error:
            raise from_engine(error) from error

    def _read(self, job: Job) -> tuple[Statement, Iterator[bytes]]:
        """The statement at the head of URL and body, and the data behind it."""
        asked = job.request.reserved.get("query", "")
        pieces = _body(job)
        head = bytearray(asked.encode() + b"\n" if asked else b"")
        for piece in pieces:
            head += piece
            if len(head) > MAX_QUERY_BYTES:
                break
        at = split_insert(bytes(head[:MAX_QUERY_BYTES]))
        if at is not None:
            statement = self._parser.parse(_text(head[:at]), takes_data=True)
            return statement, _joined(bytes(head[at:]), pieces)
        if len(head) > MAX_QUERY_BYTES:
            raise QueryFailed(
                62, f"Syntax error: Max query size exceeded ({MAX_QUERY_BYTES} bytes)"
            )
        return self._parser.parse(_text(head), takes_data=False), iter(())


def _body(job: Job) -> Iterator[bytes]:
    headers = job.request.headers
    if headers.get("content-type", "").startswith("multipart/"):
        raise QueryFailed(48, "External tables (multipart bodies) are not supported")
    pieces = decoded(job.body, headers.get("content-encoding", ""))
    if job.request.flag("decompress"):
        pieces = unpacked(pieces)
    return _limited(pieces, job.limit_bytes)


def _limited(pieces: Iterator[bytes], limit_bytes: int) -> Iterator[bytes]:
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > limit_bytes:
            raise QueryFailed(
                229, f"The body is longer than {limit_bytes} bytes: send less at once"
            )
        yield piece


def _text(head: bytearray) -> str:
    try:
        return head.decode()
    except UnicodeDecodeError as error:
        raise QueryFailed(62, "Syntax error: the statement is not UTF-8") from error


def _joined(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _run(
    connection: Any,
    job: Job,
    statement: Statement,
    data: Iterator[bytes],
    settings: Mapping[str, str],
) -> None:
    """Run a statement; settings of the request last as long as the request."""
    request = job.request
    in_session = "session_id" in request.reserved
    if request.database and (in_session or request.database != DATABASE):
        connection.query(f"USE {quoted_name(request.database)}")
    before = _values(connection, settings) if in_session else {}
    apply_settings(connection, settings)
    try:
        if statement.takes_data:
            _insert(connection, job, statement, data)
        else:
            _answer(connection, job, statement)
    finally:
        for name, value in before.items():
            connection.query(f"SET {name} = {value}")


def _values(connection: Any, settings: Mapping[str, str]) -> dict[str, str]:
    """The values that settings have now, as they stand in SET."""
    known = {name for name in settings if name.isidentifier() and name.isascii()}
    if not known:
        return {}
    names = ", ".join(f"'{name}'" for name in known)
    answer = connection.query(
        "SELECT name, if(changed, concat('\\'', replaceAll(replaceAll(value, '\\\\', '\\\\\\\\'),"
        f" '\\'', '\\\\\\''), '\\''), 'DEFAULT') FROM system.settings WHERE name IN ({names})",
        "TSVRaw",
    )
    lines = answer.bytes().decode().splitlines()
    return dict(line.split("\t", 1) for line in lines)


def _insert(connection: Any, job: Job, statement: Statement, data: Iterator[bytes]) -> None:
    if statement.form == "Values" and job.user.role == "writer":
        data = _looked_through(connection, job, data)
    # The engine's streaming insert answers well for what was refused (too many parts, no space).
    with held(data) as path:
        result = connection.query(statement.insert_from(path))
    rows, size = result.rows_written(), result.bytes_written()
    job.summary.written_rows = job.summary.result_rows = job.summary.read_rows = rows
    job.summary.written_bytes = job.summary.result_bytes = job.summary.read_bytes = size
    job.sink.start("")


def _looked_through(connection: Any, job: Job, data: Iterator[bytes]) -> Iterator[bytes]:
    """Data of the format Values, whose expressions no check of the statement has seen."""
    head = bytearray()
    for piece in data:
        head += piece
        if len(head) > VALUES_LOOKED_THROUGH_BYTES:
            apply_settings(connection, {name: str(value) for name, value in NO_EXPRESSIONS.items()})
            return _joined(bytes(head), data)
    if has_denied_name(bytes(head)):
        raise QueryFailed(497, f"{job.user.name}: Not enough privileges: the name file")
    return iter((bytes(head),))


def _answer(connection: Any, job: Job, statement: Statement) -> None:
    form = statement.form or job.request.default_format
    if not form.isalnum() or not form.isascii():
        raise QueryFailed(73, f"Unknown format {form}")
    form = _CHUNKED.get(form.lower(), form)
    mark = f"\n/* {job.tag} */"
    text = statement.text.rstrip().rstrip(";") + mark
    parameters = dict(job.request.parameters)
    if statement.kind != _SELECT:
        _whole(connection.query(text, form, params=parameters), job, form)
    elif form in _CHUNKED.values():
        _chunked(connection.send_query(text, form, params=parameters), job, form)
    else:
        piped = PipedAnswer(
            lambda path: connection.query(
                statement.into(path, form) + mark, form, params=parameters
            )
        )
        for piece in piped.pieces():
            job.summary.result_bytes += len(piece)
            job.sink.start(form)
            job.sink.write(piece)
        _count(job.summary, piped.result)
        job.sink.start(form)


def _whole(result: Any, job: Job, form: str) -> None:
    body = _for_client(result.bytes(), job, form)
    _count(job.summary, result)
    job.summary.result_bytes = len(body)
    job.sink.start(form if body else "")
    if body:
        job.sink.write(body)


def _count(summary: Summary, result: Any) -> None:
    summary.read_rows, summary.read_bytes = result.storage_rows_read(), result.storage_bytes_read()
    summary.written_rows, summary.written_bytes = result.rows_written(), result.bytes_written()
    summary.result_rows = result.rows_read()


def _chunked(stream: Any, job: Job, form: str) -> None:
    try:
        chunk = stream.fetch()
        job.sink.start(form)
        while chunk is not None:
            body = chunk.bytes()
            job.summary.result_rows += chunk.rows_read()
            job.summary.result_bytes += len(body)
            job.summary.read_rows = chunk.storage_rows_read()
            job.summary.read_bytes = chunk.storage_bytes_read()
            # A block may be large: hold it no longer than the client needs to take it.
            chunk = None
            job.sink.write(_for_client(body, job, form))
            del body
            chunk = stream.fetch()
    finally:
        stream.cancel()


def _for_client(body: bytes, job: Job, form: str) -> bytes:
    version = job.request.reserved.get("client_protocol_version", "0")
    if form != "Native" or not version.isdigit() or version == "0":
        return body
    return with_protocol(body, int(version))
