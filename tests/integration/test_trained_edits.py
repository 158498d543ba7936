"""Soft injection, localised fine-tuning and inference-time intervention on models whose answer is known."""

from __future__ import annotations

import pytest
import torch

from tests.families import family_dir
from workbench.core.errors import OptionError, ShapeError, TaskError
from workbench.edits import iti, lofit, low_rank, soft_injection
from workbench.edits.affine import Affine
from workbench.edits.lofit import LofitStep
from workbench.edits.questions import Questions, ask, head_outputs, losses, right_answers
from workbench.edits.soft_injection import SoftMix
from workbench.model.hooks import hook_name, output_matrix
from workbench.model.open import open_model
from workbench.model.probe import record

N, LENGTH = 12, 6
ROWS = tuple(
    tuple(row)
    for row in torch.randint(6, 100, (N, LENGTH), generator=torch.Generator().manual_seed(1)).tolist()
)
QUESTIONS = Questions(rows=ROWS, answers=(7,) * N)
CARRIER = (1, 2)  # the head that does everything in the models made here
FAST = LofitStep(steps=120, lr=0.02, batch=12)


def silence(model, layer: int, head: int) -> None:
    """Make a head's output matrix zero, in place."""
    weight = next(p for name, p in _outputs(model) if name == layer)
    with torch.no_grad():
        weight[:, head * model.cfg.d_head : (head + 1) * model.cfg.d_head] = 0


def _outputs(model):
    for layer, block in enumerate(model.blocks):
        yield layer, block.attn.o.original_component.weight


@pytest.fixture(scope="module")
def plain():
    return open_model(family_dir("native"), device="cpu")


@pytest.fixture(scope="module")
def lonely():
    """Attention only, no norm; of all heads only the carrier writes anything."""
    model = open_model(family_dir("native"), device="cpu")
    for layer in range(2):
        for head in range(4):
            if (layer, head) != CARRIER:
                silence(model, layer, head)
    return model


def logits_with(model, edit: Affine) -> torch.Tensor:
    with torch.no_grad(), edit.on(model):
        return model(torch.tensor(ROWS))


def distance_to(target: torch.Tensor):
    """Squared distance of the logits at every position to those of a planted change."""
    return lambda logits, index: (logits - target[list(index)]).square().mean()


# -- questions ----------------------------------------------------------------------------------------------


def test_questions_of_unequal_length_are_asked_one_by_one_alike(plain):
    mixed = Questions(rows=(ROWS[0], ROWS[1][:3], ROWS[2], ROWS[3][:4]), answers=(7, 8, 9, 10))
    with torch.no_grad():
        logits = [plain(torch.tensor([row]))[0, -1] for row in mixed.rows]
    expected = [
        float(-row.log_softmax(-1)[answer]) for row, answer in zip(logits, mixed.answers, strict=True)
    ]
    assert losses(plain, mixed).tolist() == pytest.approx(expected, abs=1e-5)
    sure = Questions(rows=mixed.rows, answers=tuple(int(row.argmax()) for row in logits))
    assert right_answers(plain, sure).all() and not right_answers(plain, mixed).all()


def test_head_outputs_are_the_last_positions(plain):
    found = head_outputs(plain, [ROWS[0], ROWS[1][:3]])
    for i, row in enumerate((ROWS[0], ROWS[1][:3])):
        name = hook_name("head-output", 1)
        z = record(plain, torch.tensor([row]), [name])[1][name]
        assert torch.allclose(found[i, 1], z[0, -1], atol=1e-6)


def test_an_answer_of_unknown_words_is_refused(plain):
    assert ask(plain, ["w9 w10"], ["Mary"]).answers == (plain.tokenizer.convert_tokens_to_ids("Mary"),)
    with pytest.raises(TaskError, match="does not know"):
        ask(plain, ["w9 w10"], ["nowhere"])


