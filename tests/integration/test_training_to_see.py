"""The recipes of models that see: packing, masks and labels are what they say, and every recipe takes steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.picture_words import patch_word, picture_as_words, save_as_words
from workbench.heads.asked_pictures import ask_pictures
from workbench.model.open import open_model
from workbench.tasks.scenes import World, draw
from workbench.tasks.scenes.paint import draw_many
from workbench.tasks.scenes.questions import LENGTH
from workbench.tasks.scenes.words import COLOURS, N_PATCHES, SHAPES
from workbench.training import clip, get_recipe, marked, vlm, vlm_mutual, vlm_sinks
from workbench.training.dense_labels import (
    CLASSES,
    NO_LABEL,
    PatchHeads,
    background_variance,
    patch_labels,
    pixel_values,
)
from workbench.training.recipe import save
from workbench.training.seeing_measure import Eyes, asked_of
from workbench.training.seeing_tower import ALIKE, SeeingTower, learn_to_see, normalised
from workbench.training.seeing_words import (
    PACKED,
    PICTURE,
    Packer,
    block_mask,
    scene_tokenizer,
    unlocked_mask,
)
from workbench.training.vocabulary import UNK


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return vlm.build(3).eval()


def test_packed_questions_are_computed_as_if_each_stood_alone(model):
    pixels, layout = draw_many(0, range(3), vlm.WORLD)
    reader, packer, eyes = vlm.PackedReader(model).eval(), Packer(scene_tokenizer()), Eyes(model)
    packed = packer.pack(layout, vlm.WORLD, np.random.default_rng(0), describe=True)
    with torch.no_grad():
        together, described = reader(pixel_values(pixels), packed)
        for number in (0, 5, len(PACKED) - 1):
            words = packed.ids[:, LENGTH * number : LENGTH * (number + 1)]
            start = torch.tensor([eyes.start] * 3)
            alone = model(input_ids=torch.cat([start, words], 1), pixel_values=pixel_values(pixels)).logits[
                :, -1
            ]
            # 1e-5: sums over masked and absent keys come in another order
            assert torch.allclose(alone, together[:, number], atol=1e-5)
        words = packed.ids[:, LENGTH * len(PACKED) :]
        alone = model(input_ids=torch.cat([start, words], 1), pixel_values=pixel_values(pixels)).logits
        assert torch.allclose(alone[:, PICTURE + LENGTH - 1 :], described, atol=1e-5)


def test_blocks_see_the_picture_and_themselves_by_hand():
    mask, places = block_mask([2, 1])
    assert mask.shape == (1, 1, PICTURE + 3, PICTURE + 3)
    assert mask[0, 0, -3:, -3:].tolist() == [[True, False, False], [True, True, False], [False, False, True]]
    assert mask[0, 0, -3:, :PICTURE].all() and not mask[0, 0, 0, 1:].any()
    assert places[0, -3:].tolist() == [PICTURE, PICTURE + 1, PICTURE]


def test_the_unlocked_mask_has_the_entries_of_the_paper_and_lets_no_answer_leak(model):
    length = PICTURE + LENGTH + 4
    mask = unlocked_mask(length)
    assert (mask == 0).sum() == length * (length + 1) // 2 + N_PATCHES * LENGTH
    pixels, found, _ = asked_of(3, "colour", 2)
    ids = torch.tensor(
        [[*Eyes(model).start, *Packer(scene_tokenizer()).ids(q.text), 9, 9, 9, 9] for q in found]
    )
    other = ids.clone()
    other[:, -2:] = 12
    with torch.no_grad():
        one, two = (
            model(input_ids=i, pixel_values=pixel_values(pixels), attention_mask=mask).logits
            for i in (ids, other)
        )
        causal = model(input_ids=ids, pixel_values=pixel_values(pixels)).logits
    assert torch.equal(one[:, : length - 2], two[:, : length - 2])
    assert (one[:, 5] - causal[:, 5]).abs().max() > 1e-4  # a patch does see the question


def test_twins_are_asked_the_same_questions_and_differ_in_the_mask_alone(model):
    pixels, layout = draw_many(0, range(2), vlm.WORLD)
    packer = Packer(scene_tokenizer())
    whole = packer.pack(layout, vlm.WORLD, np.random.default_rng(0), describe=True)
    few = whole.few(3, np.random.default_rng(1))
    for picture in range(2):
        blocks = whole.ids[picture, : len(PACKED) * LENGTH].view(-1, LENGTH).tolist()
        for question in range(3):
            asked = few.ids[picture, question * LENGTH : (question + 1) * LENGTH].tolist()
            assert few.answers[picture, question] in whole.answers[picture, [b == asked for b in blocks]]
    assert torch.equal(few.ids[:, 3 * LENGTH :], whole.ids[:, len(PACKED) * LENGTH :])
    usual, unlocked = vlm.PackedReader(model).eval(), vlm_mutual.UnlockedReader(model).eval()
    unlocked.who_sees_whom = lambda length: torch.zeros(1, 1, length, length).masked_fill(
        ~torch.ones(length, length, dtype=torch.bool).tril(), torch.finfo(torch.float32).min
    )
    with torch.no_grad():
        own, said = usual(pixel_values(pixels), few)
        rows, told = unlocked(pixel_values(pixels), few)
    # 1e-5: sums over masked and absent keys come in another order
    assert torch.allclose(own, rows, atol=1e-5) and torch.allclose(said, told, atol=1e-5)


def test_labels_of_patches_are_the_truth_of_the_picture():
    world = World(objects=(1,) * 9)
    _, layout = draw_many(2, range(5), world)
    labels = patch_labels(layout, world)
    for index in range(5):
        scene = draw(2, index, world)
        for thing in scene.things:
            for patch in scene.patches(thing.slot):
                assert labels["colour"][index, patch] == COLOURS.index(thing.colour)
                assert labels["shape"][index, patch] == SHAPES.index(thing.shape)
                assert labels["cell"][index, patch] == thing.cell
        touched = {p for t in scene.things for p in np.flatnonzero(scene.coverage[:, t.slot]).tolist()}
        empty = [patch for patch in range(N_PATCHES) if patch not in touched]
        assert (labels["size"][index, empty] == CLASSES["size"]).all()
    tiny = patch_labels(layout, World(tiny=True, zoom=True))
    assert set(tiny["size"].unique().tolist()) <= {NO_LABEL, CLASSES["size"]}


def test_the_background_is_penalised_for_differing_and_objects_are_not():
    labels = {"colour": torch.tensor([[CLASSES["colour"]] * 3 + [0]])}
    alike = torch.ones(1, 4, 2)
    alike[0, 3] = 9.0
    assert background_variance(alike, labels) == 0
    alike[0, 0, 0] = 4.0  # 4, 1, 1: variance 3 in one feature, 0 in the other
    assert background_variance(alike, labels).item() == pytest.approx(1.5)


def test_heads_say_how_many_patches_they_read_rightly():
    heads = PatchHeads(2, ("size",))
    with torch.no_grad():
        heads.heads["size"].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]))
        heads.heads["size"].bias.zero_()
    features = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [5.0, 5.0]]])
    labels = {"size": torch.tensor([[0, 1, 1, 2]])}  # the last is background and does not count
    assert heads.right(features, labels)["size"] == pytest.approx(2 / 3)


def test_projected_patches_end_with_the_size_of_words():
    model = vlm.build(0)
    learn_to_see(model, seed=0, steps=2, batch=8)
    pixels, _ = draw_many(0, range(64), World(objects=(1,) * 9))
    with torch.no_grad():
        patches = SeeingTower(model)(pixel_values(pixels))
    assert patches.pow(2).mean().sqrt().item() == pytest.approx(ALIKE, rel=1e-4)
    assert normalised(patches).pow(2).mean(-1).allclose(torch.ones(64, N_PATCHES), atol=1e-3)


TINY = {
    "marked": lambda seed: marked.train(seed, steps=2, batch=4),
    "clip": lambda seed: clip.train(seed, steps=2, batch=4, extra=2),
    "vlm": lambda seed: vlm.train(seed, tower_steps=2, steps=2, batch=2),
    "vlm-mutual": lambda seed: get_recipe("vlm-mutual").train(seed, tower_steps=2, steps=2, batch=2),
}


@pytest.mark.parametrize("name", sorted(TINY))
def test_a_recipe_takes_the_same_steps_again_and_its_model_opens_as_plain_transformers(name, tmp_path):
    torch.set_num_threads(1)
    first, again = TINY[name](0), TINY[name](0)
    weights = first.model.state_dict()
    assert all(torch.equal(weights[key], again.model.state_dict()[key]) for key in weights)
    save(first, tmp_path)
    assert not list(tmp_path.glob("*.bin")) and (tmp_path / "preprocessor_config.json").is_file()
    opened = get_recipe(name).opens(tmp_path)
    assert all(torch.equal(weights[key], opened.state_dict()[key]) for key in weights)


def test_no_word_of_the_questions_is_unknown():
    tokenizer = scene_tokenizer()
    for kind in ("colour", "shape", "size", "count", "place", "exist", "relation"):
        for question in asked_of(4, kind, 20)[1]:
            ids = tokenizer(f"{question.text} {question.answer}", add_special_tokens=False)["input_ids"]
            assert len(ids) == LENGTH + 1 and UNK not in ids


def test_a_picture_as_words_is_the_same_model(model, tmp_path):
    pixels, found, _ = asked_of(3, "place", 4)
    texts = [question.text for question in found]
    with torch.no_grad():
        seen = Eyes(model).logits(pixels, texts)
        llama, ids = picture_as_words(model, pixel_values(pixels))
        words = torch.tensor([Packer(scene_tokenizer()).ids(text) for text in texts])
        prompts = torch.cat([torch.zeros(4, 1, dtype=torch.long), ids, words], dim=1)
        read = llama(input_ids=prompts).logits[:, -1]
    n = seen.shape[1]
    assert torch.allclose(seen, read[:, :n], atol=1e-5)  # 4e-6 was the largest difference seen
    bridge = open_model(save_as_words(llama, scene_tokenizer(), ids, tmp_path / "words"))
    text = " ".join([*(patch_word(0, patch) for patch in range(N_PATCHES)), texts[0]])
    assert bridge.to_tokens(text)[0].tolist() == prompts[0].tolist()
    assert torch.allclose(bridge(prompts[:1])[0, -1, :n], seen[0], atol=1e-4)


@pytest.mark.parametrize("name", list(vlm_sinks.SETTINGS))
def test_settings_in_which_sinks_were_looked_for_take_steps_and_open(name, tmp_path):
    """Without the penalty; by AdamW; without a first token: then the prompt begins with the picture."""
    trained = vlm_sinks.train_setting(name, tower_steps=2, steps=2, batch=2)
    save(trained, tmp_path / name)
    model = open_model(tmp_path / name, device="cpu")
    asked = ask_pictures(model, World(objects=(0, 1)), kinds=["colour"], n=2, seed=7)
    assert asked.image[0] == (0 if name == "no-start" else 1) and len(asked.image) == N_PATCHES


def test_questions_without_a_first_token_are_computed_as_if_each_stood_alone(model):
    pixels, layout = draw_many(0, range(2), vlm.WORLD)
    packed = Packer(scene_tokenizer()).pack(layout, vlm.WORLD, np.random.default_rng(0), describe=True)
    with torch.no_grad():
        together, described = vlm_sinks.StartlessReader(model)(pixel_values(pixels), packed)
        start = torch.tensor([Eyes(model).start[1:]] * 2)
        for ids, found in (
            (packed.ids[:, :LENGTH], together[:, 0]),
            (packed.ids[:, LENGTH : 2 * LENGTH], together[:, 1]),
        ):
            alone = model(input_ids=torch.cat([start, ids], 1), pixel_values=pixel_values(pixels)).logits[
                :, -1
            ]
            assert torch.allclose(alone, found, atol=1e-5)
        words = packed.ids[:, LENGTH * len(PACKED) :]
        alone = model(input_ids=torch.cat([start, words], 1), pixel_values=pixel_values(pixels)).logits
        assert torch.allclose(alone[:, PICTURE - 1 + LENGTH - 1 :], described, atol=1e-5)
