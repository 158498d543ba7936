"""HookedTransformer checkpoints: imported, computing what their own tensors define, or refused."""

from __future__ import annotations

import json
import zipfile
from itertools import product
from pathlib import Path

import pytest
import torch

from workbench.core.errors import ModelError, OptionError
from workbench.model.architecture import describe
from workbench.model.identity import identity
from workbench.model.legacy import import_checkpoint, read_state
from workbench.model.legacy_vocabulary import Vocabulary
from workbench.model.open import open_model
from workbench.model.pickles import check_archive

SIZE = {"n_layers": 2, "d_model": 16, "n_ctx": 10, "d_head": 4, "n_heads": 3, "d_vocab": 12, "d_mlp": 20}
WORDS = ["BOS", "PAD", *(f"t{i}" for i in range(10))]


def checkpoint(directory: Path, **fields) -> dict[str, torch.Tensor]:
    """Write cfg.json, weights.pt and vocab.txt as such a model was saved; the shapes are written out here."""
    settings = {**SIZE, "act_fn": "gelu", "eps": 1e-5, "normalization_type": "LN", "attn_only": False}
    settings |= {"attention_dir": "causal", "attn_scale": 2.0, "use_attn_scale": True, "d_vocab_out": 12}
    settings |= {"device": "cpu", "dtype": "torch.float32", "seed": 0, "n_params": 1, **fields}
    (directory / "cfg.json").write_text(json.dumps(settings))
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return 0.3 * torch.randn(*shape, generator=generator)

    state = {"embed.W_E": random(12, 16), "pos_embed.W_pos": random(10, 16)}
    norms = ["ln_final"]
    for layer in range(2):
        attn = f"blocks.{layer}.attn."
        state |= {f"{attn}W_{s}": random(3, 16, 4) for s in "QKV"} | {
            f"{attn}b_{s}": random(3, 4) for s in "QKV"
        }
        state |= {f"{attn}W_O": random(3, 4, 16), f"{attn}b_O": random(16)}
        state |= {f"{attn}mask": torch.ones(10, 10).tril().bool(), f"{attn}IGNORE": torch.tensor(-torch.inf)}
        norms.append(f"blocks.{layer}.ln1")
        if not settings["attn_only"]:
            norms.append(f"blocks.{layer}.ln2")
            mlp = f"blocks.{layer}.mlp."
            state |= {f"{mlp}W_in": random(16, 20), f"{mlp}b_in": random(20)}
            state |= {f"{mlp}W_out": random(20, 16), f"{mlp}b_out": random(16)}
    if settings["normalization_type"] == "LN":
        for norm in norms:
            state |= {f"{norm}.w": 1 + random(16), f"{norm}.b": random(16)}
    out = settings["d_vocab_out"]
    state |= {"unembed.W_U": random(16, out), "unembed.b_U": random(out)}
    torch.save(state, directory / "weights.pt")
    (directory / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return state


def imported(directory: Path, **options):
    vocabulary = Vocabulary(path=directory / "vocab.txt", unk="PAD", **options)
    return import_checkpoint(
        directory / "weights.pt", directory / "model", config=directory / "cfg.json", vocabulary=vocabulary
    )


def by_definition(state, tokens, *, attn_only, norm, causal):
    """One prompt's logits, head by head and position by position, straight from the definition."""

    def normed(x, name):
        if norm is None:
            return x
        x = (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt()
        return x * state[f"{name}.w"] + state[f"{name}.b"] if norm == "LN" else x

    x = [state["embed.W_E"][t] + state["pos_embed.W_pos"][p] for p, t in enumerate(tokens)]
    for layer in range(2):
        block, n = f"blocks.{layer}", len(x)
        y = [normed(v, f"{block}.ln1") for v in x]
        new = [v + state[f"{block}.attn.b_O"] for v in x]
        for h in range(3):
            q, k, v = (
                [u @ state[f"{block}.attn.W_{s}"][h] + state[f"{block}.attn.b_{s}"][h] for u in y]
                for s in "QKV"
            )
            for i in range(n):
                seen = range(i + 1) if causal else range(n)
                weights = torch.stack([q[i] @ k[j] / 2.0 for j in seen]).softmax(0)
                z = sum(weight * v[j] for weight, j in zip(weights, seen, strict=True))
                new[i] = new[i] + z @ state[f"{block}.attn.W_O"][h]
        x = new
        if not attn_only:
            for i, v in enumerate(x):
                pre = normed(v, f"{block}.ln2") @ state[f"{block}.mlp.W_in"] + state[f"{block}.mlp.b_in"]
                post = torch.nn.functional.gelu(pre)
                x[i] = v + post @ state[f"{block}.mlp.W_out"] + state[f"{block}.mlp.b_out"]
    final = torch.stack([normed(v, "ln_final") for v in x])
    return final @ state["unembed.W_U"] + state["unembed.b_U"]


@pytest.mark.parametrize(
    ("norm", "attn_only", "direction", "d_out"),
    list(product(("LN", "LNPre", None), (True, False), ("causal", "bidirectional"), (12, 5))),
)
def test_imported_model_computes_the_checkpoint(tmp_path, norm, attn_only, direction, d_out):
    state = checkpoint(
        tmp_path, normalization_type=norm, attn_only=attn_only, attention_dir=direction, d_vocab_out=d_out
    )
    made = imported(tmp_path)
    bridge = open_model(tmp_path / "model", device="cpu")
    tokens = [0, 5, 2, 7, 5, 11]
    expected = by_definition(state, tokens, attn_only=attn_only, norm=norm, causal=direction == "causal")
    found = bridge(torch.tensor([tokens]))[0]
    assert found.shape == (6, d_out)
    scale = max(1.0, expected.abs().max().item())
    assert (found - expected).abs().max() / scale < 1e-5
    assert made.difference / scale < 1e-5
    described = describe(bridge)
    assert described.attn_only == attn_only and described.causal == (direction == "causal")
    assert (described.norm, described.d_vocab_out) == (norm, d_out)


def test_import_says_what_it_made(tmp_path):
    state = checkpoint(tmp_path, act_fn="gelu_pytorch_tanh")
    made = imported(tmp_path)
    kept = [value for name, value in state.items() if not name.endswith(("mask", "IGNORE"))]
    assert made.parameters == sum(value.numel() for value in kept)
    assert made.tokenizer == "12 words; bos BOS, pad PAD, unk PAD"
    assert made.notes == ("act_fn gelu_pytorch_tanh is written as gelu_new, the same formula",)
    assert made.digest == identity(open_model(tmp_path / "model", device="cpu")).digest
    json.dumps(made.to_dict(), allow_nan=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cfg.json", "model", "vocab.txt", "weights.pt"]


def test_tokenizer_has_the_ids_of_the_file(tmp_path):
    checkpoint(tmp_path)
    imported(tmp_path)
    bridge = open_model(tmp_path / "model", device="cpu")
    assert bridge.tokenizer("t0 t9 t3", add_special_tokens=False).input_ids == [2, 11, 5]
    assert bridge.to_tokens("t0 t9").tolist() == [[0, 2, 11]]  # BOS is prepended, once
    assert describe(bridge).prepend_bos


def test_without_bos_in_the_vocabulary_none_is_prepended(tmp_path):
    checkpoint(tmp_path, default_prepend_bos=True)
    (tmp_path / "vocab.txt").write_text("\n".join(["<unk>", *(f"t{i}" for i in range(11))]))
    made = import_checkpoint(
        tmp_path / "weights.pt",
        tmp_path / "model",
        config=tmp_path / "cfg.json",
        vocabulary=Vocabulary(path=tmp_path / "vocab.txt"),
    )
    assert "nothing is prepended" in made.notes[0]
    bridge = open_model(tmp_path / "model", device="cpu")
    assert bridge.to_tokens("t0 t1").tolist() == [[1, 2]]


def test_characters(tmp_path):
    checkpoint(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(["BOS", "?", " ", *"abcdefghi"]))
    vocabulary = Vocabulary(path=tmp_path / "vocab.txt", split="characters", unk="?")
    import_checkpoint(
        tmp_path / "weights.pt", tmp_path / "model", config=tmp_path / "cfg.json", vocabulary=vocabulary
    )
    tokenizer = open_model(tmp_path / "model", device="cpu").tokenizer
    assert tokenizer("ab c!", add_special_tokens=False).input_ids == [3, 4, 2, 5, 1]


def test_import_without_vocabulary_opens_without_tokenizer(tmp_path):
    checkpoint(tmp_path)
    made = import_checkpoint(tmp_path / "weights.pt", tmp_path / "model", config=tmp_path / "cfg.json")
    assert made.tokenizer is None
    assert identity(open_model(tmp_path / "model", device="cpu")).tokenizer is None


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    state = checkpoint(tmp_path)
    torch.save({**state, "extra": Malicious(tmp_path / "owned")}, tmp_path / "weights.pt")
    torch.load(tmp_path / "weights.pt", weights_only=False)
    assert (tmp_path / "owned").exists()  # the trap works
    (tmp_path / "owned").unlink()
    with pytest.raises(
        ModelError, match=r"holds more than tensors .*, and loading that could run code"
    ) as caught:
        imported(tmp_path)
    assert "state_dict()" in caught.value.hint
    assert not (tmp_path / "owned").exists() and not (tmp_path / "model").exists()


def test_whole_model_object_is_refused(tmp_path):
    checkpoint(tmp_path)
    torch.save(torch.nn.Linear(2, 2), tmp_path / "weights.pt")
    with pytest.raises(ModelError, match="holds more than tensors"):
        imported(tmp_path)


def test_truncated_checkpoint(tmp_path):
    checkpoint(tmp_path)
    whole = (tmp_path / "weights.pt").read_bytes()
    for part in (0, 10, len(whole) // 2, len(whole) - 30):
        (tmp_path / "weights.pt").write_bytes(whole[:part])
        with pytest.raises(ModelError, match=r"weights\.pt"):
            imported(tmp_path)
        assert not (tmp_path / "model").exists()


def _without(state, name):
    return {key: value for key, value in state.items() if key != name}


BROKEN_STATES = {
    "missing": (lambda s: _without(s, "blocks.1.attn.W_K"), r"lacks 1 of .* tensors: blocks\.1\.attn\.W_K"),
    "extra": (
        lambda s: {**s, "blocks.0.attn.rotary_sin": torch.ones(2)},
        "has 1 tensors the configuration has no",
    ),
    "shape": (
        lambda s: {**s, "blocks.0.attn.W_Q": torch.ones(4, 16, 3)},
        r"blocks\.0\.attn\.W_Q has shape \(4, 16, 3\), the configuration says \(3, 16, 4\)",
    ),
    "nan": (
        lambda s: {**s, "unembed.b_U": torch.full((12,), torch.nan)},
        r"unembed\.b_U has values that are not",
    ),
    "not-a-tensor": (lambda s: {**s, "embed.W_E": 3}, r"embed\.W_E is not a tensor"),
    "list": (lambda s: list(s.values()), "holds a list; a state dict"),
    "empty": (lambda s: {}, "a state dict .* is expected"),
}


@pytest.mark.parametrize("case", BROKEN_STATES)
def test_broken_states(tmp_path, case):
    change, message = BROKEN_STATES[case]
    torch.save(change(checkpoint(tmp_path)), tmp_path / "weights.pt")
    with pytest.raises(ModelError, match=message):
        imported(tmp_path)
    assert not (tmp_path / "model").exists()


REFUSED = {
    "positional_embedding_type": "rotary",
    "gated_mlp": True,
    "parallel_attn_mlp": True,
    "n_key_value_heads": 1,
    "act_fn": "tanh",
    "normalization_type": "BatchNorm",
    "attention_dir": "sideways",
    "use_attn_scale": False,
    "use_local_attn": True,
    "num_experts": 4,
}


def test_every_feature_that_cannot_be_imported_is_named(tmp_path):
    checkpoint(tmp_path)
    settings = json.loads((tmp_path / "cfg.json").read_text())
    (tmp_path / "cfg.json").write_text(json.dumps({**settings, **REFUSED}))
    with pytest.raises(ModelError, match="native TransformerLens model does not compute") as caught:
        imported(tmp_path)
    assert all(f"{name}={value!r}" in caught.value.message for name, value in REFUSED.items())


BROKEN_CONFIGS = {
    "not json": ("{", "is not complete JSON"),
    "list": ("[1]", "holds a list"),
    "missing": ('{"n_layers": 2}', "lacks d_model, n_ctx"),
    "negative": (json.dumps({**SIZE, "n_heads": -1}), r"n_heads is -1; expected a whole number >= 1"),
    "truth value": (json.dumps({**SIZE, "n_layers": True}), "n_layers is true; expected a whole number"),
    "text for a number": (
        json.dumps({**SIZE, "act_fn": "relu", "eps": "1e-5"}),
        "eps is text; expected a number",
    ),
    "number too large": (json.dumps({**SIZE, "n_ctx": 10**40}), "n_ctx is"),
    "no number": ('{"eps": NaN}', "contains NaN"),
    "more layers than tensors": (
        json.dumps({**SIZE, "act_fn": "relu", "n_layers": 2**30}),
        "1073741824 layers",
    ),
    "unknown": (json.dumps({**SIZE, "act_fn": "relu", "sparkle": 1}), "fields that are not known: sparkle"),
    "deep": ("[" * 100_000, "nests more than 64 levels"),
}


@pytest.mark.parametrize("case", BROKEN_CONFIGS)
def test_broken_configurations(tmp_path, case):
    checkpoint(tmp_path)
    text, message = BROKEN_CONFIGS[case]
    (tmp_path / "cfg.json").write_text(text)
    with pytest.raises(ModelError, match=message):
        imported(tmp_path)


def _lines(*changes: tuple[int, str]) -> str:
    words = list(WORDS)
    for line, word in changes:
        words[line - 1] = word
    return "\n".join(words) + "\n"


BROKEN_VOCABULARIES = {
    "short": ("\n".join(WORDS[:-1]), "has 11 tokens; the model has 12"),
    "twice": (_lines((5, "t9")), r"line 12: 't9' stands on line 5 already"),
    "empty line": (_lines((5, "")), "line 5 is empty"),
    "two words": (_lines((5, "New York")), "line 5: 'New York' has whitespace in it"),
    "no such bos": (_lines((1, "start")), "has no token 'BOS' to be bos"),
}


@pytest.mark.parametrize("case", BROKEN_VOCABULARIES)
def test_broken_vocabularies(tmp_path, case):
    checkpoint(tmp_path)
    text, message = BROKEN_VOCABULARIES[case]
    (tmp_path / "vocab.txt").write_text(text)
    with pytest.raises(ModelError, match=message):
        imported(tmp_path, bos="BOS")


def test_vocabulary_in_another_encoding(tmp_path):
    checkpoint(tmp_path)
    (tmp_path / "vocab.txt").write_bytes(_lines((5, "café")).encode("latin-1"))
    with pytest.raises(ModelError, match="cannot be read"):
        imported(tmp_path)


def test_vocabulary_without_unknown_token_asks_for_one(tmp_path):
    checkpoint(tmp_path)
    with pytest.raises(ModelError, match="has no token for words that are not in it") as caught:
        import_checkpoint(
            tmp_path / "weights.pt",
            tmp_path / "model",
            config=tmp_path / "cfg.json",
            vocabulary=Vocabulary(path=tmp_path / "vocab.txt"),
        )
    assert "--unk" in caught.value.hint


def test_unknown_way_to_split(tmp_path):
    with pytest.raises(OptionError, match="did you mean words"):
        Vocabulary(path=tmp_path / "vocab.txt", split="word")


def test_nothing_is_overwritten(tmp_path):
    checkpoint(tmp_path)
    imported(tmp_path)
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    with pytest.raises(ModelError, match="exists and is not empty"):
        imported(tmp_path)
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before


def test_a_checkpoint_that_is_not_what_its_checksums_say_is_refused(tmp_path):
    """torch itself reads the changed numbers without a word."""
    state = checkpoint(tmp_path)
    path, wanted = tmp_path / "weights.pt", state["embed.W_E"].numpy().tobytes()
    data = bytearray(path.read_bytes())
    data[data.index(wanted) + 5] ^= 1
    path.write_bytes(data)
    assert not torch.equal(torch.load(path, weights_only=True)["embed.W_E"], state["embed.W_E"])
    with pytest.raises(ModelError, match="is not what its checksum says"):
        imported(tmp_path)


def test_a_member_of_another_length_is_refused_where_torch_would_map_it(tmp_path):
    """What is mapped is not compared with its length: 2 numbers were read from beyond the member."""
    path = tmp_path / "weights.pt"
    torch.save({"a": torch.arange(4.0), "b": torch.arange(2.0)}, path)
    with zipfile.ZipFile(path) as source:
        members = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(path, "w") as target:
        for name, content in members.items():
            target.writestr(zipfile.ZipInfo(name), content[:8] if name.endswith("data/0") else content)
    torch.load(path, weights_only=True, mmap=True)
    with pytest.raises(ModelError, match="data/0 is not what its checksum says, or its size"):
        check_archive(path)


def test_walking_through_a_pickle_runs_nothing_of_it(tmp_path):
    class Payload:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    kinds = (torch.float8_e4m3fn, torch.bfloat16, torch.uint16, torch.complex64, torch.bool)
    tensors = {str(kind): torch.ones(3).to(kind) for kind in kinds}
    torch.save({**tensors, "sparse": torch.eye(2).to_sparse(), "code": Payload()}, tmp_path / "weights.pt")
    check_archive(tmp_path / "weights.pt")
    assert not (tmp_path / "ran").exists()


def test_a_compressed_checkpoint_is_refused_before_it_is_unpacked(tmp_path):
    checkpoint(tmp_path)
    path = tmp_path / "weights.pt"
    with zipfile.ZipFile(path) as source:
        members = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in members.items():
            target.writestr(name, content)
    with pytest.raises(ModelError, match="compressed zip file"):
        imported(tmp_path)


@pytest.mark.parametrize("start", [b"", b"PK\x03\x04", b"\x80\x02}q\x00.", b"hello"])
def test_what_is_no_checkpoint_is_explained(start, tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(start)
    with pytest.raises(
        ModelError, match=r"cannot be read as a checkpoint|a state dict .* is expected|damaged"
    ):
        read_state(path)
