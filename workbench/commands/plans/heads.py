"""What a portrait of all heads would take."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workbench.commands.forms.heads import Heads
from workbench.core.job import Job
from workbench.core.show import Told
from workbench.engine.cost import passes_cost
from workbench.model.outline import Outline, outline

_BUILT_IN = "the built-in text, where the tokenizer covers it"
LENGTH = 101  # tokens, where the context is as long
PUSHED = 4  # sequences of each kind whose scores are pushed
ROOT = Path("runs") / "heads"
RESULT, TABLE, PAGE = "portrait.json", "heads.parquet", "atlas.html"


def heads(asked: Heads, job: Job) -> HeadsPlan:
    """Say what a portrait of these heads would do."""
    return HeadsPlan(
        outline=outline(asked.model, offline=asked.offline or None, revision=asked.revision),
        n=asked.limit,
        loss=not asked.no_loss,
        structure=asked.structure,
        length=asked.length,
        corpus=[str(f) for f in asked.corpus],
        folder=str(job.out or ROOT),
    )


@dataclass(frozen=True, kw_only=True)
class HeadsPlan(Told):
    """What a portrait would do."""

    outline: Outline
    n: int
    loss: bool
    structure: bool
    length: int | None
    corpus: list[str]
    folder: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        shape = asdict(self.outline)
        length = self.outline.n_positions if self.outline.n_pixels else self.length or LENGTH
        ablated = (
            (self.outline.n_layers + 1) / 2 * self.outline.n_heads if self.loss else 0
        )  # from its layer on
        heads = self.outline.n_layers * self.outline.n_heads
        alone = self.outline.n_pixels > 0  # no words
        on = ["drawn pictures"] if alone else ["random tokens", *(self.corpus or [_BUILT_IN])]
        towers = {} if alone else self.outline.towers
        seen = {
            name: f"{tower.n_layers * tower.n_heads} heads, on drawn pictures"
            for name, tower in towers.items()
        }
        return {
            "dry_run": True,
            "model": shape["name"],
            "heads": heads,
            "sequences": self.n,
            "on": on,
            **({"towers": seen} if seen else {}),
            **({"pictures": self.n} if seen or alone else {}),
            "passes_looking": f"{self.n} sequences of each kind, once",
            "passes_ablating": f"{heads * self.n} sequences of each kind, from the head's layer on"
            if self.loss
            else 0,
            **(
                {"passes_pushing": f"{heads * min(self.n, PUSHED)} sequences of each kind"}
                if self.structure
                else {}
            ),
            "tokens_each_at_most": length,
            "each_kind": passes_cost(self.outline, 1 + ablated, [length or 0] * self.n).to_dict(),
            "files": [RESULT, TABLE, PAGE, "run.json"],
            "folder": self.folder,
        }

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        return ["dry run: nothing was measured; no weights were loaded", self.to_dict()]
