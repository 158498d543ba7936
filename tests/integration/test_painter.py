"""The painter: opened as two towers, its sampler, what is done to the captioned half alone."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import ModelError, OptionError
from workbench.edits.kinds import Rows
from workbench.model.flow_painter.model import (
    PainterConfig,
    begin,
    from_patches,
    normed,
    sines,
    to_patches,
    velocity,
)
from workbench.model.flow_painter.sample import (
    noise,
    paint,
    predict,
    require_painter,
    to_pixels,
    velocity_loss,
)
from workbench.model.probe import wiring
from workbench.tasks.canvas.captions import read_caption, word_numbers
from workbench.tasks.canvas.flat_shapes import draw_many
from workbench.training.flow_painter import Teaching, flow_loss, optimisers, pixels_of
from workbench.training.schedule import Muon, orthogonalise

RED = read_caption("a red disc left, a blue square right")
ONE = read_caption("a green triangle right")


def fresh():
    """An untrained painter whose parts all matter."""
    model = begin(0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "time_out" in name or name.endswith("times"):
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.05)
        model.patch_out.weight.mul_(10)
    return model.eval()


@pytest.fixture(scope="module")
def opened():
    return wb.open_model(fresh())


def by_hand(model, x, t, words):
    """The whole painter in a plain loop over heads."""
    d, config = 64, model.config
    angles = t[:, None] * torch.exp(torch.linspace(0, np.log(1000), d // 2))
    time = model.time_in(torch.cat([angles.sin(), angles.cos()], -1))
    maps = model.time_out(time * time.sigmoid()).view(len(x), 8, d)
    slots = torch.stack([model.object[i // 4] + model.role[i % 4] for i in range(8)])
    told = normed(model.word[words] + slots)
    h = model.patch_in(to_patches(x, 3)) + model.places

    def attend(attn, y, read):
        out = torch.zeros_like(y)
        for head in range(config.num_attention_heads):
            own = slice(16 * head, 16 * head + 16)
            q, k, v = (w.weight[own] for w in (attn.q_proj, attn.k_proj, attn.v_proj))
            pattern = ((y @ q.T) @ (read @ k.T).transpose(1, 2) / 4).softmax(-1)
            out += pattern @ (read @ v.T) @ attn.o_proj.weight[:, own].T
        return out

    for layer in model.layers:
        shift, scale = (maps[:, :6] + layer.times)[:, :3], (maps[:, :6] + layer.times)[:, 3:]
        y = normed(h) * (1 + scale[:, :1]) + shift[:, :1]
        h = h + attend(layer.self_attn, y, y)
        h = h + attend(layer.cross_attn, normed(h) * (1 + scale[:, 1:2]) + shift[:, 1:2], told)
        y = normed(h) * (1 + scale[:, 2:]) + shift[:, 2:]
        h = h + layer.mlp.fc2(torch.nn.functional.gelu(layer.mlp.fc1(y), approximate="tanh"))
    last = maps[:, 6:] + model.last_times
    return from_patches(model.patch_out(normed(h) * (1 + last[:, 1:]) + last[:, :1]), 3)


@torch.no_grad()
def test_the_opened_painter_is_the_plain_loop(opened):
    model, words = fresh(), torch.from_numpy(word_numbers([RED, ONE, ()]))
    x, t = noise(3, range(3), side=24), torch.tensor([0.0, 0.3, 0.9])
    expected = by_hand(model, x, t, words)
    torch.testing.assert_close(predict(opened, x, t, words), expected, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(predict(model, x, t, words), expected, atol=2e-5, rtol=1e-4)


def test_both_stacks_have_live_patterns_and_addresses(opened):
    own = wiring(opened)
    assert {"q", "k", "v", "pattern", "head-output", "resid"} <= own.live and own.head_writes
    assert {"q", "k", "v", "pattern", "head-output"} <= own.towers["cross"].live
    assert not own.residual_is_sum  # words are added between attention and MLP: methods of edges are refused
    assert opened.cfg.n_ctx == 64 and "cross.blocks.2.attn.hook_pattern" in opened.hook_dict


def test_shapes_of_both_patterns(opened):
    words = torch.from_numpy(word_numbers([RED]))
    _, cache = opened.run_with_cache(
        input_ids=words, pixel_values=noise(0, range(1), side=24), time=torch.tensor([0.5])
    )
    assert cache["blocks.1.attn.hook_pattern"].shape == (1, 4, 64, 64)
    cross = cache["cross.blocks.1.attn.hook_pattern"]
    assert cross.shape == (1, 4, 64, 8)
    torch.testing.assert_close(cross.sum(-1), torch.ones(1, 4, 64))


def test_patches_are_cut_row_by_row():
    x = torch.arange(3 * 6 * 6.0).view(1, 3, 6, 6)
    patches = to_patches(x, 3)
    assert patches.shape == (1, 4, 27)
    assert patches[0, 1].view(3, 3, 3)[0, 2].tolist() == x[0, :, 0, 5].tolist()  # first row, last column
    assert torch.equal(from_patches(patches, 3), x)


def test_the_velocity_leads_from_noise_to_the_picture():
    clean, start = torch.ones(2, 3, 3, 3), torch.zeros(2, 3, 3, 3)
    t = torch.tensor([0.0, 0.5])
    x = start + t[:, None, None, None] * (clean - start)
    torch.testing.assert_close(velocity(clean, x, t), clean - start)


def test_a_picture_is_the_same_alone_and_among_others(opened):
    both = paint(opened, [RED, ONE], steps=2, seed=4)
    torch.testing.assert_close(paint(opened, [RED], steps=2, seed=4).pictures, both.pictures[:1])
    assert not torch.allclose(paint(opened, [RED], steps=2, seed=5).pictures, both.pictures[:1])
    assert both.predictions.shape == (2, 2, 24, 24, 3)


def test_one_step_without_guidance_is_the_prediction(opened):
    """v = prediction - noise, for a time of 1."""
    words = torch.from_numpy(word_numbers([RED]))
    with torch.no_grad():
        expected = predict(opened, noise(0, range(1), side=24), torch.zeros(1), words)
    got = paint(opened, [RED], steps=1, guidance=1.0).pictures
    torch.testing.assert_close(got, to_pixels(expected), atol=1e-5, rtol=1e-5)


def test_an_edit_touches_the_captioned_half_alone(opened):
    edit, calls = Rows(heads=("a1",), operation="scale", keys=(0,), value=0.0), []

    def under(step):
        calls.append(step)
        return edit.on(opened)

    plain = paint(opened, [RED], steps=3, guidance=2.0)
    edited = paint(opened, [RED], steps=3, guidance=2.0, under=under)
    assert calls == [0, 1, 2] and not torch.allclose(plain.pictures, edited.pictures)
    alone = paint(opened, [()], steps=3, guidance=1.0)  # what the other half is by itself
    guided = paint(opened, [RED], steps=3, guidance=0.0, under=under)
    torch.testing.assert_close(guided.pictures, alone.pictures, atol=1e-5, rtol=1e-4)
    nothing = paint(opened, [RED], steps=3, guidance=2.0, under=lambda step: nullcontext())
    assert torch.equal(nothing.pictures, plain.pictures)
    again = paint(opened, [RED], steps=3, guidance=2.0)
    assert torch.equal(again.pictures, plain.pictures)  # nothing is left on the model


def test_the_velocity_loss_is_the_distance_of_the_prediction_over_the_time_left(opened):
    drawing = draw_many(0, range(2))
    pictures = torch.from_numpy(np.stack([d.pixels for d in drawing]))
    captions = [d.items for d in drawing]
    found = velocity_loss(opened, pictures, captions, t=0.5)
    assert found.shape == (2,) and bool((found > 0).all())
    clean = pixels_of(drawing)
    with torch.no_grad():
        x = 0.5 * noise(0, range(2), side=24) + 0.5 * clean
        off = predict(opened, x, torch.tensor([0.5, 0.5]), torch.from_numpy(word_numbers(captions))) - clean
    torch.testing.assert_close(found, (2 * off).square().mean((1, 2, 3)), atol=1e-4, rtol=1e-4)


def test_bad_input_is_named(opened):
    with pytest.raises(OptionError, match="guidance is -1"):
        paint(opened, [RED], guidance=-1)
    with pytest.raises(OptionError, match="steps is 0"):
        paint(opened, [RED], steps=0)
    with pytest.raises(ModelError, match="does not paint"):
        require_painter(wb.open_model("zoo:marked"))
    with pytest.raises(ModelError, match="time is missing"):
        opened(input_ids=torch.zeros(1, 8, dtype=torch.long), pixel_values=torch.zeros(1, 3, 24, 24))


def test_muon_knows_which_side_of_a_matrix_is_written():
    """Ten times as many outputs as inputs: sqrt(10) times the step, however the matrix is stored."""
    gradient = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    stored = torch.zeros(20, 2, requires_grad=True), torch.zeros(2, 20, requires_grad=True)
    for weight, grad, first in zip(stored, (gradient, gradient.T), (True, False), strict=True):
        weight.grad = grad.clone()
        Muon([weight], lr=1.0, outputs_first=first).step()
    torch.testing.assert_close(stored[0], stored[1].T, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(stored[0].detach(), -(10**0.5) * orthogonalise(gradient), atol=1e-5, rtol=1e-5)


def test_a_tiny_painter_learns_a_few_pictures():
    model = begin(
        0, PainterConfig(num_hidden_layers=1, hidden_size=16, intermediate_size=16, num_attention_heads=2)
    )
    taught, drawings = Teaching(model), draw_many(0, range(4))
    steps, losses = optimisers(model), []
    for step in range(40):
        loss = flow_loss(model, drawings, seed=step)
        loss.backward()
        for one in steps:
            one.step()
        model.zero_grad()
        taught.follow(step)
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    assert not torch.equal(taught.mean.patch_in.weight, model.patch_in.weight)


def test_positions_begin_as_waves_of_row_and_column():
    waves = sines(4, 8)
    assert waves.shape == (16, 8)
    assert torch.equal(waves[0, :4], waves[1, :4]) and not torch.equal(waves[0, 4:], waves[1, 4:])
