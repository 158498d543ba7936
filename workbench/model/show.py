"""A picture of a model's layers for notebooks: static SVG and a table, nothing from the network."""

from __future__ import annotations

from workbench.core.show import card
from workbench.core.text import escape
from workbench.model.architecture import Architecture
from workbench.view.chart import svg, tooltip, words

_ROW, _CELL, _LEFT, _MOST_CELLS, _MOST_LAYERS = 16, 11, 46, 40, 48


@card(Architecture)
def architecture_card(model: Architecture) -> str:
    """HTML of an architecture: its layers bottom to top, and what works on it."""
    return (
        '<div style="font-family:sans-serif;font-size:13px">'
        f"<div>{escape(repr(model)[len('Architecture(') : -1])}</div>{_svg(model)}{_table(model)}</div>"
    )


def _svg(model: Architecture) -> str:
    shown: list[int | None] = list(range(model.n_layers))
    if model.n_layers > _MOST_LAYERS:
        shown = [*range(_MOST_LAYERS // 2), None, *range(model.n_layers - _MOST_LAYERS // 2, model.n_layers)]
    cells = min(model.n_heads, _MOST_CELLS)
    width = _LEFT + cells * _CELL + 90
    top = "logits" if model.has_lm_head else "last hidden state"
    rows: list[int | str | None] = ["input", *shown, top]
    height = len(rows) * _ROW + 4
    parts = [_row(model, row, height - (i + 1) * _ROW) for i, row in enumerate(rows)]
    title = f"{model.n_layers} layers, bottom to top"
    return svg("model", parts, size=(width, height), title=title)


def _row(model: Architecture, row: int | str | None, y: int) -> str:
    if row is None:
        return _text(_LEFT, y, f"... {model.n_layers - _MOST_LAYERS} more layers ...")
    if isinstance(row, str):
        return _text(_LEFT, y, row)
    parts = [_text(4, y, str(row))]
    if row in model.attention_layers:
        parts += [_head(model, head, y) for head in range(min(model.n_heads, _MOST_CELLS))]
        if model.n_heads > _MOST_CELLS:
            parts.append(_text(_LEFT, y, f"{model.n_heads} heads"))
    if row in model.mlp_layers:
        x = _LEFT + min(model.n_heads, _MOST_CELLS) * _CELL + 10
        parts.append(_box(x, y, 44, "#d9822b", f"MLP of layer {row}"))
        parts.append(_text(x + 6, y, "experts" if model.n_experts else "MLP"))
    return "".join(parts)


def _head(model: Architecture, head: int, y: int) -> str:
    group = head // model.heads_per_group if model.heads_per_group else head
    title = f"head {head}" if model.n_kv_heads == model.n_heads else f"head {head}, KV group {group}"
    shared = model.n_kv_heads < model.n_heads and group % 2 == 1
    return _box(_LEFT + head * _CELL, y, _CELL - 2, "#7a5cc2" if shared else "#2b7bb9", title)


def _box(x: int, y: int, width: int, color: str, title: str) -> str:
    size = f'width="{width}" height="{_ROW - 4}" rx="2"'
    return f'<rect x="{x}" y="{y}" {size} fill="{color}" fill-opacity="0.55">{tooltip(title)}</rect>'


def _text(x: int, y: int, text: str) -> str:
    return words(text, x, y + _ROW - 7)


def _table(model: Architecture) -> str:
    cell = '<td style="text-align:left">'
    rows = "".join(
        f"<tr>{cell}{escape(kind)}</td>{cell}{'works' if support.works else 'does not work'}</td>"
        f"{cell}{escape(support.why)}</td></tr>"
        for kind, support in model.support.items()
    )
    return f"<table>{rows}</table>"
