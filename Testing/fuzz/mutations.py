"""Ways to spoil a file: broken bits, lost ends, numbers that lie, names that lead elsewhere. All follow from a seed."""

from __future__ import annotations

import random
import re
import zlib

# What a header's number is replaced by.
_NUMBERS = (
    b"0", b"-1", b"1", b"2", b"65535", b"65536", b"100000", b"2147483647", b"2147483648", b"4294967295", b"9223372036854775807",
    b"18446744073709551615", b"1e308", b"-1e308", b"1e-320", b"nan", b"inf", b"", b"0x7f", b"3.5",
)  # fmt: skip
_PATHS = (
    b"../canary.raw", b"/etc/passwd", b"..\\canary.raw", b"C:\\canary.raw", b"%s%n%s%n 1 2 1", b"../%d.raw 1 2 1", b"part%n.raw 1 2 1",
    b"part%99999999d.raw 1 2 1", b"part%d.raw 1 2147483647 1", b"part%d.raw 0 10 0", b"LIST\n../canary.raw\n/etc/passwd", b"LIST",
    b"SKIPLIST", b"|id", b".", b"", b"/dev/zero", b"/proc/self/mem", b"a" * 5000,
)  # fmt: skip
_BYTES = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\0\0\0\x80",
)
_NAMES_OF_FILES = re.compile(rb"(?i)(data ?file: |ElementDataFile = )([^\r\n]*)")


def spoil(data: bytes, random_: random.Random, others: list[bytes]) -> bytes:
    """`data` after one to four mutations; `others`: files to splice with."""
    for _ in range(random_.choice((1, 1, 1, 2, 2, 3, 4))):
        data = random_.choice(_WAYS)(data, random_, others)
    return data


def mended_png(data: bytes) -> bytes:
    """A spoiled PNG whose checksums are right again, so that it comes further than to these. Whoever forges one does so, too."""
    done, at = data[:8], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunk = data[at + 4 : at + 8 + length]
        done += data[at : at + 4] + chunk + zlib.crc32(chunk).to_bytes(4, "big")
        at += 12 + length
    return done + data[at:]


def _place(data: bytes, random_: random.Random) -> int:
    """A position; every second one among the first bytes, where headers are."""
    return random_.randrange(len(data) + 1) if random_.random() < 0.5 else random_.randrange(min(len(data), 400) + 1)


def _flip(data: bytes, random_: random.Random, others: list[bytes]) -> bytes:
    spoiled = bytearray(data)
    for _ in range(random_.choice((1, 1, 2, 4, 16))):
        if spoiled:
            spoiled[min(_place(data, random_), len(spoiled) - 1)] ^= 1 << random_.randrange(8)
    return bytes(spoiled)


def _overwrite(data: bytes, random_: random.Random, others: list[bytes]) -> bytes:
    at, value = _place(data, random_), random_.choice(_BYTES)
    return data[:at] + value + data[at + len(value) :]


def _insert(data: bytes, random_: random.Random, others: list[bytes]) -> bytes:
    at = _place(data, random_)
    return data[:at] + random_.choice(_BYTES) * random_.choice((1, 1, 7, 300)) + data[at:]


def _remove(data: bytes, random_: random.Random, others: list[bytes]) -> bytes:
    at = _place(data, random_)
    return data[:at] + data[at + random_.choice((1, 2, 4, 50)) :]


def _cut(data: bytes, random_: random.Random, others: list[bytes]) -> bytes:
    return data[: _place(data, random_)]


def _repeat(data: bytes, random_: random.Random, others: list[bytes]) -> bytes:
    at = _place(data, random_)
    return data[:at] + data[max(0, at - random_.choice((1, 8, 64))) :]


def _number(data: bytes, random_: random.Random, others: list[bytes]) -> bytes:
    places = list(re.finditer(rb"-?\d+(\.\d+)?", data[:2000]))
    if not places:
        return _overwrite(data, random_, others)
    match = random_.choice(places)
    return data[: match.start()] + random_.choice(_NUMBERS) + data[match.end() :]


def _line(data: bytes, random_: random.Random, others: list[bytes]) -> bytes:
    lines = data.split(b"\n")
    at = random_.randrange(len(lines))
    lines[at : at + 1] = random_.choice(([], [lines[at]] * 2, [lines[at]] * 500, [random_.choice(lines)]))
    return b"\n".join(lines)


def _path(data: bytes, random_: random.Random, others: list[bytes]) -> bytes:
    match = _NAMES_OF_FILES.search(data)
    if match is None:
        return _number(data, random_, others)
    return data[: match.start(2)] + random_.choice(_PATHS) + data[match.end(2) :]


def _splice(data: bytes, random_: random.Random, others: list[bytes]) -> bytes:
    other = random_.choice(others)
    return data[: _place(data, random_)] + other[_place(other, random_) :]


_WAYS = (_flip, _flip, _overwrite, _overwrite, _insert, _remove, _cut, _repeat, _number, _number, _line, _path, _splice)
