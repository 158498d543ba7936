"""The public functions with the values that somebody in a notebook gives first."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import OptionError, ShapeError, TaskError, WorkbenchError

STORY = "When {} and {} went to the store, {} gave a drink to"
FOUR = [
    (STORY.format(a, b, b), STORY.format(a, b, a), f" {a}", f" {b}")
    for a, b in (("Mary", "John"), ("John", "Mary"))
]
DICTS = [
    {"clean": clean, "corrupted": corrupted, "correct": correct, "incorrect": [incorrect]}
    for clean, corrupted, correct, incorrect in FOUR
]


@pytest.fixture(scope="module")
def model():
    return wb.open_model("zoo:ioi")


@pytest.fixture(scope="module")
def runs(model):
    return wb.paired_runs(model, "ioi", n=8)


def effects(table) -> list[float]:
    return table.to_dataframe()["effect"].tolist()


def test_pairs_in_memory_give_the_numbers_of_the_same_pairs_in_a_file(model, tmp_path):
    wb.as_pairs(FOUR).save(tmp_path / "four.jsonl")
    from_file = wb.paired_runs(model, tmp_path / "four.jsonl").clean
    forms = [FOUR, DICTS, list(wb.as_pairs(FOUR)), wb.as_pairs(FOUR)]
    for form in forms:
        assert np.array_equal(wb.paired_runs(model, form).clean, from_file)


def test_a_pair_in_memory_that_cannot_be_used_is_named():
    with pytest.raises(TaskError, match="line 2: clean and corrupted are the same text"):
        wb.as_pairs([FOUR[0], (FOUR[1][0], FOUR[1][0], " John", " Mary")])
    with pytest.raises(TaskError, match="there are no pairs"):
        wb.as_pairs([])


def test_a_model_and_a_task_stand_for_runs(model, runs):
    assert effects(wb.ablate(model, "ioi", n=8)) == effects(wb.ablate(runs))
    assert effects(wb.ablate(model, "ioi", "mlps", n=8)) == effects(wb.ablate(runs, "mlps"))
    assert effects(wb.ablate(model, task="ioi", n=8)) == effects(wb.ablate(runs))
    circuit = wb.discover(runs, "eap", random_draws=1, roles=False).circuit
    assert (
        wb.faithfulness(circuit, model, "ioi", n=8).faithfulness
        == wb.faithfulness(circuit, runs).faithfulness
    )


def test_discover_with_a_task_finds_on_one_split_and_judges_on_another(model):
    train, test = (wb.paired_runs(model, "ioi", n=8, split=split) for split in ("train", "test"))
    asked = {"random_draws": 1, "roles": False}
    whole = wb.discover(model, "ioi", "eap", n=8, **asked)
    apart = wb.discover(train, "eap", test_runs=test, **asked)
    assert whole.circuit.edges == apart.circuit.edges
    assert whole.faithfulness.faithfulness == apart.faithfulness.faithfulness


def test_an_amount_is_a_number_a_share_or_text(runs):
    scores = wb.score(runs, "eap")
    assert scores.keep(20).edges == scores.keep("20").edges
    assert scores.keep(0.05).edges == scores.keep("5%").edges
    assert scores.keep(0.29).selection["nominal"] == scores.keep("29%").selection["nominal"]
    for wrong in (5.5, -1, True, None, [3]):
        with pytest.raises(OptionError, match="cannot keep"):
            scores.keep(wrong)


def test_one_position_needs_no_list(runs):
    assert effects(wb.ablate(runs, positions="S2")) == effects(wb.ablate(runs, positions=["S2"]))
    assert effects(wb.patch(runs, "resid", positions=3)) == effects(wb.patch(runs, "resid", positions=[3]))
    with pytest.raises(TaskError, match="no position called 'S9'"):
        wb.ablate(runs, positions="S9")


def test_a_function_of_logits_is_a_metric(model, runs):
    def difference(logits, answers):
        return (logits.gather(1, answers.correct) - logits.gather(1, answers.incorrect))[:, 0]

    own = wb.paired_runs(model, "ioi", n=8, metric=difference)
    assert np.allclose(own.clean, runs.clean, atol=1e-6)
    assert own.metric.name == "difference" and own.metric.source.startswith("a function in memory, sha256:")
    with pytest.raises(OptionError, match=r"\(logits, answers\) or \(logits, answers, clean\)"):
        wb.get_metric(lambda logits: logits)


def test_replacements_equal_a_hook_that_does_the_same(model, runs):
    """The naive loop: one hook, one whole pass, at every pair."""
    direction = torch.linspace(-1, 1, runs.wiring.d_head)
    given = torch.linspace(0, 2, runs.wiring.d_head)
    cases = {
        wb.Scale(0.5): lambda z: 0.5 * z,
        wb.Steer(direction, by=3): lambda z: z + 3 * direction,
        wb.Edit(node="a1.h1", value=given).value: lambda z: given.expand_as(z),
        wb.Edit(node="a1.h1", value=torch.tanh).value: torch.tanh,
    }
    for replacement, change in cases.items():
        found = wb.ablate(runs, ["a1.h1"], ablation=replacement)
        assert np.allclose(found.patched[0], naive(model, runs, change), atol=1e-5)


def naive(model, runs, change) -> np.ndarray:
    """The metric of every pair with head 1 of layer 1 changed by a hook."""

    def hook(z, hook):
        z = z.clone()
        z[:, :, 1] = change(z[:, :, 1])
        return z

    found = np.empty(runs.n_pairs)
    for batch in runs.batches:
        with torch.no_grad(), model.hooks(fwd_hooks=[(hook_of(), hook)]):
            logits = model(batch.clean, return_type="logits")
        last = logits[torch.arange(len(batch)), batch.answer_pos]
        found[batch.index] = runs.metric(last, batch.answers).numpy()
    return found


def hook_of() -> str:
    from workbench.model.hooks import hook_name

    return hook_name("head-output", 1)


def test_scaling_by_zero_is_zero_ablation_and_by_one_is_nothing(runs):
    zero, scaled = wb.ablate(runs, ablation="zero"), wb.ablate(runs, ablation=wb.Scale(0))
    assert np.allclose(zero.patched, scaled.patched, atol=1e-5)
    assert np.allclose(wb.ablate(runs, ["r2"], ablation=wb.Scale(1)).patched, runs.clean, atol=1e-5)


def test_a_tensor_for_each_pair_goes_to_its_own_pair(model, runs):
    """A row for each pair: the runs' own clean values put back change nothing, shuffled ones do."""
    name, rows = hook_of(), torch.empty(runs.n_pairs, runs.wiring.d_head)
    for batch in runs.batches:
        rows[batch.index] = runs.activations(batch, "clean", [name])[name][:, -1, 1]
    kept = wb.ablate(runs, ["a1.h1"], ablation=rows, positions="end")
    assert np.allclose(kept.patched[0], runs.clean, atol=1e-5)
    moved = wb.ablate(runs, ["a1.h1"], ablation=rows.flip(0), positions="end")
    assert not np.allclose(moved.patched[0], runs.clean, atol=1e-3)


