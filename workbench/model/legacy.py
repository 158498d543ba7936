"""Import of checkpoints of the retired HookedTransformer class: per-head tensors by name, one per matrix.

Read are a `.pt` state dict (tensors only: `torch.load(weights_only=True)`), the configuration as JSON, a vocabulary
file with one token a line, and a file with one output name a line; written is a native directory that `open_model`
opens. The result is checked against a forward pass written out below on the checkpoint's own tensors.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.core.errors import ModelError
from workbench.model import native, parity
from workbench.model.legacy_config import legacy_shapes, read_config
from workbench.model.legacy_vocabulary import Vocabulary, read_output_names, write_tokenizer
from workbench.model.open import identity, open_model
from workbench.model.pickles import load_tensors
from workbench.model.plain import ACTIVATIONS
from workbench.tasks.outputs import Outputs, numbered


@dataclass(frozen=True, kw_only=True)
class ImportedModel:
    """What an import made; `difference` is the largest absolute difference of logits from the definition.

    `outputs` says what the model puts out, where that is not its tokens.
    """

    directory: Path
    parameters: int
    difference: float
    tokenizer: str | None
    digest: str
    notes: tuple[str, ...]
    outputs: str | None = None

    def to_dict(self) -> dict[str, object]:
        """Return the fields as plain JSON values."""
        return {**asdict(self), "directory": str(self.directory), "notes": list(self.notes)}


def import_checkpoint(
    weights: Path,
    directory: Path,
    *,
    config: Path,
    vocabulary: Vocabulary | None = None,
    outputs: Path | None = None,
) -> ImportedModel:
    """Turn a HookedTransformer state dict into a native directory, and check that it computes the same.

    Args:
        outputs: Names of the model's outputs, one a line. Without it a model that has as many outputs as tokens puts
            out tokens, and any other puts out `class-0`, `class-1` ...

    Raises:
        ModelError: if a file cannot be read or trusted, tensors are missing or misshapen, the configuration
            asks for something a native model cannot do, or the result computes something else.
    """
    directory = Path(directory)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ModelError(
            f"{directory} exists and is not empty", hint="give a new directory, or remove it first"
        )
    fields = read_config(config)
    state = read_state(weights)
    tokens = None if vocabulary is None else vocabulary.read(fields["d_vocab"])
    names = () if outputs is None else read_output_names(outputs, fields["d_vocab_out"])
    converted = convert(state, fields, where=str(weights))
    notes = list(fields.pop("notes"))
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}-") as name:
        made = Path(name) / "model"
        if tokens is not None and tokens.bos is None and fields["default_prepend_bos"]:
            notes.append("the configuration prepends BOS, and the vocabulary has none: nothing is prepended")
        if tokens is None or tokens.bos is None:
            fields["default_prepend_bos"] = False
        named = {native.OUTPUT_NAMES: {str(i): name for i, name in enumerate(names)}} if names else {}
        native.write_native({**fields, **named, "dtype": "float32"}, converted, made)
        if tokens is not None:
            write_tokenizer(tokens, made, n_ctx=fields["n_ctx"])
        difference, digest = _verify(made, state, fields)
        if directory.is_dir():
            directory.rmdir()
        shutil.move(made, directory)
    return ImportedModel(
        directory=directory,
        parameters=sum(tensor.numel() for tensor in converted.values()),
        difference=difference,
        tokenizer=None if tokens is None else tokens.describe(),
        digest=digest,
        notes=tuple(notes),
        outputs=_outputs(fields, names),
    )


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint; nothing else in the file is executed or kept.

    Raises:
        ModelError: if the file is damaged, or holds anything but tensors.
    """
    loaded = load_tensors(path)
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not loaded:
        raise ModelError(
            f"{path} holds a {type(loaded).__name__}; a state dict (names to tensors) is expected",
            hint="on a machine that trusts it: torch.save(model.state_dict(), 'weights.pt')",
        )
    if wrong := [str(name) for name, value in loaded.items() if not isinstance(value, Tensor)]:
        raise ModelError(
            f"{path}: {wrong[0]} is not a tensor; a state dict is expected",
            hint="save the tensors alone: torch.save(model.state_dict(), 'weights.pt')",
        )
    return {str(name): value.detach() for name, value in loaded.items()}


def convert(
    state: Mapping[str, Tensor], fields: Mapping[str, Any], *, where: str = "the checkpoint"
) -> dict[str, Tensor]:
    """Rename and flatten the per-head tensors of a HookedTransformer to a native bridge's.

    Raises:
        ModelError: on missing, superfluous, misshapen or non-finite tensors.
    """
    if fields["n_layers"] > len(state):  # asked before a name is made for each of them
        raise ModelError(
            f"{where} has {len(state)} tensors; the configuration says {fields['n_layers']} layers",
            hint="give the configuration that belongs to it: --config FILE",
        )
    expected = legacy_shapes(fields)
    found = {name: value for name, value in state.items() if not name.endswith((".mask", ".IGNORE"))}
    if missing := sorted(set(expected) - set(found)):
        raise ModelError(
            f"{where} lacks {len(missing)} of {len(expected)} tensors: {', '.join(missing[:4])}",
            hint="give the configuration that belongs to it: --config FILE; check attn_only and normalization_type",
        )
    if extra := sorted(set(found) - set(expected)):
        raise ModelError(
            f"{where} has {len(extra)} tensors the configuration has no place for: {', '.join(extra[:4])}",
            hint="give the configuration that belongs to it: --config FILE; check attn_only and normalization_type",
        )
    for name, shape in expected.items():
        if tuple(found[name].shape) != shape:
            raise ModelError(
                f"{where}: {name} has shape {tuple(found[name].shape)}, the configuration says {shape}",
                hint="give the configuration that belongs to these weights: --config config.json",
            )
        if not found[name].isfinite().all():
            raise ModelError(
                f"{where}: {name} has values that are not finite",
                hint="the checkpoint is damaged, or its training diverged: use an earlier one",
            )
    converted = dict(_rename(name, value.float()) for name, value in found.items())
    if (
        fields.get("act_fn") == "solu_ln"
        and "blocks.0.mlp.ln.weight" not in converted
        and not fields["attn_only"]
    ):
        for layer in range(fields["n_layers"]):  # LNPre: the norm inside the MLP has no weights of its own
            converted[f"blocks.{layer}.mlp.ln.weight"] = torch.ones(fields["d_mlp"])
            converted[f"blocks.{layer}.mlp.ln.bias"] = torch.zeros(fields["d_mlp"])
    return converted


