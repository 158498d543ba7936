"""One prompt through a model: lines for a terminal, a card for notebooks, a page of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.core.show import card, page, picture, terminal
from workbench.heads.prompt_look import PromptLook
from workbench.view.color import css, ink, signed
from workbench.view.head_maps import head_maps_svg
from workbench.view.heatmap import heatmap_svg
from workbench.view.html import facts_html, results_page, table_html, text_html
from workbench.view.pictures import Heatmap
from workbench.view.text import escape, number, printable, shorten

MOST, MOST_HEADS, MOST_MAPS = 12, 12, 48
LONGEST = 12  # characters of a token over a column


@terminal(PromptLook)
def look_lines(look: PromptLook) -> list[Any]:
    """Return what comes next, from which layer on, and which heads make it so."""
    found: list[Any] = [_headline(look), _next(look)]
    if look.answers:
        found.append(_answers(look))
    if look.lens is not None:
        found += ["what would come next from the stream before each layer (logit lens):", _lens_rows(look)]
    if look.parts is not None:
        found += [_compared(look), _parts(look, MOST)]
    return [*found, *(f"note: {note}" for note in look.notes)]


@card(PromptLook)
def look_card(look: PromptLook) -> str:
    """Return the same as static tables and pictures."""
    return "".join([f"<p>{escape(_headline(look))}</p>", *(markup for _, markup in _sections(look, MOST))])


@picture(PromptLook)
def look_svg(look: PromptLook) -> str:
    """Draw where heads look from the last token."""
    return _from_end(look).svg()


@page(PromptLook)
def look_page(look: PromptLook) -> str:
    """Return all of it as a page of its own."""
    sections = _sections(look, None)
    sections.append(("Measured on", facts_html({**look.provenance, "bos": look.bos, "chat": look.chat})))
    return results_page(f"A prompt in {look.model}", sections, lead=_headline(look))


def _sections(look: PromptLook, most: int | None) -> list[tuple[str, str]]:
    notes = text_html("\n\n".join(look.notes))
    found = [("What comes next", notes + table_html(_next(look), caption="next tokens"))]
    if look.answers:
        found.append(("Answers asked about", table_html(_answers(look), caption="answers")))
    if look.lens is not None:
        found.append(
            ("Logit lens: the most probable token of every stream at every position", _lens_table(look))
        )
    if look.parts is not None:
        drawn = heatmap_svg(
            *look.parts.head_grid(look.parts.values.mean(1)), title=_compared(look), unit=look.parts.unit
        )
        found.append(("What heads and MLPs add", drawn + table_html(_parts(look, most))))
    if look.weights is not None:
        found.append(("Where heads look from the last token", _from_end(look).svg()))
        found.append(("Attention patterns: rows look, columns are looked at", _maps(look)))
    return found


def _headline(look: PromptLook) -> str:
    first = look.next[0]
    marks = ("with" if look.bos else "without") + " a token that starts it"
    return (
        f"{look.model} reads {len(look.tokens)} tokens ({marks}); next: {_word(first.token)} with probability "
        f"{number(first.probability)}"
    )


def _word(token: str) -> str:
    """A token in quotation marks: spaces in it are seen."""
    return f"“{printable(token)}”"


def _next(look: PromptLook) -> list[dict[str, Any]]:
    return [{"next": _word(n.token), "probability": n.probability, "logit": n.logit} for n in look.next]


def _answers(look: PromptLook) -> list[dict[str, Any]]:
    return [
        {
            "answer": _word(one.answer),
            "tokens": " ".join(map(_word, one.tokens)),
            "log-probability": one.log_probability,
            "probability": float(np.exp(one.log_probability)),
            "more probable": one.rank,
        }
        for one in look.answers
    ]


def _lens_rows(look: PromptLook) -> list[dict[str, Any]]:
    said = f"place of {_word(look.next[0].token)}"
    return [
        {
            "stream": row["stream"],
            "token": _word(row["token"]),
            "probability": row["probability"],
            said: row["rank_of_next"] + 1,
        }
        for row in look.lens_rows()
    ]


def _compared(look: PromptLook) -> str:
    correct, other = (_word(token) for token in look.compared)
    total = 0.0 if look.parts is None else float(look.parts.total.mean())
    return f"what each part adds to {correct} over {other} ({number(total)} logits in all)"


def _parts(look: PromptLook, most: int | None) -> list[dict[str, Any]]:
    if look.parts is None:
        return []
    names = {"part": "part", "direct": "direct (logits)", "share": "share", "norm_live": "norm live"}
    if look.parts.carried is not None:
        names |= {"looks_at": "looks most at", "attention": "attention", "carries_from": "carries most from"}
    return [{shown: row[key] for key, shown in names.items()} for row in look.parts.rows(most)]


def _lens_table(look: PromptLook) -> str:
    """A table of tokens, the more probable the darker; the last stream is at the top, as what the model says."""
    assert look.lens is not None
    head = "".join(f"<th>{escape(_short(token))}</th>" for token in look.tokens)
    rows = []
    for i in reversed(range(len(look.lens.tokens))):
        cells = "".join(
            _cell(token, float(p))
            for token, p in zip(look.lens.tokens[i], look.lens.probability[i], strict=True)
        )
        rows.append(f"<tr><th>r{i}</th>{cells}</tr>")
    return (
        '<div style="overflow-x:auto"><table><thead><tr><th>stream</th>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(token: str, probability: float) -> str:
    shade = signed(probability)
    style = f"background:{css(shade)};color:{ink(shade)};text-align:center"
    return f'<td style="{style}" title="{escape(_word(token))} {number(probability)}">{escape(_short(token))}</td>'


def _short(token: str) -> str:
    return shorten(printable(token).strip() or "␣", LONGEST)


def _heads(look: PromptLook, most: int) -> list[str]:
    """The heads that add most; without contributions the first ones."""
    known = look.from_end
    ordered = [] if look.parts is None else [look.parts.labels[i] for i in look.parts.order]
    chosen = [label for label in ordered if label in known] or list(known)
    return chosen[:most]


def _from_end(look: PromptLook) -> Heatmap:
    heads = _heads(look, MOST_HEADS)
    return Heatmap.of(
        np.array([look.from_end[head] for head in heads]),
        heads,
        [f"{i} {_short(token)}" for i, token in enumerate(look.tokens)],
        title=f"attention from the last token, the {len(heads)} heads that add most",
        unit="share",
    )


def _maps(look: PromptLook) -> str:
    """All heads, or the layers that fit, each a small map."""
    assert look.weights is not None
    layers = max(1, min(len(look.layers), MOST_MAPS // look.weights.shape[1]))
    first = len(look.layers) - layers
    names = [f"a{layer}" for layer in look.layers[first:]]
    left = f"the last {layers} of {len(look.layers)} layers" if first else "all layers"
    return head_maps_svg(
        look.weights[first:] / 255,
        names,
        [f"h{head}" for head in range(look.weights.shape[1])],
        title=f"patterns of {left}",
        unit="share",
    )
