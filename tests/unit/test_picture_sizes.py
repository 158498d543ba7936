"""Pictures of several sizes: cut by hand, counted by hand, and what ends the rows of one in a text."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from transformers import AutoTokenizer

from tests.families import VOCABULARY, save_tokenizer
from workbench.tasks.pictures.image import Picture
from workbench.tasks.pictures.sight import Sight
from workbench.tasks.pictures.sizes import Crops, WholePatches
from workbench.tasks.token_ids import picture_ids

EMPTY = Sight(size=(0, 0), grid=(0, 0), n_tokens=0, token=9)


def test_a_square_of_patches_is_one_position_and_its_patches_stand_together():
    sizes = WholePatches(patch=1, merge=2, frames=2)
    sight = replace(EMPTY, sizes=sizes).of_size((2, 4))
    assert (sight.grid, sight.n_tokens, sizes.told(sight.size)) == ((1, 2), 2, {"image_grid_thw": (1, 2, 4)})
    pixels = np.arange(24, dtype="float32").reshape(3, 2, 4)  # red 0 to 7, green 8 to 15, blue 16 to 23
    rows = sizes.cut(pixels)
    assert rows.shape == (8, 6)
    assert rows[:, 0].tolist() == [0, 1, 4, 5, 2, 3, 6, 7]  # both rows of the left square first
    assert rows[0].tolist() == [0, 0, 8, 8, 16, 16]  # two moments of each colour
    assert "multiples of 2" in sizes.why_not((3, 4)) and not sizes.why_not((4, 2))


def test_crops_are_the_picture_itself_and_the_overview_means_over_blocks():
    crops = Crops(side=(1, 2), grid=(1, 2), sizes=((1, 4), (2, 2)))
    wide = replace(EMPTY, sizes=crops, before="overview", gap=1).of_size((1, 4))
    assert (wide.n_tokens, wide.first, wide.grid) == (2 + 5, 2, (1, 4))
    tall = wide.of_size((2, 2))
    assert (tall.n_tokens, tall.grid, tall.patches()) == (2 + 2 * 3, (2, 2), (2, 3, 5, 6))  # 4 and 7 end rows
    assert tall.sets({}, 10) == {"image": (12, 13, 15, 16), "overview": (10, 11)}
    pixels = np.tile(np.array([[[0.0, 1.0, 2.0, 6.0]]], dtype="float32"), (3, 1, 1))
    assert crops.cut(pixels)[:, 0, 0].tolist() == [[0.5, 4.0], [0.0, 1.0], [2.0, 6.0]]
    assert crops.why_not((2, 4)) == "the model reads 1 x 4, 2 x 2"


def test_rows_of_a_picture_end_with_tokens_of_their_own_where_the_tokenizer_has_them(tmp_path):
    save_tokenizer(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    end, last = (VOCABULARY.index(word) for word in ("w30", "w31"))
    sizes = WholePatches(patch=2, merge=1)
    sight = replace(EMPTY, sizes=sizes, row_ends=("w30", "w31")).of_size((4, 6))
    assert picture_ids(tokenizer, sight) == [9, 9, 9, end, 9, 9, 9, last]
    places = [5, 6, 7, 9, 10, 11]  # of the image tokens in a prompt
    assert sight.sets({"object": ((0, 4), ())}, places)["object"] == (5, 10)
    assert picture_ids(tokenizer, replace(sight, row_ends=("[IMG_BREAK]", "[IMG_END]"))) == [9] * 6
    odd = Picture.of(np.zeros((3, 4, 5), dtype="float32"))
    assert "4 x 5 pixels" in sight.why_not(odd)
