"""The table of `docs/multimodal.md`: where a picture goes in a model of every family that opens with pictures.

    python -m tests.layout_table            writes the page
    python -m tests.layout_table --check    fails if the page is not what the code does

Each family is a tiny random model with the structure of trained ones, opened from disk like any other.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.families import VOCABULARY, _root, save_tokenizer
from tests.seeing import BUILDERS, IMAGE, seeing_dir
from tests.towers import SPEAKING, TOWERS, speaking_dir, tower_dir
from workbench.circuits.files.markdown import table
from workbench.model.multimodal_layout import MultimodalLayout, multimodal_layout
from workbench.model.open import open_model

PAGE = Path(__file__).resolve().parent.parent / "docs" / "multimodal.md"
BUILT_IN = ("zoo:vlm", "zoo:clip", "zoo:marked", "zoo:painter")
INTRO = """# Where a picture goes

A model that sees has up to three parts. A *tower* reads the pixels. A *connector* turns what the tower writes into rows
of another width. A *language model* reads these rows among the words. `workbench model show NAME` says of any model
which parts it has, how large they are, and where the tokens of a picture stand; with `--json` the key is `multimodal`.
In Python it is `workbench.model.multimodal_layout.multimodal_layout(model)`.

This page is paper 60 of [the list](papers.md): *Visual Instruction Tuning towards General-Purpose Multimodal Model: A
Survey*. A survey has no claims of its own, so nothing can hold or fail.
`workbench replicate instruction-tuning-survey -m MODEL` puts a model beside the built-in ones.

Made by `python -m tests.layout_table`. The models of families are tiny and random, with the structure of trained ones.
So numbers of tokens are theirs, and `w119` is the image token of their tokenizer. The names of parts are those of
transformers.

"""


def main() -> int:
    """Write or check the page; 1 if the check fails."""
    made = INTRO + table([row_of(name, layout) for name, layout in layouts()]) + "\n"
    if "--check" in sys.argv[1:]:
        return 0 if PAGE.read_text(encoding="utf-8") == made else 1
    PAGE.write_text(made, encoding="utf-8")
    return 0


@cache
def blip2_dir(name: str = "blip2") -> Path:
    """Directory of a tiny BLIP-2, whose connector asks the tower with four queries."""
    import transformers as t

    size = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2}
    sees = t.Blip2VisionConfig(**size, intermediate_size=48, image_size=16, patch_size=4)
    asks = t.Blip2QFormerConfig(**size, intermediate_size=48, encoder_hidden_size=32)
    text = {"ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 64}
    says = t.OPTConfig(**size, **text, vocab_size=len(VOCABULARY))
    parts = {"vision_config": sees.to_dict(), "qformer_config": asks.to_dict(), "text_config": says.to_dict()}
    config = t.Blip2Config(**parts, num_query_tokens=4, image_token_index=IMAGE)
    directory = _root() / name
    t.Blip2ForConditionalGeneration(config).save_pretrained(directory)
    save_tokenizer(directory)
    return directory


def layouts() -> Iterator[tuple[str, MultimodalLayout]]:
    """Every family that opens with pictures, then built-in models."""
    makers = {**dict.fromkeys(BUILDERS, seeing_dir), **dict.fromkeys(SPEAKING, speaking_dir)}
    makers |= {"blip2": blip2_dir} | dict.fromkeys(TOWERS, tower_dir)
    for name, make in makers.items():
        yield name, layout_at(make(name))
    for name in BUILT_IN:
        yield name, layout_at(name)


def layout_at(name: str | Path) -> MultimodalLayout:
    """The layout of a model that takes pictures."""
    found = multimodal_layout(open_model(str(name)))
    assert found is not None, name
    return found


def row_of(name: str, layout: MultimodalLayout) -> dict[str, str]:
    """One row of the page."""
    return {"model": name, **layout.row(sizes=False)}


if __name__ == "__main__":
    raise SystemExit(main())
