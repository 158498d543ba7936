"""Damage to bytes, to lines of text and to JSON documents, drawn from a seeded generator."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

Rng = random.Random
Damage = Callable[[bytes, Rng], bytes]


def _place(data: bytes, rng: Rng, most: int = 64) -> tuple[int, int]:
    """Start and end of a short piece."""
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.randint(1, most))


def flip_bits(data: bytes, rng: Rng) -> bytes:
    """One to eight bits the other way round."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8)) if made else 0):
        made[rng.randrange(len(made))] ^= 1 << rng.randrange(8)
    return bytes(made)


def set_byte(data: bytes, rng: Rng) -> bytes:
    """One byte replaced, often by one that means something to a reader."""
    if not data:
        return data
    at = rng.randrange(len(data))
    return data[:at] + bytes([rng.choice(b'\x00\xff\x80\n\r\t "{}[],:0-9eE\\\x1b')]) + data[at + 1 :]


def cut_off(data: bytes, rng: Rng) -> bytes:
    """The end is missing, or the beginning, or everything."""
    at = rng.randrange(len(data) + 1)
    return rng.choice((data[:at], data[:at], data[:at], data[at:], data[:-1], b""))


def insert(data: bytes, rng: Rng) -> bytes:
    """Foreign bytes in the middle, in front or behind."""
    piece = rng.choice(
        (
            rng.randbytes(rng.randint(1, 40)),
            b"\x00" * rng.randint(1, 64),
            b"\xef\xbb\xbf",
            b"\xff\xfe",
            "é漢🙂\u202e\u2028".encode(),
            b"\x1b[2J\x1b]0;title\x07",
            b"[" * rng.choice((10, 100_000)),
        )
    )
    at = rng.choice((0, len(data), rng.randrange(len(data) + 1)))
    return data[:at] + piece + data[at:]


def remove(data: bytes, rng: Rng) -> bytes:
    """A piece is missing."""
    start, end = _place(data, rng)
    return data[:start] + data[end:]


def repeat(data: bytes, rng: Rng) -> bytes:
    """A piece, or the whole, is there several times."""
    start, end = (0, len(data)) if rng.random() < 0.1 else _place(data, rng, 400)
    return data[:end] + data[start:end] * rng.choice((1, 1, 3)) + data[end:]


def zero_block(data: bytes, rng: Rng) -> bytes:
    """A block of zeros, as a file system leaves it after a crash."""
    start = rng.randrange(len(data) + 1)
    end = min(len(data), start + rng.choice((8, 64, 512, 4096)))
    return data[:start] + bytes(end - start) + data[end:]


def swap_blocks(data: bytes, rng: Rng) -> bytes:
    """Two blocks of one size have changed places."""
    size = rng.choice((1, 4, 8, 64, 256))
    if len(data) < 2 * size:
        return data[::-1]
    first = rng.randrange(len(data) - 2 * size + 1)
    second = rng.randrange(first + size, len(data) - size + 1)
    a, b = data[first : first + size], data[second : second + size]
    return data[:first] + b + data[first + size : second] + a + data[second + size :]


BYTES: tuple[Damage, ...] = (
    flip_bits,
    flip_bits,
    set_byte,
    cut_off,
    insert,
    remove,
    repeat,
    zero_block,
    swap_blocks,
)


def lines(data: bytes, rng: Rng) -> bytes:
    """A line, or a cell of one, is missing, doubled, moved or another; or the file has other line ends."""
    rows = data.split(b"\n")
    i, j = rng.randrange(len(rows)), rng.randrange(len(rows))
    what = rng.randrange(8)
    if what == 0:
        del rows[i]
    elif what == 1:
        rows.insert(j, rows[i])
    elif what == 2:
        rows[i], rows[j] = rows[j], rows[i]
    elif what == 3:
        return data.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n", b"")))
    elif what == 4:
        return data.decode("utf-8", "replace").encode(rng.choice(("utf-16", "utf-8-sig", "utf-32")))
    else:
        mark = rng.choice((b",", b" ", b'"'))
        cells = rows[i].split(mark)
        k = rng.randrange(len(cells))
        new = rng.choice((b"", b'"', b"a" * 200_000, b"-1", b"1e999", b"=1+1", b"[1, 2]", rng.choice(cells)))
        cells[k] = new
        rows[i] = mark.join(cells)
    return b"\n".join(rows)


