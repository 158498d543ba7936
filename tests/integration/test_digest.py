"""One digest for one model: same tensors, same digest, whatever file, names or dtype they came in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.families import build_hf
from workbench.model.digest import combine, digest_files, exact_dtype, weight_lines
from workbench.model.identity import identity
from workbench.model.open import open_model

WEIGHTS = "model.safetensors"


def saved(model, folder: Path, change=None) -> Path:
    """The model as transformers saves it; ``change`` gives the file other tensors or names."""
    model.save_pretrained(folder)
    if change is not None:
        found = {name: tensor.clone() for name, tensor in change(load_file(folder / WEIGHTS)).items()}
        save_file(found, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def pickled(model, folder: Path, **options) -> Path:
    """The same directory with what ``torch.save(model.state_dict())`` wrote: tied tensors twice, its own names."""
    saved(model, folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin", **options)
    (folder / WEIGHTS).unlink()
    return folder


def digest_of(source, dtype: str = "float32") -> str:
    return identity(open_model(source, device="cpu", dtype=dtype)).digest


@pytest.mark.parametrize("family", ["gpt2", "qwen2", "gpt-neox", "mixtral"])
def test_files_of_every_kind_and_memory_have_the_digest_of_the_safetensors_file(family, tmp_path):
    """Tied embeddings (qwen2), buffers (gpt-neox), experts that transformers fuses when it loads (mixtral)."""
    own = digest_files([saved(build_hf(family), tmp_path / "own") / WEIGHTS])
    assert digest_of(build_hf(family)) == own
    other = pickled(build_hf(family), tmp_path / "bin")
    assert digest_of(other, "float32") == digest_of(other, "bfloat16") == own
    assert digest_of(tmp_path / "own", "bfloat16") == own


def test_an_old_pickle_is_read_too(tmp_path):
    own = digest_files([saved(build_hf("llama"), tmp_path / "own") / WEIGHTS])
    options = {"_use_new_zipfile_serialization": False}
    assert digest_of(pickled(build_hf("llama"), tmp_path / "bin", **options)) == own


RENAMED = {
    "without the prefix, with masks": (
        "gpt2",
        lambda w: {
            **{name.removeprefix("transformer."): tensor for name, tensor in w.items()},
            "h.0.attn.bias": torch.ones(1, 1, 64, 64).tril(),
        },
    ),
    "tied twice": ("qwen2", lambda w: {**w, "lm_head.weight": w["model.embed_tokens.weight"]}),
    "the norm's old names": (
        "bert",
        lambda w: {
            n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
            for n, t in w.items()
        },
    ),
}


@pytest.mark.parametrize("kind", RENAMED)
def test_other_names_in_a_file_are_the_same_model(kind, tmp_path):
    """What was recorded of the file itself, as the first edition did, still counts as this model."""
    family, change = RENAMED[kind]
    own = digest_of(build_hf(family))
    found = identity(open_model(saved(build_hf(family), tmp_path / "other", change), device="cpu"))
    raw = digest_files([tmp_path / "other" / WEIGHTS])
    assert found.digest == own and found.file_digest == raw != own
    assert found.has_weights(own) and found.has_weights(raw) and not found.has_weights("0" * 64)
    assert found.to_dict()["file_digest"] == raw


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_checkpoint_in_half_precision_is_itself_in_float32(dtype, tmp_path):
    model = build_hf("llama").to(dtype)
    own = digest_files([saved(model, tmp_path / "half") / WEIGHTS])
    assert digest_of(tmp_path / "half") == own
    assert digest_of(model.float()) == own
    assert digest_of(saved(build_hf("llama").to(dtype).float(), tmp_path / "wide")) == own


def test_a_pooler_that_nothing_reads_is_no_part_of_an_encoder(tmp_path):
    folder = saved(build_hf("bert"), tmp_path / "with")
    bare = saved(
        build_hf("bert"), tmp_path / "without", lambda w: {n: t for n, t in w.items() if "pooler" not in n}
    )
    assert (
        digest_of(folder)
        == digest_of(bare)
        == digest_files([bare / WEIGHTS])
        != digest_files([folder / WEIGHTS])
    )


def test_one_changed_bit_is_another_model(tmp_path):
    model = build_hf("llama")
    own = digest_of(saved(model, tmp_path / "own"))
    with torch.no_grad():
        bits = model.model.layers[2].mlp.up_proj.weight.view(torch.int32)
        bits[3, 5] ^= 1
    assert digest_of(model) != own


def test_the_narrowest_dtype_by_hand():
    """1/3 is no number of float32, 1 + 2^-12 is none of bfloat16 and float16, 70000 none of float16."""
    halves, thirds = torch.tensor([0.5, -0.0]), torch.tensor([1 / 3], dtype=torch.float64)
    assert exact_dtype([halves]) == exact_dtype([halves.double()]) == torch.bfloat16
    assert exact_dtype([halves, torch.tensor([1 + 2.0**-10])]) == torch.float16
    assert exact_dtype([torch.tensor([1 + 2.0**-10, 70000.0])]) == torch.float32
    assert exact_dtype([halves, thirds]) == torch.float64
    assert exact_dtype([torch.arange(3)]) is None
    wide, narrow = (
        {"x": halves.double(), "i": torch.arange(2)},
        {"x": halves.bfloat16(), "i": torch.arange(2)},
    )
    assert combine(weight_lines(wide).values()) == combine(weight_lines(narrow).values())
