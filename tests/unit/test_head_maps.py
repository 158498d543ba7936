"""Maps of heads over a picture: what is drawn where, pixels that a reader gets back, words that stay words."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from workbench.core.errors import ShapeError
from workbench.core.typed import typed
from workbench.view.head_maps import DARKEST, head_maps_svg
from workbench.view.pictures import HeadMaps
from workbench.view.raster import png

PIXELS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
MAPS = np.zeros((1, 2, 2, 3))
MAPS[0, 0, 1, 2], MAPS[0, 0, 0, 0], MAPS[0, 1] = 0.5, 0.25, 0.1


def test_another_reader_of_png_gets_the_same_pixels():
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(PIXELS)))), PIXELS)
    clear = np.concatenate([PIXELS, PIXELS[..., :1]], axis=2)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(clear)))), clear)
    with pytest.raises(ShapeError, match="uint8"):
        png(PIXELS.astype(float))


def test_a_patch_is_the_darker_the_less_attention_it_gets():
    svg = head_maps_svg(MAPS, ["a0"], ["h0", "h1"], pixels=PIXELS, unit="of attention")
    shades = [float(found) for found in re.findall(r'fill-opacity="([\d.]+)"', svg)]
    assert shades[:6] == [pytest.approx(DARKEST / 2, abs=0.01), *[DARKEST] * 4, 0.0]
    assert shades[6:] == [0.0] * 6  # an even map hides nothing
    assert "a0 h0, row 2, column 3: 0.5 of attention" in svg and "0 to 0.5" in svg
    held = base64.b64decode(re.search(r"base64,([^\"]+)", svg)[1])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(held))), PIXELS)
    assert svg.count("<use ") == 2 and svg.count("<image ") == 1  # the picture is there once


def test_many_patches_become_one_image_each():
    svg = head_maps_svg(np.random.default_rng(0).random((2, 2, 40, 40)), ["a", "b"], ["c", "d"])
    assert svg.count("<image ") == 4 and "<rect" not in svg and len(svg) < 60_000


def test_outlines_stand_on_their_patches():
    svg = head_maps_svg(
        MAPS[:, :1], ["a0"], ["h0"], pixels=PIXELS, outlines=[(0, 1, 2, 3), (1, 0, 2, 1)], side=60
    )
    assert 'x="20.0" y="0.0" width="40.0" height="40.0"/>' in svg
    assert 'x="0.0" y="20.0" width="20.0" height="20.0" stroke-dasharray' in svg


def test_words_stay_words():
    hostile = "<script>alert(1)</script>"
    svg = head_maps_svg(
        MAPS, [hostile], [hostile, "b"], title=hostile, unit=hostile, lead=hostile, pixels=PIXELS
    )
    assert "<script" not in svg


def test_maps_that_do_not_fit_are_refused_and_files_bring_them_back():
    with pytest.raises(ShapeError, match="1 row and 1 column"):
        head_maps_svg(MAPS, ["a0"], ["h0"])
    with pytest.raises(ShapeError, match="1 rows and 1 columns of maps"):
        HeadMaps.of(MAPS, ["a0"], ["h0"])
    made = HeadMaps.of(MAPS, ["a0"], ["h0", "h1"], pixels=PIXELS, title="t", outlines=[(0, 0, 1, 1)])
    again = typed(made.to_dict(), HeadMaps, where="here", error=ShapeError)
    assert again == made and again.svg() == made.svg()
    with pytest.raises(ShapeError, match="bytes are not the pixels"):
        typed(made.to_dict() | {"size": [3, 3]}, HeadMaps, where="here", error=ShapeError)
    with pytest.raises(ShapeError, match="do not fill"):
        HeadMaps.of_heads({"a0.h0": MAPS[0, 0], "a0.h1": MAPS[0, 1], "a1.h0": MAPS[0, 0]})
