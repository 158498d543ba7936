"""Which tokens' values a head carries, whose they are, and which logits they raise: the OV side of an edge.

What a head writes at ``p`` is ``sum over s of A[p, s] v[s] W_O``, and ``v`` is linear in what was written before it
once the norm's scale is held at its value in the clean run. So what an edge into ``<v>`` does, and what a head adds to
the logits, is a sum over the positions that values are carried from, and over the writers of those values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.circuits.reason import Ranking, Reason
from workbench.core.errors import ModelError, OptionError
from workbench.engine.asked_edge import AskedEdge, place_names
from workbench.engine.gradients import writer_gradients
from workbench.engine.norm_map import NormMap, measure_norm
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.engine.score_terms import OWN, HeadInput, head_input, written_before
from workbench.engine.sides import sides_of
from workbench.model.hooks import TOLERANCE, component, hook_name, output_matrix

MOST_PAIRS, MOST_TOKENS = 5, 3
Pattern = Float[Tensor, "pair query key"]


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadValues:
    """The values of one head on one batch, taken apart.

    Attributes:
        names: Addresses of what was written before the head's layer, the output biases, and its own value bias.
        parts: What each adds to the value at each position, in the clean run.
        change: The same of the clean less the corrupted run, norms frozen at the clean run; nothing of its own bias.
    """

    names: tuple[str, ...]
    value: HeadInput
    x: Float[Tensor, "pair pos d_model"]
    moved: Float[Tensor, "pair pos writer d_model"]
    parts: Float[Tensor, "pair pos term d_head"]
    change: Float[Tensor, "pair pos term d_head"]
    pattern: Pattern
    errors: dict[str, float]

    @classmethod
    def of(cls, runs: PairedRuns, batch: Batch, layer: int, head: int) -> HeadValues:
        """Take them apart.

        Raises:
            ModelError: if what the head gives is not its pattern times its values.
        """
        side = sides_of(runs, runs.wiring.graph())[0]
        x, value = runs.resid(batch, "clean", layer), head_input(runs, batch, side, layer, head, "v")
        written, names, unexplained = written_before(runs, batch, side, layer, "clean")
        other = written_before(runs, batch, side, layer, "corrupted")[0]
        hooks = [hook_name("pattern", layer), hook_name("head-output", layer)]
        seen = runs.activations(batch, "clean", hooks)
        pattern, z = seen[hooks[0]][:, head].double(), seen[hooks[1]][:, :, head].double()
        parts = torch.cat([value.parts(written, x), value.constant(x)], dim=2)
        error = float((torch.einsum("bqk,bkue->bqe", pattern, parts) - z).abs().max() / (1 + z.abs().max()))
        if not error <= TOLERANCE.get(x.dtype, 2e-4):
            raise ModelError(
                f"a{layer}.h{head} does not give its pattern times its values (off by {error:.2g})",
                hint="its edges can be measured: workbench discover --method exact",
            )
        change = value.parts(moved := written - other, x)
        return cls(
            names=(*names, OWN["v"]),
            value=value,
            x=x,
            moved=moved,
            parts=parts,
            change=torch.cat([change, torch.zeros_like(change[:, :, :1])], dim=2),
            pattern=pattern,
            errors={"writers": unexplained, "head output": error},
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearLogits:
    """Logits at the answer as a linear function of what is written there, the last norm's scale frozen.

    Attributes:
        error: Largest difference between these logits of the whole stream and the model's own.
    """

    map: NormMap | None
    inverse: Float[Tensor, "pair 1"]
    matrix: Float[Tensor, "d_model d_vocab"]
    error: float

    @classmethod
    def of(cls, runs: PairedRuns, batch: Batch) -> LinearLogits:
        """Read norm and unembedding off the model, and compare.

        Raises:
            ModelError: if the logits are not the last norm and the unembedding alone.
        """
        norm, unembed = component(runs.model, "ln_final"), component(runs.model, "unembed")
        if unembed is None or runs.metric.reads != "answer":
            raise ModelError(
                "which logits are raised is not known: the metric reads no logits of one position",
                hint="use --metric logit-difference",
            )
        hidden = _leaving(runs, batch)
        function: Any = (lambda t: t) if norm is None else getattr(norm, "original_component", norm)
        normed = function(hidden)
        found = None if torch.equal(normed, hidden) else measure_norm(function, hidden[:1])
        matrix: Tensor = unembed.W_U.detach().double()  # type: ignore[operator, union-attr]
        bias = getattr(unembed, "b_U", None)
        logits = normed.double() @ matrix + (0 if bias is None else bias.double())
        own = runs.clean_output(batch)
        error = float((logits - own).abs().max() / (1 + own.abs().max()))
        if (found is None and not torch.equal(normed, hidden)) or not error <= TOLERANCE.get(own.dtype, 2e-4):
            raise ModelError(
                f"logits are not the last norm and the unembedding alone (off by {error:.2g}), but capped or scaled",
                hint="edges into <q>, <k> and <v> have reasons on this model",
            )
        wide = hidden.double()
        inverse = (
            torch.ones_like(wide[:, :1]) if found is None else found.inverse_scale(wide, normed.double())
        )
        return cls(map=found, inverse=inverse, matrix=matrix, error=error)

    def logits(self, write: Float[Tensor, "pair d_model"]) -> Float[Tensor, "pair d_vocab"]:
        """Return what a part of the stream adds to every logit."""
        if self.map is not None:
            write = self.map.gain.double() * self.map.center(write) * self.inverse
        return write @ self.matrix

    def direction(self, runs: PairedRuns, batch: Batch) -> Float[Tensor, "pair d_model"]:
        """Return the slope of ``direction * metric`` in what is written at the answer."""
        with torch.enable_grad():
            output = runs.clean_output(batch).detach().double().requires_grad_(True)
            value = (runs.metric.direction * runs.measure(batch, output)).sum()
            (slope,) = torch.autograd.grad(value, output)
        back = slope.double() @ self.matrix.T
        return back if self.map is None else self.map.back(back, self.inverse)


def _leaving(runs: PairedRuns, batch: Batch) -> Float[Tensor, "pair d_model"]:
    """The residual stream behind the last layer where the answer is read."""
    name = f"blocks.{runs.wiring.n_layers - 1}.hook_out"
    whole = runs.activations(batch, "clean", [name])[name]
    return whole[torch.arange(len(whole), device=whole.device), batch.answer_pos]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Carried:
    """What was found on one batch."""

    index: np.ndarray
    places: list[list[str]]
    names: tuple[str, ...]
    by_key: Float[Tensor, "pair key"]
    by_query: Float[Tensor, "pair query"] | None
    by_writer: Float[Tensor, "pair term"]
    whole: Float[Tensor, " pair"]
    errors: dict[str, float]
    examples: list[dict[str, Any]]
    copies: list[bool]
    answers: list[bool]
    note: str = ""


def carried_reason(runs: PairedRuns, asked: AskedEdge, *, at: str | int | None = None) -> Reason:
    """Say which tokens' values an edge carries, whose they are, and which logits they raise.

    Raises:
        OptionError: if a position is named, or the metric does not depend on what is carried.
        ModelError: if the head's output is not pattern times values, or logits are not norm and unembedding.
    """
    if at is not None:
        raise OptionError(
            "a value is carried from every position: --at is for edges into q and k", hint="leave it out"
        )
    with torch.no_grad():
        of = _to_logits if asked.read == "logits" else _into_value
        seen = [of(runs, batch, asked) for batch in runs.batches]
    if not max(float(one.by_writer.abs().max()) for one in seen) > 0:
        raise OptionError(
            f"{asked.edge} carries nothing on which {runs.metric.name} depends here",
            hint="take another --corruption, or --metric logit-difference",
        )
    return _reason(runs, asked, seen)


def _into_value(runs: PairedRuns, batch: Batch, asked: AskedEdge) -> _Carried:
    """An edge into ``<v>``: first-order change of the metric when the source's corrupted output becomes clean."""
    made = HeadValues.of(runs, batch, asked.layer, asked.head)
    u = made.names.index(asked.source)
    site = asked.layer, "head-output"
    grad = writer_gradients(runs, batch, [site])[site][:, :, asked.head].double()
    slope = torch.einsum("bqk,bqe->bke", made.pattern, grad)  # at the value of each key
    by_writer = torch.einsum("bkue,bke->bu", made.change, slope)
    by_key = (made.change[:, :, u] * slope).sum(-1)
    by_query = torch.einsum("bqk,bke,bqe->bq", made.pattern, made.change[:, :, u], grad)
    with torch.enable_grad():
        x = made.x.detach().clone().requires_grad_(True)
        (back,) = torch.autograd.grad((made.value.live(x) * slope).sum(), x)
    whole = (back * made.moved[:, :, u]).double().sum((1, 2))
    query, key = by_query.abs().argmax(1), by_key.abs().argmax(1)
    return _carried(
        runs, batch, asked, made, (by_key, by_query, by_writer, whole), made.parts[:, :, u], query, key
    )


