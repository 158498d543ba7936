"""The exact sweeps in the bench: ablation and patching of heads, faithfulness of a circuit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks.bench import Row, Settings
from benchmarks.floor import sweeps as floor
from benchmarks.models import SHAPES, Shape
from benchmarks.timing import in_turns
from workbench.circuits.circuit import Circuit
from workbench.circuits.graph import Graph
from workbench.engine.interventions.ablation import ablations
from workbench.engine.interventions.patching import patches
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.sweep import sweep

REPRODUCE = "python -m benchmarks.bench --only {}"


def _shapes(settings: Settings) -> Iterator[Shape]:
    for name, make in SHAPES.items():
        if not settings.models or name in settings.models:
            yield make()


def _median(seconds: Sequence[float]) -> float:
    return float(np.median(seconds))


def _difference(shape: Shape, logits: Tensor) -> Tensor:
    """The logit difference from all logits, as a user of TransformerLens writes it."""
    rows = torch.arange(len(logits))
    last = logits[:, -1]
    return last[rows, shape.answers[:, 0]] - last[rows, shape.answers[:, 1]]


def _few(shape: Shape, settings: Settings) -> range:
    """Heads of each layer that are run: all, a third of the large model's where it has to be quick.

    Passes that a sweep does once are then scaled as well: a share overstates time over floor.
    """
    n = shape.plain.n_heads
    return range(n // 3 if settings.quick and shape.name == "gpt2" else n)


# -- ablation of heads -----------------------------------------------------------------------------------------------


def one_hook_at_a_time(shape: Shape, heads: Sequence[int], layers: Sequence[int]) -> np.ndarray:
    """Mean ablation with TransformerLens alone: a hook and a whole forward pass for each head."""
    bridge, ids = shape.runs.model, shape.clean
    names = [f"blocks.{n}.attn.hook_z" for n in layers]
    found = []
    with torch.no_grad():
        _, cache = bridge.run_with_cache(ids, names_filter=names)
        for name in names:
            mean = cache[name].mean((0, 1))
            for head in heads:

                def replace(z: Tensor, hook, head: int = head, mean: Tensor = mean) -> Tensor:
                    z[:, :, head] = mean[head]
                    return z

                logits = bridge.run_with_hooks(ids, fwd_hooks=[(name, replace)])
                found.append(_difference(shape, logits))
    return torch.stack(found).numpy()


def head_ablation(settings: Settings) -> Iterator[Row]:
    """Mean ablation of every head."""
    for shape in _shapes(settings):
        heads, layers = _few(shape, settings), range(len(shape.plain.layers))
        rows = ablations([(f"a{n}.h{h}",) for n in layers for h in heads], "mean")
        few = heads[:1] if shape.name == "gpt2" else heads
        found: dict[str, np.ndarray] = {}
        runs = shape.runs

        def ours(rows=rows, runs=runs, found=found) -> None:
            found["ours"] = sweep(PairedRuns(runs.model, runs.pairs), rows, kind="ablation").patched

        def least(shape=shape, heads=heads, found=found) -> None:
            ids = shape.clean, shape.corrupted
            found["floor"] = floor.head_ablation(shape.plain, *ids, shape.answers, heads)[0].numpy()

        def theirs(shape=shape, few=few, layers=layers, found=found) -> None:
            found["theirs"] = one_hook_at_a_time(shape, few, layers)

        seconds = in_turns({"ours": ours, "floor": least, "theirs": theirs}, settings.rounds)
        share, shown = len(heads) / shape.plain.n_heads, len(few) / shape.plain.n_heads
        own = (
            found["ours"].reshape(len(layers), len(heads), -1)[:, : len(few)].reshape(*found["theirs"].shape)
        )
        counted = floor.count_head_ablation(shape.plain, *shape.clean.shape, len(heads))
        yield Row(
            job="head ablation (mean)",
            model=shape.about,
            ours=_median(seconds["ours"]) / share,
            baseline="TransformerLens, one hook at a time" + _part(shown),
            theirs=_median(seconds["theirs"]) / shown,
            floor=_median(seconds["floor"]) / share,
            counted=settings.counted(counted) / share,
            asked="<= 1.25 x floor",
            notes=_apart(found, own) + _part(share),
            command=REPRODUCE.format("head-ablation"),
            seconds=seconds,
        )


def _part(share: float) -> str:
    return "" if share == 1 else f" ({share:.3g} of it run, scaled)"


def _apart(found: dict[str, np.ndarray], own: np.ndarray) -> str:
    """How far the three ways are apart."""
    least = float(np.abs(found["ours"] - found["floor"]).max())
    return f"ours - floor {least:.1e}, ours - baseline {float(np.abs(own - found['theirs']).max()):.1e}"


# -- patching of heads -----------------------------------------------------------------------------------------------


def with_their_patching(shape: Shape, rows: list[tuple[int, int, int]]) -> np.ndarray:
    """``transformer_lens.patching`` for some (layer, position, head): ``(row, pair)``."""
    import pandas as pd
    from transformer_lens.patching import generic_activation_patch, layer_pos_head_vector_patch_setter

    bridge = shape.runs.model
    index = pd.DataFrame(rows, columns=["layer", "pos", "head"])
    with torch.no_grad():
        _, cache = bridge.run_with_cache(shape.clean, names_filter=lambda name: name.endswith("hook_z"))
        result = generic_activation_patch(
            bridge,
            shape.corrupted,
            cache,
            lambda logits: _difference(shape, logits),
            layer_pos_head_vector_patch_setter,
            "z",
            index_df=index,
            reduce="none",
        )
    return result.values.numpy()


def head_patching(settings: Settings) -> Iterator[Row]:
    """Every head's clean output at every position, put into the corrupted run."""
    for whole in _shapes(settings):
        large = whole.name == "gpt2"
        pairs = range(8) if large and settings.quick else range(len(whole.runs.pairs))
        shape = Shape(**{**vars(whole), "runs": whole.runs.subset(pairs)})
        heads, layers = (
            range(1 if settings.quick else 2) if large else _few(shape, settings),
            range(len(shape.plain.layers)),
        )
        positions = range(shape.clean.shape[1])
        rows = patches([f"a{n}.h{h}" for n in layers for h in heads], positions=positions)
        every = [(n, p, h) for n in layers for h in heads for p in positions]
        sample = sorted(np.random.default_rng(0).permutation(len(every))[:12].tolist())
        found: dict[str, np.ndarray] = {}

        def ours(rows=rows, shape=shape, found=found) -> None:
            fresh = PairedRuns(shape.runs.model, shape.runs.pairs)
            found["ours"] = sweep(fresh, rows, kind="patching", mode="denoising").patched

        def least(shape=shape, heads=heads, found=found) -> None:
            out = floor.head_patching(shape.plain, shape.clean, shape.corrupted, shape.answers, heads)
            found["floor"] = out.transpose(1, 2).flatten(0, 2).numpy()

        def theirs(shape=shape, sample=sample, every=every, found=found) -> None:
            found["theirs"] = with_their_patching(shape, [every[i] for i in sample])

        seconds = in_turns({"ours": ours, "floor": least, "theirs": theirs}, settings.rounds)
        share = len(heads) / shape.plain.n_heads * len(pairs) / len(whole.runs.pairs)
        shown = share * len(sample) / len(every)
        counted = floor.count_head_patching(shape.plain, *shape.clean.shape, len(heads))
        yield Row(
            job="head patching, every position",
            model=whole.about,
            ours=_median(seconds["ours"]) / share,
            baseline="transformer_lens.patching" + _part(shown),
            theirs=_median(seconds["theirs"]) / shown,
            floor=_median(seconds["floor"]) / share,
            counted=settings.counted(counted) / share,
            asked=">= 4 x faster, <= 1.5 x floor",
            notes=_apart(found, found["ours"][sample]) + _part(share),
            command=REPRODUCE.format("head-patching"),
            seconds=seconds,
        )


