"""A small bench written by hand: three methods, two known circuits, two tasks, one refusal."""

from __future__ import annotations

from workbench.bench.settings import Settings
from workbench.bench.table import BenchResult


def truth_cell(method, subject, auroc, **more):
    return {
        "subject": subject,
        "method": method,
        "level": "edge",
        "status": "done",
        "auroc": auroc,
        "auprc": auroc / 2,
        "missed": [] if auroc == 1 else [["input->m0", 0.5]],
        "above": [] if auroc == 1 else [["input->logits", 2.0], ["m0->logits", 1.0]],
        "passes": 4,
        "cpu_seconds": 0.5,
        "ranking": "absolute",
        "unit": "logits",
        "own": None,
        "roc": [[0.0, 0.0], [0.0, auroc], [1.0, 1.0]],
        "pr": [[1.0, auroc]],
        **more,
    }


def task_cell(method, subject, cmd, **more):
    points = [
        {"share": 0.01, "size": 1, "faithfulness": 0.25},
        {"share": 1.0, "size": 9, "faithfulness": 1.0},
    ]
    return {
        "subject": subject,
        "method": method,
        "level": "edge",
        "status": "done",
        "CMD": cmd,
        "CPR": 1 - cmd,
        "faithfulness": {"0.01": 0.25, "0.02": 0.5, "0.05": None, "0.1": 1.0},
        "agreement": None,
        "stability": {"left_out": "too many passes"},
        "passes": 4,
        "cpu_seconds": 0.5,
        "ranking": "absolute",
        "unit": "logits",
        "own": {"size": 3, "faithfulness": 0.75},
        "curves": {"absolute": points, "signed": points},
        **more,
    }


def refused(method, subject, reason):
    return {"subject": subject, "method": method, "level": "edge", "status": "refused", "reason": reason}


def made(**parts):
    def row(name):
        return {
            "method": name,
            "levels": ["edge"],
            "claim": "Claims <b>.",
            "source": "s",
            "options": {},
            "ranking": "absolute",
            "selection": "top",
        }

    document = {
        "format": "circuit-workbench/bench-discovery",
        "version": 1,
        "settings": Settings(truths=(), tasks=()).to_dict(),
        "methods": [row("bad"), row("good"), row("shy")],
        "known": [
            {"model": f"zoo:truth-{name}", "algorithm": "x", "norm": "none", "sharpness": "soft", "about": ""}
            for name in "ab"
        ],
        "truth": [
            truth_cell("bad", "zoo:truth-a", 0.8),
            truth_cell("bad", "zoo:truth-b", 0.9),
            truth_cell("good", "zoo:truth-a", 1.0),
            truth_cell("good", "zoo:truth-b", 0.9),
            truth_cell("shy", "zoo:truth-a", 1.0),
            refused("shy", "zoo:truth-b", "no norm"),
        ],
        "tasks": [
            task_cell("bad", "zoo:ioi/ioi", 0.4),
            task_cell("good", "zoo:ioi/ioi", 0.2),
            task_cell("good", "zoo:kv/kv-retrieval", 0.1),
            task_cell("bad", "zoo:kv/kv-retrieval", 0.2),
            task_cell("shy", "zoo:kv/kv-retrieval", 0.01),
            refused("shy", "zoo:ioi/ioi", "no norm"),
        ],
        "left_out": [{"subject": "zoo:ioi/greater-than", "reason": "no gap"}],
    }
    return BenchResult(document=document | parts)
