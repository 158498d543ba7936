"""A codebook as a bottleneck: what is seen is said as a mix of a few learned codes, chosen with the task in mind.

``weights = softmax(W e)``, ``said = weights C``: ``e`` is what was seen, fused with the task; ``C`` has a row per code.

Source:
    Selective Visual Representations Improve Convergence and Generalization for Embodied AI, 2023 (a summary was read).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from workbench.core.errors import OptionError, unknown
from workbench.heads.attentive_probe import MeanProbe, ProbeTraining, fit_probe, patch_features, standardised
from workbench.heads.drawn_pictures import draw_pictures
from workbench.tasks.scenes.layout import SceneLayout, World
from workbench.tasks.scenes.words import COLOURS, N_CELLS
from workbench.training.side_by_side import begin_alike, step_alike

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

WIDTH, SAID, HEADS = 64, 16, 4
Way = Literal["codes", "no bottleneck", "codes without the task"]


class Codebook(nn.Module):
    """Says a vector as a convex mix of codes.

    Args:
        width: Of the vector.
        codes: How many codes there are; with one nothing passes.
        said: Width of a code.

    Example:
        >>> book = Codebook(8, codes=1, said=4)
        >>> bool((book(torch.randn(3, 8)) == book(torch.zeros(3, 8))).all())
        True
    """

    def __init__(self, width: int, *, codes: int, said: int) -> None:
        super().__init__()
        if codes < 1 or said < 1:
            raise OptionError(
                f"{codes} codes of {said} numbers say nothing", hint="Codebook(64, codes=64, said=16)"
            )
        self.choose = nn.Linear(width, codes)
        self.codes = nn.Parameter(torch.randn(codes, said))

    def weights(self, seen: Float[Tensor, "item width"]) -> Float[Tensor, "item code"]:
        """Return the share of each code; shares sum to 1."""
        return self.choose(seen).softmax(-1)

    def forward(self, seen: Float[Tensor, "item width"]) -> Float[Tensor, "item said"]:
        """Return the mix of codes."""
        return self.weights(seen) @ self.codes


def usage_entropy(weights: Float[Tensor, "item code"]) -> float:
    """Return the entropy of the mean use of codes, in nats: 0 where one code says everything, log K where all do.

    Example:
        >>> round(usage_entropy(torch.eye(4)), 4)  # four codes, each for one item
        1.3863
    """
    return float(torch.special.entr(weights.mean(0)).sum())


class Seeker(nn.Module):
    """Says in which cell the thing of the asked color stands, from frozen patches through a bottleneck or none.

    Args:
        width: Of the features of a patch.
        patches: How many there are.
        way: With or without codes; codes without the task are chosen before the task is known.
    """

    def __init__(self, width: int, patches: int, way: Way, *, codes: int) -> None:
        super().__init__()
        if way not in get_args(Way):
            raise unknown("bottleneck", way, get_args(Way), error=OptionError)
        self.blind = way == "codes without the task"
        self.place = nn.Parameter(0.5 * torch.randn(patches, 16))
        self.read = nn.Sequential(nn.Linear(width + 16, WIDTH), nn.GELU())
        self.gate = nn.Parameter(torch.randn(len(COLOURS), WIDTH))
        self.look, self.value = nn.Linear(WIDTH, HEADS), nn.Linear(WIDTH, WIDTH)
        self.narrow = (
            nn.Linear(WIDTH, SAID) if way == "no bottleneck" else Codebook(WIDTH, codes=codes, said=SAID)
        )
        self.answer = nn.Sequential(
            nn.Linear(SAID + len(COLOURS), WIDTH), nn.GELU(), nn.Linear(WIDTH, N_CELLS)
        )

    def seen(
        self, features: Float[Tensor, "item patch d"], task: Float[Tensor, "item colour"]
    ) -> Float[Tensor, "item width"]:
        """Return what is seen, fused with the task, before the bottleneck."""
        told = torch.zeros_like(task) if self.blind else task
        whole = torch.cat([features, self.place.expand(len(features), -1, -1)], -1)
        read = self.read(whole) * (1 + told @ self.gate)[:, None]
        looked = torch.einsum("iph,ipv->ihv", self.look(read).softmax(1), self.value(read))
        return looked.unflatten(2, (HEADS, -1)).diagonal(dim1=1, dim2=2).transpose(1, 2).flatten(1)

    def said(
        self, features: Float[Tensor, "item patch d"], task: Float[Tensor, "item colour"]
    ) -> Float[Tensor, "item said"]:
        """Return what passes the bottleneck."""
        return self.narrow(self.seen(features, task))

    def forward(
        self, features: Float[Tensor, "item patch d"], task: Float[Tensor, "item colour"]
    ) -> Float[Tensor, "item cell"]:
        """Return the scores of the cells."""
        return self.answer(torch.cat([self.said(features, task), task], -1))


@dataclass(frozen=True, eq=False)
class SoughtThings:
    """Pictures in which one thing has the asked color.

    Attributes:
        features: Of patches.
        task: The asked color, one hot.
        cell: Of the thing of that color.
        other_cell: Of another thing, the second that was drawn.
    """

    features: Float[Tensor, "item patch d"]
    task: Float[Tensor, "item colour"]
    cell: Int[Tensor, " item"]
    other_cell: Int[Tensor, " item"]


def single_colours(layout: SceneLayout) -> tuple[SceneLayout, Bool[np.ndarray, " picture"]]:
    """Say in which pictures the first object's color is its own alone."""
    there = np.arange(N_CELLS)[None] < layout.n[:, None]
    return layout, ((layout.colour == layout.colour[:, :1]) & there).sum(-1) == 1