# -- faithfulness ----------------------------------------------------------------------------------------------------


def their_circuit(graph: Graph, kept: np.ndarray, n_tokens: int) -> list[tuple]:
    """The edges of a mask, at every position, as TransformerLens names them."""
    from transformer_lens.tools.analysis.attribution_patching import Node

    kinds = {"input": "embed", "head": "attn_head_out", "mlp": "mlp_out"}
    last = graph.shape.n_layers - 1
    found = []
    for s, t in zip(*np.nonzero(kept), strict=True):
        source, target = graph.sources[s], graph.targets[t]
        for pos in range(n_tokens):
            writer = Node(kinds[source.kind], position=pos, layer=source.layer, head=source.index)
            if target.slot:
                reader = Node(f"{target.slot}_input", position=pos, layer=target.layer, head=target.index)
            elif target.kind == "mlp":
                reader = Node("mlp_in", position=pos, layer=target.layer)
            else:
                reader = Node("logits", position=pos, layer=last)
            found.append((writer, reader))
    return found


def their_faithfulness(shape: Shape, circuit: list[tuple], pairs: range) -> np.ndarray:
    """TransformerLens' own, one pair at a time: the recovered share of the gap of each pair."""
    from transformer_lens.tools.analysis.attribution_patching import faithfulness

    found = []
    for i in pairs:
        correct, incorrect = shape.answers[i].tolist()

        def metric(logits: Tensor, correct: int = correct, incorrect: int = incorrect) -> Tensor:
            return logits[0, -1, correct] - logits[0, -1, incorrect]

        ids = shape.clean[i : i + 1], shape.corrupted[i : i + 1]
        found.append(faithfulness(shape.runs.model, *ids, metric, circuit).recovered)
    return np.array(found)


