"""Damaged pictures: PNG chunks with checksums that fit, headers of arrays; and pixels read by other means."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzz.sameness import difference
from workbench.tasks.pictures.image import Picture

_MAGIC = b"\x89PNG\r\n\x1a\n"


def make(root: Path) -> None:
    """Pictures of every kind, and a file of pairs that names them with a grid and regions."""
    import json

    from PIL import Image

    folder = root / "pictures"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(colours).save(folder / "a.png")
    np.save(folder / "a.npy", rng.normal(size=(3, 12, 12)).astype("float32"))
    np.savez_compressed(folder / "a.npz", left=colours, right=colours[::-1])
    for i in range(3):
        np.save(folder / f"fixed{i}.npy", rng.normal(size=(3, 12, 12)).astype("float32"))
    rows = [
        {
            "id": f"p{i}",
            "clean": f"<image> is there a red star {i} ?",
            "corrupted": f"<image> is there a red star {i} ?",
            "correct": ["yes"],
            "incorrect": ["no"],
            "image": {"clean": f"fixed{i}.npy", "corrupted": f"scene:7/{i}"},
            "grid": [3, 3],
            "regions": {"object": [[0, 1], [i + 2]], "others": [[], [8]]},
        }
        for i in range(3)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def png_chunks(data: bytes, rng: random.Random) -> bytes:
    """A chunk that is changed, taken out or doubled, with the checksum that fits; or pixels that unpack to more."""
    chunks = list(_chunks(data))
    if not chunks:
        return data
    at = rng.randrange(len(chunks))
    kind, body = chunks[at]
    way = rng.choice(("change", "remove", "twice", "size", "bomb", "transparent"))
    if way == "change" and body:
        place = rng.randrange(len(body))
        chunks[at] = kind, body[:place] + bytes([rng.randrange(256)]) + body[place + 1 :]
    elif way == "remove":
        del chunks[at]
    elif way == "size":
        sides = [rng.choice((0, 1, 11, 13, 5000, 100_000, 2**31 - 1, 2**32 - 1)) for _ in range(2)]
        chunks[0] = b"IHDR", struct.pack(">II", *sides) + chunks[0][1][8:]
    elif way == "bomb":
        pixels = zlib.compress(b"\0" * rng.choice((10**6, 3 * 10**7)))
        chunks = [(k, pixels if k == b"IDAT" else b) for k, b in chunks]
    elif way == "transparent":
        chunks.insert(
            1, (rng.choice((b"tRNS", b"acTL", b"gAMA", b"zTXt")), rng.randbytes(rng.choice((1, 6, 8))))
        )
    else:
        chunks.insert(at, chunks[at])
    return _MAGIC + b"".join(_packed(k, b) for k, b in chunks)


def array_header(data: bytes, rng: random.Random) -> bytes:
    """Another shape, type or order in the header of an array, of the length that it says."""
    end = data.find(b"\n")
    if end < 10 or not data.startswith(b"\x93NUMPY"):
        return data
    said = {
        "descr": rng.choice(
            ("<f4", ">f4", "<f8", "|u1", "|O", "<U9", "<f2", "<M8[s]", [("a", "<f4")], "|V4", "x")
        ),
        "fortran_order": rng.choice((False, True, 1)),
        "shape": rng.choice(
            ((3, 12, 12), (432,), (), (3, -12, 12), (10**9, 10**9, 9), (0, 3), (12, 12, 3), "no", (3.0,))
        ),
    }
    if rng.random() < 0.3:
        said["more"] = 1
    text = repr(said).encode() + b"\n"
    return data[:8] + struct.pack("<H", len(text)) + text + data[end + 1 :]


def read_picture(name: str) -> Any:
    """A reader of one picture."""

    def read(root: Path) -> Any:
        return Picture(name, root / "pictures").pixels

    return read


def read_pairs(root: Path) -> Any:
    """Pairs with pictures, and every picture that they name."""
    from workbench.tasks.pairs_file import scan_pairs

    found = scan_pairs(root / "pictures" / "pairs.jsonl")
    for pair in found.pairs:
        for picture in pair.image or ():
            picture.pixels  # noqa: B018  drawn or loaded here
    return found


def png_pixels(path: Path, found: np.ndarray) -> str:
    """The same pixels, unpacked by zlib alone."""
    try:
        expected = _unpacked(path.read_bytes())
    except (ValueError, zlib.error, struct.error, KeyError) as problem:
        return f"read as a picture of {found.shape}, and zlib finds none: {problem}"
    return difference(expected, found, "pixels")


def npy_pixels(path: Path, found: np.ndarray) -> str:
    """The same array, read by numpy alone."""
    return difference(np.load(BytesIO(path.read_bytes()), allow_pickle=False), found, "pixels")


def npz_pixels(path: Path, found: np.ndarray) -> str:
    """The same array of several, read by numpy alone."""
    with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
        return difference(arrays["left"], found, "pixels")


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_MAGIC)
    while data.startswith(_MAGIC) and at + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def _packed(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", zlib.crc32(kind + body))


def _unpacked(data: bytes) -> np.ndarray:
    """Pixels of a PNG of three colours of 8 bits, not interlaced."""
    chunks = list(_chunks(data))
    if not chunks or chunks[0][0] != b"IHDR":
        raise ValueError("it does not begin with its sizes")
    width, height, bits, colours, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[0][1][:13])
    if (bits, colours, interlaced) != (8, 2, 0):
        raise ValueError(f"{bits} bits, colour type {colours}, interlaced {interlaced}")
    packed = b"".join(body for kind, body in chunks if kind == b"IDAT")
    rows = zlib.decompressobj().decompress(packed, height * (1 + 3 * width))
    if len(rows) < height * (1 + 3 * width):
        raise ValueError(f"{len(rows)} bytes for {height} rows of {width} pixels")
    before, made = bytearray(3 * width), []
    for row in range(height):
        start = row * (1 + 3 * width)
        before = _unfiltered(rows[start], bytearray(rows[start + 1 : start + 1 + 3 * width]), before)
        made.append(before)
    return np.array([list(row) for row in made], dtype=np.uint8).reshape(height, width, 3)


def _unfiltered(kind: int, row: bytearray, above: bytearray) -> bytearray:
    if kind > 4:
        raise ValueError(f"filter {kind}")
    for i in range(len(row)):
        left, up, corner = (row[i - 3], above[i], above[i - 3]) if i >= 3 else (0, above[i], 0)
        near = min(
            (abs(up - corner), 0, left), (abs(left - corner), 1, up), (abs(left + up - 2 * corner), 2, corner)
        )
        row[i] = (row[i] + (0, left, up, (left + up) // 2, near[2])[kind]) % 256
    return row
