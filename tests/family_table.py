"""The table of model families in `docs/families.md`, made by doing on each family what a cell claims.

    python -m tests.family_table            writes the table
    python -m tests.family_table --check    fails if the table in the docs is not what the code does

A cell says `yes` only if `describe` says so, the engine did it, and its numbers equal the naive loop (one pair,
one intervention, one whole forward pass); `no` only if `describe` says so and the engine refused it. Anything
else is an error here, not a cell.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.families.page import MARK
from tests.families import FAMILIES, MORE, family_dir, minilm_path
from tests.integration.naive import HOOKS, Naive, Put, hidden, logit_difference
from tests.mini import hidden_metric, mini_pairs
from workbench.circuits.addresses import parse_node
from workbench.circuits.circuit import Circuit
from workbench.core.errors import WorkbenchError
from workbench.engine.interventions.intervention import Intervention
from workbench.engine.interventions.patching import knock_outs, patches, site_nodes
from workbench.engine.interventions.path_patching import path_patches
from workbench.engine.metrics import get_metric
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.sweep import sweep
from workbench.evaluate.faithfulness import run_circuits
from workbench.model.architecture import KINDS, Architecture, Support, describe
from workbench.model.identity import identity
from workbench.model.open import open_model
from workbench.model.report import check_bridge
from workbench.tasks.pairs import Pair, Pairs

PAGE = Path(__file__).resolve().parent.parent / "docs" / "families.md"
TOLERANCE = 1.5e-5  # of the largest metric value (at least 1); the engine's tests use the same
SHORT = {
    **{kind: kind for kind in KINDS},
    "node-level": "node level",
    "edge-level": "edge level",
    "path-patching": "path patching",
    "language-model-metrics": "language-model metrics",
}
MINILM = "all-MiniLM-L6-v2 (real weights)"


class Refuted(AssertionError):
    """What `describe` says about a family is not what happens."""


def main() -> int:
    """Write or check the page; 1 if the check fails."""
    made = page()
    if "--check" in sys.argv[1:]:
        return 0 if _halves()[0] == made else 1
    PAGE.write_text(made + "".join(f"\n{MARK}{half}" for half in _halves()[1:]), encoding="utf-8")
    return 0


def _halves() -> list[str]:
    """What this module writes, and what stands below it: the table of `python -m benchmarks.families`."""
    first, *others = PAGE.read_text(encoding="utf-8").split(MARK)
    return [f"{first.rstrip()}\n", *others]


def read_page() -> dict[str, dict[str, str]]:
    """The table in the docs: family -> kind -> "yes", "no", or either with its remark: "yes: One per ..."."""
    lines = _halves()[0].splitlines()
    remarks = dict(line.split(". ", 1) for line in lines if line[:1].isdigit())
    rows = [
        [cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")
    ]
    found = {}
    for family, _, *cells in rows[2:]:
        parts = [cell.rstrip("]").split(" [") for cell in cells]
        found[family] = {
            k: ": ".join([p[0], *(remarks[n] for n in p[1:])]) for k, p in zip(KINDS, parts, strict=True)
        }
    return found


def page() -> str:
    """The whole page as Markdown."""
    rows, notes = [], {}
    for name, directory in models():
        found = verify(directory, encoder=name in ("bert", MINILM))
        cells = [_cell(found.support[kind], notes) for kind in KINDS]
        rows.append([f"`{name}`" if name != MINILM else name, _traits(found), *cells])
    header = ["family", "structure", *(SHORT[kind] for kind in KINDS)]
    table = [_line(header), _line(["---"] * len(header)), *map(_line, rows)]
    listed = [f"{number}. {text}" for text, number in notes.items()]
    return "\n".join([_INTRO, *table, "", *listed, ""])


def verify(directory: Path, *, encoder: bool) -> Architecture:
    """Do everything the description of a model claims, and compare with the naive loop.

    Raises:
        Refuted: if a claim does not hold.
    """
    bridge = open_model(directory, device="cpu")
    report = check_bridge(bridge)
    if not report.passes or identity(bridge).parity > 1e-4:
        raise Refuted(f"{directory} does not pass its check: {report.to_dict()}")
    described = describe(bridge)
    runs = PairedRuns(
        bridge, _pairs(directory), metric=hidden_metric() if encoder else "logit-difference", batch_tokens=100
    )
    naive = Naive(bridge, runs.pairs, hidden if encoder else logit_difference)
    for kind in KINDS:
        claim = described.support[kind].works
        try:
            _CHECKS[kind](runs, naive, described)
        except WorkbenchError as refusal:
            if claim:
                raise Refuted(
                    f"{directory.name}: {kind} is said to work and was refused: {refusal}"
                ) from refusal
        else:
            if not claim:
                raise Refuted(f"{directory.name}: {kind} is said not to work and did")
    return described


def _site(site: str) -> Callable[[PairedRuns, Naive, Architecture], None]:
    def check(runs: PairedRuns, naive: Naive, described: Architecture) -> None:
        if site == "neurons":
            nodes = [parse_node("m1.n3")]
        else:
            nodes = [node for node in site_nodes(runs.wiring, site) if node.layer == 1 or site == "resid"]
        node = nodes[-1] if nodes else parse_node("m1" if site == "mlp-out" else "a1.h0")
        found = sweep(runs, patches([node], mode="noising"), kind="patching").patched[0]
        if site == "pattern" and "pattern" not in runs.wiring.live:
            expected = [_recomputed(naive, i, node.layer, node.index, None) for i in range(len(naive))]
        else:
            put = Put(site, node.layer, node.index)
            expected = [naive.patched(i, "clean", "corrupted", [put]) for i in range(len(naive))]
        _equal(found, expected, f"{site} {node}")

    return check


def _knock_out(runs: PairedRuns, naive: Naive, described: Architecture) -> None:
    found = sweep(runs, knock_outs(["a1.h2"], "end", "S"), kind="knock-out").patched[0]
    if "pattern" in runs.wiring.live:
        expected = [naive.knocked_out(i, 1, 2, "end", "S") for i in range(len(naive))]
    else:
        expected = [_recomputed(naive, i, 1, 2, ("end", "S")) for i in range(len(naive))]
    _equal(found, expected, "knock-out")


def _recomputed(naive: Naive, i: int, layer: int, head: int, knocked: tuple[str, str] | None) -> float:
    """Pattern edit where TransformerLens discards it: the pattern it shows, times v, put in the head output."""
    run = "clean" if knocked else "corrupted"
    pattern = naive.activation(i, run, HOOKS["pattern"].format(layer))[head].clone()
    if knocked:
        q, k = (naive.aligned.positions[i][name] for name in knocked)
        pattern[q, k] = 0
        pattern[q] /= pattern[q].sum()
    v = naive.activation(i, "clean", HOOKS["v"].format(layer))[:, head]

    def edit(z: Tensor, hook) -> Tensor:
        z = z.clone()
        z[0, :, head] = pattern @ v
        return z

    return naive.metric(i, "clean", [(HOOKS["head-output"].format(layer), edit)])


def _node_level(runs: PairedRuns, naive: Naive, described: Architecture) -> None:
    """Every head and MLP corrupted at once, beside the same by hand."""
    there = {"head-output": runs.wiring.attention_layers, "mlp-out": runs.wiring.mlp_layers}
    nodes = [node for site, layers in there.items() if layers for node in site_nodes(runs.wiring, site)]
    together = [edit for row in patches(nodes, mode="noising") for edit in row.edits]
    found = sweep(runs, [Intervention(label="all", edits=tuple(together))], kind="patching").patched[0]
    puts = [Put("mlp-out" if n.kind == "mlp" else "head-output", n.layer, n.index) for n in nodes]
    expected = [naive.patched(i, "clean", "corrupted", puts) for i in range(len(naive))]
    _equal(found, expected, "all nodes")


def _edge_level(runs: PairedRuns, naive: Naive, described: Architecture) -> None:
    """All edges kept is the clean run, none kept the corrupted run."""
    graph = runs.wiring.graph()
    every = {(edge.source, edge.target): 1.0 for edge in graph.edges()}
    full, empty = (
        Circuit.build(shape=graph.shape, nodes={}, edges=edges, level="edge") for edges in (every, {})
    )
    found = run_circuits(runs, [full, empty])
    for row, run in zip(found, ("clean", "corrupted"), strict=True):
        _equal(row, [naive.metric(i, run) for i in range(len(naive))], f"{run} as a circuit")


def _path_patching(runs: PairedRuns, naive: Naive, described: Architecture) -> None:
    """From the second head of layer 0 into the queries of a head of the last layer, by hand in two runs."""
    last = described.n_layers - 1
    found = path_patches(runs, ["a0.h1"], [f"a{last}.h2<q>"]).patched[0]
    expected = [_path(naive, i, described.n_heads, last) for i in range(len(naive))]
    _equal(found, expected, "path patching")


def _path(naive: Naive, i: int, n_heads: int, last: int) -> float:
    others = [
        Put("head-output", layer, head)
        for layer in range(last + 1)
        for head in range(n_heads)
        if (layer, head) != (0, 1)
    ]
    frozen = [naive.hook("clean", put, i) for put in others]
    seen: dict[str, Tensor] = {}

    def keep(tensor: Tensor, hook) -> None:
        seen["q"] = tensor.clone()

    receiver = HOOKS["q"].format(last)
    sender = naive.hook("corrupted", Put("head-output", 0, 1), i)
    naive.metric(i, "clean", [sender, *frozen, (receiver, keep)])

    def put(tensor: Tensor, hook) -> Tensor:
        tensor = tensor.clone()
        tensor[:, :, 2] = seen["q"][:, :, 2]
        return tensor

    return naive.metric(i, "clean", [(receiver, put)])


def _language_model(runs: PairedRuns, naive: Naive, described: Architecture) -> None:
    """The logit difference of every pair, beside the logits read by index."""
    found = PairedRuns(runs.model, runs.pairs, metric=get_metric("logit-difference")).clean
    expected = []
    for i in range(len(naive)):
        with torch.no_grad():
            out = naive.bridge(naive.ids(i, "clean"))[0]
        end, correct, incorrect = len(out) - 1, runs.pairs.correct[i][0], runs.pairs.incorrect[i][0]
        expected.append(logit_difference(out, end, correct, incorrect))
    _equal(found, expected, "logit difference")


_CHECKS: dict[str, Callable[[PairedRuns, Naive, Architecture], None]] = {
    "residual": _site("resid"),
    **{
        site: _site(site)
        for site in ("attn-out", "mlp-out", "neurons", "head-output", "q", "k", "v", "pattern")
    },
    "knock-out": _knock_out,
    "node-level": _node_level,
    "edge-level": _edge_level,
    "path-patching": _path_patching,
    "language-model-metrics": _language_model,
}


def _equal(found: object, expected: list[float], what: str) -> None:
    truth = torch.tensor(expected, dtype=torch.float64)
    gap = (torch.as_tensor(found, dtype=torch.float64) - truth).abs().max().item()
    if not gap <= TOLERANCE * max(1.0, truth.abs().max().item()):
        raise Refuted(f"{what}: the engine differs from the naive loop by {gap:.2g}")


def models() -> Iterator[tuple[str, Path]]:
    """Name and directory of every model in the table."""
    for name in (*FAMILIES, *MORE):
        yield name, family_dir(name)
    if (path := minilm_path()) is not None:
        yield MINILM, path


def _pairs(directory: Path) -> Pairs:
    """The small pairs of the tests; for a real vocabulary the same shape in words it has."""
    if directory != minilm_path():
        return mini_pairs()
    clean, corrupted = "the old man sat near the river", "the old dog sat near the house"
    spans = {"S": ((8, 11), (8, 11))}
    rows = [("a", clean, corrupted), ("b", corrupted, clean)]
    made = (
        Pair(id=n, clean=c, corrupted=x, correct=(" man",), incorrect=(" dog",), positions=spans)
        for n, c, x in rows
    )
    return Pairs(items=tuple(made), task="mini")


def _cell(support: Support, notes: dict[str, int]) -> str:
    word = "yes" if support.works else "no"
    if not support.why:
        return word
    return f"{word} [{notes.setdefault(_remark(support.why), len(notes) + 1)}]"


def _remark(why: str) -> str:
    """A reason as a sentence, without the measured number that changes from machine to machine."""
    text = why.split(" (off by")[0]
    return text[0].upper() + text[1:] + "."


def said(support: Support) -> str:
    """What `read_page` should find for this."""
    return ("yes" if support.works else "no") + (f": {_remark(support.why)}" if support.why else "")


def _traits(found: Architecture) -> str:
    traits = ["no norm" if found.norm is None else f"{found.norm} {found.norm_placement}"]
    traits += [f"GQA, {found.heads_per_group} heads a group"] if found.n_kv_heads < found.n_heads else []
    traits += ["parallel blocks"] if found.parallel else []
    traits += ["attention only"] if found.attn_only else []
    traits += ["mixture of experts"] if found.n_experts else []
    traits += [] if found.causal else ["bidirectional"]
    return ", ".join(traits)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


_INTRO = """# Model families

Made by `python -m tests.family_table`, which does on every family what its row says; a test holds this page to
it. Each family is a tiny random model with the structure of trained ones (norm gains and biases randomised),
opened from disk like any other; all-MiniLM-L6-v2 has its real weights.

`yes`: the engine does it, and its numbers equal the naive loop of one hook and one forward pass at a time (edge
level: all edges kept is the clean run and none kept the corrupted run). `no`: it is refused, with the reason.
Numbers in brackets refer to the remarks below the table. For your own model: `workbench model show NAME`.
"""

if __name__ == "__main__":
    sys.exit(main())