# JSON as it is written, so that values can be put in that no JSON writer would write
RAW = (
    *("null", "true", "false", "0", "-0.0", "1", "-1", "0.5", "2", "1e308", "-1e308", "1e-320", "1e400"),
    *("NaN", "Infinity", "-Infinity", "9007199254740993", "18446744073709551616", "-1" + "0" * 400),
    *('""', "[]", "{}", '"x"', '"5"', '"nan"', '"\\u001b[31m"', '"\\ud800"', '"\\u0000"', '"\\u202e漢"'),
    *('"../../x"', '"<script>alert(1)</script>"', '"' + "x" * 5000 + '"', '"' + "9" * 5000 + '"'),
    *("[" * 40 + "]" * 40, "[" * 2000 + "]" * 2000, '{"a": ' * 30 + "1" + "}" * 30, "[0, 0, 0]", '{"x": 1}'),
    *("9" * 5000, "99999999999", "1000000"),
)


class _Raw(str):
    """Text to be put in as it stands."""


def _places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from _places(item, (*path, key))


def _written(value: Any) -> str:
    if isinstance(value, _Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(k)}: {_written(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    return json.dumps(value)


def _key(key: Any) -> str:
    return json.dumps(key.rstrip("\x00") if isinstance(key, str) else str(key))


def _near(value: Any, rng: Rng) -> Any:
    """A value of the same kind that is not the same."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice((value + 1, value - 1, -value, 2 * value, value * 10**9, float(value), str(value)))
    if isinstance(value, float):
        return rng.choice((-value, value * 2, value + 1e-6, value * 1e30, str(value)))
    if isinstance(value, str):
        at = rng.randrange(len(value) + 1)
        return rng.choice(
            (value[:at] + "x" + value[at:], value[:at] + value[at + 1 :], value.upper(), value * 2)
        )
    if isinstance(value, list):
        again = value * rng.choice((2, 50)) if len(value) < 100 else value * 2
        return rng.choice((again, value[:-1], value[::-1], [], [value], dict(enumerate(value))))
    if isinstance(value, dict):
        return rng.choice(({}, list(value), list(value.values()), {**value, "unknown": 1}, [value]))
    return rng.choice((0, "", [], {}, False))


def document(value: Any, rng: Rng) -> str:
    """A JSON document with one place of it changed: removed, doubled, renamed, or of another value or type."""
    value = json.loads(json.dumps(value))
    places = list(_places(value))
    if not places:
        return rng.choice(RAW)
    *way, last = rng.choice(places)
    inside = value
    for key in way:
        inside = inside[key]
    what = rng.randrange(12)
    if what < 5:
        inside[last] = _Raw(rng.choice(RAW))
    elif what < 8:
        inside[last] = _near(inside[last], rng)
    elif what == 8:
        del inside[last]
    elif what == 9 and isinstance(
        inside, dict
    ):  # the key twice: a zero byte tells them apart until they are written
        inside[f"{last}\x00"] = _Raw(rng.choice(RAW))
    elif what == 10 and isinstance(inside, dict):
        inside[rng.choice((f"{last}2", last.upper(), last[:-1], "é"))] = inside.pop(last)
    else:
        other = rng.choice(list(inside) if isinstance(inside, dict) else range(len(inside)))
        inside[last], inside[other] = inside[other], inside[last]
    return _written(value)


def json_file(data: bytes, rng: Rng) -> bytes:
    """A file that is one JSON document, with one or two places of it changed."""
    value = json.loads(data)
    text = document(value, rng)
    if rng.random() < 0.2:
        with suppress(ValueError, RecursionError):  # what was put in is no JSON any more: once is enough
            text = document(json.loads(text), rng)
    return text.encode("utf-8", "surrogatepass")


def json_lines(data: bytes, rng: Rng) -> bytes:
    """A file with one JSON document a line, one of them changed."""
    rows = data.split(b"\n")
    i = rng.choice([i for i, row in enumerate(rows) if row.strip()])
    rows[i] = document(json.loads(rows[i]), rng).encode("utf-8", "surrogatepass")
    return b"\n".join(rows)
