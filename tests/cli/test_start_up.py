"""What needs no model is answered before torch is loaded: tables, help, plans, and every name that is misspelt."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.circuits import scores
from workbench.circuits.files import save_circuit, save_scores

ROOT = Path(__file__).parents[2]
# What is typed, the exit code, and what is said on stdout or stderr.
TABLES = [
    ("--help", 0, "Open a transformer"),
    ("discover --help", 0, "--method"),
    ("methods", 0, "eap-ig"),
    ("methods --json", 0, "arXiv:2403.17806"),
    ("task list", 0, "ioi"),
    ("model list", 0, "zoo:ioi"),
    ("replicate list", 0, "pine"),
    ("edit list", 0, "rows"),
    ("circuit published", 0, "ioi"),
    ("reproduce list", 0, "greater-than"),
    ("bench discovery --help", 0, "--methods"),
]
ON = "-m zoo:ioi -t ioi"
PLANS = [
    (f"ablate {ON} --dry-run", 0, "prompt_passes"),
    (f"ablate {ON} --ablation mean --position S2 --together --dry-run --json", 0, '"interventions": 1,'),
    (f"patch {ON} --site resid --position each --dry-run --json", 0, '"interventions": 20,'),
    (f"path-patch {ON} --receiver logits --dry-run --json", 0, '"interventions": 16,'),
    (f"knock-out {ON} --query end --key S1 --dry-run --json", 0, '"interventions": 16,'),
    (f"discover {ON} --dry-run --json", 0, '"candidates": 479,'),
    (f"discover {ON} --method acdc --dry-run", 0, "acdc"),
    (f"evaluate {ROOT}/circuits/published/ioi {ON} --dry-run", 0, "independent_pairs"),
    ("heads -m zoo:ioi --dry-run", 0, "passes_ablating"),
]
MISTAKES = [
    ("ablate -m zoo:ioy -t ioi", 1, "did you mean zoo:ioi"),
    ("ablate -m ./nowhere -t ioi", 1, "there is no directory ./nowhere"),
    ("ablate -m nobody/nothing -t ioi --offline", 1, "nor in the local Hub cache"),
    ("ablate -m zoo:ioi -t oio", 1, "did you mean ioi"),
    ("ablate -m zoo:ioi -t nofile.jsonl", 1, "nofile.jsonl"),
    (f"ablate {ON} --metric logit-diff", 1, "did you mean logit-difference"),
    (f"ablate {ON} --metric nofile.py:f", 1, "there is no file nofile.py"),
    (f"ablate {ON} --ablation meen", 1, "did you mean mean"),
    (f"ablate {ON} --parts haeds", 1, "did you mean heads"),
    (f"ablate {ON} --node a9.h9", 1, "the model has layers 0 to 3"),
    (f"ablate {ON} --node a0.h9", 1, "layer 0 has heads 0 to 3"),
    (f"ablate {ON} --node b1", 1, "addresses look like"),
    (f"ablate {ON} --position nowhere", 1, "positions of this task"),
    (f"ablate {ON} --split tets", 1, "did you mean test"),
    (f"ablate {ON} --bos of", 1, "did you mean off"),
    (f"ablate {ON} --corruption foo", 1, "no corruption of task 'ioi'"),
    (f"ablate {ON} --dtype float33", 1, "did you mean float32"),
    (f"ablate {ON} --device cdua", 1, "no device called 'cdua'"),
    (f"ablate {ON} --device-map evenly", 1, "no device map 'evenly'"),
    (f"ablate {ON} --max-memory 4QB", 1, "a size is expected"),
    (f"ablate {ON} --shard 9/8", 1, "no shard 9 of 8"),
    (f"ablate {ON} --ablation mean --reference nofile.jsonl", 1, "no file of pairs at nofile.jsonl"),
    (f"patch {ON} --site resd", 1, "did you mean resid"),
    (f"patch {ON} --mode nosing", 1, "did you mean noising"),
    (f"path-patch {ON} --receiver a9.h1<q>", 1, "the model has layers 0 to 3"),
    (f"path-patch {ON} --receiver logits --mlps frozn", 1, "did you mean frozen"),
    (f"knock-out {ON} --query end --key nobody", 1, "positions of this task"),
    (f"discover {ON} --method eapig", 1, "did you mean eap-ig"),
    (f"discover {ON} --option stesp=3", 1, "options: steps"),
    (f"discover {ON} --option steps=0", 1, "at least 1 is needed"),
    (f"discover {ON} --level egde", 1, "not egdes"),
    (f"discover {ON} --level node --exact-sample 40", 1, "one of edges"),
    (f"discover {ON} --keep 5percent", 1, "cannot keep '5percent'"),
    (f"discover {ON} --test-split tets", 1, "did you mean test"),
    (f"discover {ON} --method acdc --shard 1/2", 1, "methods for --shard and --ray"),
    ("demo -m zoo:ioy", 1, "did you mean zoo:ioi"),
    ("evaluate nofile", 1, "no file nofile"),
    ("evaluate zoo:nowhere", 1, "no model with a known circuit"),
    ("evaluate zoo:truth-ioi --full", 1, "--out FOLDER"),
    ("evaluate zoo:truth-ioi --ablation meen", 1, "did you mean mean"),
    ("evaluate zoo:truth-ioi --metric nope", 1, "no metric called 'nope'"),
    ("evaluate zoo:truth-ioi -m zoo:ioy", 1, "did you mean zoo:ioi"),
    (f"logits {ON} --by heads", 1, "did you mean head"),
    (f"logits {ON} --ablation meen", 1, "did you mean mean"),
    ("logits -m zoo:ioi -t oio", 1, "did you mean ioi"),
    ("look text -m zoo:ioy", 1, "did you mean zoo:ioi"),
    ("look text -m zoo:ioi --bos of", 1, "did you mean off"),
    ("heads -m zoo:ioy", 1, "did you mean zoo:ioi"),
    ("heads -m zoo:ioi --sort indution", 1, "did you mean induction"),
    ("heads -m zoo:ioi --corpus nofile", 1, "no file nofile"),
    ("reproduce oii -m zoo:ioi", 1, "did you mean ioi"),
    ("reproduce ioi -m zoo:ioy", 1, "did you mean zoo:ioi"),
    ("replicate pien", 1, "did you mean pine"),
    ("replicate pine -m zoo:ioy", 1, "did you mean zoo:ioi"),
    ("replicate pine --set sise=1", 1, "did you mean size"),
    ("replicate pine --set documents=9", 1, "3 to 5 can be asked"),
    ("edit measure nofolder -m zoo:ioi -t ioi", 1, "no file nofolder"),
    ("edit make rows --set heads=a9.h9 --set operation=drop --set keys=0 -m zoo:ioi -o x", 1, "layer 9"),
    ("attention replace -m zoo:ioi --with meen", 1, "did you mean mean"),
    ("attention replace -m zoo:ioi --layers 4", 1, "no attention layer 4; it has 0, 1, 2, 3"),
    ("attention replace -m zoo:ioi --head a9.h1", 1, "the model has no attention layer 9"),
    ("attention replace -m zoo:ioi --with block --keys 6", 1, "6 keys are no whole number of blocks of 4"),
    ("attention replace -m zoo:ioi --text nofile", 1, "no file nofile"),
    ("attention replace -m zoo:ioi -t ioi --with mean --dry-run", 0, "passes_over_other_texts"),
    ("attention mask -m zoo:ioi --mask windo:4", 1, "did you mean window"),
    ("attention mask -m zoo:ioi --mask routed:block=0", 1, "block is 0; at least 1"),
    ("attention mask -m zoo:ioi --mask window:4 --head a9.h1", 1, "the model has no attention layer 9"),
    ("attention mask -m zoo:ioi -t ioi --mask window:4 --dry-run", 0, "passes_over_the_prompts"),
    ("model import nofile.pt --config nofile.json -o x", 1, "no file nofile.pt"),
    ("model check zoo:ioi --dtype float33", 1, "did you mean float32"),
    ("task show ioi -m zoo:ioy", 1, "did you mean zoo:ioi"),
    ("task check nofile.jsonl -m zoo:ioi", 1, "nofile.jsonl"),
    ("task import eap-ig nofile.csv -m zoo:ioi -o x.jsonl", 1, "no file nofile.csv"),
    ("circuit export nofile -f dot", 1, "no file nofile"),
    ("model show zoo:ioy", 1, "did you mean zoo:ioi"),
    ("task show oio", 1, "did you mean ioi"),
    ("circuit show nofile", 1, "no file nofile"),
    ("circuit why a0.h1 -m zoo:ioi -t ioi", 1, "is not an edge"),
    ("circuit why a0.h1->a1.h1 -m zoo:ioi -t ioi", 1, "no query, key or value of a head"),
    ("circuit why a0.h1->a9.h1<q> -m zoo:ioi -t ioi", 1, "the model has layers 0 to 3"),
    ("circuit why a0.h1->a1.h1<q> -m zoo:ioi", 1, "no model and task are named"),
    ("circuit why a0.h1->a1.h1<q> nofile", 1, "no file nofile"),
    ("circuit why a0.h1->a1.h1<q> -m zoo:ioi -t ioi --at nowhere", 1, "positions of this task"),
    ("runs show nofolder", 1, "no folder nofolder"),
    ("edit show nofolder", 1, "no file nofolder"),
    ("bench discovery --methods eapp", 1, "did you mean eap"),
]
CODE = """
import contextlib, io, json, sys
from cli.app import main

