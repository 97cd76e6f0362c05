"""Dead letters sent again: mended where they are rows, checked before they leave, stored once.

Ingestion would count the number of a row that it rejects again as used up, and then drop the row when
it comes mended. So nothing is sent that would be rejected.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast, get_args

import orjson

from ...schemas.errors import InvalidEvent, InvalidFrame, InvalidQuery, PenstockError
from ...schemas.events import ALIASES, EventName, field_kinds, fields_of
from ...schemas.fields import stored_name
from ...schemas.frames import MAGIC, FrameHeader, encode_frame
from ...schemas.ports import Receipt
from ..core.columns import integers
from ..core.decode import Batch, decode_frame
from ..core.defaults import with_status
from ..core.json_events import read_json
from ..core.preview import redact_detail
from ..core.validate import validate
from .letters import DeadLetter, DeadLetters
from .seal import Sealer, SealError

Form = Literal["frames", "json"]

WORKER = "http"  # of rows that name none, as POST has it
_FAILURES = ("refused", "rejected", "not sent")
_THREADS = 8
_CHUNK = 64  # read, sent and marked together
_DAY_US = 86_400_000_000
_IDENTITY = frozenset({"boot_id", "seq", "worker_id"})


class NotSent(PenstockError):
    """Nobody took it, or nobody said so: send it again, it is stored once."""

    http_status = 503
    slug = "not-sent"


class Sender(Protocol):
    """A way into ingestion; safe to share between threads."""

    def send(self, body: bytes, form: Form, key: str | None) -> Receipt | None:
        """Send one body and wait until it is durable.

        Args:
            body: one frame, or one JSON event.
            form: which of them.
            key: boot of the event; None for frames, which say it.

        Returns:
            What became of it, None where that is not known yet.

        Raises:
            NotSent: send the same again.
            InvalidFrame: it is refused as it is.
            Unauthorized: the key is missing, unknown, or may not send.
        """
        ...


@dataclass(frozen=True, slots=True)
class Redrive:
    """A dead letter as it is sent.

    Attributes:
        letter: the dead letter.
        body: the row as JSON with its new identity, or the frame as it came.
        form: which of them.
        closing: a frame that ends the boot of a row, so that nobody waits for more of it.
    """

    letter: DeadLetter
    body: bytes
    form: Form
    closing: bytes = b""

    def send(self, sender: Sender) -> Receipt | None:
        """Send it; see `Sender.send`."""
        if self.form == "frames":
            return sender.send(self.body, "frames", None)
        receipt = sender.send(self.body, "json", self.letter.id.boot_id)
        if receipt is None or not receipt.rejected:
            sender.send(self.closing, "frames", None)
        return receipt


def prepare(
    letter: DeadLetter, body: bytes, changes: Mapping[str, Any], oldest_us: int | None
) -> Redrive:
    """What to send for a dead letter.

    Args:
        letter: the dead letter.
        body: its bytes, opened.
        changes: fields of a row to be set; None takes a field away.
        oldest_us: ingestion rejects rows with an earlier ts; None where that is not known.

    Raises:
        InvalidEvent: it would be rejected again; the text may quote a value.
        InvalidFrame: its bytes are still no frame, or no JSON object.
        InvalidQuery: it cannot be changed so.
    """
    if body.startswith(MAGIC):
        if changes:
            raise InvalidQuery("a frame cannot be mended: --set is for rows")
        decode_frame(body)
        return Redrive(letter, body, "frames")
    row = _mended(letter, _parsed(body), changes)
    text = orjson.dumps(row)
    batch = _checked(text, oldest_us)
    header = FrameHeader(
        kind="control",
        worker_id=batch.header.worker_id,
        boot_id=letter.id.boot_id,
        seq0=1,
        count=0,
        next_seq=1,
        clock_us=batch.header.clock_us,
        closing=True,
    )
    return Redrive(letter, text, "json", encode_frame(header, []))


def parse_changes(texts: Sequence[str]) -> dict[str, Any]:
    """`field=value` as --set takes them; a value is JSON where it can be read so, else a text.

    Raises:
        InvalidQuery: one has no `=`, or names a part of the identity.

    >>> parse_changes(["latency_ms=812.5", "model=chat", "error_type=null"])
    {'latency_ms': 812.5, 'model': 'chat', 'error_type': None}
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InvalidQuery(f"--set takes field=value, not {text!r}")
        if name in _IDENTITY:
            raise InvalidQuery(f"{name} cannot be set: it makes sure that the row is stored once")
        try:
            found[name] = json.loads(value, parse_constant=_no_number)
        except ValueError:
            found[name] = value
    return found


