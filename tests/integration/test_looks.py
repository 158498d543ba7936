"""Looking at one picture: maps are rows of the pattern, objects stand where they are drawn, every face shows them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import workbench as wb
from tests.towers import IMAGE, speaking_dir
from workbench.core.errors import ModelError, OptionError, TaskError
from workbench.model.sight import give_sight, sight_of
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
    with pytest.raises(ModelError, match="a model that reads pictures"):
        wb.look_at(bridge_of("gpt2"), scene)
    with pytest.raises(ModelError, match="nothing is resized"):
        wb.look_at(wb.open_model("zoo:marked", device="cpu"), wb.Picture.of(np.zeros((8, 8, 3), np.uint8)))
    with pytest.raises(OptionError, match=r"did you mean a1\.h2"):
        found.map_of("a1.h22")
    with pytest.raises(OptionError, match="37 positions"):
        found.map_of("a1.h2", 37)
    with pytest.raises(OptionError, match="reads pictures alone and is asked"):
        wb.look_at(wb.open_model("zoo:marked", device="cpu"), scene, "what is it ?")


QUESTION = "where is the green star here ?"


@pytest.fixture(scope="module")
def asked():
    return wb.look_at(wb.open_model("zoo:vlm", device="cpu"), draw(7, 4), QUESTION)


@torch.no_grad()
def test_words_look_at_patches_and_at_words(asked):
    model = wb.open_model("zoo:vlm", device="cpu")
    words = model.tokenizer(QUESTION, add_special_tokens=False)["input_ids"]
    ids = torch.tensor(
        [[model.tokenizer.bos_token_id, *[model.original_model.config.image_token_id] * 36, *words]]
    )
    _, cache = model.run_with_cache(ids, pixel_values=_pixels(draw(7, 4).pixels))
    pattern = cache["blocks.1.attn.hook_pattern"][0, 2]
    assert list(asked.words.values()) == ["<bos>", *QUESTION.split()] and list(asked.words) == [
        0,
        *range(37, 44),
    ]
    star = asked.position_of("star")
    assert star == 41 and asked.query == 43
    assert np.allclose(asked.map_of("a1.h2", star), pattern[star, 1:37].reshape(6, 6), atol=1e-5)
    assert np.allclose(list(asked.words_of("a1.h2").values()), pattern[43, [0, *range(37, 44)]], atol=1e-5)
    tower = wb.look_at(model, draw(7, 4), tower="vision")
    z = cache["vision_encoder.encoder_layers.2.attn.hook_pattern"][0, 3]
    assert np.allclose(tower.map_of("vision:a2.h3", 8), z[8, 1:].reshape(6, 6), atol=1e-5)
    assert tower.said == () and list(tower.words.values()) == ["class token"]


def _pixels(pixels):
    """The picture as the model's own configuration scales it: colours from -1 to 1."""
    return torch.tensor(pixels).permute(2, 0, 1)[None] / 127.5 - 1


def test_the_object_that_is_asked_about_is_known(asked):
    phrases = [phrase for phrase, _ in asked.objects]
    assert phrases[asked.asked] == "large green star" and asked.said[0][0] == "north"
    model = wb.open_model("zoo:vlm", device="cpu")
    several = wb.look_at(model, draw(7, 4), "how many green things are here ?")
    assert several.asked is None  # three of them: none is the one


def test_a_word_holds_the_maps_of_all_heads(asked):
    card = asked._repr_html_()
    assert (
        card.count('tabindex="0"') == 8 and card.count('class="m"') == 7
    )  # the maps of "?" are shown at first
    assert "a1 h2 from ?, row 1, column 1" in card and "<script" not in card
    assert "green" in asked.page() and asked.to_terminal()[-1][0]["which"] == "star"


def test_a_question_is_needed_where_words_are_read(asked):
    model = wb.open_model("zoo:vlm", device="cpu")
    with pytest.raises(OptionError, match="no question was given"):
        wb.look_at(model, draw(7, 4))
    with pytest.raises(TaskError, match="does not know a word"):
        wb.look_at(model, draw(7, 4), "where is Heidelberg ?")
    with pytest.raises(ModelError, match="no stack called 'text'"):
        wb.look_at(model, draw(7, 4), QUESTION, tower="text")
    with pytest.raises(OptionError, match="did you mean star"):
        asked.position_of("start")


def test_a_tower_is_asked_nothing():
    model = wb.open_model("zoo:vlm", device="cpu")
    with pytest.raises(OptionError, match="a tower sees the picture alone and is asked"):
        wb.look_at(model, draw(7, 4), QUESTION, tower="vision")


def test_the_stack_for_pictures_of_a_model_with_captions_by_each_of_its_names():
    model = wb.open_model("zoo:clip", device="cpu")
    plain = wb.look_at(model, draw(7, 4))
    for one in (model, wb.captioned(model), wb.captioned(model, "text")):
        named = wb.look_at(one, draw(7, 4), tower="vision")
        assert set(named.patterns) == {f"vision:{head}" for head in plain.patterns}
        np.testing.assert_array_equal(named.map_of("vision:a2.h1"), plain.map_of("a2.h1"))
    for one, tower in ((model, "text"), (wb.captioned(model, "text"), None)):
        with pytest.raises(ModelError, match="the stack 'text' reads captions and is shown a picture"):
            wb.look_at(one, draw(7, 4), tower=tower)


@pytest.mark.parametrize("kind", ["mistral3", "llavanext"])
@torch.no_grad()
def test_rows_of_patches_with_tokens_behind_each_are_laid_out_by_the_places_of_image_tokens(kind):
    """Pixtral's rows end in tokens of their own; those of LLaVA-NeXT in an image token, and an overview comes first."""
    model, ids = wb.open_model(speaking_dir(kind), device="cpu"), []
    sight = sight_of(model)
    if kind == "mistral3":
        give_sight(model, replace(sight, row_ends=("w30", "w31")))
    rng = np.random.default_rng(5)
    size = {"mistral3": (16, 24), "llavanext": (16, 8)}[kind]
    picture = wb.Picture.of(rng.normal(size=(3, *size)).astype("float32"))
    handle = model.original_model.register_forward_pre_hook(
        lambda module, args, kwargs: ids.extend(kwargs["input_ids"][0].tolist()), with_kwargs=True
    )
    found = wb.look_at(model, picture, "w10 w119 w40")
    handle.remove()
    image = [i for i, token in enumerate(ids[: found.size]) if token == IMAGE]
    n = found.grid[0] * found.grid[1]
    if kind == "llavanext":  # four of the overview; then four rows of two, each with its end
        rows = [image[4 + 3 * row : 4 + 3 * row + 3] for row in range(4)]
        ends, image = [row[-1] for row in rows], [at for row in rows for at in row[:2]]
        assert {found.words[at] for at in ends} == {"end of a row"}
    else:
        assert [found.words[at].strip() for at in (image[2] + 1, image[5] + 1)] == ["w30", "w31"]
    assert list(found.patches) == image and len(image) == n and found.gap == 1
    for query in (found.query, image[-1]):
        row = found.patterns["a1.h2"][query]
        assert found.map_of("a1.h2", query).flatten().tolist() == row[image].tolist()
        assert sum(found.words_of("a1.h2", query).values()) + row[image].sum() == pytest.approx(1, abs=1e-5)
    columns = found.grid[1]
    assert found.name_of(image[columns]) == "row 2, column 1" and '"gap": 1' in found.page().replace(
        '":1', '": 1'
    )