# -- soft injection -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def carried(lonely):
    """An embedding whose carrier makes token 7 likely, and other heads' rows that write nothing."""
    layer, head = CARRIER
    writes = output_matrix(lonely, layer)[head].detach() @ lonely.unembed.W_U.detach()  # (d_head, d_vocab)
    embedding = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(5))
    embedding[layer, head] = (
        60
        * torch.linalg.pinv(writes.T)
        @ torch.nn.functional.one_hot(torch.tensor(7), writes.shape[1]).to(writes)
    )
    return embedding


def learned(model, embedding, **options):
    return soft_injection.learn_mix(
        model,
        embedding,
        training=QUESTIONS,
        validation=QUESTIONS,
        options=SoftMix(steps=60, batch=4, every=20, **options),
    )


def test_alpha_goes_to_one_where_the_task_is_and_stays_elsewhere(lonely, carried):
    alpha = learned(lonely, carried).alpha
    others = torch.ones_like(alpha, dtype=torch.bool)
    others[CARRIER] = False
    assert alpha[CARRIER] > 0.95
    assert alpha[others].tolist() == [0.5] * 7  # their gradient is exactly zero
    assert soft_injection.near_ends(alpha) == pytest.approx(1 / 8)


def test_a_price_on_alpha_closes_the_heads_that_do_nothing(lonely, carried):
    alpha = learned(lonely, carried, sparsity=0.5).alpha
    assert alpha[CARRIER] > 0.9 and soft_injection.near_ends(alpha) == 1.0
    assert alpha.sum() < 1.5


def test_an_embedding_that_carries_nothing_opens_nothing(lonely, carried):
    """The planted effect taken out: the carrier's own mean output instead of the one that answers."""
    harmful = carried.clone()
    harmful[CARRIER] = -carried[CARRIER]
    assert learned(lonely, harmful).alpha[CARRIER] < 0.05


def test_injection_is_the_mix_at_the_last_position(plain, carried):
    alpha = torch.rand(2, 4, generator=torch.Generator().manual_seed(2))
    name = hook_name("head-output", 0)
    ids = torch.tensor(ROWS)
    before = record(plain, ids, [name])[1][name]
    with soft_injection.injection(carried, alpha).on(plain):
        after = record(plain, ids, [name])[1][name]
    mixed = (1 - alpha[0, :, None]) * before[:, -1] + alpha[0, :, None] * carried[0]
    assert torch.allclose(after[:, -1], mixed, atol=1e-5)
    assert torch.equal(after[:, :-1], before[:, :-1])
    zero = soft_injection.injection(carried, torch.zeros(2, 4))
    assert torch.allclose(logits_with(plain, zero), logits_with(plain, Affine.of(plain, ["a0"])), atol=1e-6)


def test_the_best_mix_on_validation_is_kept_not_the_last(lonely, carried):
    """Training wants token 7, validation its opposite: the mix of the first measurement is the best."""
    against = Questions(rows=ROWS, answers=(8,) * N)
    found = soft_injection.learn_mix(
        lonely, carried, training=QUESTIONS, validation=against, options=SoftMix(steps=40, batch=4, every=20)
    )
    assert found.step == 0 and found.alpha[CARRIER] == 0.5
    assert [step for step, _ in found.history] == [0, 20, 40]
    assert found.history[0][1] < found.history[-1][1]


def test_effects_of_single_heads_point_at_the_carrier(lonely, carried):
    effects = soft_injection.single_effects(lonely, carried, QUESTIONS)
    assert effects.flatten().argmax() == CARRIER[0] * 4 + CARRIER[1]
    assert effects[CARRIER] > 1 and effects.flatten().abs().sort().values[-2] < 1e-5
    hard = soft_injection.hardest(effects, 1)
    assert hard.sum() == 1 and hard[CARRIER] == 1


def test_a_hard_choice_opens_the_carrier_first(lonely, carried):
    effects = soft_injection.single_effects(lonely, carried, QUESTIONS)
    chosen = soft_injection.hard_choice(lonely, carried, effects, QUESTIONS, counts=(1, 2))
    assert chosen[CARRIER] == 1 and soft_injection.hardest(effects, 1)[CARRIER] == 1


