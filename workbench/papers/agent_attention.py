"""Agent attention: a few agents between queries and keys, more of them come nearer to softmax, at linear cost.

Agents are means of stretches of queries. Queries look at agents, agents look at keys: a generalised linear attention
whose pattern has at most as high a rank as there are agents. Models of one layer are trained side by side on
multi-query recall, from the same start and on the same batches, two trainings each; they see the whole row of 24
tokens. The read-out on heads is of any model: how well pooled queries make up its own patterns.

Controls:
- softmax attention trained alike
- as many agents that are random vectors and stay so
- random agents of the same length, for heads of a model
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.core.errors import OptionError
from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, untried
from workbench.papers.kit.criteria import above, at_most, below, less, no_worse, slopes
from workbench.papers.kit.trained_arms import (
    OfTrainings,
    Trained,
    TrainedSizes,
    add_arms,
    arms_for,
    in_each,
)
from workbench.papers.options import size
from workbench.papers.registry import add_paper

with lazily():
    from workbench.heads import agent_patterns
    from workbench.training.mixers import agents, arm_states
    from workbench.training.mixers.arms import agent_counts

# Criteria, fixed before anything was measured.
WITHIN, ROUNDING, FIRST_SEED = 0.02, 1e-4, 29_000_000
SOFTMAX, HALF, FEW = "softmax", 12, 4


@dataclass(frozen=True, kw_only=True)
class AgentSizes(TrainedSizes):
    """How much is asked, and with how many agents."""

    texts: int = size(12, "random texts on which heads of the model are read")
    tokens: int = size(48, "of each text")
    readout: tuple[int, ...] = size((1, 2, 4, 8, 16), "agents with which heads of the model are made up")
    lengths: tuple[int, ...] = size(
        (256, 512, 1024, 2048), "tokens for which time is measured, with 16 agents"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.texts < 2 or len(self.lengths) < 2:
            raise OptionError(
                f"texts is {self.texts}, lengths {list(self.lengths)}; at least two texts and two lengths are needed",
                hint="--set texts=2 --set lengths=64,128",
            )


def measure(setting: Setting) -> Conditions:
    """Judge trained arms, compare agents with their pattern, measure time, read heads of the model."""
    o: AgentSizes = setting.options
    c = Conditions(unit="share of right answers", within=SHARE, seed=setting.seed)
    found, rows = arms_for(setting, "agents", first_seed=FIRST_SEED)
    add_arms(c, found, rows)
    _by_count(c, rows)
    _identity(c, found, rows)
    _time(c, o.lengths)
    _heads(c, setting, o)
    return c


def _by_count(c: Conditions, rows) -> None:
    """Right answers of all numbers of agents as one condition, beside how often they were doubled."""
    counts, asked = agent_counts.COUNTS, np.nonzero(rows.target >= 0)[0].tolist()
    right = np.concatenate([c[f"{n} agents"] for n in counts])
    doubled = np.repeat(np.log2(counts), len(asked))
    c.add("right answers", right, within=SHARE, unit="share", clusters=asked * len(counts))
    c.add("doublings of agents", doubled, unit="doublings", clusters=asked * len(counts))


def _identity(c: Conditions, found, rows) -> None:
    """What agents hand on without a pattern beside what their pattern gives, and the rank of patterns."""
    import torch

    ids, arm = torch.from_numpy(rows.inputs).long(), f"{FEW} agents"
    trainings = list(found.models.values())
    apart = np.mean([arm_states.agents_apart(models[arm], ids, FEW) for models in trainings], axis=0)
    ranks = {
        name: [arm_states.pattern_ranks(models[name], ids) for models in trainings] for name in (arm, SOFTMAX)
    }
    c.add("difference from the pattern", apart, unit="share of the largest output")
    c.add(f"rank with {FEW} agents", np.max(ranks[arm], axis=0), unit="rank")
    c.add("rank of softmax", np.mean(ranks[SOFTMAX], axis=0), unit="rank")


def _time(c: Conditions, lengths: tuple[int, ...]) -> None:
    """Processor time and multiply-adds by length, and the power of the length with which they grow."""
    rows = agents.costs_by_length(lengths)
    c.tables["Cost by length, one head of 32 and 16 agents"] = rows
    for what in ("agents", "softmax"):
        for unit in ("seconds", "multiply-adds"):
            c.numbers[f"power of {what}, {unit}"] = agents.power_of_length(rows, f"{what}, {unit}")


def _heads(c: Conditions, setting: Setting, o: AgentSizes) -> None:
    """How much of the patterns of the model's heads pooled queries and random agents miss."""
    read = agent_patterns.head_agents(
        setting.model, texts=o.texts, tokens=o.tokens, counts=o.readout, seed=FIRST_SEED + setting.seed
    )
    if read.why:
        for name in ("missed by pooled queries", "missed by random agents"):
            c.lack(name, read.why)
        return
    clusters = [head for head in read.heads for _ in range(o.texts)]
    for name, missed in (("pooled queries", read.pooled), ("random agents", read.random)):
        c.add(
            f"missed by {name}", missed.mean(0).ravel(), unit="share of the pattern's norm", clusters=clusters
        )
    c.tables["What agents miss of patterns, mean over heads and texts"] = [
        {
            "agents": n,
            "pooled queries": float(read.pooled[i].mean()),
            "random agents": float(read.random[i].mean()),
            "best of that rank": float(read.best[i].mean()),
        }
        for i, n in enumerate(o.readout)
    ]


