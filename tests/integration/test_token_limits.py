"""Token ids, lengths and answers that a model has no place for are named, wherever text or ids enter it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers

from tests.families import family_dir, save_tokenizer
from tests.mini import mini_pairs
from workbench.core.errors import ModelError, TaskError
from workbench.edits.measure import on_text, windows_of
from workbench.edits.questions import Questions, ask, head_outputs, losses
from workbench.engine.paired_runs import PairedRuns, align_to
from workbench.heads.decoding import decode, sample
from workbench.heads.grounds import random_ground
from workbench.heads.observe import patterns_of
from workbench.heads.shown_patterns import example_patterns, prompt_patterns
from workbench.model.architecture import describe
from workbench.model.from_files import reading_of
from workbench.model.open import open_model
from workbench.model.report import check_bridge
from workbench.tasks.alignment import AlignedPairs
from workbench.tasks.pairs import Pair, Pairs
from workbench.tasks.reading import align_for


@pytest.fixture(scope="module")
def longer(tmp_path_factory):
    """A tiny Llama whose tokenizer was given the token <tool> (id 160); its embedding ends at 159."""
    directory = tmp_path_factory.mktemp("longer")
    transformers.AutoModelForCausalLM.from_pretrained(family_dir("llama")).save_pretrained(directory)
    save_tokenizer(directory)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    tokenizer.add_tokens(["<tool>"])
    tokenizer.save_pretrained(directory)
    return directory


def _pair(name: str, *words: str) -> Pair:
    text = " ".join(words)
    return Pair(
        id=name, clean=f"Mary {text}", corrupted=f"John {text}", correct=(" Mary",), incorrect=(" John",)
    )


def test_pairs_with_an_added_token_are_dropped_and_counted_in_the_record(longer):
    from workbench.commands.forms.sweep import Ablate
    from workbench.commands.inputs import record_of

    pairs = Pairs(items=(_pair("plain", "went", "to"), _pair("tool", "<tool>", "to")), task="mine")
    runs = PairedRuns(open_model(longer, device="cpu"), pairs)
    assert runs.n_pairs == 1 and np.isfinite(runs.clean).all()
    (dropped,) = record_of(Ablate(model="m", task="t"), runs).pairs["dropped"]
    assert (dropped["id"], dropped["kind"]) == ("tool", "embedding")
    assert "token '<tool>' (id 160) is beyond the model's embedding of 160" in dropped["reason"]
    assert align_for(pairs, reading_of(str(longer))).dropped == runs.pairs.dropped  # as `task check` says


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"clean": [0, 160]},
            "pair mini-0, clean prompt: token id 160 is beyond the model's embedding of 160",
        ),
        ({"corrupted": [0, -1]}, "corrupted prompt: token id -1 is beyond the model's embedding of 160"),
        ({"correct": (160,)}, "pair mini-0: answer id 160 is beyond the model's outputs of 160"),
        ({"incorrect": (-3,)}, "pair mini-0: answer id -3 is beyond the model's outputs of 160"),
        ({"clean": [6] * 65, "corrupted": [6] * 65}, "65 tokens; the model's context holds 64"),
    ],
)
def test_token_ids_that_somebody_put_together_are_checked(bridge_of, change, says):
    rows = {"clean": [0, 6], "corrupted": [0, 7], "correct": (8,), "incorrect": (9,), **change}
    aligned = AlignedPairs(
        pairs=mini_pairs(1),
        clean=(np.array(rows["clean"]),),
        corrupted=(np.array(rows["corrupted"]),),
        correct=(rows["correct"],),
        incorrect=(rows["incorrect"],),
        positions=({"end": 1},),
        dropped=(),
        prepend_bos=True,
    )
    with pytest.raises(TaskError, match=says):
        PairedRuns(bridge_of("gpt2"), aligned)


def _roberta(directory, rows=20):
    """Positions begin after the padding id 2: 20 rows hold 17 tokens."""
    size = dict.fromkeys(("hidden_size", "intermediate_size"), 16) | {"num_hidden_layers": 1}
    torch.manual_seed(0)
    model = transformers.RobertaForMaskedLM(
        transformers.RobertaConfig(
            vocab_size=160, max_position_embeddings=rows, pad_token_id=2, num_attention_heads=2, **size
        )
    )
    model.save_pretrained(directory)
    save_tokenizer(directory)
    return directory


@pytest.mark.parametrize(("family", "most"), [("gpt2", 64), ("opt", 64), ("roberta", 17)])
def test_the_longest_prompt_that_is_kept_runs_and_a_longer_one_is_dropped(family, most, tmp_path, bridge_of):
    """Position tables with an offset hold fewer tokens than they have rows (RoBERTa), or have rows to spare (OPT)."""
    name = _roberta(tmp_path) if family == "roberta" else family_dir(family)
    model = open_model(name, device="cpu") if family == "roberta" else bridge_of(family)
    assert describe(model).n_ctx == reading_of(str(name)).n_ctx == most
    before = 1 if describe(model).prepend_bos else 0
    fits, beyond = (_pair(str(n), *["to"] * (n - 1 - before)) for n in (most, most + 1))
    found = align_to(model, Pairs(items=(fits, beyond), task="mine"))
    assert [d.kind for d in found.dropped] == ["context"]
    assert np.isfinite(PairedRuns(model, found).clean).all()


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        ([0, 160], "token id 160 is beyond"),
        ([0, -1], "token id -1 is beyond"),
        ([6] * 65, "context holds 64"),
    ],
)
def test_ids_that_a_user_supplies_are_checked_wherever_they_enter(bridge_of, ids, says):
    model, ids = bridge_of("gpt2"), torch.tensor([ids])
    questions = Questions(rows=(tuple(ids[0].tolist()),), answers=(6,))
    for enter in (
        lambda: patterns_of(model, ids),
        lambda: decode(model, ids, steps=1),
        lambda: sample(model, ids, steps=1),
        lambda: on_text(model, ids),
        lambda: losses(model, questions),
        lambda: head_outputs(model, questions.rows),
    ):
        with pytest.raises(TaskError, match=says):
            enter()
    with pytest.raises(TaskError, match="an answer: token id 160 is beyond"):
        losses(model, Questions(rows=((0, 6),), answers=(160,)))


def test_texts_with_an_added_token_are_refused_and_named(longer):
    model = open_model(longer, device="cpu")
    says = r"token '<tool>' \(id 160\) is beyond the model's embedding of 160"
    for enter in (
        lambda: prompt_patterns(model, ["Mary went", "Mary <tool> went"]),
        lambda: windows_of(model, "Mary went to <tool> " * 8, length=9),
        lambda: ask(model, ["Mary <tool>"], ["went"]),
        lambda: ask(model, ["Mary went"], ["<tool>"]),
    ):
        with pytest.raises(TaskError, match=says):
            enter()
    model.tokenizer.bos_token = "<tool>"
    with pytest.raises(TaskError, match=says):
        random_ground(model)


def test_a_check_of_the_model_names_tokens_without_an_embedding(longer, bridge_of):
    (found,) = (c for c in check_bridge(open_model(longer, device="cpu")).checks if c.name == "tokenizer")
    assert not found.passes and found.found == 1 and found.what == "tokens without an embedding: <tool>"
    (found,) = (c for c in check_bridge(bridge_of("gpt2")).checks if c.name == "tokenizer")
    assert found.passes and found.what == "tokens without an embedding"


def test_positions_outside_a_prompt_are_named(bridge_of):
    aligned = align_to(bridge_of("gpt2"), mini_pairs(1))
    wrong = replace(aligned, positions=({**aligned.positions[0], "S": 7},))
    with pytest.raises(TaskError, match="pair mini-0: position S, 7 is beyond the clean prompt of 7"):
        PairedRuns(bridge_of("gpt2"), wrong)


@pytest.mark.parametrize("most", [2, 8])
def test_a_context_shorter_than_the_probes_is_no_error(most, tmp_path):
    """Probes of 9 and 12 tokens are as long as the context; RoBERTa's table has 3 rows that no token uses."""
    model = open_model(_roberta(tmp_path, rows=most + 3), device="cpu")
    item = _pair("a", *["to"] * (most - 2))
    assert describe(model).n_ctx == most and np.isfinite(
        PairedRuns(model, Pairs(items=(item,), task="x")).clean
    )
    assert check_bridge(model).checks[0].passes
    example_patterns(model) if most == 8 else None


def test_a_context_of_one_token_is_refused(tmp_path):
    model = open_model(_roberta(tmp_path, rows=4), device="cpu")
    with pytest.raises(ModelError, match="context holds 1 token"):
        describe(model)
