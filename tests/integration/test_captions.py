"""Pictures beside captions through the engine: every number from hooks on transformers' own CLIP and SigLIP."""

from __future__ import annotations

import shutil
from functools import cache

import numpy as np
import pytest
import torch
import transformers

import workbench as wb
from tests.integration.plain_captions import PlainCaptions
from tests.towers import tower_dir
from workbench.commands.do import do
from workbench.core.errors import ModelError, TaskError
from workbench.methods.by_name import score
from workbench.model.outline import outline
from workbench.tasks.pairs import Pair, Pairs
from workbench.training.clip import caption_tokenizer

KINDS = [(model, stack) for model in ("clip", "siglip") for stack in ("vision", "text")]
TOLERANCE = 2e-5  # as with words: edits at q, k, v against a copy of the stream, float32
LINES = ("large red disc", "small blue star", "large green cross", "small cyan square")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    @cache
    def named(kind: str):
        path = tmp_path_factory.mktemp("captions") / kind
        shutil.copytree(tower_dir(kind), path)
        caption_tokenizer().save_pretrained(path)
        return path

    return named


def pairs(changes: str) -> Pairs:
    """Pairs in which the picture, or the first captions, are other ones."""
    rng = np.random.default_rng(5)
    pictures = [wb.Picture.of(rng.normal(size=(3, 12, 12)).astype("float32")) for _ in range(4)]
    items = []
    for i in range(2):
        lines = [LINES[i], LINES[i + 1], LINES[3]]
        other = [lines[1], lines[0], *lines[2:]] if changes == "text" else lines
        items.append(
            Pair(
                id=f"p{i}",
                clean="\n".join(lines),
                corrupted="\n".join(other),
                correct=(lines[0],),
                incorrect=(lines[1],),
                image=(pictures[i], pictures[i if changes == "text" else i + 2]),
            )
        )
    return Pairs(items=tuple(items), task="captions")


class Ground:
    """A model as the workbench compares with captions, and as transformers does."""

    def __init__(self, path, stack: str) -> None:
        self.stack, self.pairs = stack, pairs(stack)
        self.opened = wb.open_model(path, device="cpu")
        self.runs = wb.paired_runs(wb.captioned(self.opened, stack), self.pairs)
        self.n_layers, self.n_heads = self.runs.wiring.n_layers, self.runs.wiring.n_heads
        kind = getattr(transformers, type(self.opened.original_model).__name__)
        plain = kind.from_pretrained(path, attn_implementation="eager").eval().requires_grad_(False)
        self.plain = PlainCaptions(plain, stack, lambda out: out[0] - out[1], self.n_heads)
        self.heads = [f"a{n}.h{h}" for n in range(self.n_layers) for h in range(self.n_heads)]

    def run(self, i: int, side: int, **edits):
        pair, tokenizer = self.pairs[i], self.opened.tokenizer
        lines = (pair.corrupted if side else pair.clean).split("\n")
        pixels = torch.tensor(pair.image[side].pixels)
        return self.plain.beside([tokenizer(line)["input_ids"] for line in lines]).run(pixels, **edits)

    def ablated(self, i: int, edges) -> float:
        return float(self.run(i, 0, ablated=edges, instead=self.run(i, 1)[1])[0])


@pytest.fixture(params=KINDS, scope="module", ids="-".join)
def ground(request, folder):
    model, stack = request.param
    return Ground(folder(model), stack)


@torch.no_grad()
def test_both_runs_are_transformers(ground):
    for i in range(2):
        for side, values in enumerate((ground.runs.clean, ground.runs.corrupted)):
            assert values[i] == pytest.approx(float(ground.run(i, side)[0]), abs=TOLERANCE)
    assert (ground.runs.clean != ground.runs.corrupted).all()


@pytest.mark.parametrize("ablation", ["zero", "resample"])
@torch.no_grad()
def test_every_head_and_mlp_ablated_by_either_name(ground, ablation):
    mlps = [f"m{n}" for n in range(ground.n_layers)]
    found = wb.ablate(ground.runs, [*ground.heads, *mlps], ablation=ablation)
    assert (abs(found.patched - found.base).max(1) > 1e-6).all()  # each does something
    for i in range(2):
        other = ground.run(i, 1)[1]
        for j, name in enumerate([*(f"{head}<z>" for head in ground.heads), *mlps]):
            new = torch.zeros_like(other[name]) if ablation == "zero" else other[name]
            expected = float(ground.run(i, 0, put={name: new})[0])
            assert found.patched[j, i] == pytest.approx(expected, abs=TOLERANCE), name
    beside = "text" if ground.stack == "vision" else "vision"
    for own in (ground.stack, beside):  # the same parts, seen from either stack
        runs = wb.paired_runs(wb.captioned(ground.opened, own), ground.pairs)
        named = wb.ablate(
            runs, [f"{ground.stack}:{part}" for part in [*ground.heads, *mlps]], ablation=ablation
        )
        assert named.patched == pytest.approx(found.patched, abs=TOLERANCE)


