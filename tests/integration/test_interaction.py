"""What two parts do together: by hand, on heads that back each other up, on spans; and the study at a small size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import ModelError, OptionError
from workbench.evaluate.interaction import Interaction, contrasted, guided, interaction, of_others
from workbench.heads.asked_pictures import ask_pictures
from workbench.model.hooks import forward
from workbench.model.prompt import Prompt
from workbench.papers import interaction as paper
from workbench.papers.kinds import Setting
from workbench.papers.kit import Conditions
from workbench.tasks.registry import make_pairs
from workbench.tasks.scenes.layout import World

SMALL = paper.InteractionSizes(questions=16, others=10, draws=2, beside=(), strengths=())


@pytest.fixture(scope="module")
def vlm():
    return wb.open_model("zoo:vlm", device="cpu")


@pytest.fixture(scope="module")
def asked(vlm):
    return ask_pictures(vlm, World(objects=(0, 1, 1)), kinds=["colour"], n=3, seed=7)


@pytest.mark.parametrize(
    ("four", "expected"), [((5, 3, 2, 0), 0.0), ((1, 0, 0, 0), 1.0), ((1, 1, 1, 0), -1.0)]
)
def test_added_effects_are_0_and_is_1_or_is_minus_1(four, expected):
    both, first, second, neither = (torch.tensor([[float(x)]]) for x in four)
    found = Interaction(both=both, first=first, second=second, neither=neither)
    assert found.term.item() == expected


def test_heads_of_which_one_would_do_interact_negatively_and_idle_heads_not_at_all():
    model = wb.open_model("zoo:truth-redundant", device="cpu")
    pairs = make_pairs("addition", n=6, seed=0)
    prompt = Prompt(torch.cat([model.to_tokens(pair.clean) for pair in pairs]))
    answers = torch.tensor([model.to_tokens(pair.correct[0])[0, -1] for pair in pairs])

    def logit(logits):
        return logits.gather(1, answers[:, None])

    found = interaction(model, prompt, ["a0.h0"], ["a0.h2"], read=logit)
    assert torch.allclose(found.first, found.both, atol=0.1)  # either alone does what both do
    assert (found.term < -5).all()
    idle = interaction(model, prompt, ["a0.h0"], ["a0.h1"], read=logit)
    assert idle.term.abs().max() < 1e-4


def test_hidden_parts_are_prompts_in_which_nobody_looks_at_them(vlm, asked):
    found = interaction(vlm, asked.prompt, asked.image, asked.question, rows=2)

    def blind(spans):
        def hide(scores, hook):
            scores = scores.clone()
            for span in spans:
                outside = [place for place in range(scores.shape[-1]) if place not in span]
                scores[:, :, outside, min(span) : max(span) + 1] = torch.finfo(scores.dtype).min
            return scores

        hooks = [(f"blocks.{layer}.attn.hook_attn_scores", hide) for layer in range(4)]
        with vlm.hooks(fwd_hooks=hooks), torch.no_grad():
            return forward(vlm, asked.prompt, last_only=True)[:, -1].log_softmax(-1)

    image, question = asked.image, asked.question
    assert question == tuple(range(37, 43))
    naive = blind([]) - blind([question]) - blind([image]) + blind([image, question])
    assert torch.allclose(found.term, naive, atol=1e-3)
    assert torch.allclose(found.second, blind([image]), atol=1e-3)


def test_the_mean_of_prompts_that_are_alike_changes_nothing(vlm, asked):
    same = Prompt(asked.prompt.ids[:1].repeat(2, 1), asked.prompt[torch.tensor([0, 0])].extras)
    found = interaction(vlm, same, asked.image, ["a0.h1", "a2"], how="mean")
    assert torch.allclose(found.first, found.both, atol=1e-3)
    assert torch.allclose(found.neither, found.both, atol=1e-3)
    other = interaction(vlm, asked.prompt, asked.image, ["a0.h1", "a2"], how="mean")
    assert (other.second - other.both).abs().max() > 0.1


@pytest.mark.parametrize("wrong", [[], [43], ["a0.h1", 3]])
def test_what_is_no_part_is_refused(vlm, asked, wrong):
    with pytest.raises(OptionError, match="not a part"):
        interaction(vlm, asked.prompt, asked.image, wrong)


@pytest.mark.parametrize(
    ("a", "b", "shared"),
    [
        (range(1, 20), range(10, 30), "tokens 10, 11, 12, .* and 2 more"),
        (["a0.h0"], ["a0.h0"], "heads a0.h0;"),
        (["a1"], ["a1.h2", "a0.h1"], "heads a1.h2;"),
    ],
)
def test_parts_that_share_something_are_refused(vlm, asked, a, b, shared):
    with pytest.raises(OptionError, match=f"the two parts share {shared}"):
        interaction(vlm, asked.prompt, a, b)


def test_other_prompts_are_all_but_the_own_one():
    """One prompt alone has an interaction on a word: beside it the others have none, though the mean has."""
    term = np.zeros((3, 2))
    term[1, 0] = 6.0
    assert of_others(term)[:, 0].tolist() == [3.0, 0.0, 3.0]
    assert not of_others(term)[:, 1].any()


def test_decoding_by_hand():
    both = torch.tensor([[0.6, 0.35, 0.05]]).log()
    term, without = torch.tensor([[0.0, 1.0, 9.0]]), torch.tensor([[0.9, 0.05, 0.05]]).log()
    assert guided(both, term, strength=0.5).argmax().item() == 0  # ln 0.6 above ln 0.35 + 0.5
    assert guided(both, term, strength=1.0).argmax().item() == 1
    scores = contrasted(both, without, plausible=0.1)
    assert scores.argmax().item() == 1 and scores[0, 2] == -torch.inf
    assert torch.allclose(scores[0, 0], 2 * both[0, 0] - without[0, 0])
    with pytest.raises(OptionError, match="plausible"):
        guided(both, term, plausible=0.0)


def test_the_study_runs_and_its_claims_are_judged(vlm):
    found = paper.REPLICATION.run(Setting(model=vlm, name="zoo:vlm", options=SMALL, seed=5))
    verdicts = dict(zip(paper.CLAIMS, (claim.verdict for claim in found.claims), strict=True))
    assert verdicts["photographs"] == "cannot be tested here" and verdicts["together"] == "holds"
    assert len(found.tables["How strong"]) == 3 and len(found.tables["Noise of pixels"]) == 1


def test_claims_go_both_ways():
    """Answers yes, planted: hallucinated ones interact less or not; guidance hallucinates less or not."""

    def judged(gap, yes):
        c, rng = Conditions(seed=0), np.random.default_rng(0)
        true = np.repeat([1.0, 0.0], 40)
        c.add(paper.TRUE, true)
        c.add(paper.TERM, gap * true + rng.normal(size=80), within=None)
        c[f"{paper.ABSENT}, {paper.PLAIN}"] = np.repeat([1.0, 0.0], 40)
        c[f"{paper.ABSENT}, {paper.GUIDED}"] = np.repeat([1.0, 0.0], [yes, 80 - yes])
        return [paper.CLAIMS[name].by(c).holds for name in ("tells", "lowers")]

    assert judged(3.0, 10) == [True, True]
    assert judged(0.0, 40) == [False, False]


def test_a_model_of_words_is_refused_with_what_to_type(bridge_of):
    with pytest.raises(ModelError, match="zoo:vlm"):
        paper.REPLICATION.run(Setting(model=bridge_of("gpt2"), name="tiny", options=SMALL))
