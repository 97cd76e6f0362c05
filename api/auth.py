"""Who may ask: API keys as bearer tokens, scopes, and a rate limit per key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from ..schemas.errors import Backpressure, Forbidden, Unauthorized
from .keys import SCOPES, ApiKey, KeyRing, Scope

ANONYMOUS = "anyone"  # where no keys are asked for
BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="key",
    bearerFormat="psk_<id>_<secret>",
    description="An API key: `Authorization: Bearer psk_...`. Not needed where the server binds "
    "to loopback and was not told to ask for keys.",
)


@dataclass(frozen=True, slots=True)
class Access:
    """Whether keys are needed, and where they are.

    Attributes:
        required: off only where the server binds to loopback.
        keys_path: file of `api.keys`; needed when `required`.
    """

    required: bool
    keys_path: Path | None = None

    def __post_init__(self) -> None:
        if self.required and self.keys_path is None:
            raise ValueError("keys are required, but no file of keys is given")


@dataclass(slots=True)
class TokenBucket:
    """A rate limit that lets one second's worth through at once. Time comes in as an argument.

    Args:
        rate_per_s: how fast it fills.

    >>> bucket = TokenBucket(2.0)
    >>> [bucket.take(0.0), bucket.take(0.0), bucket.take(0.0), bucket.take(0.5)]
    [0.0, 0.0, 0.5, 0.0]
    """

    rate_per_s: float
    _level: float = field(init=False)
    _at_s: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._level = self._full

    @property
    def _full(self) -> float:
        return max(1.0, self.rate_per_s)

    def take(self, now_s: float) -> float:
        """Take one; 0 when it was there, else the seconds until it will be."""
        if self._at_s is not None:
            passed = max(0.0, now_s - self._at_s)
            self._level = min(self._full, self._level + passed * self.rate_per_s)
        self._at_s = now_s
        if self._level >= 1.0:
            self._level -= 1.0
            return 0.0
        return (1.0 - self._level) / self.rate_per_s


def caller_of(request: Request) -> str:
    """Who made a request that a `Guard` let through."""
    found: str = request.state.caller
    return found


class Guard:
    """Lets requests through by their key.

    Args:
        access: whether keys are needed, and where they are.
        monotonic_s: clock of the rate limits.
    """

    def __init__(self, access: Access, monotonic_s: Callable[[], float]) -> None:
        self._ring = KeyRing(access.keys_path) if access.required and access.keys_path else None
        self._monotonic_s = monotonic_s
        self._buckets: dict[str, TokenBucket] = {}

    def needs(self, *scopes: Scope) -> Callable[..., Awaitable[None]]:
        """A dependency of routes: one of the scopes is needed.

        It leaves the scopes of the caller in `request.state.scopes`, and in `request.state.caller` who
        it is.
        """

        async def check(
            request: Request,
            credentials: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)],
        ) -> None:
            token = credentials.credentials if credentials else None
            request.state.scopes = self.admit(token, scopes)
            request.state.caller = self.name_of(token)

        return check

    def admit(self, token: str | None, scopes: tuple[Scope, ...]) -> tuple[Scope, ...]:
        """Scopes of the caller with this token.

        Raises:
            Unauthorized: no key, or one that is unknown or revoked.
            Forbidden: the key has none of the scopes.
            Backpressure: the key asks faster than it may.
        """
        if self._ring is None:
            return SCOPES
        if token is None:
            raise Unauthorized("this server needs a key: Authorization: Bearer psk_...")
        key = self._ring.find(token)
        if key is None:
            raise Unauthorized("the key is unknown or was revoked")
        self._slow_down(key)
        if not key.may(*scopes):
            raise Forbidden(
                f"key {key.id} has the scopes {', '.join(key.scopes)}; "
                f"this needs {' or '.join(scopes)}"
            )
        return SCOPES if "admin" in key.scopes else key.scopes

    def name_of(self, token: str | None) -> str:
        """Who the caller with this token is, for the audit log: the name and the id of the key."""
        key = None if self._ring is None or token is None else self._ring.find(token)
        return ANONYMOUS if key is None else f"{key.name} (key {key.id})"

    def _slow_down(self, key: ApiKey) -> None:
        if key.rate_per_s is None:
            return
        bucket = self._buckets.get(key.id)
        if bucket is None or bucket.rate_per_s != key.rate_per_s:
            bucket = self._buckets[key.id] = TokenBucket(key.rate_per_s)
        wait_s = bucket.take(self._monotonic_s())
        if wait_s > 0:
            raise Backpressure(
                f"key {key.id} may make {key.rate_per_s:g} requests per second", wait_s
            )