def test_a_function_vector_is_what_the_heads_write(lonely, carried):
    layer, head = CARRIER
    vector = soft_injection.function_vector(lonely, carried, [CARRIER, (0, 1)])
    assert torch.allclose(vector, carried[layer, head] @ output_matrix(lonely, layer)[head], atol=1e-5)


def test_a_function_vector_enters_where_validation_prompts_do_best(plain, carried):
    """Answers are what a plain loop writes with the vector at one layer: that layer is chosen, whichever it is."""
    effects = torch.zeros(2, 4)
    effects[CARRIER], effects[0, 3], effects[0, 1] = 3.0, 2.0, 1.0
    vector = sum(carried[at] @ output_matrix(plain, at[0])[at[1]] for at in (CARRIER, (0, 3))).detach()

    def written(layer: int) -> torch.Tensor:
        def add(x, hook):
            x = x.clone()
            x[:, -1] += vector
            return x

        with torch.no_grad(), plain.hooks(fwd_hooks=[(hook_name("resid", layer), add)]):
            return plain(torch.tensor(ROWS))

    by_hand = [written(layer) for layer in (0, 1)]
    for layer in (0, 1):
        # the token that this layer makes likely and the other does not
        wanted = (by_hand[layer] - by_hand[1 - layer])[:, -1].argmax(-1).tolist()
        asked = Questions(rows=ROWS, answers=tuple(wanted))
        with torch.no_grad(), soft_injection.best_vector_added(plain, carried, effects, asked, heads=2):
            found = plain(torch.tensor(ROWS))
        assert torch.allclose(found, by_hand[layer], atol=1e-4)
        assert not torch.allclose(found, by_hand[1 - layer], atol=1e-2)


@pytest.mark.usefixtures("unchecked")
def test_a_mix_of_other_heads_is_refused(carried):
    with pytest.raises(ShapeError, match=r"expected \(layer, head\) \(2, 4\)"):
        soft_injection.injection(carried, torch.zeros(3, 4))


# -- localised fine-tuning ----------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["a0.h1", "a1.h2"])
def test_the_head_that_was_scaled_ranks_first(plain, head):
    target = logits_with(plain, Affine.of(plain, [head], a=1.5))
    found = lofit.localise(
        plain,
        QUESTIONS,
        options=LofitStep(steps=120, lr=0.02, batch=12, penalty=1e-4),
        objective=distance_to(target),
    )
    assert found.top(1) == (head,) and found.norms[0] > 2 * found.norms[1]


def test_without_a_planted_head_none_stands_out(plain):
    target = logits_with(plain, Affine.of(plain, ["a1.h2"]))
    found = lofit.localise(
        plain,
        QUESTIONS,
        options=LofitStep(steps=60, lr=0.005, batch=12, penalty=1e-2),
        objective=distance_to(target),
    )
    assert found.norms[0] < 0.06  # 0.005 * sqrt(8) is one step of every dimension


def test_a_planted_offset_is_found_again(plain):
    planted = torch.randn(1, 8, generator=torch.Generator().manual_seed(4))
    target = logits_with(plain, Affine.of(plain, ["a1.h2"], b=planted))
    options = LofitStep(steps=120, lr=0.1, batch=6)
    found = lofit.train_offsets(
        plain, QUESTIONS, heads=["a1.h2"], options=options, objective=distance_to(target)
    )
    assert torch.allclose(found.b, planted, atol=0.02)
    wrong = lofit.train_offsets(
        plain, QUESTIONS, heads=["a1.h0"], options=options, objective=distance_to(target)
    )
    missed = [(logits_with(plain, edit) - target).square().mean() for edit in (found, wrong)]
    assert missed[0] < 1e-3 * missed[1]


