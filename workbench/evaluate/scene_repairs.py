"""A repair put to the test: heads of one task's circuit look at the wrong words of another task's scenes.

Beside it: random heads, other words, each part alone, and what becomes of the heads that come later.

Source: Merullo, Eickhoff and Pavlick 2023, arXiv:2310.08744, section 5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from workbench.core.claims import Quantity
from workbench.core.stats.intervals import SHARE
from workbench.edits.scenes import SceneAnswers, answers, forced, scene_runs
from workbench.engine.of_task import paired_runs
from workbench.engine.paired_runs import PairedRuns
from workbench.heads.rounds import Round, task_circuit

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

PLAIN, EDITED = "as it is", "all"
THINGS, MIXED = "the wrong objects instead", "the right color and a wrong one instead"


@dataclass(frozen=True, kw_only=True)
class SceneRepair:
    """Answers to scenes under edits of attention, and where later heads look.

    Attributes:
        found: By name: as the model is; under all edited heads, on the wrong colors or on other words; each part.
        drawn: With random heads on the wrong colors, one for each draw.
        parts: Names of the parts.
        writers: Which heads write the color that is asked for.
        looks: Least mean attention to all colors of a head that moves them.
    """

    found: dict[str, SceneAnswers]
    drawn: list[SceneAnswers]
    parts: tuple[str, ...]
    writers: Round
    looks: float = 0.3

    def measured(self) -> dict[str, Quantity]:
        """Return right answers of each edit and of random heads, what each gains and loses, and how movers turn."""
        found = dict[str, Quantity]()
        for what, unit in (("among", "right among the scene's colors"), ("top", "right of all words")):
            kind = partial(Quantity, unit=unit, within=SHARE)
            found |= {f"{what}, {name}": kind(getattr(one, what)) for name, one in self.found.items()}
            found[f"{what}, random heads"] = kind([getattr(one, what) for one in self.drawn])
        gains, n = self.gains(), len(self.found[PLAIN].among)
        found |= {
            f"gain of {name}": Quantity(gain, n) for name, gain in gains.items() if name not in self.parts
        }
        random = list(map(self._gain, self.drawn))
        found["mean gain of random heads"] = Quantity(float(np.mean(random)) if random else None, len(random))
        largest = max((gains[name] for name in self.parts), default=None)
        found["largest gain of a part"] = Quantity(largest, n, why="a single head is edited")
        return found | {"lost": self.lost(), **self.turned()}

    def gains(self) -> dict[str, float]:
        """Return what each edit adds to the share right among the scene's colors."""
        return {name: self._gain(one) for name, one in self.found.items() if name != PLAIN}

    def _gain(self, one: SceneAnswers) -> float:
        return float(one.among.mean() - self.found[PLAIN].among.mean())

    def lost(self) -> Quantity:
        """Say of every pair that is answered rightly whether all edits lose it; beside the share random heads lose."""
        lost, *others = (self.found[PLAIN].lost(one) for one in (self.found[EDITED], *self.drawn))
        control = float(np.mean([one.mean() for one in others])) if others and len(lost) else None
        unit, why = "share of the right ones that are lost", "no example was right before"
        return Quantity(lost, control=control, unit=unit, within=SHARE, why=why)

    def movers(self) -> list[str]:
        """Return the later heads that write the right color and look at the colors, largest writer first."""
        at, shares = self.found[PLAIN].attention, self.writers.shares
        written = [head for head in self.writers.kept if shares[head] > 0 and head in at]
        return [head for head in written if at[head].sum(1).mean() >= self.looks]

    def turned(self) -> dict[str, Quantity]:
        """Say how much more attention, in points, movers give to the right color and to the wrong ones."""
        movers, moved = self.movers(), self._moved()
        change = 100 * np.mean([moved[head] for head in movers], 0) if movers else np.zeros((0, 2))
        control = f"movers {', '.join(movers)}; nothing changes before the edited layer"
        why = "no later head that writes colors looks at them"
        kind = partial(Quantity, unit="points of attention", within=(-100, 100), control=control, why=why)
        sides = enumerate(("right", "wrong"))
        return {f"movers to the {side} color": kind(change[:, i]) for i, side in sides}

    def _moved(self) -> dict[str, Float[np.ndarray, "pair color"]]:
        """By how much all edits change each later head's attention to the right and to the wrong colors."""
        before, after = (self.found[name].attention for name in (PLAIN, EDITED))
        return {head: after[head] - before[head] for head in before}

    def numbers(self) -> dict[str, Any]:
        """Say what is still wrong, what every part gains, and how attention moves beside writing."""
        gains, nan = self.gains(), float("nan")
        moved = {head: float(np.subtract(*change.mean(0))) for head, change in self._moved().items()}
        errors = {
            f"errors, {what}, {name}": 1 - float(getattr(one, what).mean())
            for what in ("among", "top")
            for name, one in self.found.items()
        }
        return errors | {
            "gains": gains,
            "each part": ", ".join(f"{name} {gains[name]:+.2f}" for name in self.parts),
            "least gain of a part": min((gains[name] for name in self.parts), default=nan),
            "largest gain of random heads": max(map(self._gain, self.drawn), default=nan),
            "among, random heads": nan,  # where none are drawn
            "top, random heads": nan,
            "n later": len(moved),
            "writes colors": {head: self.writers.shares[head] for head in moved},
            "moved to the right": moved,
        }


