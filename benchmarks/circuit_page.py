"""How large the page of a circuit is and how smoothly it moves: 5,000 edges, every head's attention on 40 tokens.

``python -m benchmarks.circuit_page`` writes such a page, prints its bytes by part, opens it in headless Chromium, drags
the picture by its background and prints the median and the 95th percentile of the time between frames, with all edges
kept and with a tenth of them. It needs Selenium, Chromium and chromedriver.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from workbench.circuits.circuit import Circuit
from workbench.circuits.details import (
    DetailsContent,
    EdgeDetail,
    EdgeReason,
    HeadDetail,
    ShownPrompt,
    Term,
    Terms,
    WrittenTokens,
    pattern_text,
)
from workbench.circuits.graph import Graph, GraphShape
from workbench.circuits.scores import Scores
from workbench.circuits.show.circuit_page import circuit_page
from workbench.circuits.verdicts.judgement import circuit_digest

GPT2 = GraphShape(n_layers=12, n_heads=12, n_kv_heads=12)
PROMPTS, REASONS = 5, 60
FRAMES = 90
PAN = """
const done = arguments[arguments.length - 1], frames = arguments[0], times = [];
const stage = document.getElementById("graph"), box = stage.getBoundingClientRect();
const at = { x: box.left + 12, y: box.top + 12 };
const mouse = (name, on) => on.dispatchEvent(new MouseEvent(name, {
  bubbles: true, cancelable: true, view: window, button: 0, buttons: name === "mouseup" ? 0 : 1,
  clientX: at.x, clientY: at.y }));