@torch.no_grad()
def test_every_head_patched_from_the_clean_run(ground):
    found = wb.patch(ground.runs, "head-output")
    for i in range(2):
        clean = ground.run(i, 0)[1]
        for j, head in enumerate(found.labels):
            expected = float(ground.run(i, 1, put={f"{head}<z>": clean[f"{head}<z>"]})[0])
            assert found.patched[j, i] == pytest.approx(expected, abs=TOLERANCE), head


@torch.no_grad()
def test_exact_edges(ground):
    graph, found = ground.runs.wiring.graph(), score(ground.runs, "exact").values
    assert (abs(found[graph.edge_mask]) > 1e-7).mean() > 0.4
    for edge in list(graph.edges())[::23]:
        pair = str(edge.source), str(edge.target)
        drops = [ground.runs.clean[i] - ground.ablated(i, {pair}) for i in range(2)]
        assert found[graph.index(edge)] == pytest.approx(np.mean(drops), abs=TOLERANCE), edge


def test_eap_ig(ground):
    graph, steps = ground.runs.wiring.graph(), 2
    expected = np.zeros(graph.edge_mask.shape)
    for i in range(2):
        clean, corrupted = (ground.run(i, side)[1] for side in (0, 1))
        for k in range(steps):
            copies: dict[str, torch.Tensor] = {}
            between = corrupted["input"] + (k + 0.5) / steps * (clean["input"] - corrupted["input"])
            out = ground.run(i, 0, start=between, copies=copies)[0]
            grads = dict(zip(copies, torch.autograd.grad(out, copies.values()), strict=True))
            for edge in graph.edges():
                source = str(edge.source)
                product = (clean[source] - corrupted[source]) * grads[str(edge.target)]
                expected[graph.index(edge)] += float(product.sum()) / steps / 2
    found = score(ground.runs, "eap-ig", steps=steps).values[graph.edge_mask]
    assert found == pytest.approx(expected[graph.edge_mask], abs=TOLERANCE) and abs(found).max() > 1e-3


BAD = [
    ({"correct": ("large red dics",)}, "none of the 3 captions .*did you mean 'large red disc'"),
    ({"clean": "large red disc\nlarge red disc\nsmall blue star"}, "is there twice in one prompt"),
    ({"corrupted": "large red disc\nsmall blue star"}, "captions of .* tokens; they must be of one length"),
    ({"clean": "large red zebra\nsmall blue star\nlarge green cross"}, "does not know 'zebra'"),
    ({"clean": "large red disc\n\nlarge green cross"}, "a line of captions is empty"),
    ({"clean": " ".join(["large"] * 30) + "\na\nb"}, "has 32 tokens; the model reads 20"),
    ({"image": None}, "has no picture"),
]


@pytest.mark.parametrize("change, said", BAD)
def test_captions_that_cannot_be_read_are_refused(change, said, folder):
    good = pairs("vision")[0]
    bad = Pairs(items=(Pair(**{**vars(good), **change}),), task="bad")
    with pytest.raises(TaskError, match=said):
        wb.paired_runs(wb.open_model(folder("clip"), device="cpu"), bad)


def test_some_pairs_with_captions_and_some_without_are_refused(folder):
    good = pairs("vision")
    bare = Pair(**{**vars(good[1]), "clean": "", "corrupted": ""})
    with pytest.raises(TaskError, match="pair p1 has no captions and others have"):
        wb.paired_runs(wb.open_model(folder("clip"), device="cpu"), Pairs(items=(good[0], bare), task="bad"))


def test_models_that_compare_nothing_take_no_captions():
    model = wb.open_model(tower_dir("clip-vision"), device="cpu")
    with pytest.raises(TaskError, match=r"the clean prompt has words .* and the model reads none"):
        wb.paired_runs(model, pairs("vision"))
    with pytest.raises(ModelError, match="does not compare pictures with captions"):
        wb.captioned(model)


@pytest.mark.parametrize("stack, changes", [("vision", "text"), ("text", "vision")])
def test_edges_of_a_stack_whose_input_stays_are_refused(stack, changes, folder):
    model = wb.captioned(wb.open_model(folder("clip"), device="cpu"), stack)
    runs = wb.paired_runs(model, pairs(changes))
    with pytest.raises(TaskError, match=f"edges of the {stack} stack carry what changes there alone"):
        score(runs, "eap")