def test_different_replacements_are_different_questions(runs):
    plans = {wb.ablate(runs, ["a1.h1"], ablation=wb.Scale(f)).provenance["plan"] for f in (0.5, 0.25, 0.5)}
    assert len(plans) == 2


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m, r: wb.ablate("ioi"), "runs is of type str"),
        (lambda m, r: wb.ablate(m), "ablate has a model and no task"),
        (lambda m, r: wb.ablate(r, 5), "parts is of type int"),
        (lambda m, r: wb.ablate(r, ablation=5), "5 there, which is of type int"),
        (lambda m, r: wb.ablate(r, positions=1.5), "a position is 1.5, of type float"),
        (lambda m, r: wb.paired_runs(m, 5), "pairs are of type int"),
        (lambda m, r: wb.paired_runs("zoo:ioi", "ioi"), "model is the text 'zoo:ioi'"),
        (lambda m, r: wb.paired_runs(m, "ioi", metric=5), "a metric is of type int"),
        (lambda m, r: wb.discover(r, test_runs="ioi"), "test_runs is of type str"),
        (lambda m, r: wb.faithfulness(r, r), "faithfulness: circuit is of type PairedRuns"),
        (lambda m, r: wb.patterns_of(m, "Mary and John"), "patterns_of: ids is of type str; expected Tensor"),
        (lambda m, r: wb.score(r, "eap").top("5%"), "top: n is of type str; expected int"),
        (lambda m, r: wb.score(r, "eap").fraction("5%"), "a share is of type str; expected int or float"),
        (lambda m, r: wb.score(r, "eap").threshold("1"), "threshold: tau is of type str"),
        (lambda m, r: wb.load_circuit("published:ioi").top("5"), "top: n is of type str; expected int"),
        (lambda m, r: wb.describe(5), "model is of type int"),
        (lambda m, r: wb.identity("x"), "model is the text 'x'"),
        (lambda m, r: wb.portrait(5), "model is of type int"),
        (lambda m, r: wb.open_model(5), "model is of type int"),
        (lambda m, r: wb.measure(r, "x", kind="k"), "an intervention is of type str"),
        (lambda m, r: wb.discover(r, 5), "method is of type int"),
        (lambda m, r: wb.make_pairs(5), "task is of type int"),
        (lambda m, r: wb.Scale("2"), "factor is '2'"),
        (lambda m, r: wb.Steer([1, 2]), "a direction is of type list"),
    ],
)
def test_a_wrong_type_is_refused_by_name(model, runs, call, says, unchecked):
    with pytest.raises(WorkbenchError) as refused:
        call(model, runs)
    assert says in refused.value.message


@pytest.mark.parametrize("kind", ["bench", "circuit", "effects", "evaluation", "pairs", "portrait", "scores"])
def test_a_number_is_no_path(kind):
    """0 would be taken as the standard input."""
    with pytest.raises(OptionError, match="path is of type int; expected str or PathLike"):
        getattr(wb, f"load_{kind}")(0)


def test_a_replacement_of_another_shape_is_refused_with_both_shapes(runs):
    with pytest.raises(ShapeError, match=r"shape \(15,\); what is there has"):
        wb.ablate(runs, ["a1.h1"], ablation=torch.zeros(15))
    with pytest.raises(ShapeError, match="returned"):
        wb.ablate(runs, ["a1.h1"], ablation=lambda z: z.sum())


def test_the_model_is_untouched_by_replacements(model, runs):
    before = runs.clean.copy()
    wb.ablate(runs, ["r1"], ablation=lambda x: x.zero_(), positions="end")
    assert np.array_equal(wb.paired_runs(model, "ioi", n=8).clean, before)


def test_dir_shows_the_public_names_and_nothing_else():
    assert dir(wb) == sorted(wb.__all__)
    assert {"ablate", "edits", "Scale", "open_model"} <= set(dir(wb))
    assert dir(wb.edits) == sorted(wb.edits.__all__)
    assert all(hasattr(wb, name) for name in wb.__all__)


def test_a_model_shows_itself_where_ipython_runs(model):
    from IPython.core.interactiveshell import InteractiveShell

    from workbench.model.notebook import show_in_notebooks

    shell = InteractiveShell.instance()
    try:
        show_in_notebooks()
        shown, _ = shell.display_formatter.format(model)
    finally:
        InteractiveShell.clear_instance()
    assert "<svg" in shown["text/html"] and "head 0" in shown["text/html"]
