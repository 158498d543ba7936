"""Which models take pictures, and in what form: from their configuration, and kept with the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.errors import ModelError
from workbench.model.directory import read_configuration
from workbench.model.prompt import Prompt
from workbench.tasks.pictures.names import COMPARES
from workbench.tasks.pictures.sight import CaptionReading, PaintReading, Scaling, Sight
from workbench.tasks.pictures.sizes import Crops, WholePatches

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

PIXELS = frozenset({"pixel_values"})
"""Arguments that only towers read."""
_ATTRIBUTE = "_workbench_sight"
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")


def sight_of(bridge: TransformerBridge) -> Sight | None:
    """Return how an opened model takes pictures in; None where it takes none, or in a way that is not known here."""
    return bridge.__dict__.get(_ATTRIBUTE)


def reads_pictures_alone(bridge: TransformerBridge) -> bool:
    """Whether an opened model takes pictures and no words beside them."""
    sight = sight_of(bridge)
    return sight is not None and sight.token is None


def require_texts(bridge: TransformerBridge, what: str) -> None:
    """Do nothing if a model can be given tokens without a picture.

    Args:
        what: Is measured on texts, in words.

    Raises:
        ModelError: for a model that always reads a picture.
    """
    sight = sight_of(bridge)
    if sight is not None and sight.token is None:
        raise ModelError(
            f"{what} is measured on texts, and the model reads pictures", hint="-m zoo:induction"
        )


def give_sight(bridge: TransformerBridge, sight: Sight | None) -> None:
    """Keep with a model how it takes pictures in."""
    object.__setattr__(
        bridge, _ATTRIBUTE, sight
    )  # past the bridge's own, which may write to the wrapped model


def require_pixels(bridge: TransformerBridge, prompt: Prompt) -> None:
    """Do nothing if a prompt has pixels exactly where the model needs them.

    Raises:
        ModelError: for a picture that is missing, of no use, or at another number of tokens than it takes.
    """
    sight = sight_of(bridge)
    has = bool(PIXELS & set(prompt.extras))
    if sight is None:
        if has:
            raise ModelError(
                "the prompt has pixels; the model takes none", hint="give the token ids alone: model(ids)"
            )
        return
    if sight.token is None:
        if not has:
            raise ModelError("the model reads pictures, and the prompt has none", hint="Pair(image=...)")
        return
    if prompt.entered:
        return
    counts = (prompt.ids == sight.token).sum(1)
    expected = _n_tokens(sight, prompt) if has else 0
    if bool((counts != expected).any()):
        found = int(counts[counts != expected][0])
        raise ModelError(
            f"a prompt has {found} image tokens (id {sight.token}) and {'a' if has else 'no'} picture; "
            f"{expected} are expected",
            hint="Pair(image=...) gives prompts their pictures; one image token in a text stands for all of them",
        )


def _n_tokens(sight: Sight, prompt: Prompt) -> int:
    """How many image tokens the pictures of a prompt take.

    Raises:
        ModelError: if the model is not told how large they are.
    """
    if sight.sizes is None:
        return sight.n_tokens
    if missing := [name for name in sight.sizes.told(sight.size) if name not in prompt.extras]:
        raise ModelError(
            f"the prompt has pixels and no {missing[0]}", hint=f"extras: pixel_values and {missing[0]}"
        )
    return sight.of_size(sight.sizes.size_in(prompt.extras)).n_tokens


def sight_from(config: Any, directory: Path | None = None) -> Sight | None:
    """Return how a model of this configuration takes pictures in; None where it takes none that are known here.

    Args:
        directory: Where the model is; what stands there says how colours become numbers.
    """
    make = FAMILIES.get(getattr(config, "model_type", ""))
    return None if make is None else make(config, _scaling(directory))


def _scaling(directory: Path | None) -> Scaling | None:
    """From the file that Hugging Face's image processors keep."""
    for path in [directory / name for name in _PROCESSORS] if directory is not None else []:
        if path.is_file():
            fields = read_configuration(path)
            return scaling_in(fields.get("image_processor", fields), str(path))
    return None