def _to_logits(runs: PairedRuns, batch: Batch, asked: AskedEdge) -> _Carried:
    """A head and the logits: what it adds to the metric through the residual stream alone, in the clean run."""
    made, out = HeadValues.of(runs, batch, asked.layer, asked.head), LinearLogits.of(runs, batch)
    matrix = output_matrix(runs.model, asked.layer)[asked.head].double()
    toward = out.direction(runs, batch) @ matrix.T  # (pair, d_head)
    rows = torch.arange(len(batch), device=toward.device)
    weights = made.pattern[rows, batch.answer_pos]
    each = torch.einsum("bk,bkue,be->bku", weights, made.parts, toward)
    numbers = (each.sum(2), None, each.sum(1), each.sum((1, 2)))
    key = each.sum(2).abs().argmax(1)
    return _carried(runs, batch, asked, made, numbers, made.parts.sum(2), batch.answer_pos, key)


def _carried(
    runs: PairedRuns,
    batch: Batch,
    asked: AskedEdge,
    made: HeadValues,
    numbers: tuple[Tensor, Tensor | None, Tensor, Tensor],
    value: Float[Tensor, "pair key d_head"],
    query: Tensor,
    key: Tensor,
) -> _Carried:
    """The numbers of a batch, with the tokens that the value of one key raises and lowers."""
    by_key, by_query, by_writer, whole = numbers
    raised = _Raised(error=None, examples=[], copies=[], answers=[])
    note = ""
    try:
        raised = _raised(runs, batch, asked, made, value, query, key)
    except ModelError as problem:
        if asked.read == "logits":
            raise
        note = f"which logits are raised is not shown: {problem.message}"
    return _Carried(
        index=batch.index,
        places=place_names(runs, batch),
        names=made.names,
        by_key=by_key,
        by_query=by_query,
        by_writer=by_writer,
        whole=whole,
        errors={**made.errors, **({} if raised.error is None else {"logits": raised.error})},
        examples=raised.examples,
        copies=raised.copies,
        answers=raised.answers,
        note=note,
    )


