"""Parts of the tower behind a language model: addresses, sweeps and knock-outs, equal to hooks on transformers' own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import transformers

import workbench as wb
from tests.seeing import IMAGE, picture_pairs, seeing_dir
from workbench.circuits.addresses import Node, parse_node
from workbench.core.errors import ModelError, NameFormatError, TaskError
from workbench.engine.interventions.intervention import Edit, Intervention
from workbench.engine.interventions.path_patching import path_patches
from workbench.model.identity import identity

TOLERANCE = 2e-5
N_HEADS, WIDTH = 4, 8


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return wb.load_pairs(picture_pairs(tmp_path_factory.mktemp("towers")))


@pytest.fixture(scope="module", params=["llava", "llava-siglip", "gemma3"])
def name(request):
    return request.param


@pytest.fixture(scope="module")
def runs(name, pairs):
    return wb.paired_runs(wb.open_model(seeing_dir(name), device="cpu"), pairs)


@pytest.fixture(scope="module")
def plain(name):
    config = transformers.AutoConfig.from_pretrained(seeing_dir(name))
    kind = getattr(transformers, config.architectures[0])
    return kind.from_pretrained(seeing_dir(name), attn_implementation="eager").eval().requires_grad_(False)


def layers_of(plain):
    tower = plain.model.vision_tower
    return getattr(tower, "vision_model", tower).encoder.layers


def answer(plain, runs, pair: int, side: int) -> float:
    """The metric of a plain forward pass with pixels."""
    ids = torch.tensor((runs.pairs.clean, runs.pairs.corrupted)[side][pair])[None]
    pixels = torch.tensor(runs.pairs.pairs[pair].image[side].pixels)[None]
    marks = {"token_type_ids": (ids == IMAGE).long()} if "Gemma" in type(plain).__name__ else {}
    out = plain(input_ids=ids, pixel_values=pixels, **marks).logits[0, -1]
    return float(out[runs.pairs.correct[pair][0]] - out[runs.pairs.incorrect[pair][0]])


@contextmanager
def changed(module, change: Callable[[torch.Tensor], torch.Tensor | None], *, before: bool):
    """Inside, what enters (or leaves) a module is changed."""

    def pre(m, args):
        new = change(args[0])
        return None if new is None else (new, *args[1:])

    def post(m, args, out):
        first = out[0] if isinstance(out, tuple) else out
        new = change(first)
        return out if new is None else (new, *out[1:]) if isinstance(out, tuple) else new

    handle = module.register_forward_pre_hook(pre) if before else module.register_forward_hook(post)
    try:
        yield
    finally:
        handle.remove()


def module_of(plain, node: Node):
    """The module at which a part writes, whether its input is what is changed, and where in it."""
    if node.kind == "projector":
        return plain.model.multi_modal_projector, False, slice(None)
    layer = layers_of(plain)[node.layer]
    if node.kind == "head":
        return layer.self_attn.out_proj, True, slice(node.index * WIDTH, (node.index + 1) * WIDTH)
    return (layer.mlp, False, slice(None)) if node.kind == "mlp" else (layer, True, slice(None))


def patched(plain, runs, node: Node, pair: int, base: int, value: str) -> float:
    """The metric when one part is replaced by zero or by its value for the other picture."""
    module, before, where = module_of(plain, node)
    kept: list[torch.Tensor] = []
    with changed(module, lambda t: kept.append(t.clone()), before=before):
        answer(plain, runs, pair, 1 - base)

    def put(tensor):
        new = tensor.clone()
        new[..., where] = 0 if value == "zero" else kept[0][..., where]
        return new

    with changed(module, put, before=before):
        return answer(plain, runs, pair, base)


PARTS = [
    *(f"vision:a{n}.h{h}" for n in range(2) for h in range(N_HEADS)),
    "vision:m0",
    "vision:m1",
    "vision:r1",
    "projector",
]


@pytest.mark.parametrize(
    ("mode", "value"), [("noising", "corrupted"), ("denoising", "clean"), ("noising", "zero")]
)
def test_parts_of_the_tower_and_the_projector_equal_a_loop(mode, value, runs, plain):
    asked = [Intervention(label=part, edits=(Edit(node=part, value=value),)) for part in PARTS]
    found = wb.measure(runs, asked, kind="tower", mode=mode)
    base = 0 if mode == "noising" else 1
    for j, part in enumerate(PARTS):
        for i in range(runs.n_pairs):
            expected = patched(plain, runs, parse_node(part, towers=True), i, base, value)
            assert found.patched[j, i] == pytest.approx(expected, abs=TOLERANCE), part
    assert (abs(found.patched - found.base).max(1) > 1e-5).all()


def test_a_tower_and_the_language_model_are_edited_together(runs, plain):
    """What the language model's head does without a head of the tower is not what it does with it."""
    both = Intervention(
        label="both", edits=(Edit(node="vision:a0.h1", value="zero"), Edit(node="a1.h2", value="zero"))
    )
    found = wb.measure(runs, [both], kind="both")
    head = plain.model.language_model.layers[1].self_attn.o_proj
    width = head.in_features // N_HEADS

    def off(tensor):
        tensor = tensor.clone()
        tensor[..., 2 * width : 3 * width] = 0
        return tensor

    for i in range(runs.n_pairs):
        with changed(head, off, before=True):
            expected = patched(plain, runs, parse_node("vision:a0.h1", towers=True), i, 0, "zero")
        assert found.patched[0, i] == pytest.approx(expected, abs=TOLERANCE)


