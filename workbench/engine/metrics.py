"""Metrics: one number per pair from logits, each with its unit and the direction that means more behavior."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.core.bounds import read_bytes
from workbench.core.errors import OptionError, ShapeError, TaskError
from workbench.core.source_digest import function_digest, sources_of_plugin
from workbench.engine.answers import Answers
from workbench.engine.metric_names import EXAMPLE, METRICS, file_and_function, named_in_a_file
from workbench.engine.user_function import MetricFunction, attributes_of, checked
from workbench.tasks.two_answers import WholeAnswers

Logits = Float[Tensor, "pair *pos d_vocab"]
Values = Float[Tensor, "pair"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number per pair.

    Args:
        unit: What the number is measured in.
        direction: +1 when higher means more of the behavior, -1 when lower does.
        reads: ``answer``: logits (pair, d_vocab) at the answer position; ``all``: (pair, pos, d_vocab).
        needs_clean: Whether ``fn`` needs the clean run's logits, in the same shape.
        fn: ``(logits, answers, clean) -> (pair,)``; never averages.
        differentiable: Whether gradients of it mean anything.
        reads_answers_only: Whether the logits of all other tokens leave it as it is, so that they need not be there.
        whole_answers: Whether it reads an answer token by token: answers may then be several tokens long. ``"both"``:
            the incorrect answer too; each pair is then two rows, whose values are twice what each answer adds.
        describe: The definition in one line.
        source: For a user's function: its file and the start of the file's SHA-256.
    """

    name: str
    unit: str
    direction: Literal[1, -1]
    reads: Literal["answer", "all"] = "answer"
    needs_clean: bool = False
    fn: MetricFunction = field(repr=False)
    differentiable: bool = True
    reads_answers_only: bool = False
    whole_answers: WholeAnswers = False
    describe: str = ""
    source: str = ""

    def __call__(self, logits: Tensor, answers: Answers, clean: Tensor | None = None) -> Tensor:
        """Values of the metric, checked.

        Raises:
            ShapeError: if the pairs do not line up, or the function returns anything but one value per pair.
            OptionError: if the clean run is needed and missing.
        """
        axes = 2 if self.reads == "answer" else 3
        if logits.dim() != axes:
            shape = "(pair, d_vocab)" if axes == 2 else "(pair, pos, d_vocab)"
            raise ShapeError(
                f"metric {self.name} reads logits {shape}; found {tuple(logits.shape)}",
                hint="give the logits of the whole run, as the model returns them",
            )
        if len(answers) != len(logits):
            raise ShapeError(
                f"metric {self.name}: logits of {len(logits)} pairs, answers of {len(answers)}",
                hint="give one answer for each row of logits",
            )
        if self.needs_clean and clean is None:
            raise OptionError(
                f"metric {self.name} compares with the clean run; expected its logits as the third argument",
                hint=f"{self.name}(logits, answers, clean_logits)",
            )
        if self.needs_clean and clean is not None and clean.shape != logits.shape:
            found = f"{tuple(logits.shape)} and {tuple(clean.shape)}"
            raise ShapeError(
                f"metric {self.name}: logits and clean logits differ in shape: {found}",
                hint="give the clean logits of the same pairs",
            )
        return self.fn(logits, answers, clean)

    def to_dict(self) -> dict[str, object]:
        """Say what a result records about its metric."""
        names = ("name", "unit", "direction", "reads", "needs_clean", "differentiable", "describe", "source")
        return {name: getattr(self, name) for name in names}


def logit_difference(
    logits: Float[Tensor, "pair d_vocab"], answers: Answers, clean: Tensor | None = None
) -> Float[Tensor, " pair"]:
    """Mean logit of the correct answers minus mean logit of the incorrect ones, in logits.

    Raises:
        TaskError: if a pair has no incorrect answer.
    """
    _require_incorrect(answers, "logit-difference")
    correct = _mean_logit(logits, answers.correct, answers.correct_mask)
    return correct - _mean_logit(logits, answers.incorrect, answers.incorrect_mask)


def correct_logit(
    logits: Float[Tensor, "pair d_vocab"], answers: Answers, clean: Tensor | None = None
) -> Float[Tensor, " pair"]:
    """Mean logit of the correct answers; of a picture beside captions how alike it is to its own caption."""
    return _mean_logit(logits, answers.correct, answers.correct_mask)