@dataclass(frozen=True, kw_only=True)
class _Raised:
    """Which tokens the value of one key raises, pair by pair.

    Attributes:
        error: Of the linear logits; None where there are none.
        copies: Whether the most raised token is the one that is looked at.
        answers: Whether it is a correct answer.
    """

    error: float | None
    examples: list[dict[str, Any]]
    copies: list[bool]
    answers: list[bool]


def _raised(
    runs: PairedRuns,
    batch: Batch,
    asked: AskedEdge,
    made: HeadValues,
    value: Float[Tensor, "pair key d_head"],
    query: Tensor,
    key: Tensor,
) -> _Raised:
    """The tokens that what the head carries from ``key`` to ``query`` raises and lowers.

    Raises:
        ModelError: where a head does not write to the logits by itself.
    """
    if not runs.wiring.head_writes:
        raise ModelError(
            "a norm follows the sum of the heads, so no head writes to the logits by itself",
            hint="leave out what is raised; the rest of the reason is measured",
        )
    out = LinearLogits.of(runs, batch)
    rows = torch.arange(len(batch), device=key.device)
    matrix = output_matrix(runs.model, asked.layer)[asked.head].double()
    amount = made.pattern[rows, query, key][:, None]
    logits = out.logits(amount * value[rows, key] @ matrix)
    tokens, best = batch.clean[rows, key], logits.argmax(1)
    right = batch.answers.correct == best[:, None]
    places = place_names(runs, batch)

    def example(n: int) -> dict[str, Any]:
        order = logits[n].argsort(descending=True)
        return {
            "pair": int(batch.index[n]),
            "from": f"{_token(runs, tokens[n])} ({places[n][int(key[n])]})",
            "to": places[n][int(query[n])],
            "raises": " ".join(_token(runs, t) for t in order[:MOST_TOKENS]),
            "lowers": " ".join(_token(runs, t) for t in order[-MOST_TOKENS:].flip(0)),
        }

    return _Raised(
        error=out.error,
        examples=[example(n) for n in range(min(MOST_PAIRS, len(batch)))],
        copies=(best == tokens).tolist(),
        answers=(right & batch.answers.correct_mask).any(1).tolist(),
    )


