"""Dead letters at rest: encrypted, each bound to where it arrived, so that none can pass for another.

A sealed body is, one after another:

    4 bytes   key id: the first bytes of SHA-256 of the key
   12 bytes   nonce, random
    n bytes   the body, encrypted with AES-256-GCM
   16 bytes   tag over body and associated data

The associated data is `topic/incarnation/partition/offset/row`. A key is good for 2^32 dead letters, as
nonces are random; nobody should have as many.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ...schemas.errors import InvalidConfiguration, PenstockError

KEY_BYTES = 32
KEY_ID_BYTES = 4
NONCE_BYTES = 12
TAG_BYTES = 16
OVERHEAD_BYTES = KEY_ID_BYTES + NONCE_BYTES + TAG_BYTES


class SealError(PenstockError):
    """Sealed bytes that cannot be opened: another key's, another place's, or damaged."""

    slug = "seal"


class Sealer:
    """Seals and opens bodies with one key; safe to share between threads.

    Args:
        key: 32 bytes.

    Raises:
        InvalidConfiguration: the key has another size.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise InvalidConfiguration(f"a sealing key has {KEY_BYTES} bytes, not {len(key)}")
        self.key_id = hashlib.sha256(key).digest()[:KEY_ID_BYTES]
        self._cipher = AESGCM(key)

    def seal(self, body: bytes, about: bytes) -> bytes:
        """Encrypt a body; twice gives two different results.

        Args:
            body: anything.
            about: what the body belongs to; not stored, and needed again to open it.
        """
        nonce = os.urandom(NONCE_BYTES)
        return self.key_id + nonce + self._cipher.encrypt(nonce, body, about)

    def open(self, sealed: bytes, about: bytes) -> bytes:
        """The body.

        Args:
            sealed: as `seal` made it.
            about: as given to `seal`.

        Raises:
            SealError: sealed with another key, for another place, or damaged.
        """
        if len(sealed) < OVERHEAD_BYTES:
            raise SealError(f"{len(sealed)} bytes are too few to be sealed: the body is damaged")
        key_id, rest = sealed[:KEY_ID_BYTES], sealed[KEY_ID_BYTES:]
        if key_id != self.key_id:
            raise SealError(
                f"sealed with key {key_id.hex()}, and this is key {self.key_id.hex()}: "
                "give the key of the processor that stored it"
            )
        try:
            return self._cipher.decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], about)
        except InvalidTag as error:
            raise SealError(
                "the sealed body is damaged, or belongs to another dead letter"
            ) from error


def key_from_text(text: str) -> bytes:
    """A key as an environment variable holds it: base64 of 32 bytes.

    Raises:
        InvalidConfiguration: it is no such text; the text itself is not repeated.
    """
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidConfiguration(f"the sealing key is no base64; {_MAKE_TEXT}") from error
    if len(key) != KEY_BYTES:
        raise InvalidConfiguration(
            f"the sealing key holds {len(key)} bytes, not {KEY_BYTES}; {_MAKE_TEXT}"
        )
    return key


_MAKE_TEXT = "make one with: head -c 32 /dev/urandom | base64"


def load_key(path: Path) -> bytes:
    """The key in a file.

    Raises:
        InvalidConfiguration: there is none, or not one that can be used.
    """
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise InvalidConfiguration(
            f"the sealing key {path} cannot be read: {error.strerror}"
        ) from error
    try:
        state = os.fstat(descriptor)
        _check_private(path, state)
        key = os.read(descriptor, KEY_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(key) != KEY_BYTES:
        raise InvalidConfiguration(
            f"the sealing key {path} has {state.st_size} bytes, not {KEY_BYTES}: it is damaged or "
            "no key; restore it, or move it away to have a new one made"
        )
    return key


def _check_private(path: Path, state: os.stat_result) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise InvalidConfiguration(f"the sealing key {path} is no regular file")
    mode = stat.S_IMODE(state.st_mode)
    if os.name == "posix" and mode & 0o077:
        raise InvalidConfiguration(
            f"the sealing key {path} can be read by others (mode {mode:04o}): chmod 600 {path}"
        )


def load_or_make_key(path: Path) -> bytes:
    """The key in a file, which is made where it is absent: 32 random bytes, mode 0600.

    Several processes may start at once; all get the key of the one that was first, never half of one.

    Raises:
        InvalidConfiguration: the file cannot be read or made, or is no key.
    """
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _make(path)
        except OSError as error:
            raise InvalidConfiguration(
                f"the sealing key {path} cannot be made: {error.strerror}"
            ) from error
    return load_key(path)


def _make(path: Path) -> None:
    """Write beside the place, then link into it: whole or not at all, and never over another."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(beside, path)
    finally:
        beside.unlink()
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Make the link itself durable: what is sealed with a lost key is lost."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
