"""Pairs that a tiny model can read, of words or of pictures, and the same as transformers' model is called with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.families.configs import IMAGE, SIZES
from tests.mini import mini_pairs
from workbench.model.identity import class_names
from workbench.model.sight import sight_of
from workbench.tasks.alignment import AlignedPairs
from workbench.tasks.pairs import Pair, Pairs
from workbench.tasks.pictures.image import Picture
from workbench.tasks.pictures.sight import Sight


def pairs_for(model: Any, n: int) -> Pairs:
    """Pairs of words; of pictures of noise for a model that sees, with words around them where it reads words."""
    sight = sight_of(model)
    if sight is None:
        return mini_pairs(n)
    rng, text = np.random.default_rng(0), "" if sight.token is None else f"w10 {IMAGE} w31 w40"
    names = class_names(model)
    correct, incorrect = names[:2] if names else (" Mary", " John")
    return Pairs(
        items=tuple(
            Pair(
                id=f"noise-{i}",
                clean=text,
                corrupted=text,
                correct=(correct,),
                incorrect=(incorrect,),
                image=(_noise(sight, rng), _noise(sight, rng)),
            )
            for i in range(n)
        ),
        task="noise",
    )


def _noise(sight: Sight, rng: np.random.Generator) -> Picture:
    return Picture.of(rng.normal(size=(3, *sight.size)).astype("float32"))


def plain_prompts(model: Any, plain: Any, pairs: AlignedPairs) -> list[dict[str, Tensor]]:
    """The clean prompts, as transformers' model is called with them."""
    sight = sight_of(model)
    return [
        _words(ids, plain, sight) | _pixels(pair, sight)
        for ids, pair in zip(pairs.clean, pairs.pairs, strict=True)
    ]


def _words(ids: np.ndarray, plain: Any, sight: Sight | None) -> dict[str, Tensor]:
    """Token ids; of an encoder-decoder also what its answer begins with."""
    if sight is not None and sight.token is None:
        return {}
    found = {"input_ids": torch.as_tensor(ids)[None]}
    if sight is not None and sight.marks:
        found[sight.marks] = (found["input_ids"] == sight.token).long()
    if plain.config.is_encoder_decoder:
        found["decoder_input_ids"] = torch.full((1, 1), SIZES["decoder_start_token_id"])
    return found


def _pixels(pair: Pair, sight: Sight | None) -> dict[str, Tensor]:
    if sight is None or pair.image is None:
        return {}
    if sight.sizes is not None:
        return _of_one_size(pair.image[0], sight)
    pixels = torch.tensor(pair.image[0].pixels)[None]
    return {"pixel_values": pixels[:, None] if sight.nested else pixels}


def _of_one_size(picture: Picture, sight: Sight) -> dict[str, Tensor]:
    """A picture as it is cut for a model that takes several sizes, and what the model is told of its size."""
    sight = sight.of(picture)
    assert sight.sizes is not None
    made = torch.tensor(sight.numbers(picture))
    told = {name: torch.tensor([value]) for name, value in sight.sizes.told(sight.size).items()}
    return {"pixel_values": made if "image_grid_thw" in told else made[None], **told}