def _no_number(text: str) -> Any:
    raise ValueError(text)  # NaN and infinity are no JSON


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        # NaN is no JSON, though Python writes it: as a text it is found, as a null it would be lost.
        row = json.loads(body, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise InvalidFrame(
            "its bytes are no JSON, or were cut off after 64 KiB: "
            "`penstock dead-letters show ID --raw` writes them out"
        ) from error
    if not isinstance(row, dict):
        raise InvalidFrame("its bytes are JSON, but no object")
    return row


def _mended(letter: DeadLetter, row: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The row as a public event with its changes and its new identity."""
    if letter.kind in get_args(EventName) and "event" not in row:
        kind = cast(EventName, letter.kind)
        # Only a row that was in columns has all of its identity and does not say what it is.
        row = _public(kind, row) if {"boot_id", "seq"} <= row.keys() else row
        row = {"event": kind, **row}
    if letter.reason == "not_finite" and not changes:
        raise InvalidEvent("not_finite", "JSON cannot say what it was: --set that field, or null")
    _refuse_unknown(changes, row)
    merged = {**row, **changes}
    kept = {name: value for name, value in merged.items() if value is not None}
    kept.update(boot_id=letter.id.boot_id, seq=0)
    if letter.worker_id:
        kept["worker_id"] = letter.worker_id
    return kept


def _refuse_unknown(changes: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    """A field misspelt would become an attribute, and the row be as wrong as before."""
    kind = changes.get("event", row.get("event"))
    if kind not in get_args(EventName):
        return  # what it is called by then, the check will say
    known = field_kinds(kind).keys() | ALIASES[kind].keys() | row.keys() | {"event"}
    unknown = sorted(set(changes) - known)
    if unknown:
        raise InvalidQuery(f"a {kind} has no field {', '.join(unknown)}: see docs/events.md")


def _public(kind: EventName, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of columns with the names and units of the event."""
    names = {stored_name(spec): spec for spec in fields_of(kind)}
    found: dict[str, Any] = {}
    for name, value in row.items():
        spec = names.get(name)
        if spec is None or value is None:
            continue
        if spec.doc.kind in ("ms", "usd"):
            value = value / (1_000 if spec.doc.kind == "ms" else 1_000_000_000)
        elif spec.doc.kind in ("floats", "texts"):
            value = dict(value)
        found[spec.name] = value
    return found


def _checked(text: bytes, oldest_us: int | None) -> Batch:
    """The row as ingestion will read it.

    Raises:
        InvalidEvent: it would be rejected.
    """
    found = read_json(text, default_boot_id="-", default_worker_id=WORKER)
    for rejected in found.rejected:
        raise InvalidEvent(rejected.reason, rejected.detail)
    batch = found.batches[0]
    table = batch.table
    kind = cast(EventName, batch.header.kind)
    for _, reason, detail in validate(kind, with_status(table) if kind == "request" else table):
        raise InvalidEvent(reason, detail)
    if oldest_us is not None and int(integers(table, "ts")[0].min()) < oldest_us:
        raise InvalidEvent(
            "too_late", "ts is older than rows are kept: --set ts=..., or retention.warm_days"
        )
    return batch


class Redriver:
    """Sends dead letters again, some at a time, and counts what became of them.

    Args:
        letters: where they are, and where it is remembered that they were sent.
        sealer: with their key; not needed where none is sealed.
        changes: as `prepare` takes them.
        now_us: the clock, integer microseconds.
        tell: told of each that is not taken, with the outcome and why; values are redacted.
    """

    def __init__(
        self,
        letters: DeadLetters,
        sealer: Sealer | None,
        changes: Mapping[str, Any],
        now_us: int,
        tell: Callable[[DeadLetter, str], None],
    ) -> None:
        days = letters.kept_days()
        self._oldest_us = None if days is None else now_us - days * _DAY_US
        self._letters = letters
        self._sealer = sealer
        self._changes = changes
        self._now_us = now_us
        self._tell = tell
        self.outcomes: Counter[str] = Counter()

    @property
    def failed(self) -> bool:
        """Whether any was not taken."""
        return any(name in self.outcomes for name in _FAILURES)

    def rehearse(self, found: Sequence[DeadLetter]) -> None:
        """Do everything but send."""
        for letter in found:
            result = self._attempt(letter, None)
            self._count(letter, result)
            if result.error is None:
                self._tell(letter, result.name)

    def send(
        self, found: Sequence[DeadLetter], sender: Sender, progress: Callable[[int], object]
    ) -> None:
        """Send all; stops where nobody takes them.

        Args:
            found: dead letters of the store.
            sender: the way.
            progress: told how many more are done.

        Raises:
            InvalidConfiguration: one is sealed, and there is no key.
            Unauthorized: the server wants another key.
            StoreError: the store is away.
        """
        with ThreadPoolExecutor(_THREADS) as pool:
            for start in range(0, len(found), _CHUNK):
                chunk = found[start : start + _CHUNK]
                results = list(pool.map(lambda letter: self._attempt(letter, sender), chunk))
                for letter, result in zip(chunk, results, strict=True):
                    self._count(letter, result)
                taken = zip(chunk, results, strict=True)
                self._letters.mark(
                    [one.id for one, result in taken if not result.error], self._now_us
                )
                progress(len(chunk))
                left = len(found) - start - len(chunk)
                if left and "not sent" in self.outcomes:
                    self.outcomes["not tried"] = left
                    return

    def _attempt(self, letter: DeadLetter, sender: Sender | None) -> _Result:
        """Prepare one and send it, where there is a way."""
        try:
            if letter.rejected_as is not None:
                raise InvalidEvent("rejected before", f"it is dead letter {letter.rejected_as} now")
            body = self._letters.body(letter, self._sealer)
            ready = prepare(letter, body, self._changes, self._oldest_us)
            if sender is None:
                return _Result("would be sent")
            return _judge(ready.send(sender))
        except (InvalidEvent, InvalidFrame, SealError) as error:
            return _Result("refused", error)
        except NotSent as error:
            return _Result("not sent", error)

    def _count(self, letter: DeadLetter, result: _Result) -> None:
        self.outcomes[result.name] += 1
        if result.error is not None:
            self._tell(letter, f"{result.name}: {redact_detail(str(result.error))}")


@dataclass(frozen=True, slots=True)
class _Result:
    """What became of one; with an error it was not taken."""

    name: str
    error: PenstockError | None = None


def _judge(receipt: Receipt | None) -> _Result:
    if receipt is None:
        return _Result("sent")
    if receipt.accepted or receipt.duplicate:
        # Rows of a frame that were rejected are dead letters of their own by now.
        return _Result("stored" if receipt.accepted else "stored before")
    for item in receipt.rejections:
        return _Result("rejected", InvalidEvent(item.reason, item.detail))
    return _Result("stored")
