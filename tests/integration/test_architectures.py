"""The table of architectures says what a run of its command finds; a few rows are run again, all of them when asked."""

from __future__ import annotations

import pytest
import torch
import transformers

from benchmarks.families.naive import every_head, without_head
from benchmarks.families.page import MARK, PAGE, read_half, versions
from benchmarks.families.rows import names, row

FEW = (
    "GPT2LMHeadModel",
    "NeoXForCausalLM",  # another name of GPT-NeoX
    "DeepseekV3ForCausalLM",  # its heads were once cut at the wrong axes
    "BambaForCausalLM",  # its layers return more than the stream
    "MambaForCausalLM",  # no heads
    "T5ForConditionalGeneration",  # three stacks of heads: the encoder's, the decoder's, and those between
    "BartForConditionalGeneration",
    "BertForMaskedLM",
)


def as_written(name: str) -> tuple[str, str, str, str]:
    """What a row says that is the same on every machine: opens by, heads, whether it has edges, equal or why not."""
    opens, _, heads, _, _, edges, equal = read_half()[name]
    return opens, heads, edges.split(":")[0], equal


def as_found(name: str) -> tuple[str, str, str, str]:
    found = row(name)
    edges = found.edges.split(":")[0]
    return found.opens, str(found.heads or ""), edges, "yes" if found.equal else f"no: {found.why}"


@pytest.mark.parametrize("name", FEW)
def test_a_row_is_what_is_found(name):
    assert as_found(name) == as_written(name)


@pytest.mark.every_row
def test_every_row_is_what_is_found(request):
    if "every_row" not in request.config.option.markexpr:
        pytest.skip("pytest -m every_row goes through all")
    assert {name: as_found(name) for name in names()} == {name: as_written(name) for name in names()}


def test_the_table_has_every_architecture_of_these_versions():
    assert list(read_half()) == names()
    text = " ".join(PAGE.read_text(encoding="utf-8").split(MARK)[1].split())
    assert versions() in text
    equal = sum(cells[-1] == "yes" for cells in read_half().values())
    assert f"**{equal} of {len(names())} are equal**" in text and equal >= 60


def test_the_plain_way_takes_a_heads_own_part_of_the_sum():
    projection = torch.nn.Linear(6, 3, bias=False)
    x = torch.arange(6.0)[None, None]
    with without_head(projection, 1, 3), torch.no_grad():
        found = projection(x)
    expected = projection.weight @ torch.tensor([0.0, 1.0, 0.0, 0.0, 4.0, 5.0])
    assert torch.allclose(found[0, 0], expected)


def test_the_plain_way_finds_every_layers_output_projection():
    config = transformers.GPT2Config(vocab_size=20, n_embd=8, n_layer=2, n_head=2, n_positions=8)
    model = transformers.GPT2LMHeadModel(config).eval()
    prompts = [{"input_ids": torch.arange(5)[None]}]
    whole, rows = every_head(model, prompts, lambda out, i: float(out.logits[0, -1, 3]), 2)
    assert len(rows) == 4 and all(found[0] != whole[0] for found in rows)