def draw_sought(
    model: TransformerBridge, world: World, *, n: int, seed: int, layer: int, like: Tensor | None = None
) -> tuple[SoughtThings, Tensor]:
    """Draw pictures and ask for the cell of the first thing, by its color; pictures where others share it are left out.

    Args:
        n: How many are drawn.
        layer: After which patches are read.
        like: Features whose mean and spread count; by default their own.

    Returns:
        The pictures, and their features as the model gave them.
    """
    shown = draw_pictures(model, world, n=n, seed=seed, change=single_colours)
    raw = patch_features(model, shown, layer)
    colour, cell = (
        torch.as_tensor(each.astype(int), device=raw.device)
        for each in (shown.layout.colour, shown.layout.cell)
    )
    task = one_hot(colour[:, 0], len(COLOURS)).to(raw)
    return SoughtThings(standardised(raw, raw if like is None else like), task, cell[:, 0], cell[:, 1]), raw


def seek_loss(arm: Seeker, sought: SoughtThings, items: Int[Tensor, " item"]) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of the cells, in nats."""
    return cross_entropy(arm(sought.features[items], sought.task[items]), sought.cell[items])


def train_seekers(
    seen: SoughtThings, ways: Sequence[str], *, codes: int, steps: int, seed: int, halfway: SoughtThings
) -> tuple[dict[str, Seeker], dict[str, Float[np.ndarray, " item"]]]:
    """Train a seeker of each way, side by side from the same start on the same pictures.

    Args:
        ways: As of `Seeker`.
        codes: Of each codebook.
        halfway: Pictures on which each is asked after half of the steps.

    Returns:
        The seekers, in evaluation mode; and 1 where each was right halfway, else 0.

    Raises:
        OptionError: for an unknown way.

    Source:
        Selective Visual Representations, 2023 (a summary was read): codes are said to make training shorter.

    Example:
        >>> task, cell = torch.eye(len(COLOURS))[[0, 1]], torch.tensor([0, 4])
        >>> sought = SoughtThings(torch.randn(2, 36, 8), task, cell, cell + 1)
        >>> arms, half = train_seekers(sought, ["codes"], codes=4, steps=2, seed=0, halfway=sought)
        >>> list(arms), half["codes"].shape
        (['codes'], (2,))
    """
    patches, width = seen.features.shape[1:]
    make = {way: (lambda way=way: Seeker(width, patches, way, codes=codes)) for way in ways}
    arms, right = begin_alike(make, seed=seed), {}

    def watch(step: int) -> None:
        if step == steps // 2:
            right.update({way: found_right(arm, halfway) for way, arm in arms.items()})

    def loss(way: str, arm: Seeker, items: Int[Tensor, " item"]) -> Float[Tensor, ""]:
        return seek_loss(arm, seen, items)

    step_alike(arms, loss, items=len(seen.cell), steps=steps, seed=seed, watch=watch)
    return arms, right


@torch.no_grad()
def found_right(arm: Seeker, sought: SoughtThings, task: Tensor | None = None) -> Float[np.ndarray, " item"]:
    """Return 1 where the cell is right, else 0; ``task`` asks for other colors."""
    asked = sought.task if task is None else task
    return (arm(sought.features, asked).argmax(-1) == sought.cell).double().cpu().numpy()


def probe_said(
    said: tuple[Float[Tensor, "item said"], Float[Tensor, "other said"]],
    label: tuple[Int[Tensor, " item"], Int[Tensor, " other"]],
    *,
    seed: int,
) -> Float[np.ndarray, " other"]:
    """Return 1 where a linear probe of the first vectors reads the label off the others, else 0."""
    own, other = (each[:, None] for each in said)
    made = fit_probe(
        lambda: MeanProbe(own.shape[-1], N_CELLS),
        standardised(own, own),
        label[0],
        training=ProbeTraining(steps=200, lr=2e-2),
        seed=seed,
    )
    return (made(standardised(other, own)).argmax(-1) == label[1]).double().cpu().numpy()


def said_by(arms: Mapping[str, Seeker], sought: SoughtThings) -> dict[str, Float[Tensor, "item said"]]:
    """Return what passes the bottleneck of every arm."""
    with torch.no_grad():
        return {name: arm.said(sought.features, sought.task) for name, arm in arms.items()}


class ProbedSeekers(NamedTuple):
    """What linear probes read off what passes each bottleneck: 1 where a probe is right, else 0.

    Attributes:
        asked: The cell of the asked thing, by way.
        other: The cell of the other thing, by way.
        dealt: The asked cell, by a probe that was trained on the cells of other pictures.
    """

    asked: dict[str, Float[np.ndarray, " item"]]
    other: dict[str, Float[np.ndarray, " item"]]
    dealt: Float[np.ndarray, " item"]


def probe_seekers(
    arms: Mapping[str, Seeker], seen: SoughtThings, judged: SoughtThings, *, dealt: str, seed: int
) -> ProbedSeekers:
    """Probe what passes the bottleneck of each seeker for the cell of the asked thing and for that of another.

    Args:
        seen: Pictures that probes are trained on.
        judged: Those that they read.
        dealt: The seeker that is also probed after cells were dealt to other pictures.

    Example:
        >>> task, cell = torch.eye(len(COLOURS))[[0, 1]], torch.tensor([0, 4])
        >>> sought = SoughtThings(torch.randn(2, 36, 8), task, cell, cell + 1)
        >>> probed = probe_seekers({"own": Seeker(8, 36, "codes", codes=4)}, sought, sought, dealt="own", seed=0)
        >>> probed.asked["own"].shape, probed.dealt.shape
        ((2,), (2,))
    """
    before, after = said_by(arms, seen), said_by(arms, judged)

    def read(name: str, cell: Int[Tensor, " item"], of: Int[Tensor, " item"]) -> Float[np.ndarray, " item"]:
        return probe_said((before[name], after[name]), (cell, of), seed=seed)

    order = np.random.default_rng([47, seed]).permutation(len(seen.cell))
    return ProbedSeekers(
        asked={name: read(name, seen.cell, judged.cell) for name in arms},
        other={name: read(name, seen.other_cell, judged.other_cell) for name in arms},
        dealt=read(dealt, seen.cell[order], judged.cell),
    )


@torch.no_grad()
def use_of_codes(arm: Seeker, sought: SoughtThings) -> float:
    """Return the entropy of how an arm uses its codes, in nats.

    Raises:
        OptionError: for an arm without codes.
    """
    if not isinstance(arm.narrow, Codebook):
        raise OptionError("this seeker has no codes", hint="Seeker(width, patches, 'codes', codes=64)")
    return usage_entropy(arm.narrow.weights(arm.seen(sought.features, sought.task)))