def test_a_plan_knows_both_stacks(folder):
    found = outline(str(folder("clip")))
    assert (found.n_layers, found.of("vision").n_layers, found.of("text").n_layers) == (3, 3, 2)
    assert found.n_pixels == 3 * 12 * 12 and found.n_positions == 10
    asked = {"model": "zoo:clip", "task": "scene-captions", "limit": 4, "dry_run": True}
    vision, text, both = (do("ablate", **asked, node=[n]) for n in ("a3.h0", "text:a0.h0", "vision:a3.h0"))
    assert vision.gflop == both.gflop < text.gflop  # a text edit runs the pictures' stack again
    with pytest.raises(ModelError, match="the model has layers 0 to 2"):
        do("ablate", **asked, node=["text:a3.h0"])


def test_metrics_of_how_alike_they_are(folder):
    model = wb.open_model(folder("siglip"), device="cpu")
    three = [
        Pair(**{**vars(pair), "incorrect": tuple(pair.clean.split("\n")[1:])}) for pair in pairs("vision")
    ]
    made = Pairs(items=tuple(three), task="captions")
    found = {
        name: wb.paired_runs(model, made, metric=name).clean for name in ("correct-logit", "logit-margin")
    }
    plain = transformers.SiglipModel.from_pretrained(folder("siglip")).eval()
    for i, pair in enumerate(made):
        ids = torch.tensor([model.tokenizer(line)["input_ids"] for line in pair.clean.split("\n")])
        pixels = torch.tensor(pair.image[0].pixels)[None]
        with torch.no_grad():
            logits = plain(input_ids=ids, pixel_values=pixels).logits_per_image[0]
        assert found["correct-logit"][i] == pytest.approx(float(logits[0]), abs=TOLERANCE)
        assert found["logit-margin"][i] == pytest.approx(float(logits[0] - logits[1:].max()), abs=TOLERANCE)


MEANS = ("mean", "mean-per-position", "mean-per-template")


def unequal(*prompts: tuple[str, str]) -> Pairs:
    """Pairs of two captions of any lengths, each with a picture of its own."""
    rng = np.random.default_rng(6)
    pictures = [
        wb.Picture.of(rng.normal(size=(3, 12, 12)).astype("float32")) for _ in range(len(prompts) + 1)
    ]
    items = [
        Pair(
            id=f"p{i}",
            clean="\n".join(lines),
            corrupted="\n".join(lines),
            correct=lines[:1],
            incorrect=lines[1:],
            image=(pictures[i], pictures[i + 1]),
        )
        for i, lines in enumerate(prompts)
    ]
    return Pairs(items=tuple(items), task="captions")


@pytest.mark.parametrize("ablation", MEANS)
@pytest.mark.parametrize("part", ["text:a1.h0", "text:m0"])
def test_means_of_a_text_tower_go_by_the_lengths_of_captions(part, ablation, folder):
    short, long = "large red disc", "small blue star and large green cross"
    model = wb.open_model(folder("clip"), device="cpu")
    three = unequal((short, long), (long, short), (short, LINES[1]))
    runs = wb.paired_runs(model, three)
    assert len(runs.batches) == 3
    found = wb.ablate(runs, [part], ablation=ablation)
    if ablation != "mean":  # one pair of each kind: its mean is what is there already
        assert found.patched[0] == pytest.approx(found.base, abs=TOLERANCE)
    for own in ("vision", "text"):  # the same part by either name, whichever stack has plain addresses
        name = part.removeprefix("text:") if own == "text" else part
        other = wb.ablate(wb.paired_runs(wb.captioned(model, own), three), [name], ablation=ablation)
        assert other.patched == pytest.approx(found.patched, abs=TOLERANCE)


def test_a_mean_that_the_captions_do_not_define_is_refused(folder):
    model = wb.open_model(folder("clip"), device="cpu")
    runs = wb.paired_runs(model, unequal(LINES[:2], LINES[1:3]))
    with pytest.raises(ModelError, match=r"positions of a tower are words of captions, which have no names"):
        wb.ablate(runs, ["text:m0"], ablation="mean-per-name")
    with pytest.raises(ModelError, match=r"positions of a tower are patches"):
        wb.ablate(runs, ["vision:m0"], ablation="mean-per-name")


def test_edges_whose_input_stays_are_refused_by_a_plan_too():
    asked = {
        "model": "zoo:clip",
        "task": "scene-captions",
        "corruption": "caption",
        "limit": 4,
        "method": "eap",
    }
    with pytest.raises(TaskError, match=r"differ in captions; .* what changes there alone") as plan:
        do("discover", **asked, dry_run=True)
    assert "from Python alone" in plan.value.hint
