"""The errors of Penstock and what each means to who asked: one root, one table to HTTP."""

from __future__ import annotations


class PenstockError(Exception):
    """Root of every error that Penstock raises on purpose; the text says what to do about it."""

    http_status = 500
    slug = "internal"


class InvalidEvent(PenstockError):
    """A row breaks a rule of its event; it goes to quarantine and its neighbours are stored."""

    http_status = 422
    slug = "invalid-event"

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class InvalidFrame(PenstockError):
    """Bytes that are no frame of ours, or damaged ones."""

    http_status = 400
    slug = "invalid-frame"


class InvalidConfiguration(PenstockError):
    """penstock.yaml or a flag does not make sense; the text names file, line and field."""

    http_status = 422
    slug = "invalid-configuration"


class InvalidQuery(PenstockError):
    """A question to the API that cannot be answered as asked."""

    http_status = 422
    slug = "invalid-query"


class NotFound(PenstockError):
    """Nothing of that name."""

    http_status = 404
    slug = "not-found"


class Unauthorized(PenstockError):
    """No key, or one that is unknown or revoked."""

    http_status = 401
    slug = "unauthorized"


class Forbidden(PenstockError):
    """A key without the scope that the route asks for."""

    http_status = 403
    slug = "forbidden"


class TooLarge(PenstockError):
    """A body over the limit; send smaller frames."""

    http_status = 413
    slug = "too-large"


class UnsupportedMediaType(PenstockError):
    """A content type or encoding that is not read here."""

    http_status = 415
    slug = "unsupported-media-type"


class IdempotencyConflict(PenstockError):
    """The same Idempotency-Key came with another body."""

    http_status = 409
    slug = "idempotency-conflict"


class Conflict(PenstockError):
    """Somebody else was faster: what this change was based on is no longer so."""

    http_status = 409
    slug = "conflict"


class Backpressure(PenstockError):
    """Too much at once: wait and send the same again. Nothing of the request was applied."""

    http_status = 429
    slug = "backpressure"

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StoreError(PenstockError):
    """The store refused or was away.

    Attributes:
        code: ClickHouse's error code, 0 where there is none.
        retryable: whether the same statement may succeed later.
    """

    http_status = 503
    slug = "store"

    def __init__(self, message: str, code: int = 0, retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable


class BrokerAway(PenstockError):
    """Kafka was away or slow: the outcome of what was sent is unknown; send the same again."""

    http_status = 503
    slug = "broker-away"


class SchemaTooNew(StoreError):
    """The store was migrated by a newer Penstock; run that version, or another folder."""

    slug = "schema-too-new"