def test_all_heads_of_the_tower_are_swept(runs):
    found = wb.ablate(runs, "vision:heads")
    assert found.labels == tuple(PARTS[:8]) and wb.ablate(runs, "vision:mlps").labels == (
        "vision:m0",
        "vision:m1",
    )
    singly = wb.ablate(runs, ["vision:a1.h0"])
    assert singly.patched[0] == pytest.approx(found.patched[4], abs=TOLERANCE)


def test_a_knock_out_in_the_tower_equals_a_loop(name, runs, plain):
    """No patch may look at another one: in a head of layer 0, patterns written out from queries and keys."""
    if name == "gemma3":
        with pytest.raises(TaskError, match="'image' is not known in this tower"):
            wb.measure(runs, wb.knock_outs(["vision:a0.h1"], "image", "image"), kind="knock-out")
        return
    found = wb.measure(runs, wb.knock_outs(["vision:a0.h1"], "image", "image"), kind="knock-out")
    attn, own, seen = layers_of(plain)[0].self_attn, slice(WIDTH, 2 * WIDTH), {}

    def mixed(z):
        q, k, v = (seen[slot][0, :, own] for slot in "qkv")
        pattern = (q @ k.T / WIDTH**0.5).softmax(-1)
        first = len(pattern) - 4  # a class token, or none
        pattern[first:, first:] = 0
        pattern = pattern / pattern.sum(-1, keepdim=True)
        z = z.clone()
        z[0, :, own] = pattern.nan_to_num() @ v
        return z

    for i in range(runs.n_pairs):
        with (
            changed(attn.q_proj, lambda t: seen.__setitem__("q", t), before=False),
            changed(attn.k_proj, lambda t: seen.__setitem__("k", t), before=False),
            changed(attn.v_proj, lambda t: seen.__setitem__("v", t), before=False),
            changed(attn.out_proj, mixed, before=True),
        ):
            expected = answer(plain, runs, i, 0)
        assert found.patched[0, i] == pytest.approx(expected, abs=TOLERANCE)
    assert (abs(found.patched - found.base) > 1e-5).any()


def test_layers_that_nothing_reads_are_not_there(pairs):
    """LLaVA may read its tower before the last layer."""
    config = transformers.AutoConfig.from_pretrained(seeing_dir("llava"))
    config.vision_feature_layer = -2
    model = transformers.LlavaForConditionalGeneration.from_pretrained(seeing_dir("llava"), config=config)
    tokenizer = transformers.AutoTokenizer.from_pretrained(seeing_dir("llava"))
    runs = wb.paired_runs(wb.open_model(model.eval(), tokenizer=tokenizer), pairs)
    assert wb.ablate(runs, "vision:heads").labels == tuple(PARTS[:4])
    with pytest.raises(ModelError, match=r"vision:a1\.h0: the model has layers 0 to 0"):
        wb.ablate(runs, ["vision:a1.h0"])


