"""Looking at one picture: maps are rows of the pattern, objects stand where they are drawn, every face shows them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import ModelError, OptionError
from workbench.tasks.scenes import World, draw


@pytest.fixture(scope="module")
def look():
    scene = draw(7, 12, World(marked=True, objects=(0, 0, 1)))
    return wb.look_at(wb.open_model("zoo:marked", device="cpu"), scene), scene


@torch.no_grad()
def test_a_map_is_the_class_tokens_row_of_the_pattern(look):
    found, scene = look
    model = wb.open_model("zoo:marked", device="cpu")
    pixels = torch.tensor(scene.pixels).permute(2, 0, 1)[None] / 127.5 - 1
    _, cache = model.run_with_cache(None, pixel_values=pixels)
    pattern = cache["blocks.1.attn.hook_pattern"][0, 2]
    assert np.allclose(found.map_of("a1.h2"), pattern[0, 1:].reshape(6, 6), atol=1e-5)
    assert np.allclose(found.map_of("a1.h2", 5), pattern[5, 1:].reshape(6, 6), atol=1e-5)


def test_it_says_the_marked_object_and_knows_where_all_objects_are(look):
    found, scene = look
    assert found.said[0][0] == f"{scene.asked.colour} {scene.asked.shape}" and found.said[0][1] > 0.5
    assert [phrase for phrase, _ in found.objects] == [
        t.phrase for t in sorted(scene.things, key=lambda t: t.slot)
    ]
    top, left, bottom, right = found.objects[0][1]
    shown = np.flatnonzero(scene.coverage[:, 0] > 0)
    assert (min(shown // 6), min(shown % 6), max(shown // 6) + 1, max(shown % 6) + 1) == (
        top,
        left,
        bottom,
        right,
    )


def test_every_face_shows_it(look):
    found, _ = look
    svg = found.picture()
    assert svg.count("<use ") == 12 and "a1 h2, row 1, column 1" in svg and len(svg) < 200_000
    assert svg in found._repr_html_() and "yellow square" in found.page()
    assert [row["head"] for row in found.to_terminal()[-1]] == list(found.patterns)


def test_what_cannot_be_looked_at_is_refused(look, bridge_of):
    found, scene = look
    with pytest.raises(ModelError, match="reads pictures alone"):
        wb.look_at(bridge_of("gpt2"), scene)
    with pytest.raises(ModelError, match="nothing is resized"):
        wb.look_at(wb.open_model("zoo:marked", device="cpu"), wb.Picture.of(np.zeros((8, 8, 3), np.uint8)))
    with pytest.raises(OptionError, match=r"did you mean a1\.h2"):
        found.map_of("a1.h22")
    with pytest.raises(OptionError, match="37 positions"):
        found.map_of("a1.h2", 37)