def logit_margin(
    logits: Float[Tensor, "pair d_vocab"], answers: Answers, clean: Tensor | None = None
) -> Float[Tensor, " pair"]:
    """Logit of the best correct answer minus logit of the best incorrect one, in logits.

    Raises:
        TaskError: if a pair has no incorrect answer.
    """
    _require_incorrect(answers, "logit-margin")
    best = _best(logits, answers.correct, answers.correct_mask)
    return best - _best(logits, answers.incorrect, answers.incorrect_mask)


def _require_incorrect(answers: Answers, metric: str) -> None:
    bare = int((~answers.incorrect_mask.any(1)).sum()) if len(answers) else 0
    if bare:
        message = f"{bare} of {len(answers)} pairs have no incorrect answer; {metric} needs one"
        raise TaskError(
            message, hint="add incorrect answers to the pairs, or use --metric correct-logit or nll"
        )


def prob_difference(
    logits: Float[Tensor, "pair d_vocab"], answers: Answers, clean: Tensor | None = None
) -> Float[Tensor, " pair"]:
    """Summed probability of the correct answers minus that of the incorrect ones (none count 0).

    Source:
        Hanna, Liu and Variengien 2023, arXiv:2305.00586.
    """
    probs = logits.softmax(-1)
    correct = (probs.gather(1, answers.correct) * answers.correct_mask).sum(1)
    return correct - (probs.gather(1, answers.incorrect) * answers.incorrect_mask).sum(1)


def kl(
    logits: Float[Tensor, "pair d_vocab"], answers: Answers, clean: Float[Tensor, "pair d_vocab"]
) -> Float[Tensor, " pair"]:
    """KL(clean run || this run) over the whole vocabulary, in nats; 0 means the same prediction.

    ``sum_v p_clean(v) (log p_clean(v) - log p(v))``; gradients flow into this run only.
    """
    reference = clean.detach().log_softmax(-1)
    terms = reference.exp() * (reference - logits.log_softmax(-1))
    return terms.masked_fill(reference == -torch.inf, 0).sum(-1)  # 0 log 0 = 0


def nll(
    logits: Float[Tensor, "pair d_vocab"], answers: Answers, clean: Tensor | None = None
) -> Float[Tensor, " pair"]:
    """Minus the log of the summed probability of the correct answers, in nats."""
    logprobs = logits.log_softmax(-1).gather(1, answers.correct)
    return -logprobs.masked_fill(~answers.correct_mask, -torch.inf).logsumexp(1)


def answer_logprob(
    logits: Float[Tensor, "pair pos d_vocab"], answers: Answers, clean: Tensor | None = None
) -> Float[Tensor, " pair"]:
    """Log-probability of the whole correct answer, summed over its tokens, in nats; 0 is certainty.

    ``sum_i log p(a_i | prompt, a_1 .. a_(i-1))``: the prompt is followed by all tokens of the answer but the last.

    Raises:
        OptionError: if the answers were not read as whole answers.
    """
    picked, tokens = _spelled(logits, answers)
    found = picked.log_softmax(-1).gather(2, tokens[..., None]).squeeze(2)  # (pair, k)
    return found.masked_fill(~answers.correct_mask, 0).sum(1)


def logprob_difference(
    logits: Float[Tensor, "pair pos d_vocab"], answers: Answers, clean: Tensor | None = None
) -> Float[Tensor, " pair"]:
    """Summed log-probability of the whole correct answer minus that of the incorrect one, in nats, as two rows a pair.

    A row is followed by one of the two answers: its value is twice that answer's log-probability, with a minus for the
    incorrect one. So the mean over rows is the mean difference over pairs; the two rows count as one draw.

    Raises:
        OptionError: if the answers were not read as two whole answers.
    """
    if answers.read_at is None or not (answers.correct_mask.any(1) | answers.incorrect_mask.any(1)).all():
        raise _not_spelled("answer-logprob-difference")
    signs = ((2, answers.correct, answers.correct_mask), (-2, answers.incorrect, answers.incorrect_mask))
    return sum(
        (sign * _logprob(logits, answers.read_at, *side) for sign, *side in signs), logits.new_zeros(())
    )


def _logprob(logits: Tensor, read_at: Tensor, tokens: Tensor, mask: Tensor) -> Float[Tensor, " pair"]:
    """The log-probability of one answer of each row; 0 where the row has none of this side."""
    rows = torch.arange(len(logits), device=logits.device)[:, None]
    picked = logits[rows, read_at[:, : tokens.shape[1]]].log_softmax(-1)
    return picked.gather(2, tokens[..., None]).squeeze(2).masked_fill(~mask, 0).sum(1)