CLAIMS = {
    "identity": OfTrainings(
        "agent attention is a generalised linear attention",
        at_most("difference from the pattern", ROUNDING),
        why="features softmax(qP') and softmax(Pk') and a state of as many vectors as agents give the same numbers",
        where="a generalised linear attention",
    ),
    "rank": OfTrainings(
        "the pattern of agent attention has at most the rank of the number of agents, softmax has more",
        at_most(f"rank with {FEW} agents", FEW) & above("rank of softmax", by=FEW),
        why="softmax trained alike is the control: a rank that every pattern has would say nothing",
        where="a generalised linear attention",
    ),
    "grows": Trained(
        "with more agents recall comes nearer to softmax",
        slopes("right answers", "doublings of agents"),
        why="the slope over 1 to 24 agents; rows are drawn together",
        where="an extension of ours",
    ),
    "as good": Trained(
        f"{HALF} agents, half as many as tokens, are as good as softmax",
        in_each(no_worse, f"{HALF} agents", SOFTMAX, within=WITHIN),
        why="in each of two trainings",
        where="an extension of ours",
    ),
    "pooled": Trained(
        "agents pooled from queries recall more than as many random ones",
        in_each(above, f"{FEW} agents", f"{FEW} random agents"),
        why="the same rank and cost, the same start: only where agents come from differs",
        where="a control of ours",
    ),
    "cost": Claim(
        "the cost grows linearly with the number of tokens",
        at_most("power of agents, multiply-adds", 1.01)
        & less("power of agents, seconds", "power of softmax, seconds"),
        why="multiply-adds are counted; the processor's time, the least of seven tries, has to follow",
        where="linear complexity",
        models=None,
    ),
    "heads": Claim(
        "pooled queries make up the patterns of a model's heads better than random agents do",
        below("missed by pooled queries", "missed by random agents"),
        why="random agents have the lengths of the pooled ones; heads are drawn together with their texts",
        where="an extension of ours",
    ),
    "vision": untried(
        "agent attention improves classification, detection and generation of pictures",
        "accuracy on the benchmarks of the paper",
        "ImageNet, COCO and diffusion models of that size cannot be had here",
    ),
}  # fmt: skip
REPLICATION = add_paper(
    Paper(
        name="agent-attention",
        source="Han et al. 2023",
        model="zoo:induction",
        options=AgentSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
