"""Metrics by hand: two or three logits, answers counted on paper."""

from math import log

import pytest
import torch

from workbench.core.errors import OptionError, ShapeError, TaskError, unknown
from workbench.engine.answers import Answers
from workbench.engine.metrics import get_metric, list_metrics, spelled_rightly
from workbench.tasks.alignment import AlignedPairs
from workbench.tasks.pairs import Pairs


def answers(correct, incorrect, *, whole=False) -> Answers:
    rows = len(correct)
    aligned = AlignedPairs(
        pairs=Pairs(items=(), task="t"),
        clean=(),
        corrupted=(),
        correct=tuple(map(tuple, correct)),
        incorrect=tuple(map(tuple, incorrect)),
        positions=({},) * rows,
        dropped=(),
        prepend_bos=False,
        read_at=tuple(tuple(range(len(row))) for row in correct) if whole else (),
    )
    return Answers.of(aligned)


def value(name, logits, correct, incorrect, clean=None):
    tensors = [None if t is None else torch.tensor(t, dtype=torch.float64) for t in (logits, clean)]
    metric = get_metric(name)
    if metric.whole_answers:
        tensors = [None if t is None else t[:, None] for t in tensors]
    return metric(tensors[0], answers(correct, incorrect, whole=metric.whole_answers), tensors[1]).tolist()


P = [[log(0.5), log(0.2), log(0.2), log(0.1)]]  # logits whose softmax is 0.5, 0.2, 0.2, 0.1


def test_answers_are_masked_where_pairs_have_fewer():
    found = answers([[3], [1, 2]], [[], [0]])
    assert found.correct.tolist() == [[3, 0], [1, 2]] and found.correct_mask.tolist() == [
        [True, False],
        [True, True],
    ]
    assert found.incorrect_mask.tolist() == [[False], [True]] and len(found) == 2
    assert found[1:].correct.tolist() == [[1, 2]] and found.to("cpu").incorrect.tolist() == [[0], [0]]
    assert found.repeat(2).correct.tolist() == [[3, 0], [1, 2], [3, 0], [1, 2]]
    assert answers([[1]], [[]]).incorrect.shape == (1, 0)


def test_logit_difference_is_mean_minus_mean():
    logits = [[1.0, 5.0, 3.0, -2.0], [0.0, 1.0, 2.0, 4.0]]
    assert value("logit-difference", logits, [[1, 2], [3]], [[0], [0, 1, 2]]) == [3.0, 3.0]  # 4-1 and 4-1


def test_logit_difference_needs_an_incorrect_answer():
    with pytest.raises(TaskError, match="1 of 2 pairs have no incorrect answer"):
        value("logit-difference", [[1.0, 2.0]] * 2, [[0], [0]], [[1], []])


def test_prob_difference_is_sum_minus_sum():
    assert value("prob-difference", P, [[1, 2]], [[0]]) == [pytest.approx(0.4 - 0.5)]
    assert value("prob-difference", P, [[1, 2]], [[]]) == [pytest.approx(0.4)]


def test_nll_is_of_the_summed_probability():
    assert value("nll", P, [[1, 2]], [[0]]) == [pytest.approx(-log(0.4))]
    assert value("nll", P * 2, [[3], [0, 1]], [[], []]) == [
        pytest.approx(-log(0.1)),
        pytest.approx(-log(0.7)),
    ]


def test_kl_is_from_the_clean_run_to_this_one():
    clean = [[log(0.5), log(0.5)]]
    run = [[log(0.25), log(0.75)]]
    assert value("kl", run, [[0]], [[1]], clean=clean) == [pytest.approx(0.5 * log(2) + 0.5 * log(2 / 3))]
    assert value("kl", clean, [[0]], [[1]], clean=clean) == [pytest.approx(0.0, abs=1e-12)]


def test_kl_takes_a_probability_of_zero_as_nothing():
    clean = [[0.0, float("-inf")]]
    assert value("kl", [[0.0, 0.0]], [[0]], [[1]], clean=clean) == [pytest.approx(log(2))]
    assert value("kl", clean, [[0]], [[1]], clean=clean) == [0.0]


def test_accuracy_compares_the_best_answers_and_ties_are_wrong():
    logits = [[1.0, 5.0, 3.0, 9.0]] * 4
    assert value("accuracy", logits, [[1, 0], [0], [2], [3]], [[2], [1, 2], [2], [1]]) == [1, 0, 0, 1]