def spelled_rightly(logits: Float[Tensor, "pair pos d_vocab"], answers: Answers) -> Float[Tensor, " pair"]:
    """Return 1 where every token of the whole answer has the highest logit in its turn, as greedy decoding picks it.

    A row that is followed by an incorrect answer is right where greedy decoding does not give that answer.
    """
    if answers.read_at is None:
        raise _not_spelled("answer-logprob")
    rows = torch.arange(len(logits), device=logits.device)[:, None]
    best = logits[rows, answers.read_at].argmax(-1)
    right, wrong = (
        ((best[:, : tokens.shape[1]] == tokens) | ~mask).all(1)
        for tokens, mask in (
            (answers.correct, answers.correct_mask),
            (answers.incorrect, answers.incorrect_mask),
        )
    )
    found = torch.where(answers.correct_mask.any(1), right, ~wrong)
    return _where_finite(logits[rows, answers.read_at].flatten(1), found.to(logits.dtype))


def _not_spelled(metric: str) -> OptionError:
    return OptionError(
        f"the answers were read as one token each; {metric} reads them token by token",
        hint=f'give pairs as text: paired_runs(model, pairs, metric="{metric}")',
    )


def _spelled(
    logits: Float[Tensor, "pair pos d_vocab"], answers: Answers
) -> tuple[Float[Tensor, "pair k d_vocab"], Int[Tensor, "pair k"]]:
    """The logits that predict the tokens of each answer, and these tokens."""
    if answers.read_at is None:
        raise _not_spelled("answer-logprob")
    rows = torch.arange(len(logits), device=logits.device)[:, None]
    return logits[rows, answers.read_at], answers.correct


def accuracy(
    logits: Float[Tensor, "pair d_vocab"], answers: Answers, clean: Tensor | None = None
) -> Float[Tensor, " pair"]:
    """Return 1 where the best correct answer has a higher logit than every incorrect one, else 0; ties count 0.

    A pair without incorrect answers is judged against the rest of the vocabulary.
    """
    best = _best(logits, answers.correct, answers.correct_mask)
    against = _best(logits, answers.incorrect, answers.incorrect_mask)
    bare = ~answers.incorrect_mask.any(1)
    against = torch.where(bare, _others(logits, answers).amax(-1), against)
    return _where_finite(logits, (best > against).to(logits.dtype))


def rank(
    logits: Float[Tensor, "pair d_vocab"], answers: Answers, clean: Tensor | None = None
) -> Float[Tensor, " pair"]:
    """Compute how many other tokens have at least the logit of the best correct answer; 0 is the top."""
    best = _best(logits, answers.correct, answers.correct_mask)
    return _where_finite(logits, (_others(logits, answers) >= best[:, None]).sum(-1).to(logits.dtype))


def embedding_similarity(
    hidden: Float[Tensor, "pair pos d_model"], answers: Answers, clean: Float[Tensor, "pair pos d_model"]
) -> Float[Tensor, " pair"]:
    """Cosine between the mean-pooled hidden states of this run and of the clean run; 1 is the same embedding.

    For encoders without a language-model head. Pooled over all positions, special tokens included.
    """
    return torch.cosine_similarity(hidden.mean(1), clean.detach().mean(1), dim=-1)