@torch.no_grad()
def legacy_forward(
    state: Mapping[str, Tensor], fields: Mapping[str, Any], tokens: Int[Tensor, "pair pos"]
) -> Float[Tensor, "pair pos d_vocab_out"]:
    """Return logits of a HookedTransformer from its definition and its own tensors; the oracle of the import."""
    w = {name: value.float() for name, value in state.items()}
    x = w["embed.W_E"][tokens] + w["pos_embed.W_pos"][: tokens.shape[1]]
    scale = fields.get("attn_scale") or -1.0
    scale = scale if scale > 0 else fields["d_head"] ** 0.5
    for layer in range(fields["n_layers"]):
        block = f"blocks.{layer}."
        y = _norm(w, f"{block}ln1.", fields, x)
        q, k, v = (
            torch.einsum("bpd,hde->bphe", y, w[f"{block}attn.W_{s}"]) + w[f"{block}attn.b_{s}"] for s in "QKV"
        )
        scores = torch.einsum("bqhe,bkhe->bhqk", q, k) / scale
        scores = _cap(scores, fields.get("attn_scores_soft_cap"))
        if fields["attention_dir"] == "causal":
            scores = scores + torch.full(scores.shape[-2:], -torch.inf).triu(1)
        z = torch.einsum("bhqk,bkhe->bqhe", scores.softmax(-1), v)
        x = x + torch.einsum("bqhe,hed->bqd", z, w[f"{block}attn.W_O"]) + w[f"{block}attn.b_O"]
        if fields["attn_only"]:
            continue
        y = _norm(w, f"{block}ln2.", fields, x)
        hidden = ACTIVATIONS[fields["act_fn"]](y @ w[f"{block}mlp.W_in"] + w[f"{block}mlp.b_in"])
        if fields["act_fn"] == "solu_ln":
            hidden = _norm(w, f"{block}mlp.ln.", {**fields, "normalization_type": "LN"}, hidden)
        x = x + hidden @ w[f"{block}mlp.W_out"] + w[f"{block}mlp.b_out"]
    if fields.get("final_rms") and fields["normalization_type"]:
        fields = {**fields, "normalization_type": "RMS"}
    x = _norm(w, "ln_final.", fields, x)
    return _cap(x @ w["unembed.W_U"] + w["unembed.b_U"], fields.get("output_logits_soft_cap"))


def _verify(directory: Path, state: Mapping[str, Tensor], fields: Mapping[str, Any]) -> tuple[float, str]:
    bridge = open_model(directory, device="cpu")
    tokens = parity.probe_tokens(fields["d_vocab"], fields["n_ctx"])
    expected = legacy_forward(state, fields, tokens)
    difference = parity.difference(bridge, tokens, expected)
    parity.require_parity(difference, expected, name="the imported model", tolerance=None)
    return difference, identity(bridge).digest


def _outputs(fields: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """What the model puts out in words, where that is classes."""
    size = fields["d_vocab_out"]
    if not names and size == fields["d_vocab"]:
        return None
    return Outputs(size=size, classes=names or numbered(size)).describe()


def _rename(name: str, value: Tensor) -> tuple[str, Tensor]:
    """One tensor under its native name, heads laid out one after the other, as `x @ weight.T` wants it."""
    stem, _, last = name.rpartition(".")
    kind, _, part = last.partition("_")
    if last in ("w", "b"):
        return f"{stem}.{'weight' if last == 'w' else 'bias'}", value
    if part in ("E", "pos"):
        return f"{stem}.weight", value
    if part == "U":
        return (f"{stem}.weight", value.T.contiguous()) if kind == "W" else (f"{stem}.bias", value)
    slot = f"{stem}.{part.lower()}.{'weight' if kind == 'W' else 'bias'}"
    if part in ("Q", "K", "V"):  # (head, d_model, d_head) -> (head * d_head, d_model)
        return slot, value.transpose(1, 2).flatten(0, 1).contiguous() if kind == "W" else value.flatten()
    if part == "O" and kind == "W":  # (head, d_head, d_model) -> (d_model, head * d_head)
        return slot, value.flatten(0, 1).T.contiguous()
    return slot, value.T.contiguous() if kind == "W" else value


def _norm(w: Mapping[str, Tensor], prefix: str, fields: Mapping[str, Any], x: Tensor) -> Tensor:
    kind = fields["normalization_type"]
    if kind is None:
        return x
    x = x if kind.startswith("RMS") else x - x.mean(-1, keepdim=True)
    x = x / (x.pow(2).mean(-1, keepdim=True) + fields.get("eps", 1e-5)).sqrt()
    return x * w.get(f"{prefix}w", torch.ones(())) + w.get(f"{prefix}b", torch.zeros(()))


def _cap(x: Tensor, cap: object) -> Tensor:
    return cap * (x / cap).tanh() if isinstance(cap, int | float) and cap > 0 else x
