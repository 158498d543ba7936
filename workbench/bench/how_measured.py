"""What the columns of a bench mean and how they were measured, in words. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def how(document: Mapping[str, Any]) -> str:
    """Say what the columns mean and how it was measured, as plain text."""
    s, levels = document["settings"], " and ".join(f"{level}s" for level in document["settings"]["levels"])
    return (
        f"{len(document['methods'])} methods, {len(document['known'])} models with known circuits "
        f"({s['n_truth']} pairs each, noise of at most {s['noise']:g} of the weights), "
        f"trained tasks ({s['n_task']} pairs to find circuits on, as many of the test "
        f"split to judge them on), {levels}, seed {s['seed']}, resample ablation.\n\n"
        "AUROC: chance that an edge of the true circuit outscores another edge, a tie counting one half; AUPRC: "
        "average precision, ties entering together. Every edge counts; edges whose content is the same in both "
        "prompts count neither way. Methods are ranked by the size of scores, or by signed score where a method "
        "says that only positive scores are a reason to keep (column ranking). all found: on how many models every "
        "true edge outscores every other. Methods that draw at random: means over "
        f"{s['seeds']} seeds.\n\n"
        "f 1 %: faithfulness of the circuit of 1 % of all edges, before pruning. CPR: area under faithfulness over "
        "the share of edges, from 0.001 to 1, circuits by signed score; CMD: area of its distance from 1, circuits "
        "by size of score; both on the grid of MIB (arXiv:2504.13151), linear in the share. Pearson, Spearman: "
        "correlation with exact effects of all edges (their sizes, for scores without a sign). J: mean Jaccard of "
        f"the best 5 % of edges over {s['seeds']} draws of pairs, the two halves of one draw, and the method's own "
        "seeds. Chance is about 0.03.\n\n"
        "specificity: share of its own task's gap that the model loses without the circuit of 5 % of the edges, minus "
        "the mean of three other tasks that the model does; random circuits of that size beside it, and how many "
        "reach it. "
        "J null task: overlap of the circuits of two halves where every pair has the answers of another. cv of pairs: "
        "standard deviation of the faithfulness of single pairs over its mean. The last column counts tasks with a "
        "specificity, and all.\n\n"
        "passes: forward and backward passes per batch of pairs. CPU s: processor seconds of one scoring, one "
        "thread, model and engine warm, without judging it."
    )