def test_only_what_the_output_matrix_lets_through_is_found_again():
    """``W_O`` of a1.h2 sends dimensions 3 to 7 to zero: those stay where they started."""
    model = open_model(family_dir("native"), device="cpu")
    weight = dict(_outputs(model))[1]
    with torch.no_grad():
        weight[:, 2 * 8 + 3 : 3 * 8] = 0
    planted = torch.randn(1, 8, generator=torch.Generator().manual_seed(4))
    target = logits_with(model, Affine.of(model, ["a1.h2"], b=planted))
    options = LofitStep(steps=120, lr=0.1, batch=6)
    found = lofit.train_offsets(
        model, QUESTIONS, heads=["a1.h2"], options=options, objective=distance_to(target)
    )
    assert torch.allclose(found.b[0, :3], planted[0, :3], atol=0.02)
    assert found.b[0, 3:].abs().max() < 0.005  # as drawn at the start: standard deviation 0.001


def test_a_head_that_writes_nothing_gets_no_gradient_and_l1_shrinks_it():
    model = open_model(family_dir("native"), device="cpu")
    silence(model, 1, 2)
    free = lofit.localise(model, QUESTIONS, options=FAST)
    start = 1e-3 * torch.randn((8, 8), generator=torch.Generator().manual_seed(0))
    norm = dict(zip(free.heads, free.norms, strict=True))["a1.h2"]
    assert norm == pytest.approx(float(start[6].norm()), rel=1e-5) and free.heads[-1] == "a1.h2"
    priced = lofit.localise(model, QUESTIONS, options=LofitStep(steps=120, lr=1e-4, batch=12, penalty=1e-2))
    assert dict(zip(priced.heads, priced.norms, strict=True))["a1.h2"] < 0.5 * norm


def test_offsets_lower_the_loss_and_the_model_is_as_it_was(plain):
    before, flags = losses(plain, QUESTIONS), [p.requires_grad for p in plain.parameters()]
    edit = lofit.train_offsets(plain, QUESTIONS, heads=["a1.h2", "a0.h1"], options=FAST, validation=QUESTIONS)
    with edit.on(plain):
        assert losses(plain, QUESTIONS).mean() < before.mean() - 0.5
    assert torch.equal(losses(plain, QUESTIONS), before)
    assert [p.requires_grad for p in plain.parameters()] == flags and not edit.b.requires_grad
    assert edit.heads == ("a1.h2", "a0.h1") and edit.b.numel() == 16


def test_parameters_are_counted(bridge_of):
    model = bridge_of("llama")  # d_model 32, 4 query heads on 2 key-value heads of 8, 3 layers
    assert low_rank.count(model, rank=2) == 3 * 2 * ((32 + 32) + (32 + 16))
    assert lofit.all_parameters(model) == sum(p.numel() for p in model.original_model.parameters())


# -- inference-time intervention ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gaussians():
    """400 statements; right and wrong differ along axis 0 of head (1, 2) alone."""
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(400, 2, 4, 8, generator=generator)
    right = torch.arange(400) % 2 == 0
    outputs[right, 1, 2, 0] += 4
    return outputs, right, torch.arange(400) >= 200


def test_the_probe_of_the_head_that_knows_ranks_first(gaussians):
    outputs, right, held_out = gaussians
    probes = iti.probe_heads(outputs, right, held_out=held_out)
    assert probes.ranked()[0] == "a1.h2"
    assert probes.accuracy[1, 2] > 0.95  # two unit Gaussians 4 apart: 0.977
    assert probes.accuracy.flatten().sort().values[-2] < 0.6  # chance, 200 held-out statements
    theta = probes.direction[1, 2]
    assert theta[0] > 0.99 and theta.norm() == pytest.approx(1)
    assert probes.spread[1, 2] == pytest.approx(5**0.5, rel=0.1)  # variance 1 within, 2 squared between


def test_shuffled_labels_leave_nothing(gaussians):
    outputs, right, held_out = gaussians
    shuffled = right[torch.randperm(400, generator=torch.Generator().manual_seed(3))]
    probes = iti.probe_heads(outputs, shuffled, held_out=held_out)
    assert probes.accuracy.max() < 0.62