def random_circuit(shape: Shape, share: float) -> tuple[Circuit, np.ndarray]:
    """A circuit of randomly drawn edges, and its mask."""
    graph = Graph(shape.runs.wiring.shape())
    kept = graph.edge_mask & (np.random.default_rng(0).random(graph.edge_mask.shape) < share)
    edges = {(graph.sources[s], graph.targets[t]): 1.0 for s, t in zip(*np.nonzero(kept), strict=True)}
    return Circuit.build(shape=graph.shape, nodes={}, edges=edges, level="edge"), kept


def faithfulness_of_one(settings: Settings) -> Iterator[Row]:
    """Faithfulness of one random circuit of five percent of the edges, everything else resampled."""
    from workbench.evaluate.faithfulness import faithfulness

    for shape in _shapes(settings):
        circuit, kept = random_circuit(shape, 0.05)
        graph = Graph(shape.runs.wiring.shape())
        mask = torch.as_tensor(kept)
        pairs = range(1 if shape.name == "gpt2" else 4)
        grouped = shape.plain.n_kv < shape.plain.n_heads  # refused by TransformerLens
        theirs_circuit = [] if grouped else their_circuit(graph, kept, shape.clean.shape[1])
        found: dict[str, np.ndarray] = {}

        def ours(shape=shape, circuit=circuit, found=found) -> None:
            fresh = PairedRuns(shape.runs.model, shape.runs.pairs)
            made = faithfulness(circuit, fresh)
            found["ours"] = np.stack([made.circuit, made.empty, made.full])

        def least(shape=shape, mask=mask, found=found) -> None:
            p = shape.plain
            found["floor"] = floor.faithfulness(p, shape.clean, shape.corrupted, shape.answers, mask).numpy()

        def theirs(shape=shape, pairs=pairs, circuit=theirs_circuit, found=found) -> None:
            found["theirs"] = their_faithfulness(shape, circuit, pairs)

        work: dict[str, Callable[[], None]] = {"ours": ours, "floor": least}
        seconds = in_turns(work, settings.rounds)
        shown, notes = len(pairs) / len(shape.runs.pairs), ""
        if not grouped:
            seconds |= in_turns({"theirs": theirs}, 1 if shape.name == "gpt2" else settings.rounds)
            at = list(pairs)
            own = (found["ours"][0] - found["ours"][1])[at] / (found["ours"][2] - found["ours"][1])[at]
            notes = f", recovered - theirs {np.abs(own - found['theirs']).max():.1e}"
        counted = floor.count_faithfulness(shape.plain, *shape.clean.shape, mask)
        yield Row(
            job=f"faithfulness of a circuit of {circuit.size} edges",
            model=shape.about,
            ours=_median(seconds["ours"]),
            baseline="refused by TransformerLens (grouped queries)"
            if grouped
            else "TransformerLens faithfulness" + _part(shown),
            theirs=None if grouped else _median(seconds["theirs"]) / shown,
            floor=_median(seconds["floor"]),
            counted=settings.counted(counted),
            asked=">= 200 x faster",
            notes=f"ours - floor {float(np.abs(found['ours'] - found['floor']).max()):.1e}{notes}",
            command=REPRODUCE.format("faithfulness"),
            seconds=seconds,
        )


JOBS = {"head-ablation": head_ablation, "head-patching": head_patching, "faithfulness": faithfulness_of_one}
