"""What mixes positions in layers without attention heads, what can be measured of it, and why the rest cannot."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.core.errors import ModelError


@dataclass(frozen=True)
class PositionMixer:
    """What reads other positions in a layer without attention heads.

    Attributes:
        part: Its name in a bridge's block; its hooks are ``blocks.N.PART.hook_in`` and ``hook_out``.
        what: What it is, as "the layers mix positions by ..." goes on.
    """

    part: str
    what: str


STATE_SPACE = PositionMixer("mixer", "a state-space mixer: a state that each token in turn updates")
TIME_MIX = PositionMixer("time_mix", "time mixing: sums of values whose weights decay with every token")
_BY_FAMILY = {
    **dict.fromkeys(("mamba", "mamba2", "falcon_mamba"), STATE_SPACE),
    "rwkv": TIME_MIX,
}


def mixer_of_family(model_type: str) -> PositionMixer | None:
    """Return what mixes positions in a family without heads, by its ``model_type``; None for any other.

    Example:
        >>> mixer_of_family("rwkv").part
        'time_mix'
    """
    return _BY_FAMILY.get(model_type)


def no_heads(n_layers: int, mixer: PositionMixer | None, *, has_mlps: bool) -> ModelError:
    """Return the error for a question about heads: what there is instead, what can be measured, and what not."""
    if mixer is None:
        kind = "MLPs alone" if has_mlps else "another kind"
        return ModelError(
            f"the model has no attention heads ({n_layers} layers of {kind})",
            hint="the residual stream can be patched: workbench patch --site resid",
        )
    hook = f"blocks.0.{mixer.part}.hook_out"
    return ModelError(
        f"the model has no attention heads: its {n_layers} layers mix positions by {mixer.what}. "
        "No query weighs single keys there, so there are no q, k, v, patterns or head outputs to edit, and no edges. "
        f"The residual stream can be measured, and what a layer's mixer writes ({hook})",
        hint=f"workbench patch --site resid; without a mixer, in Python: "
        f'model.hooks(fwd_hooks=[("{hook}", lambda out, hook: 0 * out)])',
    )