def test_accuracy_without_incorrect_answers_is_the_argmax():
    assert value("accuracy", [[1.0, 5.0, 3.0]] * 3, [[1], [2], [2, 1]], [[], [], []]) == [1, 0, 1]
    assert value("accuracy", [[1.0, 5.0, 3.0]] * 2, [[2], [2]], [[0], []]) == [1, 0]  # mixed in one batch


def test_rank_counts_what_is_as_high_and_other():
    logits = [[1.0, 5.0, 3.0, 3.0]] * 4
    assert value("rank", logits, [[1], [2], [0], [2, 3]], [[0]] * 4) == [0, 2, 3, 1]
    assert value("rank", [[0.0] * 4], [[0]], [[1]]) == [3]  # constant logits are no success


@pytest.mark.parametrize("name", ["accuracy", "rank"])
def test_a_nan_is_not_an_answer(name):
    found = value(name, [[float("nan"), 1.0], [0.0, 1.0]], [[1], [1]], [[0], [0]])
    assert found[0] != found[0] and found[1] == (1 if name == "accuracy" else 0)


@pytest.mark.parametrize("metric", list_metrics(), ids=lambda metric: metric.name)
def test_every_metric_states_unit_direction_and_gives_one_value_per_pair(metric):
    generator = torch.Generator().manual_seed(0)
    shape = (5, 7) if metric.reads == "answer" else (5, 4, 7)
    logits = torch.randn(*shape, generator=generator, requires_grad=True)
    clean = torch.randn(*shape, generator=generator)
    found = answers([[1], [2, 3], [4], [5], [6, 0]], [[0], [1], [2, 3], [4], [5]], whole=metric.whole_answers)
    values = metric(logits, found, clean)
    assert values.shape == (5,) and values.dtype == logits.dtype
    assert metric.unit and metric.direction in (1, -1) and metric.describe and metric.to_dict()["unit"]
    one_by_one = [metric(logits[i : i + 1], found[i : i + 1], clean[i : i + 1]) for i in range(5)]
    assert torch.allclose(values, torch.cat(one_by_one))  # no mixing between pairs
    assert metric.differentiable == values.requires_grad


@pytest.mark.parametrize("metric", [m for m in list_metrics() if m.differentiable], ids=lambda m: m.name)
def test_gradients_are_right(metric):
    generator = torch.Generator().manual_seed(1)
    shape = (3, 6) if metric.reads == "answer" else (3, 4, 6)
    logits = torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)
    clean = torch.randn(*shape, generator=generator, dtype=torch.float64)
    found = answers([[1], [2, 3], [4]], [[0], [1], [2, 3]], whole=metric.whole_answers)
    assert torch.autograd.gradcheck(lambda x: metric(x, found, clean), (logits,))


@pytest.mark.parametrize(
    ("name", "better"),
    [(m.name, m.direction) for m in list_metrics() if not m.needs_clean],
)
def test_direction_says_which_way_the_behavior_goes(name, better):
    bad, good = [[3.0, 0.0, 1.0]], [[0.0, 3.0, 1.0]]
    assert (value(name, good, [[1]], [[0]])[0] - value(name, bad, [[1]], [[0]])[0]) * better > 0


def test_a_whole_answer_sums_the_log_probabilities_of_its_tokens():
    logits = torch.tensor([[P[0], P[0], P[0]]] * 2, dtype=torch.float64)
    found = answers([[1, 3], [0]], [[], []], whole=True)  # two tokens, and one
    metric = get_metric("answer-logprob")
    assert metric(logits, found).tolist() == pytest.approx([log(0.2) + log(0.1), log(0.5)])
    twice = found.repeat(2)
    assert metric(logits.repeat(2, 1, 1), twice).tolist() == pytest.approx(2 * metric(logits, found).tolist())
    assert spelled_rightly(logits, found).tolist() == [0, 1]  # greedy decoding says token 0
    with pytest.raises(OptionError, match="read as one token each"):
        metric(logits, answers([[1], [0]], [[], []]))