def _token(runs: PairedRuns, token: Tensor) -> str:
    return repr(runs.model.tokenizer.decode([int(token)]))


def _reason(runs: PairedRuns, asked: AskedEdge, seen: list[_Carried]) -> Reason:
    """The batches put together."""
    index, unit = np.concatenate([one.index for one in seen]), runs.metric.unit
    order = np.argsort(index)
    writers = np.concatenate([one.by_writer.cpu().numpy() for one in seen])[order].T
    to_logits = asked.read == "logits"
    total = "what the head adds to the metric directly" if to_logits else "the edge's score, norms frozen"
    whose = "whose values are carried" if to_logits else "whose values are carried: all edges into this value"

    clusters = runs.pairs.pairs.clusters

    def ranking(title: str, sums_to: str, labels: tuple[str, ...], values: np.ndarray) -> Ranking:
        return Ranking(
            title=title, sums_to=sums_to, unit=unit, labels=labels, values=values, clusters=clusters
        )

    rankings = [ranking("from which positions it is carried", total, *_by_place(seen, "by_key", order))]
    if not to_logits:
        rankings.append(ranking("to which positions", total, *_by_place(seen, "by_query", order)))
    of_all = total if to_logits else "the scores of all of them, norms frozen"
    rankings.append(ranking(whose, of_all, seen[0].names, writers))
    return Reason(
        edge=str(asked.edge),
        read=asked.read,
        task=runs.pairs.pairs.task,
        model=str(runs.provenance()["model"]),
        n_pairs=runs.n_pairs,
        places=tuple([row for one in seen for row in one.examples][:MOST_PAIRS]),
        rankings=tuple(rankings),
        facts=_facts(asked, seen, rankings[0], unit),
        errors={name: max(one.errors[name] for one in seen) for name in seen[0].errors},
        notes=tuple(dict.fromkeys(one.note for one in seen if one.note)),
        provenance=runs.provenance(),
    )


def _by_place(seen: list[_Carried], of: str, order: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of positions, and their numbers ``(place, pair)``: 0 where a pair has no such position."""
    labels = list(dict.fromkeys(name for one in seen for row in one.places for name in row))
    at, found = {name: n for n, name in enumerate(labels)}, []
    for one in seen:
        numbers = getattr(one, of).cpu().numpy()
        made = np.zeros((len(numbers), len(labels)))
        for pair, row in enumerate(one.places):
            np.add.at(made[pair], [at[name] for name in row], numbers[pair])
        found.append(made)
    return tuple(labels), np.concatenate(found)[order].T


def _facts(
    asked: AskedEdge, seen: list[_Carried], places: Ranking, unit: str
) -> dict[str, float | str | None]:
    copies, answers = ([x for one in seen for x in getattr(one, name)] for name in ("copies", "answers"))
    found: dict[str, float | str | None] = {}
    if copies:
        found["the logit it raises most is that of the carried token"] = (
            f"{sum(copies)} of {len(copies)} pairs"
        )
        found["the logit it raises most is that of a correct answer"] = (
            f"{sum(answers)} of {len(answers)} pairs"
        )
    if asked.read == "v":
        whole = float(torch.cat([one.whole for one in seen]).mean())
        found[f"edge score, first order ({unit})"] = whole
        found["of it through the value, norms frozen"] = places.total
        found["of it through the norms"] = whole - places.total
    return found
