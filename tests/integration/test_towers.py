"""Towers run as transformers runs them, and every hook is where its name says: seen through transformers alone."""

from __future__ import annotations

import copy

import pytest
import torch
import transformers

import workbench as wb
from benchmarks.families.configs import tiny
from tests.families import save_tokenizer
from tests.mini import mini_pairs
from tests.towers import CLASSES, TOWERS, build_tower, tower_dir
from workbench.core.errors import ModelError
from workbench.model.hooks import resume_from
from workbench.model.identity import identity
from workbench.model.towers.classes import READS, probe_inputs
from workbench.model.towers.open import plain_answer
from workbench.model.towers.parts import part, stacks


@pytest.fixture(params=TOWERS, scope="module")
def opened(request):
    """A tower, what it reads, and the same model as transformers loads it."""
    model = wb.open_model(tower_dir(request.param), device="cpu")
    kind = getattr(transformers, type(model.original_model).__name__)
    plain = kind.from_pretrained(tower_dir(request.param), attn_implementation="eager")
    plain.eval().requires_grad_(
        False
    )  # torch's own attention, in SigLIP's pooling, has another way with gradients
    return model, probe_inputs(plain.config, READS[kind.__name__]), plain


def layers_of(tower, plain):
    """The layers of the same stack in the plain model."""
    found = dict(stacks(plain))
    names = [name for name, layers in stacks(tower.original_model) if layers[0] is tower.blocks[0].layer]
    return found[names[0]]


@torch.no_grad()
def test_a_tower_is_its_plain_forward_to_the_bit(opened):
    model, inputs, plain = opened
    assert torch.equal(model(**inputs), plain_answer(plain, inputs))
    assert identity(model).parity == 0 and identity(model).standing == ()


@torch.no_grad()
def test_every_pattern_is_the_one_transformers_reports(opened):
    model, inputs, plain = opened
    for tower in model.towers.values():
        patterns = []
        for layer in layers_of(tower, plain):
            part(layer, "attn").register_forward_hook(lambda m, a, out, into=patterns: into.append(out[1]))
        plain(**inputs)
        found = tower.run_with_cache(**inputs)[1]
        assert len(patterns) == tower.cfg.n_layers
        for layer, pattern in enumerate(patterns):
            assert torch.equal(found[f"blocks.{layer}.attn.hook_pattern"], pattern)


@torch.no_grad()
def test_a_head_turned_off_is_its_columns_of_the_output_projection_turned_off(opened):
    model, inputs, plain = opened
    for tower in model.towers.values():
        layers, d = layers_of(tower, plain), tower.cfg.d_head
        for layer in range(tower.cfg.n_layers):
            project = part(part(layers[layer], "attn"), "o")
            for head in range(tower.cfg.n_heads):

                def off(z, hook, head=head):
                    z = z.clone()
                    z[:, :, head] = 0
                    return z

                def columns_off(module, args, columns=slice(head * d, (head + 1) * d)):
                    x = args[0].clone()
                    x[..., columns] = 0
                    return (x,)

                hooks = [(f"blocks.{layer}.attn.hook_z", off)]
                handle = project.register_forward_pre_hook(columns_off)
                expected = _every_answer(plain(**inputs))
                handle.remove()
                whole = _every_answer(plain(**inputs))
                with tower.hooks(fwd_hooks=hooks):
                    found = _every_answer(tower.original_model(**inputs))
                assert torch.equal(found, expected)
                assert not torch.equal(found, whole)  # the head does something


def _every_answer(out) -> torch.Tensor:
    """Answers of both towers, where there are two."""
    names = ("logits", "image_embeds", "text_embeds", "last_hidden_state")
    return torch.cat([out[name].flatten() for name in names if out.get(name) is not None])


@torch.no_grad()
def test_an_edited_pattern_reaches_the_output_and_a_pattern_put_back_changes_nothing(opened):
    model, inputs, _ = opened
    for tower in model.towers.values():
        out, cache = tower.run_with_cache(**inputs)
        whole = _every_answer(tower.original_model(**inputs))
        for layer in range(tower.cfg.n_layers):
            name = f"blocks.{layer}.attn.hook_pattern"
            with tower.hooks(fwd_hooks=[(name, lambda p, hook: p.roll(1, -2))]):
                assert not torch.equal(_every_answer(tower.original_model(**inputs)), whole)
            with tower.hooks(fwd_hooks=[(name, lambda p, hook, own=cache[name]: own)]):
                assert torch.equal(tower(**inputs), out)


