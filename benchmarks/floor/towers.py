"""How little an exact ablation of all heads of a tower can be: multiply-adds of its matrix products, counted.

A head's ablation changes what its layer writes behind attention, then the layers after it; the last layer is needed
where it is read alone, and what is behind a tower (a language model) comes once for each head. Both runs come once.
Embeddings, projectors, pools and heads that answer are left out: ours has to pay for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.model.wiring import Wiring


@dataclass(frozen=True, kw_only=True)
class Stack:
    """One stack of layers on one prompt.

    Attributes:
        blocks: Lengths of the pieces of a prompt that see themselves alone: of captions, or of the whole prompt.
        n_read: Positions of the last layer that are read.
        gates: Matrices of an MLP.
    """

    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    blocks: tuple[int, ...]
    n_read: int
    gates: int = 2

    @classmethod
    def of(cls, seen: Wiring, blocks: Sequence[int], n_read: int, gates: int = 2) -> Stack:
        """From what was found out about a model."""
        own = {
            name: getattr(seen, name)
            for name in ("n_layers", "n_heads", "n_kv_heads", "d_model", "d_head", "d_mlp")
        }
        return cls(**own, blocks=tuple(blocks), n_read=n_read, gates=gates)

    @property
    def length(self) -> int:
        """Positions of a prompt."""
        return sum(self.blocks)

    @property
    def behind_attention(self) -> int:
        """Of an MLP at one position."""
        return self.gates * self.d_model * self.d_mlp

    def layer(self, n_read: int | None = None) -> float:
        """Of one whole layer, or with queries at so many positions; these are spread over the blocks alike."""
        inner, kv = self.n_heads * self.d_head, 2 * self.n_kv_heads * self.d_head
        n = self.length if n_read is None else n_read
        seen = sum(b * b for b in self.blocks) * n / self.length  # keys that all queries look at
        return (
            self.length * self.d_model * kv
            + n * (2 * self.d_model * inner + self.behind_attention)
            + 2 * seen * inner
        )

    def run(self) -> float:
        """Of one run: the last layer where it is read."""
        return (self.n_layers - 1) * self.layer() + self.layer(self.n_read)


def head_ablation(stack: Stack, *, behind: float = 0.0, beside: float = 0.0) -> float:
    """Multiply-adds of the ablation of all heads on one prompt.

    Args:
        behind: What is run once for every answer: the language model behind a tower.
        beside: What is run once for both runs: the other tower of a CLIP.
    """
    total = 2 * (stack.run() + behind + beside)
    for number in range(stack.n_layers):
        left = stack.n_layers - 1 - number
        changed = stack.length if left else stack.n_read
        later = (left - 1) * stack.layer() + stack.layer(stack.n_read) if left else 0.0
        own = changed * (stack.d_model * stack.d_head + stack.behind_attention)
        total += stack.n_heads * (own + later + behind)
    return total


def count_tower(runs: PairedRuns, tower: str | None) -> float:
    """Multiply-adds of the ablation of all heads of a tower on all pairs of some runs.

    Args:
        tower: ``vision`` or ``text``; None is the stack that plain addresses mean.
    """
    return sum(len(batch) * _of_batch(runs, batch, tower) for batch in runs.batches)


def _of_batch(runs: PairedRuns, batch: Batch, tower: str | None) -> float:
    says, captions = runs.wiring, batch.caption_lengths
    if captions:
        stacks = {
            "vision": Stack.of(says.of("vision"), [_positions(runs, batch, "vision")], 1),
            "text": Stack.of(says.of("text"), captions, len(captions)),
        }
        own = tower or runs.own_stack or "vision"
        return head_ablation(stacks[own], beside=sum(s.run() for name, s in stacks.items() if name != own))
    if tower is None:
        return head_ablation(Stack.of(says, [batch.n_tokens], 1))
    n_seen = _positions(runs, batch, tower)
    behind = Stack.of(says, [batch.n_tokens], 1, gates=3).run()
    return head_ablation(Stack.of(says.of(tower), [n_seen], n_seen), behind=behind)


def _positions(runs: PairedRuns, batch: Batch, tower: str) -> int:
    """Positions of a tower on a prompt."""
    return runs.resid(batch, "clean", 0, tower=tower).shape[1]
