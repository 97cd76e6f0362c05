"""CityHash128 of version 1.0.2: the checksum of ClickHouse's compressed blocks.

Later versions of CityHash give other values. The algorithm is the published one (Pike and Alakuijala,
2011, https://github.com/google/cityhash). In Python it does about 20 MB/s, which is enough: clients ask
for such blocks only where they are told to.
"""

from __future__ import annotations

import struct

_MASK = (1 << 64) - 1
_K0 = 0xC3A5C85C97CB3127
_K1 = 0xB492B66FBE98F273
_K2 = 0x9AE16A3B2F90404F
_K3 = 0xC949D7C7509E6557
_MUL = 0x9DDFEA08EB382D69
_WORD = struct.Struct("<Q")
_HALF = struct.Struct("<I")
_ROUND = struct.Struct("<16Q")

Pair = tuple[int, int]


def cityhash128(data: bytes) -> Pair:
    """The hash as (low, high), each of 64 bits.

    Example:
        >>> [f"{half:016x}" for half in cityhash128(b"Moscow")]
        ['2edf17bfee3edf6d', '22aef305c6409d55']
    """
    size = len(data)
    if size >= 16:
        return _seeded(data[16:], _word(data, 0) ^ _K3, _word(data, 8))
    if size >= 8:
        first = _word(data, 0) ^ (size * _K0 & _MASK)
        return _seeded(b"", first, _word(data, size - 8) ^ _K1)
    return _seeded(data, _K0, _K1)


def _word(data: bytes, at: int) -> int:
    return int(_WORD.unpack_from(data, at)[0])


def _turn(value: int, bits: int) -> int:
    """Rotated to the right."""
    return (value >> bits | value << 64 - bits) & _MASK if bits else value


def _mix(value: int) -> int:
    return value ^ value >> 47


def _fold(first: int, second: int) -> int:
    """128 bits to 64."""
    value = _mix((first ^ second) * _MUL & _MASK)
    return _mix((second ^ value) * _MUL & _MASK) * _MUL & _MASK


def _short(data: bytes) -> int:
    """At most 16 bytes to 64 bits."""
    size = len(data)
    if size > 8:
        first, last = _word(data, 0), _word(data, size - 8)
        return _fold(first, _turn((last + size) & _MASK, size)) ^ last
    if size >= 4:
        first = int(_HALF.unpack_from(data, 0)[0])
        return _fold(size + (first << 3), int(_HALF.unpack_from(data, size - 4)[0]))
    if size:
        low = data[0] + (data[size >> 1] << 8)
        high = size + (data[-1] << 2)
        return _mix((low * _K2 ^ high * _K3) & _MASK) * _K2 & _MASK
    return _K2


def _murmur(data: bytes, low: int, high: int) -> Pair:
    """Fewer than 128 bytes."""
    size = len(data)
    a, b = low, high
    if size <= 16:
        a = _mix(a * _K1 & _MASK) * _K1 & _MASK
        c = (b * _K1 + _short(data)) & _MASK
        d = _mix((a + (_word(data, 0) if size >= 8 else c)) & _MASK)
    else:
        c = _fold((_word(data, size - 8) + _K1) & _MASK, a)
        d = _fold((b + size) & _MASK, (c + _word(data, size - 16)) & _MASK)
        a = (a + d) & _MASK
        for at in range(0, size - 16, 16):
            a = (a ^ _mix(_word(data, at) * _K1 & _MASK) * _K1) & _MASK
            a = a * _K1 & _MASK
            b ^= a
            c = (c ^ _mix(_word(data, at + 8) * _K1 & _MASK) * _K1) & _MASK
            c = c * _K1 & _MASK
            d ^= c
    a, b = _fold(a, c), _fold(d, b)
    return a ^ b, _fold(b, a)


def _weak(words: tuple[int, ...], a: int, b: int) -> Pair:
    """Four words and two seeds to two words."""
    first, second, third, fourth = words
    a += first
    b = _turn((b + a + fourth) & _MASK, 21)
    total = a + second + third
    return (total + fourth) & _MASK, (b + _turn(total & _MASK, 44) + a) & _MASK


def _seeded(data: bytes, low: int, high: int) -> Pair:
    size = len(data)
    if size < 128:
        return _murmur(data, low, high)
    x, y, z = low, high, size * _K1 & _MASK
    v0 = (_turn(y ^ _K1, 49) * _K1 + _word(data, 0)) & _MASK
    v1 = (_turn(v0, 42) * _K1 + _word(data, 8)) & _MASK
    w0 = (_turn((y + z) & _MASK, 35) * _K1 + x) & _MASK
    w1 = _turn((x + _word(data, 88)) & _MASK, 53) * _K1 & _MASK
    whole = size - size % 128
    for words in _ROUND.iter_unpack(data[:whole]):
        for at in (0, 8):
            x = _turn((x + y + v0 + words[at + 2]) & _MASK, 37) * _K1 & _MASK ^ w1
            y = _turn((y + v1 + words[at + 6]) & _MASK, 42) * _K1 & _MASK ^ v0
            z = _turn(z ^ w0, 33)
            v0, v1 = _weak(words[at : at + 4], v1 * _K1 & _MASK, (x + w0) & _MASK)
            w0, w1 = _weak(words[at + 4 : at + 8], (z + w1) & _MASK, y)
            x, z = z, x
    y = (y + _turn(w0, 37) * _K0 + z) & _MASK
    x = (x + _turn((v0 + z) & _MASK, 49) * _K0) & _MASK
    # The rest in pieces of 32 bytes, counted from the end; the last one reaches back.
    for at in range(size - 32, whole - 32, -32):
        y = (_turn((y - x) & _MASK, 42) * _K0 + v1) & _MASK
        w0 = (w0 + _word(data, at + 16)) & _MASK
        x = (_turn(x, 49) * _K0 + w0) & _MASK
        w0 = (w0 + v0) & _MASK
        v0, v1 = _weak(struct.unpack_from("<4Q", data, at), v0, v1)
    x, y = _fold(x, v0), _fold(y, w0)
    return (_fold((x + v1) & _MASK, w1) + y) & _MASK, _fold((x + w1) & _MASK, (y + v1) & _MASK)