@torch.no_grad()
def test_every_layer_adds_what_its_hooks_say(opened):
    model, inputs, _ = opened
    for tower in model.towers.values():
        found = tower.run_with_cache(**inputs)[1]
        assert {name for name in tower.hook_dict if name.startswith("blocks.")} <= set(found)
        for layer in range(tower.cfg.n_layers):
            at = {
                name: found[f"blocks.{layer}.{name}"]
                for name in ("hook_in", "hook_attn_out", "hook_resid_mid")
            }
            out, mlp = found[f"blocks.{layer}.hook_out"], found[f"blocks.{layer}.hook_mlp_out"]
            assert torch.equal(at["hook_resid_mid"], at["hook_in"] + at["hook_attn_out"])
            torch.testing.assert_close(out, at["hook_resid_mid"] + mlp)
            attn = tower.blocks[layer].attn
            heads = torch.einsum("bthe,hed->btd", found[f"blocks.{layer}.attn.hook_z"], attn.W_O)
            torch.testing.assert_close(heads + attn.b_O, at["hook_attn_out"], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_resuming_at_a_layer_gives_the_same_bits(opened):
    model, inputs, _ = opened
    out, cache = model.run_with_cache(**inputs)
    for layer in range(model.cfg.n_layers):
        with resume_from(model, layer, cache[f"blocks.{layer}.hook_in"]):
            assert torch.equal(model(**inputs), out)
    assert torch.equal(model(**inputs), out)


@torch.no_grad()
def test_a_copy_has_hooks_of_its_own_and_what_is_attached_is_told(opened):
    model, inputs, _ = opened
    other, out = copy.deepcopy(model), model(**inputs)
    other.add_hook("blocks.0.hook_in", lambda x, hook: x + torch.randn(x.shape[-1]))
    assert not torch.equal(other(**inputs), out) and torch.equal(model(**inputs), out)
    assert len(identity(other).standing) == 1 and identity(model).standing == ()


def test_a_tower_without_its_pictures_is_refused():
    model = wb.open_model(tower_dir("vit"), device="cpu")
    with pytest.raises(ModelError, match="reads pixel_values; pixel_values is missing"):
        model(torch.arange(10)[None])


def test_classes_have_their_names():
    assert identity(wb.open_model(tower_dir("vit"), device="cpu")).outputs == CLASSES


@torch.no_grad()
def test_a_model_in_memory_is_opened_in_place():
    plain = build_tower("clip-vision")
    inputs = probe_inputs(plain.config, ("pixel_values",))
    expected = plain(**inputs).last_hidden_state
    model = wb.open_model(plain)
    assert isinstance(model.original_model, transformers.CLIPVisionModel) and model.original_model is plain
    torch.testing.assert_close(model(**inputs), expected)


@torch.no_grad()
def test_hooks_of_both_stacks_of_clip_have_the_stacks_name_before_them():
    model = wb.open_model(tower_dir("clip"), device="cpu")
    cache = model.run_with_cache(**probe_inputs(model.original_model.config, READS["CLIPModel"]))[1]
    assert cache["text.blocks.1.attn.hook_pattern"].shape == (2, 4, 9, 9)
    assert cache["blocks.2.attn.hook_pattern"].shape == (2, 4, 10, 10)  # a class token and nine patches
    assert model.hook_dict["text.blocks.0.hook_in"] is model.towers["text"].hook_dict["blocks.0.hook_in"]


@pytest.mark.parametrize("kind", ["T5", "Bart"])
def test_heads_between_encoder_and_decoder_are_patched_as_in_plain_torch(kind, tmp_path):
    """Patching from the corrupted run: the head's columns of what the projection reads there, put in here."""
    plain = tiny(f"{kind}ForConditionalGeneration")
    plain.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    opened = wb.open_model(tmp_path, device="cpu")
    model = opened.towers["cross"]
    runs = wb.paired_runs(model, mini_pairs(2))
    table = wb.patch(runs, site="head-output", mode="noising")
    from_outside = wb.ablate(
        wb.paired_runs(opened, mini_pairs(2)), [f"cross:{head}" for head in table.labels]
    )
    assert from_outside.patched == pytest.approx(table.patched, abs=1e-5)
    projections = [
        m for n, m in plain.named_modules() if n.endswith(("EncDecAttention.o", "encoder_attn.out_proj"))
    ]
    begin = torch.tensor([[2]])  # padding, with which these begin

    def logits(ids):
        return plain(input_ids=torch.as_tensor(ids)[None], decoder_input_ids=begin).logits[0, -1]

    found = dict(zip(table.labels, table.patched, strict=True))
    with torch.no_grad():
        for i, (clean, corrupted) in enumerate(zip(runs.pairs.clean, runs.pairs.corrupted, strict=True)):
            for layer, projection in enumerate(projections):
                seen = []
                handle = projection.register_forward_pre_hook(lambda m, args, seen=seen: seen.append(args[0]))
                logits(corrupted)
                handle.remove()
                for head in range(4):

                    def put(module, args, own=seen[0], at=slice(8 * head, 8 * head + 8)):
                        x = args[0].clone()
                        x[..., at] = own[..., at]
                        return (x,)

                    handle = projection.register_forward_pre_hook(put)
                    out = logits(clean)
                    handle.remove()
                    expected = out[runs.pairs.correct[i][0]] - out[runs.pairs.incorrect[i][0]]
                    assert found[f"a{layer}.h{head}"][i] == pytest.approx(float(expected), abs=1e-5)
                    assert abs(float(expected) - runs.clean[i]) > 1e-4


@torch.no_grad()
def test_each_part_of_clip_runs_by_itself_and_both_together_say_how_alike_they_are():
    model = wb.open_model(tower_dir("clip"), device="cpu")
    plain = transformers.CLIPModel.from_pretrained(tower_dir("clip"), attn_implementation="eager").eval()
    inputs = probe_inputs(plain.config, READS["CLIPModel"])
    seen = model(pixel_values=inputs["pixel_values"])[:, 0]
    said = model.towers["text"](inputs["input_ids"])[:, 0]
    both = plain(**inputs)
    assert torch.allclose(seen / seen.norm(dim=-1, keepdim=True), both.image_embeds, atol=1e-6)
    assert torch.allclose(said / said.norm(dim=-1, keepdim=True), both.text_embeds, atol=1e-6)
    alike = (both.image_embeds * both.text_embeds).sum(-1) * plain.logit_scale.exp()
    assert torch.allclose(model(**inputs)[:, 0, 0], alike, atol=1e-5)
