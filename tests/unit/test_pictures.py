"""Pictures of pairs: read from the folder of their file, checked before anything runs, and part of the digest."""

from __future__ import annotations

import json
import os
import struct
import zlib
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
from PIL import Image

from workbench.core.errors import RunError, TaskError
from workbench.tasks.in_memory import as_pairs
from workbench.tasks.pairs import Pair, Pairs
from workbench.tasks.pairs_file import load_pairs
from workbench.tasks.pictures import image
from workbench.tasks.pictures.image import Picture
from workbench.tasks.pictures.sight import Scaling, Sight


def colours(seed: int, size: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3)).astype("uint8")


@pytest.fixture
def folder(tmp_path):
    """``a.npy`` and ``c.png`` are colours, ``b.npz`` holds numbers, ``two.npz`` two arrays."""
    np.save(tmp_path / "a.npy", colours(0))
    np.savez_compressed(tmp_path / "b.npz", x=np.ones((3, 8, 8), dtype="float32"))
    np.savez(tmp_path / "two.npz", left=colours(1), right=colours(2))
    Image.fromarray(colours(3)).save(tmp_path / "c.png")
    return tmp_path


def saved(folder, first: object = "a.npy", second: object = "c.png", **more):
    row = {"clean": "", "corrupted": "", "correct": ["red"], "image": {"clean": first, "corrupted": second}}
    path = folder / "pairs.jsonl"
    path.write_text(json.dumps(row | more))
    return path


def test_pictures_of_all_kinds_are_read_as_they_were_written(folder):
    (pair,) = load_pairs(saved(folder, "c.png", "two.npz#right"))
    assert np.array_equal(pair.image[0].pixels, colours(3)) and np.array_equal(
        pair.image[1].pixels, colours(2)
    )
    (pair,) = load_pairs(saved(folder, "a.npy", "b.npz"))
    assert pair.image[0].size == (8, 8) == pair.image[1].size
    assert pair.image[1].pixels.dtype == np.float32 and (pair.image[1].pixels == 1).all()


def test_a_saved_file_holds_the_same_pairs_and_its_pictures(folder, tmp_path):
    regions = {"object": [[0], [1, 2]]}
    pairs = load_pairs(saved(folder, "a.npy", "two.npz#left", grid=[2, 2], regions=regions))
    copy = load_pairs(pairs.save(tmp_path / "elsewhere" / "copy.jsonl"))
    assert copy.digest == pairs.digest and copy.items == pairs.items
    assert copy[0].grid == (2, 2) and copy[0].regions == {"object": ((0,), (1, 2))}
    assert (tmp_path / "elsewhere" / "two.npz").exists()


def test_arrays_in_memory_are_saved_under_their_digest(tmp_path):
    image = Picture.of(colours(5)), Picture.of(colours(6))
    pairs = as_pairs([Pair(id="a", clean="", corrupted="", correct=("red",), image=image)])
    copy = load_pairs(pairs.save(tmp_path / "copy.jsonl"))
    assert np.array_equal(copy[0].image[0].pixels, colours(5))
    assert (tmp_path / "pictures" / f"{image[0].digest}.npy").exists()


def test_the_digest_is_of_the_pixels(folder):
    before = load_pairs(saved(folder)).digest
    text = Pairs(items=(Pair(id="line-0001", clean="", corrupted="", correct=("red",)),), task="t")
    (folder / "other").mkdir()
    np.save(folder / "other" / "a.npy", colours(9))
    Image.fromarray(colours(3)).save(folder / "other" / "c.png")
    assert load_pairs(saved(folder / "other")).digest != before != text.digest


def test_another_picture_of_the_same_name_is_not_written_over(folder, tmp_path):
    pairs = load_pairs(saved(folder))
    (tmp_path / "there").mkdir()
    np.save(tmp_path / "there" / "a.npy", colours(7))
    with pytest.raises(RunError, match=r"a\.npy is another picture"):
        pairs.save(tmp_path / "there" / "copy.jsonl")


