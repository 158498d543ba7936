"""Where a picture goes: what ``model show`` says of it is true of the forward pass, and the page says the same."""

from __future__ import annotations

import pytest
import torch

import workbench as wb
from tests.layout_table import PAGE, blip2_dir, layout_at, row_of
from tests.seeing import IMAGE, seeing_dir
from tests.towers import speaking_dir, tower_dir
from workbench.circuits.files.markdown import table
from workbench.core.errors import ModelError
from workbench.model.multimodal_layout import multimodal_layout
from workbench.model.report import show_model


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("llava-before", seeing_dir),
        ("blip2", blip2_dir),
        ("qwen3vl", speaking_dir),
        ("clip", tower_dir),
        ("vit", tower_dir),
    ],
)
def test_the_page_has_the_row_of_a_family(name, make):
    row = table([row_of(name, layout_at(make(name)))]).splitlines()[-1]
    assert row in PAGE.read_text(encoding="utf-8").splitlines(), "python -m tests.layout_table"


def test_a_llava_reads_as_many_image_tokens_as_it_says_and_no_other_number():
    model = wb.open_model(str(seeing_dir("llava")))
    found = multimodal_layout(model)
    assert found.n_image_tokens == found.rows * found.columns == 4 and found.meets == "in one row"
    assert f"(id {IMAGE})" in found.image_tokens
    pixels = torch.zeros(1, 3, 16, 16)
    for n in (3, 4, 5):
        ids = torch.tensor([[0, *[IMAGE] * n, 10]])
        if n == found.n_image_tokens:
            assert model(ids, pixel_values=pixels).shape[1] == n + 2
        else:
            with pytest.raises((ValueError, RuntimeError), match=r"[Ii]mage"):
                model(ids, pixel_values=pixels)


def test_parts_are_named_with_their_weights_and_words_alone_have_none():
    page = show_model("zoo:vlm")
    row = page.multimodal.row()
    # LLaVA's projector: 64 x 64 and 64 x 64 with biases; the rest of the numbers are the card's
    assert row["connector"] == f"multi_modal_projector: {2 * (64 * 64 + 64):,} weights"
    assert row["tower"].startswith("clip_vision_model: 3 layers x 4 heads")
    assert row["language model"].startswith("llama: 4 layers x 4 heads")
    assert (
        page.to_dict()["multimodal"]["n_image_tokens"] == 36 and "where a picture goes" in page.to_terminal()
    )
    words = show_model("zoo:truth-induction")
    assert words.multimodal is None and words.to_dict()["multimodal"] is None


def test_the_survey_is_refused_on_a_model_of_words_and_has_no_claims_on_one_that_sees(tmp_path):
    with pytest.raises(ModelError, match="takes no picture"):
        wb.replicate("instruction-tuning-survey", model="zoo:truth-induction", out=tmp_path / "words")
    found = wb.replicate("instruction-tuning-survey", model="zoo:marked", out=tmp_path / "marked")
    assert found.findings.claims == () and "a survey, without claims" in found.lead
    rows = found.findings.tables["Where a picture goes"]
    assert [row["model"] for row in rows][:2] == ["zoo:marked", "zoo:vlm"] and rows[0]["connector"] == "none"
    assert "<table" in found.page()