def _mean_logit(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    return (logits.gather(1, ids) * mask).sum(1) / mask.sum(1)


def _best(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    if ids.shape[1] == 0:
        return logits.new_full((len(logits),), -torch.inf)
    return logits.gather(1, ids).masked_fill(~mask, -torch.inf).amax(1)


def _others(logits: Tensor, answers: Answers) -> Tensor:
    """Logits with the correct answers put out of the running."""
    hit = torch.zeros(logits.shape, dtype=torch.int32, device=logits.device)
    hit.scatter_add_(1, answers.correct, answers.correct_mask.to(torch.int32))
    return logits.masked_fill(hit > 0, -torch.inf)


def _where_finite(logits: Tensor, values: Tensor) -> Tensor:
    """NaN where the logits hold a NaN: a broken run must not look like a wrong answer."""
    return values.masked_fill(logits.isnan().any(-1), torch.nan)


def _metric(
    name: str, unit: str, direction: Literal[1, -1], fn: Callable[..., Tensor], **more: Any
) -> Metric:
    describe = (inspect.getdoc(fn) or "").partition("\n")[0]
    return Metric(name=name, unit=unit, direction=direction, fn=fn, describe=describe, **more)


MOST_SOURCE = 10_000_000  # bytes of a file with a user's metric

for _made in (
    _metric("logit-difference", "logits", 1, logit_difference, reads_answers_only=True),
    _metric("correct-logit", "logits", 1, correct_logit, reads_answers_only=True),
    _metric("logit-margin", "logits", 1, logit_margin, reads_answers_only=True),
    _metric("prob-difference", "probability", 1, prob_difference),
    _metric("kl", "nats", -1, kl, needs_clean=True),
    _metric("nll", "nats", -1, nll),
    _metric("answer-logprob", "nats", 1, answer_logprob, reads="all", whole_answers=True),
    _metric("answer-logprob-difference", "nats", 1, logprob_difference, reads="all", whole_answers="both"),
    _metric("accuracy", "fraction", 1, accuracy, differentiable=False),
    _metric("rank", "rank", -1, rank, differentiable=False),
    _metric("embedding-similarity", "cosine", 1, embedding_similarity, needs_clean=True, reads="all"),
):
    METRICS.add(_made.name, _made, home=__name__)


def list_metrics() -> tuple[Metric, ...]:
    """Return every metric, those of plug-ins last."""
    return tuple(get_metric(name) for name, _ in METRICS.items())


def get_metric(name: str | Metric | Callable[..., Tensor]) -> Metric:
    """Find a metric by name, or make one of a user's function: itself, or ``file.py:function``.

    The function takes ``(logits, answers, clean)`` or ``(logits, answers)`` and returns one value per pair; it may
    carry the attributes ``unit``, ``direction``, ``reads``, ``needs_clean`` and ``differentiable``.
    A file that is named is run.

    Returns:
        A metric that gives one value per pair, with its unit and its direction (1: larger is more of the behavior).

    Raises:
        OptionError: for a name that is not known, another type, or a file or function that cannot be used.

    Example:
        >>> get_metric(lambda logits, answers: logits.max(-1).values).unit
        'unknown unit'
    """
    if isinstance(name, Metric):
        return name
    if not isinstance(name, str):
        return _metric_of(name)
    if ":" in name:
        return _user_metric(name)
    found = METRICS.get(name)
    return found if isinstance(found, Metric) else _registered(name, found)


def metric_from_file(name: str) -> Metric:
    """Return a metric that a file of pairs or circuits names. No function of a file: opening data never runs code.

    Raises:
        OptionError: if the file names a function, which only the user may choose.
    """
    return get_metric(named_in_a_file(name))


def _user_metric(address: str) -> Metric:
    path, function = file_and_function(address)
    source = read_bytes(path, most_bytes=MOST_SOURCE, error=OptionError)
    digest = hashlib.sha256(source).hexdigest()[:16]
    spec = importlib.util.spec_from_file_location(f"workbench_user_metric_{digest}", path)
    if spec is None or spec.loader is None:
        raise OptionError(f"metric file {path} cannot be read as Python", hint=EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as problem:
        raise OptionError(
            f"metric file {path} fails: {type(problem).__name__}: {problem}",
            hint=f"python {path} shows where it fails",
        ) from problem
    fn = getattr(module, function, None)
    if not callable(fn):
        known = sorted(n for n, value in vars(module).items() if inspect.isfunction(value) and n[0] != "_")
        found = ", ".join(known) or "none"
        raise OptionError(f"{path} has no function {function!r}; functions there: {found}", hint=EXAMPLE)
    return Metric(
        name=address,
        fn=checked(fn, address),
        describe=(inspect.getdoc(fn) or "a user's function").splitlines()[0],
        source=f"{path.name} sha256:{digest}",
        **attributes_of(fn, address),
    )


def _registered(name: str, function: Callable[..., object]) -> Metric:
    """A function that a plug-in, or a notebook, has registered."""
    source = "".join(sources_of_plugin(function.__module__, function).values())
    return Metric(
        name=name,
        fn=checked(function, name),
        describe=(inspect.getdoc(function) or "a function of a plug-in").splitlines()[0],
        source=f"{function.__module__} {source}",
        **attributes_of(function, name),
    )


def _metric_of(function: object) -> Metric:
    """A function of the user's as a metric."""
    if not callable(function):
        raise OptionError(
            f"a metric is of type {type(function).__name__}",
            hint='give a name ("logit-difference"), or a function of logits and answers',
        )
    name = getattr(function, "__name__", type(function).__name__)
    return Metric(
        name=name,
        fn=checked(function, name),
        describe=(inspect.getdoc(function) or "a function of the user's").splitlines()[0],
        source=f"a function in memory, sha256:{function_digest(function)}",
        **attributes_of(function, name),
    )