def held_out(
    model: TransformerBridge,
    *,
    n: int,
    seed: int,
    begin: Callable[[PairedRuns], PairedRuns] = lambda runs: runs,
) -> tuple[PairedRuns, float]:
    """Make held-out scenes, and say what share the model answers rightly among their colors as it is.

    Args:
        begin: What is done with the pairs first, such as to say what the model does on them.
    """
    asked = begin(scene_runs(paired_runs(model, "colored-objects", n=n, seed=seed)))
    return asked, float(answers(asked).among.mean())


def try_repair(
    asked: PairedRuns,
    colors: PairedRuns,
    kinds: Mapping[str, Sequence[str]],
    sets: Sequence[Sequence[str]],
    *,
    objects: int = 3,
    looks: float = 0.3,
) -> SceneRepair:
    """Ask scenes while heads look at the wrong colors, at other words, each part alone, or while random heads do.

    Args:
        asked: From ``scene_runs``.
        colors: From ``color_runs``: who writes colors is found on them.
        kinds: By kind, the heads that are edited.
        sets: Random heads in their place.
        objects: How many a scene has.
        looks: Least mean attention of a head that moves colors.
    """
    heads = edited_heads(kinds)
    wrong, things = (tuple(f"wrong {what} {i}" for i in range(1, objects)) for what in ("color", "object"))
    columns = {EDITED: wrong, THINGS: things, MIXED: ("color", wrong[0])}
    some = {f"{kind} only": own for kind, own in kinds.items() if all(kinds.values())}
    some |= {f"{head} only": (head,) for head in heads if len(heads) > 1}
    edits = {name: forced(heads, to) for name, to in columns.items()}
    edits |= {name: forced(own, wrong) for name, own in some.items()}
    writers = task_circuit(colors, rounds=1, share=1.0).rounds[0]
    later = writers.later_than(heads)
    found = {name: answers(asked, edit, watch=later) for name, edit in {PLAIN: None, **edits}.items()}
    drawn = [answers(asked, forced(own, wrong)) for own in sets]
    return SceneRepair(found=found, drawn=drawn, parts=tuple(some), writers=writers, looks=looks)


def edited_heads(kinds: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return the heads of several kinds, each once, in their order.

    Example:
        >>> edited_heads({"inhibition": ("a0.h0", "a0.h1"), "negative": ("a0.h0",)})
        ('a0.h0', 'a0.h1')
    """
    return tuple(dict.fromkeys(head for own in kinds.values() for head in own))
