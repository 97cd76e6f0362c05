"""Keyed hashes of identities: what of a user or an address may leave a worker's memory."""

from __future__ import annotations

import hmac
import logging
import secrets
from typing import Any

_LOG = logging.getLogger("penstock")
_HASH_BYTES = 16  # 32 hex digits


class KeyedHash:
    """HMAC-SHA256 of identities, shortened to 32 hex digits.

    Without a key a random one is made when the first value comes, so that hashes differ from
    process to process; a warning says so once.
    """

    def __init__(self, key: str | bytes | None) -> None:
        self._key = key.encode() if isinstance(key, str) else key

    def __call__(self, value: Any) -> str:
        """Hash of the value's text, 32 hex digits."""
        if not self._key:
            self._key = secrets.token_bytes(32)
            _LOG.warning(
                "no hash key: user ids and addresses are hashed with a key of this process only; "
                "set PENSTOCK_HASH_KEY so that the same user has the same hash everywhere"
            )
        return hmac.digest(self._key, str(value).encode(), "sha256")[:_HASH_BYTES].hex()