def packed_png(height: int, width: int, data: bytes, *, bits: int = 8) -> bytes:
    """A PNG of three colours by hand; whether there is as much data as it says is up to the caller."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def png(pixels: np.ndarray, *, bits: int) -> bytes:
    return packed_png(*pixels.shape[:2], b"".join(b"\0" + row.tobytes() for row in pixels), bits=bits)


def bomb(path, side: int) -> None:
    """A PNG that says it has side x side pixels; its data is a few bytes."""
    path.write_bytes(packed_png(side, side, b"\0" * 99))


def test_a_png_by_hand_is_read_and_a_name_may_hold_a_hash(folder):
    (folder / "part#1.png").write_bytes(png(colours(5), bits=8))
    assert np.array_equal(Picture("part#1.png", folder).pixels, colours(5))


def test_what_unpacks_to_too_much_is_not_unpacked(folder):
    bomb(folder / "bomb.png", 60_000)
    with pytest.raises(
        TaskError, match=r"unpacks to 10\.8 GB \(60000 x 60000 pixels\); at most 100 MB is read"
    ):
        load_pairs(saved(folder, "bomb.png"))
    np.savez_compressed(folder / "bomb.npz", x=np.zeros((6000, 6000, 3), dtype="uint8"))
    with pytest.raises(TaskError, match=r"bomb\.npz' unpacks to 108 MB"):
        load_pairs(saved(folder, "bomb.npz"))
    with open(folder / "long.npy", "wb") as out:
        np.lib.format.write_array_header_1_0(
            out, {"shape": (10**6, 10**6), "fortran_order": False, "descr": "|u1"}
        )
    with pytest.raises(TaskError, match=r"long\.npy' unpacks to 1000 GB"):
        load_pairs(saved(folder, "long.npy"))


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((8, 8), "uint8"), "holds uint8 8 x 8; a picture is uint8 height x width x 3"),
        (np.zeros((8, 8, 4), "uint8"), "holds uint8 8 x 8 x 4"),
        (np.zeros((3, 8, 8), "float64"), "holds float64 3 x 8 x 8"),
        (np.zeros((8, 8, 3), "float32"), "holds float32 8 x 8 x 3"),
        (np.full((3, 8, 8), np.nan, "float32"), "192 numbers of 192 that are not finite"),
        (np.zeros((2, 8, 8, 3), "uint8"), "holds uint8 2 x 8 x 8 x 3"),
    ],
)
def test_an_array_that_is_no_picture_is_refused(folder, array, says):
    np.save(folder / "wrong.npy", array)
    with pytest.raises(TaskError) as problem:
        load_pairs(saved(folder, "wrong.npy"))
    assert says in str(problem.value) and "line 1" in str(problem.value)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("missing.png", "there is no such file"),
        ("../a.npy", "leaves the folder of the pairs file"),
        ("/etc/passwd.png", "leaves the folder of the pairs file"),
        ("link.npy", "link.npy is a link"),
        ("inside/a.npy", "inside is a link"),
        ("a.jpg", "none of .npy, .npz, .png"),
        ("scenes:1/2", "no kind of picture called 'scenes'"),
        ("memory:12", "was in memory when its pair was saved"),
        ("two.npz", "names no single array; the file holds left, right"),
        ("two.npz#middle", "names no single array"),
        ("grey.png", "a PNG of mode L; RGB is expected"),
        ("deep.png", "a PNG of 16 bits and colour type 2; RGB is expected"),
        ("clear.png", "a PNG with a transparent colour (tRNS); RGB is expected"),
        ("film.png", "a PNG of 2 frames; RGB is expected"),
        ("c.png#part", "there is no such file; # names an array of an .npz"),
        ("a.npy#x", "there is no such file; # names an array of an .npz"),
        ("torn.png", "cannot be read"),
        ("text.npy", "cannot be read: its bytes are no array of numpy"),
        ("empty.npy", "cannot be read: it is empty"),
        ("objects.npy", "cannot be read: it holds Python objects, which are never loaded"),
        (7, "expected a path, or scene:SEED/INDEX"),
    ],
)
def test_a_source_that_is_no_picture_is_refused(folder, tmp_path_factory, source, says):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    np.save(elsewhere / "a.npy", colours(0))
    os.symlink(elsewhere / "a.npy", folder / "link.npy")
    os.symlink(elsewhere, folder / "inside")
    Image.fromarray(colours(0)[:, :, 0]).save(folder / "grey.png")
    (folder / "empty.npy").touch()
    (folder / "torn.png").write_bytes((folder / "c.png").read_bytes()[:90])
    (folder / "deep.png").write_bytes(png(colours(0).astype(">u2") * 257 - 1, bits=16))
    Image.fromarray(colours(3)).save(folder / "clear.png", transparency=tuple(map(int, colours(3)[0, 0])))
    more = [Image.fromarray(colours(4))]
    Image.fromarray(colours(3)).save(folder / "film.png", save_all=True, append_images=more)
    (folder / "text.npy").write_text("not an array")
    np.save(folder / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(TaskError) as problem:
        load_pairs(saved(folder, source))
    assert says in str(problem.value) and "line 1" in str(problem.value)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"image": "a.npy"}, "no picture for each side"),
        ({"image": {"clean": "a.npy"}}, "no picture for each side"),
        ({"image": {"clean": "a.npy", "corrupted": "a.npy"}}, "the same text and the same picture"),
        ({"image": {"clean": "a.npy", "corrupted": "same.npy"}}, "the same text and the same picture"),
        ({"grid": [0, 2]}, "grid is [0, 2]"),
        ({"regions": {"object": [[0], [1]]}}, "regions need a grid"),
        ({"grid": [2, 2], "regions": {"object": [[0], [4]]}}, "from 0 to 3 (a grid of 2 x 2)"),
        ({"grid": [2, 2], "regions": {"object": [[0, 0], [1]]}}, "each once"),
        ({"grid": [2, 2], "regions": {"background": [[0], [1]]}}, "a region cannot be called 'background'"),
        ({"grid": [2, 2], "regions": {"rest": [[0], [1]]}}, "a region cannot be called 'rest'"),
        (
            {
                "grid": [2, 2],
                "regions": {"S2": [[0], [1]]},
                "clean": "a b",
                "corrupted": "a c",
                "positions": {"S2": [[0, 1], [0, 1]]},
            },
            "'S2' is a position and a region",
        ),
        (
            {"clean": "a b", "corrupted": "a c", "positions": {"image": [[0, 1], [0, 1]]}},
            "'image' is a position and a set of the picture's patches",
        ),
        (
            {"clean": "a b", "corrupted": "a c", "positions": {"background": [[0, 1], [0, 1]]}},
            "'background' is a position and a set of the picture's patches",
        ),
    ],
)
def test_fields_that_contradict_each_other_are_refused(folder, more, says):
    np.save(folder / "same.npy", colours(0))
    with pytest.raises(TaskError) as problem:
        load_pairs(saved(folder, **more))
    assert says in str(problem.value)


def test_a_grid_without_a_picture_is_refused(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"clean": "a", "corrupted": "b", "correct": ["c"], "grid": [2, 2]}))
    with pytest.raises(TaskError, match="grid is given without image"):
        load_pairs(path)


def test_a_picture_stays_in_its_folder_when_the_program_goes_to_another(tmp_path, monkeypatch):
    for name, seed in (("one", 0), ("two", 10)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", colours(seed))
        np.save(tmp_path / name / "b.npy", colours(seed + 1))
        saved(tmp_path / name, "a.npy", "b.npy")
    monkeypatch.chdir(tmp_path / "one")
    first = load_pairs("pairs.jsonl")[0].image[0]
    monkeypatch.chdir(tmp_path / "two")
    second = load_pairs("pairs.jsonl")[0].image[0]
    assert np.array_equal(second.pixels, colours(10)) and np.array_equal(first.pixels, colours(0))


@pytest.mark.parametrize("settled", [image._SETTLED, -(10**18)], ids=["just written", "settled"])
def test_a_file_that_was_written_over_is_read_again(folder, monkeypatch, settled):
    monkeypatch.setattr(image, "_SETTLED", settled)
    before = load_pairs(saved(folder))
    assert np.array_equal(before[0].image[0].pixels, colours(0)) and before.digest
    np.save(folder / "a.npy", colours(7))  # as long as before
    if settled < 0:
        os.utime(folder / "a.npy", (1e9, 1e9))
    after = load_pairs(saved(folder))
    assert np.array_equal(after[0].image[0].pixels, colours(7)) and after.digest != before.digest
    with pytest.raises(TaskError, match=r"'a\.npy' in .* has changed since its pair was read"):
        before[0].image[0].pixels  # noqa: B018
    with pytest.raises(TaskError, match="has changed since its pair was read"):
        before.save(folder / "elsewhere" / "pairs.jsonl")
    with pytest.raises(TaskError, match="has changed since its pair was read"):
        before.save(folder / "again.jsonl")


def test_a_picture_is_its_pixels_and_not_its_name(tmp_path):
    for name, array in (("one/a.npy", colours(0)), ("two/a.npy", colours(1)), ("two/same.npy", colours(0))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.save(tmp_path / name, array)
    one, two, same = (
        Picture("a.npy", tmp_path / "one"),
        Picture("a.npy", tmp_path / "two"),
        Picture("same.npy", tmp_path / "two"),
    )
    assert one == same == Picture.of(colours(0)) and one != two and len({one, two, same}) == 2
    assert Picture("scene:1/2") == Picture("scene:1/2") != Picture("scene:1/3")
    pair = Pair(id="a", clean="", corrupted="", correct=("red",), image=(one, two))
    assert as_pairs([pair])[0].image == (one, two)  # two files of one name are two pictures
    with pytest.raises(TaskError, match="the same text and the same picture"):
        as_pairs([replace(pair, image=(one, same))])
    others = [replace(pair, id=id, image=image) for id, image in (("b", (two, one)), ("c", (same, two)))]
    assert as_pairs([pair, *others]).clusters == (0, 1, 0)


def test_pairs_of_one_digest_may_have_pictures_of_any_names(folder):
    before = load_pairs(saved(folder)).digest
    np.save(folder / "copy.npy", colours(0))
    assert load_pairs(saved(folder, "copy.npy")).digest == before
    assert load_pairs(saved(folder, "c.png", "a.npy")).digest != before
    text = Pair(id="a", clean="1 2 1", corrupted="1 3 1", correct=(" 2",))
    plain = '[{"clean":"1 2 1","correct":[" 2"],"corrupted":"1 3 1","id":"a","incorrect":[]}]'
    assert as_pairs([text]).digest == sha256(plain.encode()).hexdigest()[:16]


def test_words_without_a_picture_may_be_called_like_a_set():
    row = {"clean": "a b", "corrupted": "a c", "correct": ["d"], "positions": {"class": [[0, 1], [0, 1]]}}
    assert as_pairs([row])[0].positions == {"class": ((0, 1), (0, 1))}


@pytest.mark.parametrize(
    ("scaling", "most", "is_read"),
    [
        (Scaling(mean=(0.5,) * 3, std=(0.25,) * 3), 255, False),
        (Scaling(mean=(0.5,) * 3, std=(0.25,) * 3), -255, False),
        (Scaling(mean=(0.5,) * 3, std=(0.25,) * 3), 9.5, True),
        (None, 255, False),
        (Scaling(factor=1.0), 255, True),
        (Scaling(factor=1.0), 1000, False),
    ],
)
def test_numbers_that_are_colours_are_not_read_as_numbers(scaling, most, is_read):
    sight = Sight(size=(8, 8), grid=(2, 2), n_tokens=4, scaling=scaling)
    pixels = np.zeros((3, 8, 8), dtype="float32")
    pixels[0, 0, 0] = most
    why = sight.why_not(Picture.of(pixels))
    assert (why == "") == is_read
    assert is_read or f"{most}; the model reads about" in why or f"from {most} to 0; the model" in why


def test_the_card_of_pairs_says_where_pictures_are_from():
    pair = Pair(
        id="a",
        clean="one",
        corrupted="",
        correct=("red",),
        image=(Picture("scene:1/2"), Picture("scene:1/3")),
    )
    card = Pairs(items=(pair,), task="t")._repr_html_()
    assert "one [scene:1/2]<" in card and ">[scene:1/3]<" in card


def test_what_the_refusal_of_a_png_says_to_type_makes_it_readable(tmp_path):
    path = tmp_path / "clear.png"
    Image.fromarray(colours(3)).save(path, transparency=tuple(map(int, colours(3)[0, 0])))
    with pytest.raises(TaskError) as problem:
        Picture("clear.png", tmp_path).pixels  # noqa: B018
    typed = problem.value.hint.partition(", or save")[0]
    eval(typed, {"Image": Image, "np": np, "path": path})
    assert np.array_equal(Picture("clear.png", tmp_path).pixels, colours(3))


def test_two_pictures_of_one_name_are_saved_by_digest(tmp_path):
    for name, seed in (("one", 0), ("two", 1)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", colours(seed))
    both = Picture("a.npy", tmp_path / "one"), Picture("a.npy", tmp_path / "two")
    pairs = as_pairs([Pair(id="a", clean="", corrupted="", correct=("red",), image=both)])
    with pytest.raises(RunError, match="another picture than the one to be saved"):
        pairs.save(tmp_path / "three" / "pairs.jsonl")
    held = replace(pairs[0], image=tuple(Picture.of(each.pixels) for each in both))
    assert load_pairs(as_pairs([held]).save(tmp_path / "four" / "pairs.jsonl")).digest == pairs.digest


def test_a_png_that_says_more_rows_than_it_has_is_refused(tmp_path):
    """Pillow fills them with black."""
    path = tmp_path / "a.png"
    Image.fromarray(np.full((12, 12, 3), 200, dtype=np.uint8)).save(path)
    data = path.read_bytes()
    head = b"IHDR" + struct.pack(">II", 12, 120) + data[24:29]
    path.write_bytes(data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:])
    with pytest.raises(TaskError, match="says 4440 bytes of pixels and has 444"):
        Picture("a.png", tmp_path).pixels  # noqa: B018


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (12, 12), (17, 9)])
def test_an_interlaced_png_is_whole(size, tmp_path):
    """Seven passes, each written by hand with rows as they are."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    rows = b""
    passes = ("0808", "0848", "4804", "0424", "2402", "0212", "1201")
    for top, down, left, right in (map(int, digits) for digits in passes):
        part = pixels[top::down, left::right]
        rows += b"".join(b"\0" + row.tobytes() for row in part) if part.size else b""
    head = struct.pack(">IIBBBBB", size[1], size[0], 8, 2, 0, 0, 1)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    made = [struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(made))
    assert (Picture("a.png", tmp_path).pixels == pixels).all()


@pytest.mark.parametrize("data", [b"\x93NUMPY\x01\x00\x10\x00{'descr': ('<f4'\n", b"PK\x03\x04"])
def test_files_that_numpy_stumbles_over_are_refused(data, tmp_path):
    path = tmp_path / ("a.npy" if data.startswith(b"\x93") else "a.npz")
    path.write_bytes(data)
    with pytest.raises(TaskError, match="cannot be read"):
        Picture(path.name, tmp_path).pixels  # noqa: B018