@pytest.mark.parametrize(
    "text", ["vision:a2.h1", "vision:a2.h1<q>", "vision:m0", "vision:a0.h0@object", "projector"]
)
def test_addresses_of_towers_come_back_as_they_were(text):
    assert str(parse_node(text, towers=True)) == text
    with pytest.raises(NameFormatError, match="is a part of a tower"):
        parse_node(text)


@pytest.mark.parametrize(
    "text", ["vision:logits", "vision:input", "vision:projector", "Vision:a0.h0", ":a0.h0"]
)
def test_what_belongs_to_no_stack_is_no_address(text):
    with pytest.raises(NameFormatError):
        parse_node(text, towers=True)


def test_a_tower_that_is_not_there_is_refused(runs, runs_of):
    with pytest.raises(ModelError, match="no stack called 'sound'"):
        wb.ablate(runs, ["sound:a0.h0"])
    with pytest.raises(ModelError, match="no stack called 'vision'"):
        wb.ablate(runs_of("llama"), ["vision:a0.h0"])
    with pytest.raises(NameFormatError, match="is a part of a tower"):
        path_patches(runs, ["vision:a0.h0"], ["logits"])


def test_a_projector_is_of_pictures_alone(name, runs):
    inside = int(runs.pairs.sets[0]["image"][0])
    assert wb.ablate(runs, [f"projector@{inside}"], ablation="zero").labels == (f"projector@{inside}",)
    for position in ("end", "V", 0):
        with pytest.raises(TaskError, match=f"projector@{position}: .* the positions of the picture"):
            wb.ablate(runs, [f"projector@{position}"], ablation="zero")


def test_a_model_that_reads_one_thing_has_no_projector(runs_of):
    with pytest.raises(ModelError, match="projector: the model has no projector: it reads words alone"):
        wb.ablate(runs_of("llama"), ["projector"], ablation="zero")
    runs = wb.paired_runs(wb.open_model("zoo:marked"), "scene-marked", n=2)
    with pytest.raises(ModelError, match="projector: the model has no projector: it reads pictures alone"):
        wb.ablate(runs, ["projector"], ablation="zero")


@pytest.mark.parametrize("address", ["vision:a0.h0", "projector"])
def test_a_pair_without_a_picture_is_said_to_lack_it(runs, address):
    pair = wb.Pair(id="a", clean="w10 w12", corrupted="w10 w13", correct=(" Mary",), incorrect=(" John",))
    words = wb.paired_runs(runs.model, wb.Pairs(items=(pair,), task="t"))
    with pytest.raises(TaskError, match=f"{address}: pair 0 has no picture"):
        wb.ablate(words, [address])


@pytest.mark.parametrize("ablation", ["mean", "mean-per-position", "mean-per-template", "resample", "zero"])
def test_every_ablation_of_a_part_of_a_tower(name, runs, ablation):
    sets = [] if name == "gemma3" else ["vision:a1.h1@image"]  # its projector pools patches
    found = wb.ablate(runs, ["vision:a0.h0", "vision:m1", *sets], ablation=ablation)
    assert np.isfinite(found.patched).all() and abs(found.patched - found.base).max() > 1e-6


def test_a_tower_has_no_mean_per_name(runs):
    with pytest.raises(ModelError, match=r"vision:a0\.h0: mean-per-name goes by named tokens"):
        wb.ablate(runs, ["vision:a0.h0"], ablation="mean-per-name")


def test_rows_of_a_tower_say_where_they_are(runs):
    found = wb.ablate(runs, ["vision:a0.h1", "vision:a1.h0", "a0.h1"], ablation="zero")
    table = found.to_dataframe()
    assert table["layer"].tolist() == [0, 1, 0] and table["head"].tolist() == [1, 0, 1]
    assert table["tower"].tolist()[:2] == ["vision", "vision"]
    assert found.grid()[1] == ["0", "vision:0", "vision:1"]


def test_what_a_probe_has_seen_of_a_tower_is_no_change_of_the_model(runs):
    wb.ablate(runs, ["vision:a0.h0"])
    assert identity(runs.model).standing == () and "with" not in identity(runs.model).title
