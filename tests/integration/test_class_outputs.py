"""Models whose outputs are classes: answers are class names; what needs words is refused or left out, and says why."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers

from tests.families import _IDS, _LLAMA, _roughen, save_tokenizer
from tests.integration.test_import_legacy import checkpoint
from workbench.commands.do import do
from workbench.commands.plans.inputs import planned_runs
from workbench.core.errors import ModelError, TaskError, WorkbenchError
from workbench.edits.measure import on_text
from workbench.edits.questions import ask
from workbench.engine.interventions.ablation import ablations, parts_of
from workbench.engine.of_task import paired_runs
from workbench.engine.paired_runs import PairedRuns, align_to
from workbench.engine.sweep import sweep
from workbench.heads.decoding import decode, sample
from workbench.heads.grounds import frame_of, random_ground, text_ground
from workbench.heads.portrait import portrait
from workbench.heads.responses import respond
from workbench.model.architecture import describe
from workbench.model.classifiers import class_names, class_of, head_of
from workbench.model.from_files import reading_of
from workbench.model.identity import identity
from workbench.model.legacy import import_checkpoint
from workbench.model.legacy_vocabulary import Vocabulary
from workbench.model.open import open_model
from workbench.model.outputs import outputs_of
from workbench.tasks.check import check_pairs
from workbench.tasks.pairs import Pair, Pairs
from workbench.tasks.task_page import task_page

NEED_WORDS = ("induction-copying", "ov-copying", "copy-score", "negative-copy-score", "loss")


def made(directory, *, names: str | None = None, **fields):
    """An imported model of 12 tokens (BOS, PAD, t0 to t9); by default its outputs are two classes."""
    checkpoint(directory, **{"d_vocab_out": 2, "attn_only": True, **fields})
    if names is not None:
        (directory / "names.txt").write_text(names)
    return import_checkpoint(
        directory / "weights.pt",
        directory / "model",
        config=directory / "cfg.json",
        vocabulary=Vocabulary(path=directory / "vocab.txt", unk="PAD"),
        outputs=None if names is None else directory / "names.txt",
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    directory = tmp_path_factory.mktemp("classes")
    made(directory)
    return directory / "model"


@pytest.fixture(scope="module")
def model(folder):
    return open_model(folder, device="cpu")


def pairs(*answers: tuple[str, str]) -> Pairs:
    items = (
        Pair(id=str(i), clean=f"t1 t3 t{i}", corrupted=f"t2 t3 t{i}", correct=(right,), incorrect=(wrong,))
        for i, (right, wrong) in enumerate(answers)
    )
    return Pairs(items=tuple(items), task="mine")


def test_answers_are_class_names_and_never_input_ids(model):
    runs = PairedRuns(model, pairs(("class-1", "class-0"), ("t0", "t1"), ("class-0", "class-1"), ("1", "0")))
    assert [(d.id, d.kind) for d in runs.pairs.dropped] == [("1", "output"), ("3", "output")]
    assert "'t0' is none of the 2 classes: class-0, class-1" in runs.pairs.dropped[0].reason
    logits = model(torch.tensor([[0, 3, 5, 2], [0, 3, 5, 4]]))[:, -1].double()  # BOS t1 t3 t0, BOS t1 t3 t2
    assert logits.shape == (2, 2)
    first, third = (logits[:, 1] - logits[:, 0]).tolist()
    assert runs.clean == pytest.approx([first, -third], abs=1e-6)
    assert np.isfinite(sweep(runs, ablations(parts_of(runs.wiring, "heads"), "mean"), kind="mean").mean).all()


def test_names_without_weights_are_those_of_the_opened_model(folder, model):
    assert reading_of(str(folder)).outputs == outputs_of(model)
    assert outputs_of(model).classes == ("class-0", "class-1")
    support = describe(model).support["language-model-metrics"]
    assert support.works and "its outputs are 2 classes: class-0, class-1" in support.why


def test_given_names_are_kept_and_recorded(tmp_path):
    assert made(tmp_path, names="odd\neven\n").outputs == "2 classes: odd, even"
    named = open_model(tmp_path / "model", device="cpu")
    assert outputs_of(named).classes == reading_of(str(tmp_path / "model")).outputs.classes == ("odd", "even")
    assert identity(named).to_dict()["outputs"] == ["odd", "even"]
    runs = PairedRuns(named, pairs(("even", "odd")))
    assert (runs.pairs.correct, runs.pairs.incorrect) == (((1,),), ((0,),))
    page = task_page(_saved(tmp_path, pairs(("even", "odd"))), reading=reading_of(str(tmp_path / "model")))
    assert page.to_dict()["tokens"][0]["correct"] == ["even"]


def test_as_many_outputs_as_tokens_are_tokens_unless_they_are_named(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert made(tmp_path / "a", d_vocab_out=12).outputs is None
    assert "outputs" not in identity(open_model(tmp_path / "a" / "model")).to_dict()
    other = [f"t{9 - i}" for i in range(10)] + ["BOS", "PAD"]  # what is put out has another order
    made(tmp_path / "b", d_vocab_out=12, names="\n".join(other))
    found = align_to(open_model(tmp_path / "b" / "model"), pairs(("t9", "t8")))
    assert (found.correct, found.incorrect) == (((0,),), ((1,),))


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ("one\n", "has 1 names; the model has 2 outputs"),
        ("one\none\n", "line 2: 'one' stands on line 1 already"),
        ("one\n\n", "line 2 is empty; every line is a name"),
    ],
)
def test_wrong_names_are_refused(tmp_path, names, says):
    with pytest.raises(ModelError, match=says):
        made(tmp_path, names=names)


def test_names_that_somebody_broke_are_refused(tmp_path):
    made(tmp_path, names="odd\neven\n")
    file = tmp_path / "model" / "tl_native.json"
    for broken in (
        {"0": "odd"},
        {"0": "odd", "2": "even"},
        {"0": "odd", "1": "odd"},
        {"0": 1, "1": "even"},
        "odd",
    ):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"id2label": broken}))
        with pytest.raises(ModelError, match="does not give each of the 2 outputs a name of its own"):
            open_model(tmp_path / "model")


def test_tasks_in_words_are_refused_also_before_weights_are_read(folder, model):
    for call in (
        lambda: paired_runs(model, "ioi", n=4),
        lambda: planned_runs(model=str(folder), task="ioi"),
        lambda: task_page("ioi", reading=reading_of(str(folder))),
    ):
        with pytest.raises(TaskError, match="puts out no words but 2 classes: class-0, class-1"):
            call()


def _saved(directory, items: Pairs) -> str:
    return str(items.save(directory / "pairs.jsonl"))


def test_task_check_names_what_is_not_there(folder, tmp_path):
    reading = reading_of(str(folder))
    report = check_pairs(_saved(tmp_path, pairs(("t0", "t1"), ("class-2", "class-1"))), reading=reading)
    assert not report.passes and report.n_good == 0 and report.words == {"class-2": 1, "t0": 1}
    assert [p.line for p in report.problems] == [2, 3]
    assert "'class-2' is none of the 2 classes" in report.problems[1].message
    assert report.to_terminal()[0]["passes"] == "0 of 2 pairs"
    assert check_pairs(_saved(tmp_path, pairs(("class-0", "class-1"))), reading=reading).passes


def test_a_portrait_leaves_out_the_columns_that_need_words_and_says_so(model):
    found = portrait(model, n=4)
    for key in NEED_WORDS:
        assert np.isnan(found[key].values).all()
        assert next(iter(found[key].missing)).startswith("its outputs are 2 classes: class-0, class-1")
    assert any(", ".join(NEED_WORDS[:3]) in note and "no words" not in note for note in found.notes)
    for key in ("previous-token", "distance", "qk-matching"):
        assert np.isfinite(found[key].values).all()


def test_whatever_reads_outputs_as_tokens_is_refused(model):
    prompts = torch.tensor([[0, 3, 5]])
    for call in (
        lambda: decode(model, prompts, steps=1),
        lambda: sample(model, prompts, steps=1),
        lambda: ask(model, ["t1"], ["t2"]),
        lambda: on_text(model, prompts),
        lambda: respond(model, ["t1 t2"], n=2, prompt=2, length=4),
    ):
        with pytest.raises(ModelError, match="needs a model that puts out words: its outputs are 2 classes"):
            call()


# -- classification heads of Hugging Face -----------------------------------------------------------------------

LABELS = {"num_labels": 3, "id2label": {0: "bad", 1: "fine", 2: "good"}}


def _classifier(name: str):
    """A tiny decoder with a classification head: pooled at the last token, or one answer for each token."""
    size = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, **_IDS, **LABELS}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if (
            name == "gpt2"
        ):  # the language model's unembedding would be tied: nothing would be missed without the head
            model = transformers.GPT2ForSequenceClassification(transformers.GPT2Config(**size))
        else:
            own = {"head_dim": 8, "query_pre_attn_scalar": 8, "final_logit_softcapping": 1.0}
            config = transformers.Gemma2Config(**{**_LLAMA, **LABELS, **own})
            model = transformers.Gemma2ForTokenClassification(config)
        _roughen(model.eval())
    return model


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_a_decoder_with_a_classification_head_puts_out_its_classes(family, tmp_path):
    plain = _classifier(family)
    plain.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    model = open_model(tmp_path, device="cpu")
    assert outputs_of(model).classes == reading_of(str(tmp_path)).outputs.classes == ("bad", "fine", "good")
    assert identity(model).parity < 1e-5 and identity(model).to_dict()["outputs"] == ["bad", "fine", "good"]
    ids = torch.tensor([[0, 6, 7, 8]])
    with torch.no_grad():
        expected = plain(ids).logits
    found = model(ids)
    assert found.shape == (1, 4, 3)
    assert (found[:, -1] - (expected if family == "gpt2" else expected[:, -1])).abs().max() < 1e-5
    item = Pair(id="a", clean="w6 w7 w8", corrupted="w9 w7 w8", correct=("good",), incorrect=("bad", "fine"))
    runs = PairedRuns(model, Pairs(items=(item,), task="mine"))
    scores = found[0, -1].double()
    assert runs.clean == pytest.approx([float(scores[2] - scores[:2].mean())], abs=1e-5)
    in_memory = open_model(_classifier(family), tokenizer=model.tokenizer)
    assert torch.equal(in_memory(ids), found) and outputs_of(in_memory) == outputs_of(model)


def test_a_head_that_is_ablated_changes_what_the_classifier_says(tmp_path):
    plain = _classifier("gpt2")
    plain.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    item = Pair(id="a", clean="w6 w7 w8", corrupted="w9 w7 w8", correct=("good",), incorrect=("bad",))
    runs = PairedRuns(open_model(tmp_path, device="cpu"), Pairs(items=(item,), task="mine"))
    table = sweep(runs, ablations(["a1.h2"], "zero"), kind="zero ablation")

    def silence(module, inputs):
        (z,) = inputs
        return (torch.cat([z[..., :16], torch.zeros_like(z[..., 16:24]), z[..., 24:]], -1),)

    ids = torch.tensor([[0, 6, 7, 8]])
    with torch.no_grad():
        before = plain(ids).logits[0]
        plain.transformer.h[1].attn.c_proj.register_forward_pre_hook(silence)
        after = plain(ids).logits[0]
    expected = (before[2] - before[0]) - (after[2] - after[0])
    assert table.mean[0] == pytest.approx(float(expected), abs=1e-5) and abs(expected) > 1e-4


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("BertForSequenceClassification", "cannot be opened: an encoder's classes are read through layers"),
        ("GPT2ForQuestionAnswering", "whose head is neither a language model's nor a classifier's"),
    ],
)
def test_a_head_that_would_be_left_out_is_refused(name, says):
    config = transformers.PreTrainedConfig(architectures=[name])
    with pytest.raises(ModelError, match=says):
        class_of(head_of(config), transformers.BertForMaskedLM)


@pytest.mark.parametrize("given", [{0: "bad", 1: "bad"}, {0: "bad", 2: "good"}, {0: "bad", 1: ""}])
def test_labels_that_name_no_class_are_refused(given):
    config = transformers.GPT2Config(architectures=["GPT2ForSequenceClassification"], id2label=given)
    with pytest.raises(ModelError, match="does not give each class"):
        class_names(config)


# -- what a portrait looks at -----------------------------------------------------------------------------------


def test_bidirectional_models_with_bos_are_profiled_with_bos(tmp_path):
    """Portraits and pairs begin alike; no mark is put around a text that the tokenizer does not put there."""
    made(tmp_path, attention_dir="bidirectional", d_vocab_out=12)
    model = open_model(tmp_path / "model", device="cpu")
    assert frame_of(model) == ([0], [])
    ground, _ = random_ground(model, n=2)
    assert all(s[0] == 0 for s in ground.sequences) and ground.prefix == 1
    assert ground.about.startswith("BOS, then")
    text, _ = text_ground(model, "t1 t2 t3 t4 t5 t6 t7 t8 t9", n=2)
    assert text.sequences[0].tolist() == [0, *range(3, 12)]
    assert align_to(model, pairs(("t0", "t1"))).clean[0].tolist() == [0, 3, 5, 2]


def test_a_portrait_over_fewer_different_sequences_than_asked_for_says_so(tmp_path):
    """Three words have six orders: six sequences, not sixteen of which some are counted twice."""
    (tmp_path / "w").mkdir()
    checkpoint(tmp_path / "w", d_vocab_out=12, attn_only=True)
    (tmp_path / "w" / "vocab.txt").write_text("\n".join(["BOS", "t0", "t1", "t2"]) + "\n")
    state = torch.load(tmp_path / "w" / "weights.pt", weights_only=True)
    state["embed.W_E"] = state["embed.W_E"][:4]
    torch.save(state, tmp_path / "w" / "weights.pt")
    config = json.loads((tmp_path / "w" / "cfg.json").read_text())
    (tmp_path / "w" / "cfg.json").write_text(json.dumps(config | {"d_vocab": 4, "d_vocab_out": 12}))
    import_checkpoint(
        tmp_path / "w" / "weights.pt",
        tmp_path / "model",
        config=tmp_path / "w" / "cfg.json",
        vocabulary=Vocabulary(path=tmp_path / "w" / "vocab.txt", bos="BOS", unk="BOS"),
    )
    run = do("heads", model=str(tmp_path / "model"), out=tmp_path / "heads", no_loss=True)
    said = "random: 6 different sequences, 16 were asked for"
    assert run.portrait.title == f"Heads of {tmp_path / 'model'} ({said})"
    assert said in run.portrait.notes and said in repr(run.portrait)
    assert "6 sequences (16 were asked for)" in run.to_terminal()[0]["random"]
    assert run.portrait["induction"].n == 6
    (ground,) = run.to_dict()["grounds"]
    assert (ground["n"], ground["distinct"], ground["asked"]) == (6, 6, 16)
    record = json.loads((tmp_path / "heads" / "run.json").read_text())
    assert record["pairs"]["grounds"] == [ground]
    assert said in (tmp_path / "heads" / "atlas.html").read_text()
    full, _ = random_ground(open_model(tmp_path / "model"), n=6)
    assert full.n_distinct == 6 == len(full.sequences) and "asked" not in full.about


def test_windows_of_a_text_that_are_alike_are_counted_once(tmp_path):
    made(tmp_path, d_vocab_out=12)
    model = open_model(tmp_path / "model", device="cpu")
    text, _ = text_ground(model, ["t1 t2 t3 t4 t5 t6 t7 t8 t9"] * 3, n=4)
    assert len(text.sequences) == 3 and text.n_distinct == 1
    assert "3 windows, 1 of them different (4 were asked for) of 10 tokens" in text.about


def test_a_corpus_with_tokens_beyond_the_embedding_loses_those_windows_and_names_them(tmp_path):
    made(tmp_path, d_vocab_out=12)
    model = open_model(tmp_path / "model", device="cpu")
    model.tokenizer.add_tokens(["<tool>"])  # id 12
    good, bad = "t1 t2 t3 t4 t5 t6 t7 t8 t9", "t1 t2 t3 <tool> t5 t6 t7 t8 t9"
    text, notes = text_ground(model, [good, bad], n=2)
    assert len(text.sequences) == 1
    assert any("1 windows are left out: token '<tool>' (id 12) is beyond" in note for note in notes)
    with pytest.raises(
        WorkbenchError, match="token '<tool>' \\(id 12\\) is beyond the model's embedding of 12"
    ):
        text_ground(model, bad, n=2)