failed, cases, sweep = [], json.loads(sys.argv[1]), sys.argv[2]
for words, code, said in cases:
    sys.argv, out = ["workbench", *words.split()], io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            main()
            ended = 0
        except SystemExit as end:
            ended = end.code or 0
    if ended != code or said not in out.getvalue():
        failed.append([words, ended, out.getvalue()[-500:]])
    if loaded := sorted({"torch", "transformers", "transformer_lens", "pandas"} & set(sys.modules)):
        failed.append([words, "loads", loaded])
        break
sys.argv = ["workbench", *sweep.split()]
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()
needed = {"torch", "transformers", "transformer_lens"} & set(sys.modules)
print(json.dumps([failed, sorted(needed)]))
"""
ABLATE = "ablate -m zoo:ioi -t ioi -n 8 -q -o table"


@pytest.fixture
def cut(tmp_path_factory):
    """Lines that make smaller circuits of saved ones, in a folder of their own."""
    folder, given = tmp_path_factory.mktemp("cut"), scores(seed=3)
    save_circuit(given.top(25), folder / "found")
    save_scores(given, folder / "found" / "scores.safetensors")
    return [
        (f"circuit keep {folder}/found --keep 20 -o {folder}/kept --json", 0, '"edges": 20,'),
        (f"circuit without published:ioi --node a9.h9@end -o {folder}/less --json", 0, '"edges_before"'),
        (f"circuit prune {folder}/kept -o {folder}/pruned --json", 0, '"edges": 20,'),
        (f"circuit view {folder}/kept -o {folder}/kept.html", 0, "kept.html"),
        (f"circuit diff {folder}/kept {folder}/found", 0, "20"),
        (f"circuit export {folder}/kept -f dot -o {folder}/kept.dot", 0, "kept.dot"),
    ]


def test_nothing_is_loaded_before_it_is_needed(tmp_path, cut):
    """Tables, plans, mistakes and smaller circuits need no torch, a small sweep of a built-in model nothing heavier."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(TABLES + PLANS + cut + MISTAKES), ABLATE],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    failed, needed = json.loads(done.stdout)
    assert failed == [] and needed == ["torch"]
    assert [path.name for path in tmp_path.iterdir()] == ["table"]  # nothing is written for a mistake