def scaling_in(fields: Mapping[str, Any], where: str) -> Scaling | None:
    """How an image processor makes numbers of colours; sizes and crops are not looked at, since nothing is resized.

    Raises:
        ModelError: if means or deviations are not three numbers.
    """
    if not isinstance(fields, Mapping) or not {"image_mean", "do_normalize", "rescale_factor"} & set(fields):
        return None
    normalized = fields.get("do_normalize", "image_mean" in fields)
    factor = fields.get("rescale_factor", 1 / 255) if fields.get("do_rescale", True) else 1.0
    if not normalized:
        return Scaling(factor=float(factor))
    mean, std = (_three(fields.get(name), name, where) for name in ("image_mean", "image_std"))
    return Scaling(factor=float(factor), mean=mean, std=std)


def _three(values: object, name: str, where: str) -> tuple[float, float, float]:
    """Three numbers, one for each colour."""
    if isinstance(values, list) and len(values) == 3 and all(isinstance(v, int | float) for v in values):
        red, green, blue = map(float, values)
        return red, green, blue
    raise ModelError(
        f"{where}: {name} is {values!r:.60}; three numbers are expected",
        hint=f"write three numbers, one for each colour: {name}: [0.5, 0.5, 0.5]",
    )


def _side(config: Any, name: str) -> tuple[int, int]:
    value = getattr(config, name)
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _patches(vision: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """Size in pixels, and rows and columns of patches."""
    size, patch = _side(vision, "image_size"), _side(vision, "patch_size")
    return size, (size[0] // patch[0], size[1] // patch[1])


def _llava(config: Any, scaling: Scaling | None) -> Sight:
    size, grid = _patches(config.vision_config)
    has_class = config.vision_config.model_type.startswith("clip")
    whole = grid[0] * grid[1] + has_class
    n = whole - (
        config.vision_feature_select_strategy == "default"
    )  # which drops the first, whatever that is
    before = n - grid[0] * grid[1]
    if before < 0:
        grid, before = (1, n), 0
    token = config.image_token_id
    at = {"size": size, "grid": grid, "n_tokens": n, "first": before, "token": token}
    return Sight(
        **at, scaling=scaling, tower_first=int(has_class) if n - before == whole - has_class else None
    )


def _gemma3(config: Any, scaling: Scaling | None) -> Sight:
    n = config.mm_tokens_per_image
    grid = (isqrt(n), isqrt(n))
    size = _side(config.vision_config, "image_size")
    return Sight(
        size=size, grid=grid, n_tokens=n, token=config.image_token_id, scaling=scaling, marks="token_type_ids"
    )


def _idefics3(config: Any, scaling: Scaling | None) -> Sight:
    size, grid = _patches(config.vision_config)
    grid = (grid[0] // config.scale_factor, grid[1] // config.scale_factor)
    n, token = grid[0] * grid[1], config.image_token_id
    return Sight(size=size, grid=grid, n_tokens=n, token=token, scaling=scaling, nested=True)


def _vit(config: Any, scaling: Scaling | None) -> Sight:
    size, grid = _patches(config)
    before = _BEFORE[config.model_type] + getattr(config, "num_register_tokens", 0)
    return Sight(size=size, grid=grid, n_tokens=grid[0] * grid[1] + before, first=before, scaling=scaling)


_BEFORE = {
    **dict.fromkeys(("vit", "vit_msn", "beit", "clip_vision_model"), 1),
    **dict.fromkeys(("dinov2", "dinov2_with_registers", "dinov3_vit"), 1),
    "deit": 2,  # also a token that a teacher spoke to
    **dict.fromkeys(("siglip_vision_model", "ijepa"), 0),
}
"""Positions of towers before their patches, registers not counted."""


def _of_words(config: Any, scaling: Scaling | None) -> Sight:
    """CLIP's and SigLIP's part for pictures, by itself; and beside captions, where the whole model is there."""
    sight = _vit(config.vision_config, scaling)
    if not set(getattr(config, "architectures", None) or ()) & set(COMPARES):
        return sight
    text = config.text_config
    end = getattr(text, "eos_token_id", None) if config.model_type == "clip" else None
    reading = CaptionReading(
        n_ctx=text.max_position_embeddings, d_vocab=text.vocab_size, end=None if end == 2 else end
    )
    return replace(sight, captions=reading)


def _paligemma(config: Any, scaling: Scaling | None) -> Sight:
    size, grid = _patches(config.vision_config)
    n, token = grid[0] * grid[1], config.image_token_id
    return Sight(size=size, grid=grid, n_tokens=n, token=token, scaling=scaling)


def _internvl(config: Any, scaling: Scaling | None) -> Sight:
    size, grid = _patches(config.vision_config)
    rows, columns = (int(n * config.downsample_ratio) for n in grid)
    token = config.image_token_id
    return Sight(size=size, grid=(rows, columns), n_tokens=rows * columns, token=token, scaling=scaling)


def _painter(config: Any, scaling: Scaling | None) -> Sight:
    size, grid = _patches(config)
    reading = PaintReading(n_words=config.max_position_embeddings, d_vocab=config.vocab_size)
    return Sight(size=size, grid=grid, n_tokens=grid[0] * grid[1], scaling=scaling, paints=reading)


def _blip2(config: Any, scaling: Scaling | None) -> Sight:
    n, token = (
        config.num_query_tokens,
        config.image_token_id,
    )  # questions to the picture, which have no place in it
    size = _side(config.vision_config, "image_size")
    return Sight(size=size, grid=(1, n), n_tokens=n, token=token, scaling=scaling)


def _qwen_vl(config: Any, scaling: Scaling | None) -> Sight:
    vision = config.vision_config
    sizes = WholePatches(
        patch=vision.patch_size, merge=vision.spatial_merge_size, frames=vision.temporal_patch_size
    )
    return _usual(sizes, config.image_token_id, scaling, marks="mm_token_type_ids")


def _mistral3(config: Any, scaling: Scaling | None) -> Sight | None:
    vision = config.vision_config
    if vision.model_type != "pixtral":
        return None
    sizes = WholePatches(
        patch=vision.patch_size, merge=config.spatial_merge_size, longest=_side(vision, "image_size")[0]
    )
    return _usual(sizes, config.image_token_id, scaling, row_ends=("[IMG_BREAK]", "[IMG_END]"))


def _usual(sizes: WholePatches, token: int, scaling: Scaling | None, **more: Any) -> Sight:
    """For pictures of two by three positions, such as the probe's: rows and columns cannot be taken for each other."""
    sight = Sight(size=(0, 0), grid=(0, 0), n_tokens=0, token=token, scaling=scaling, sizes=sizes, **more)
    most = 3 if sizes.longest is None else sizes.longest // sizes.unit
    return sight.of_size((min(2, most) * sizes.unit, min(3, most) * sizes.unit))


def _llava_next(config: Any, scaling: Scaling | None) -> Sight | None:
    """Where every crop gives its patches alone: with a class token that is not dropped, or without one, crops do not
    fit together."""
    vision = config.vision_config
    side, grid = _patches(vision)
    if vision.model_type.startswith("clip") != (config.vision_feature_select_strategy == "default"):
        return None
    sizes = tuple((height, width) for height, width in config.image_grid_pinpoints)
    fit = tuple(size for size in sizes if not (size[0] % side[0] or size[1] % side[1]))
    if not fit:
        return None
    crops = Crops(side=side, grid=grid, sizes=fit)
    token = config.image_token_id
    at = Sight(
        size=(0, 0),
        grid=grid,
        n_tokens=0,
        token=token,
        scaling=scaling,
        before="overview",
        gap=1,
        sizes=crops,
    )
    return at.of_size(fit[0])


FAMILIES: dict[str, Callable[[Any, Scaling | None], Sight | None]] = {
    "llava": _llava,
    "gemma3": _gemma3,
    "idefics3": _idefics3,
    "smolvlm": _idefics3,
    "paligemma": _paligemma,
    "internvl": _internvl,
    "blip-2": _blip2,
    "llava_next": _llava_next,
    "mistral3": _mistral3,
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"), _qwen_vl),
    "painter": _painter,
    "clip": _of_words,
    "siglip": _of_words,
    **dict.fromkeys(_BEFORE, _vit),
}
"""``model_type`` of a configuration -> how such models take pictures in."""