def test_what_does_not_line_up_is_refused():
    metric = get_metric("nll")
    with pytest.raises(ShapeError, match=r"reads logits \(pair, d_vocab\); found \(2, 3, 4\)"):
        metric(torch.zeros(2, 3, 4), answers([[0]] * 2, [[1]] * 2))
    with pytest.raises(ShapeError, match="logits of 3 pairs, answers of 2"):
        metric(torch.zeros(3, 4), answers([[0]] * 2, [[1]] * 2))
    with pytest.raises(OptionError, match="compares with the clean run"):
        get_metric("kl")(torch.zeros(1, 4), answers([[0]], [[1]]))
    with pytest.raises(ShapeError, match="differ in shape"):
        get_metric("kl")(torch.zeros(1, 4), answers([[0]], [[1]]), torch.zeros(1, 5))
    with pytest.raises(OptionError, match="did you mean logit-difference"):
        get_metric("logit_difference")
    assert str(unknown("method", "accuracy", ["acdc", "eap"])).endswith("known: acdc, eap")  # nothing is near


USER = '''
"""A user's metrics."""
import torch


def top_logit(logits, answers, clean):
    """The largest logit."""
    return logits.max(-1).values


top_logit.unit, top_logit.direction = "logits", -1


def everything(logits, answers, clean):
    return (logits - clean).abs().sum((1, 2))


everything.reads, everything.needs_clean = "all", True


def average(logits, answers, clean):
    return logits.mean()


def number(logits, answers, clean):
    return 3.0


def whole(logits, answers, clean):
    return logits.argmax(-1)


def sideways(logits, answers, clean):
    return logits[:, 0]


sideways.direction = 0
not_a_function = 3
'''


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(USER)
    return path


def test_a_users_function_is_a_metric(file):
    metric = get_metric(f"{file}:top_logit")
    logits = torch.tensor([[1.0, 4.0], [2.0, 0.0]])
    assert metric(logits, answers([[0]] * 2, [[1]] * 2)).tolist() == [4.0, 2.0]
    assert (metric.unit, metric.direction, metric.reads) == ("logits", -1, "answer")
    assert metric.describe == "The largest logit." and metric.source.startswith("mine.py sha256:")
    assert metric.name.endswith("mine.py:top_logit")
    whole = get_metric(f"{file}:whole")(logits, answers([[0]] * 2, [[1]] * 2))
    assert whole.tolist() == [1.0, 0.0] and whole.is_floating_point()


def test_a_users_function_may_read_all_positions(file):
    metric = get_metric(f"{file}:everything")
    logits, clean = torch.ones(2, 3, 4), torch.zeros(2, 3, 4)
    assert metric(logits, answers([[0]] * 2, [[1]] * 2), clean).tolist() == [12.0, 12.0]
    with pytest.raises(ShapeError, match=r"\(pair, pos, d_vocab\); found \(2, 4\)"):
        metric(torch.ones(2, 4), answers([[0]] * 2, [[1]] * 2), torch.ones(2, 4))


def test_a_users_function_must_not_average(file):
    logits = torch.zeros(2, 4)
    with pytest.raises(ShapeError, match=r"returned shape \(\); expected \(2,\)"):
        get_metric(f"{file}:average")(logits, answers([[0]] * 2, [[1]] * 2))
    with pytest.raises(ShapeError, match=r"returned float; expected a tensor \(2,\)"):
        get_metric(f"{file}:number")(logits, answers([[0]] * 2, [[1]] * 2))


def test_what_is_wrong_with_a_users_metric_is_said(file, tmp_path):
    with pytest.raises(OptionError, match="has no function 'top'; functions there: average, everything"):
        get_metric(f"{file}:top")
    with pytest.raises(OptionError, match="has no function 'not_a_function'"):
        get_metric(f"{file}:not_a_function")
    with pytest.raises(OptionError, match="there is no file"):
        get_metric(f"{tmp_path}/other.py:f")
    with pytest.raises(OptionError, match="is not a file and a function in it"):
        get_metric("mine:f")
    with pytest.raises(OptionError, match="cannot use direction = 0"):
        get_metric(f"{file}:sideways")
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(OptionError, match=r"broken\.py fails: ZeroDivisionError"):
        get_metric(f"{tmp_path}/broken.py:f")


def test_embedding_similarity_is_the_cosine_of_pooled_states_by_hand():
    hidden = torch.tensor([[[1.0, 0.0], [1.0, 2.0]]])  # mean (1, 1)
    clean = torch.tensor([[[2.0, 0.0], [0.0, 0.0]]])  # mean (1, 0)
    value = get_metric("embedding-similarity")(hidden, answers([[0]], [[1]]), clean)
    assert value.item() == pytest.approx(2**-0.5)