def test_a_probe_is_the_logistic_regression_it_says():
    """The penalised likelihood has no slope at the solution, by automatic differentiation."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 60, 3, generator=generator, dtype=torch.float64)
    right = (x[0, :, 0] + torch.randn(60, generator=generator, dtype=torch.float64)) > 0
    weight, bias, mean, std = (t.detach() for t in iti.logistic(x, right, penalty=2.0))
    weight.requires_grad_(True)
    said = (((x - mean) / std) @ weight[:, :, None]).squeeze() + bias
    lost = torch.nn.functional.binary_cross_entropy_with_logits(said, right.double(), reduction="sum")
    (slope,) = torch.autograd.grad(lost + weight.square().sum(), [weight])
    assert slope.abs().max() < 1e-6


def test_the_intervention_adds_strength_sigma_theta_at_the_last_position(plain, gaussians):
    outputs, right, held_out = gaussians
    probes = iti.probe_heads(outputs, right, held_out=held_out)
    name, ids = hook_name("head-output", 1), torch.tensor(ROWS)
    before = record(plain, ids, [name])[1][name]
    with probes.edit(["a1.h2"], strength=3.0).on(plain):
        after = record(plain, ids, [name])[1][name]
    added = after - before
    assert torch.allclose(added[:, -1, 2, 0], 3 * probes.spread[1, 2] * probes.direction[1, 2, 0], atol=1e-4)
    added[:, -1, 2] = 0
    assert added.abs().max() < 1e-6


@pytest.mark.usefixtures("unchecked")
def test_statements_of_one_kind_are_refused(gaussians):
    outputs, right, held_out = gaussians
    with pytest.raises(OptionError, match="must both"):
        iti.probe_heads(outputs, torch.ones_like(right), held_out=held_out)
    with pytest.raises(ShapeError):
        iti.probe_heads(outputs[:-1], right, held_out=held_out)


def test_the_best_shift_is_the_pair_with_the_least_loss_of_a_plain_loop(lonely, carried):
    """The carrier's probe is best; its direction makes token 7 likely, up to a strength that validation asks for."""
    layer, head = CARRIER
    unit = carried[CARRIER] / carried[CARRIER].norm()
    accuracy, direction = torch.full((2, 4), 0.5), torch.zeros(2, 4, 8)
    accuracy[CARRIER], direction[CARRIER] = 0.9, unit
    probes = iti.Probes(accuracy=accuracy, direction=direction, spread=torch.full((2, 4), 2.0))
    strengths, name = (1.0, 5.0, 20.0, 80.0), hook_name("head-output", layer)
    # half of the questions want what the direction writes, half what the model says by itself
    own = lonely(torch.tensor(ROWS))[:, -1].argmax(-1).tolist()
    mixed = Questions(rows=ROWS, answers=tuple(7 if i % 2 else own[i] for i in range(N)))

    def lost(strength: float) -> float:
        def add(z, hook):
            z = z.clone()
            z[:, -1, head] += strength * 2.0 * unit
            return z

        with torch.no_grad(), lonely.hooks(fwd_hooks=[(name, add)]):
            logits = lonely(torch.tensor(ROWS))[:, -1].log_softmax(-1)
        return -logits[torch.arange(N), list(mixed.answers)].mean().item()

    by_hand = {strength: lost(strength) for strength in strengths}
    best = min(by_hand, key=by_hand.__getitem__)
    assert best not in (strengths[0], strengths[-1])  # neither end: a choice that can be wrong both ways
    count, strength, edit = iti.best_shift(lonely, probes, mixed, counts=(1, 2), strengths=strengths)
    assert (count, strength) == (1, best)  # a second head adds nothing here, and of equals the first is kept
    assert edit.heads == ("a1.h2",) and torch.allclose(edit.b, best * 2.0 * unit[None])
