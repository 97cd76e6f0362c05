from __future__ import annotations

import base64
import hashlib
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from penstock.schemas.errors import InvalidConfiguration, PenstockError
from penstock.streams.dead_letters.seal import (
    KEY_BYTES,
    KEY_ID_BYTES,
    OVERHEAD_BYTES,
    Sealer,
    SealError,
    key_from_text,
    load_key,
    load_or_make_key,
)

KEY = bytes(range(KEY_BYTES))
OTHER = bytes(KEY_BYTES)
ABOUT = b"penstock.events/1/0/17/3"


@settings(deadline=None)
@given(st.binary(max_size=2000), st.binary(max_size=60))
def test_what_is_sealed_can_be_opened(body: bytes, about: bytes) -> None:
    sealed = Sealer(KEY).seal(body, about)
    assert Sealer(KEY).open(sealed, about) == body
    assert len(sealed) == len(body) + OVERHEAD_BYTES
    assert sealed[:KEY_ID_BYTES] == hashlib.sha256(KEY).digest()[:KEY_ID_BYTES]


@settings(deadline=None)
@given(st.binary(min_size=8, max_size=200))
def test_neither_body_nor_key_can_be_seen(body: bytes) -> None:
    sealed = Sealer(KEY).seal(body, ABOUT)
    assert body not in sealed
    assert KEY not in sealed
    assert sealed != Sealer(KEY).seal(body, ABOUT)  # the same twice does not show


@settings(deadline=None)
@given(st.binary(max_size=100), st.data())
def test_any_changed_byte_is_found(body: bytes, data: st.DataObject) -> None:
    sealed = bytearray(Sealer(KEY).seal(body, ABOUT))
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SealError):
        Sealer(KEY).open(bytes(sealed), ABOUT)


@settings(deadline=None)
@given(st.binary(max_size=100), st.integers(0, 200))
def test_cut_off_bytes_are_found(body: bytes, kept: int) -> None:
    sealed = Sealer(KEY).seal(body, ABOUT)
    with pytest.raises(SealError):
        Sealer(KEY).open(sealed[: min(kept, len(sealed) - 1)], ABOUT)


def test_another_place_and_another_key_are_told_apart() -> None:
    sealed = Sealer(KEY).seal(b"body", ABOUT)
    with pytest.raises(SealError, match="belongs to another dead letter"):
        Sealer(KEY).open(sealed, b"penstock.events/1/0/17/4")
    with pytest.raises(SealError, match=Sealer(KEY).key_id.hex()) as found:
        Sealer(OTHER).open(sealed, ABOUT)
    assert "sealed with key" in str(found.value)
    assert isinstance(found.value, PenstockError)


def test_a_key_has_32_bytes() -> None:
    with pytest.raises(InvalidConfiguration, match="32 bytes, not 16"):
        Sealer(bytes(16))


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "below" / "sealing.key"
    key = load_or_make_key(path)
    assert len(key) == KEY_BYTES
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_make_key(path) == key
    assert load_key(path) == key
    assert [*path.parent.iterdir()] == [path]  # nothing is left beside it


def test_processes_that_start_at_once_get_the_same_key(tmp_path: Path) -> None:
    for attempt in range(10):
        path = tmp_path / f"{attempt}.key"
        with ThreadPoolExecutor(8) as pool:
            keys = set(pool.map(load_or_make_key, [path] * 8))
        assert keys == {path.read_bytes()}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "sealing.key"
    path.write_bytes(KEY)
    path.chmod(mode)
    with pytest.raises(InvalidConfiguration, match=rf"mode {mode:04o}.*chmod 600"):
        load_or_make_key(path)


@pytest.mark.parametrize("size", [0, 31, 33, 100])
def test_a_file_of_another_size_is_no_key_and_stays(tmp_path: Path, size: int) -> None:
    path = tmp_path / "sealing.key"
    path.write_bytes(bytes(size))
    path.chmod(0o600)
    with pytest.raises(InvalidConfiguration, match=f"has {size} bytes, not 32"):
        load_or_make_key(path)
    assert path.read_bytes() == bytes(size)


def test_what_cannot_be_read_or_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="cannot be read: No such file"):
        load_key(tmp_path / "absent")
    with pytest.raises(InvalidConfiguration, match="no regular file"):
        load_key(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InvalidConfiguration, match="cannot be made: File exists"):
        load_or_make_key(tmp_path / "file" / "sealing.key")


def test_a_key_as_text() -> None:
    assert key_from_text(base64.b64encode(KEY).decode() + "\n") == KEY
    secret = base64.b64encode(b"short and secret").decode()
    with pytest.raises(InvalidConfiguration, match="holds 16 bytes") as found:
        key_from_text(secret)
    assert secret not in str(found.value)
    with pytest.raises(InvalidConfiguration, match="no base64"):
        key_from_text("not base64!")
