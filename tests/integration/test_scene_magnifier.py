"""Magnified patches by hand and beside the plain tower; chunks that are repeated; the study at a small size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import ModelError, OptionError, ShapeError
from workbench.edits.closer_looks import CloserLooks, ask_keys
from workbench.edits.magnify import attended_chunks, fine_patches, magnified, with_chunks_again
from workbench.heads.asked_pictures import answered, ask_pictures
from workbench.heads.crops import Window, enlarged
from workbench.model.hooks import forward
from workbench.model.prompt import Prompt
from workbench.papers import scene_magnifier as study
from workbench.papers.kinds import Setting
from workbench.tasks.scenes.layout import World

WHOLE = Window(0, 0, 6, 6)


@pytest.fixture(scope="module")
def vlm():
    return wb.open_model("zoo:vlm", device="cpu")


@pytest.fixture(scope="module")
def asked(vlm):
    return ask_pictures(vlm, World(objects=(0, 1, 1), tiny=True), kinds=["colour"], n=4, seed=7)


@torch.no_grad()
def test_fine_patches_are_means_of_those_of_the_enlarged_window(vlm, asked):
    pixels, window = [scene.pixels for scene in asked.scenes], Window(2, 0, 3, 3)
    fine, many = fine_patches(vlm, pixels, [[window], [], [WHOLE], []], (6, 6))
    shown = torch.tensor(enlarged(pixels[0], window, (6, 6))).permute(2, 0, 1)[None] / 127.5 - 1
    plain = vlm.original_model.get_image_features(pixel_values=shown).pooler_output[0].reshape(6, 6, -1)
    assert torch.allclose(fine[0].reshape(6, 6, -1)[3, 1], plain[2:4, 2:4].mean((0, 1)), atol=1e-4)
    assert many[0].reshape(6, 6).sum() == 9 and many[1].sum() == 0 and many[2].sum() == 36
    with pytest.raises(ShapeError, match="windows are given for 1"):
        fine_patches(vlm, pixels, [[]], (6, 6))


@torch.no_grad()
def test_without_a_window_or_a_share_the_model_is_itself(vlm, asked):
    pixels, plain = [scene.pixels for scene in asked.scenes], forward(vlm, asked.prompt, last_only=True)
    for windows, mix, same in (
        ([[]] * 4, 1.0, True),
        ([[WHOLE]] * 4, 0.0, True),
        ([[Window(0, 0, 3, 3)]] * 4, 1.0, False),
    ):
        fine, many = fine_patches(vlm, pixels, windows, (6, 6))
        with magnified(vlm, fine, many, asked.image, mix=mix):
            assert torch.allclose(forward(vlm, asked.prompt, last_only=True), plain, atol=1e-5) is same
    assert torch.equal(forward(vlm, asked.prompt, last_only=True), plain)  # as it was afterwards
    fine, many = fine_patches(vlm, pixels, [[WHOLE]] * 4, (6, 6))  # a window of all is the picture once more
    with magnified(vlm, fine, many, asked.image):
        assert torch.allclose(forward(vlm, asked.prompt, last_only=True), plain, atol=1e-3)
    with pytest.raises(OptionError, match="0 to 1"), magnified(vlm, fine, many, asked.image, mix=2):
        pass
    with pytest.raises(ShapeError, match="4 pictures are magnified"), magnified(vlm, fine, many, asked.image):
        forward(vlm, asked.prompt[:2], last_only=True)


def test_a_chunk_of_nothing_changes_no_text_and_one_is_put_before_the_question():
    ids = torch.tensor([[1, 2, 3, 4, 8, 9], [5, 6, 7, 4, 8, 9]])
    assert torch.equal(with_chunks_again(ids, np.array([0, 1]), chunk=0, end=4), ids)
    again = with_chunks_again(ids, np.array([0, 2]), chunk=2, end=4)
    assert again.tolist() == [[1, 2, 3, 4, 1, 2, 8, 9], [5, 6, 7, 4, 7, 4, 8, 9]]


@torch.no_grad()
def test_chunks_get_what_their_tokens_get():
    model = wb.open_model("zoo:kv", device="cpu")
    keys = ask_keys(model, n=4, seed=1, needles=3, context=24)
    found = attended_chunks(model, Prompt(keys.ids), chunk=2, end=keys.end)
    _, seen = model.run_with_cache(keys.ids)
    rows = torch.stack([seen[f"blocks.{n}.attn.hook_pattern"][:, :, -1] for n in range(model.cfg.n_layers)])
    wanted = rows.mean((0, 2))
    assert found[1, 5] == pytest.approx(float(wanted[1, 5:7].sum()), abs=1e-5) and found.shape == (
        4,
        keys.end - 1,
    )
    assert keys.answered(chunk=2).mean() == 1.0 and keys.attended().shape == (4,)
    with pytest.raises(OptionError, match="do not fit"):
        attended_chunks(model, Prompt(keys.ids), chunk=30, end=4)


def test_windows_cover_the_picture_once_and_a_perfect_one_holds_the_object(vlm, asked):
    looks = CloserLooks(model=vlm, asked=asked)
    covered = np.zeros((6, 6), dtype=int)
    for window in looks.everywhere()[0]:
        covered[window.row : window.row + 3, window.column : window.column + 3] += 1
    assert (covered == 1).all()
    assert (looks.mixed([[]] * 4, 1.0) == answered(vlm, asked)).all()
    for own, [window] in zip(asked.own, looks.around_asked(), strict=True):
        part = own[window.row : window.row + 3, window.column : window.column + 3]
        assert part.sum() == own.sum()


def test_the_study_is_judged_and_needs_a_model_that_reads_both(vlm, bridge_of):
    options = study.MagnifierSizes(choosing=8, questions=24, texts=24)
    found = study.REPLICATION.run(Setting(model=vlm, name="zoo:vlm", options=options, seed=3))
    verdicts = dict(zip(study.CLAIMS, (claim.verdict for claim in found.claims), strict=True))
    assert verdicts["scenes"] == "cannot be tested here" and verdicts["random"] in ("holds", "fails")
    with pytest.raises(ModelError, match="reads a picture and words"):
        study.REPLICATION.run(Setting(model=bridge_of("gpt2"), name="tiny", options=options))