let before = null, i = 0;
mouse("mousedown", stage.querySelector("canvas"));
const step = (now) => {
  if (before !== null) times.push(now - before);
  before = now;
  at.x += i % 60 < 30 ? 6 : -6; at.y += i % 20 < 10 ? 3 : -3;
  mouse("mousemove", window);
  i += 1;
  if (i <= frames) requestAnimationFrame(step); else { mouse("mouseup", window); done([times, circuitPage.cy.pan()]); }
};
requestAnimationFrame(step);
"""


def made_scores(shape: GraphShape, seed: int = 0) -> Scores:
    """Scores with a long tail, drawn from a seed."""
    graph, rng = Graph(shape), np.random.default_rng(seed)
    values = rng.standard_t(2, size=graph.edge_mask.shape)
    values[0] *= (
        100  # every part reads the input and writes to the logits, so that what is kept is also drawn
    )
    values[:, -1] *= 100
    values = np.where(graph.edge_mask, values, np.nan)
    return Scores(
        graph=graph,
        values=values,
        level="edge",
        method="eap-ig",
        unit="logits",
        metric="logit-difference",
        n_pairs=64,
    )


def _pattern(rng: np.random.Generator, tokens: int) -> np.ndarray:
    """Bytes drawn from a seed; nothing ahead of the query."""
    return np.tril(rng.integers(0, 256, (tokens, tokens))).astype(np.uint8)


def made_details(circuit: Circuit, *, heads: int, tokens: int, seed: int = 0) -> DetailsContent:
    """Details as large as those of a real circuit: attention that no compression would make small."""
    rng, names = np.random.default_rng(seed), list(circuit.heads)[:heads]
    words = [f" word{i}" for i in range(tokens)]
    row = [Term(term=f"a{i}.h{i}", mean=float(rng.normal()), share=float(rng.uniform())) for i in range(6)]
    terms = [
        Terms(title="who writes the query of this head", sums_to="the score of the key over its rivals",
              unit="attention score", total=1.5, of=158, terms=row)
    ] * 3  # fmt: skip
    facts = {f"a number of the reason, {i}": float(rng.normal()) for i in range(8)}
    reason = EdgeReason(read="q", n_pairs=64, places=[{"query": "end", "key": "S2", "pairs": 12}] * 3,
                        rankings=terms, facts=facts)  # fmt: skip
    top = WrittenTokens(
        raised=[(f" token{i}", 1.25) for i in range(5)], lowered=[(f" token{i}", -1.25) for i in range(5)]
    )
    return DetailsContent(
        circuit=circuit_digest(circuit), model="made", task="made", metric="logit-difference", unit="logits",
        ablation="resample", n_pairs=64, notes=[], provenance={},
        prompts=[
            ShownPrompt(
                title=f"pair {i}, clean", tokens=words, read_at=tokens - 1,
                causal=True,
                patterns={h: pattern_text(_pattern(rng, tokens), causal=True) for h in names},
                writes=dict.fromkeys(names, top),
            )
            for i in range(PROMPTS)
        ],
        heads={h: HeadDetail(effect=1.2345, low=1.0, high=1.5, direct=0.25, direct_stderr=0.05,
                             looks={"S2": 0.9, "IO": 0.05, "end": 0.01}, carries="S2") for h in names},
        edges={e: EdgeDetail(exact=0.123456, reason=reason) for e in list(circuit.edges)[:REASONS]},
    )  # fmt: skip


def page_of(edges: int, heads: int, tokens: int) -> tuple[str, dict[str, int]]:
    """The page, and the bytes of its parts."""
    scores = made_scores(GPT2)
    circuit = scores.top(edges, prune=False)
    details = made_details(circuit, heads=heads, tokens=tokens)
    page, bare = circuit_page(circuit, details=details), circuit_page(circuit)
    empty = circuit_page(circuit.top(0))
    size = {name: len(text.encode()) for name, text in (("whole", page), ("bare", bare), ("empty", empty))}
    parts = {
        "scripts, styles and frame": size["empty"],
        f"{circuit.n_edges:,} edges and {circuit.n_nodes} nodes": size["bare"] - size["empty"],
        f"{len(details.heads)} heads on {PROMPTS} prompts of {tokens} tokens, {REASONS} reasons": size[
            "whole"
        ]
        - size["bare"],
        "the page": size["whole"],
    }
    return page, parts


@contextmanager
def browser() -> Iterator[Any]:
    """Headless Chromium of 1,400 by 900."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    with tempfile.TemporaryDirectory(prefix="workbench-page-", ignore_cleanup_errors=True) as profile:
        for flag in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=1400,900",
        ):
            options.add_argument(flag)
        options.add_argument(f"--user-data-dir={profile}")
        driver = webdriver.Chrome(
            options=options, service=webdriver.ChromeService(shutil.which("chromedriver"))
        )
        driver.set_script_timeout(300)
        try:
            yield driver
        finally:
            driver.quit()


def frame_times(driver: Any, shown: int) -> dict[str, float]:
    """Milliseconds between frames while the picture is panned, with so many edges kept."""
    driver.execute_script(f"circuitPage.update({shown})")
    driver.execute_async_script(PAN, 10)  # what is drawn once is not counted
    before = driver.execute_script("return circuitPage.cy.pan()")
    times, after = driver.execute_async_script(PAN, FRAMES)
    if before == after:
        raise RuntimeError("the picture did not move")
    drawn = driver.execute_script("return circuitPage.shown().edges.size")
    return {
        "kept": shown,
        "drawn": drawn,
        "median_ms": float(np.median(times)),
        "p95_ms": float(np.quantile(times, 0.95)),
        "frames": len(times),
    }


def main() -> None:
    """Print bytes and frame times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edges", type=int, default=5000)
    parser.add_argument("--heads", type=int, default=144)
    parser.add_argument("--tokens", type=int, default=40)
    asked = parser.parse_args()
    page, parts = page_of(asked.edges, asked.heads, asked.tokens)
    for name, size in parts.items():
        print(f"{size:>12,} bytes  {name}")
    with tempfile.TemporaryDirectory() as folder, browser() as driver:
        path = Path(folder) / "page.html"
        path.write_text(page, encoding="utf-8")
        driver.get(path.as_uri())
        for shown in (asked.edges, asked.edges // 10):
            print(json.dumps(frame_times(driver, shown)))


if __name__ == "__main__":
    main()
