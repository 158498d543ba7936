"""Edits on models: identities, naive loops, files, stacks, and a model that is as it was."""

from __future__ import annotations

import json

import pytest
import torch

from tests.files import rewrite
from workbench.core.errors import ChangedFileWarning, ModelError, OptionError, RunError, ShapeError
from workbench.edits.affine import Affine
from workbench.edits.file import describe_edit, load_edit, save_edit
from workbench.edits.off import turn_off
from workbench.edits.place import Place
from workbench.edits.rows import Rows
from workbench.edits.stacked import stack
from workbench.model.hooks import hook_name
from workbench.model.probe import record, wiring

IDS = torch.randint(6, 100, (2, 8), generator=torch.Generator().manual_seed(3))
PATTERNS = ("gpt2", "llama", "mistral", "opt", "native", "bert")


def run(model, ids=IDS):
    with torch.no_grad():
        out = model(ids)
    return getattr(out, "last_hidden_state", out)


def seen(model, site: str, layer: int, ids=IDS):
    name = hook_name(site, layer)
    return record(model, ids, [name])[1][name]


@pytest.mark.parametrize("name", PATTERNS)
def test_identities(bridge_of, name):
    model = bridge_of(name)
    plain = run(model)
    same = (
        Rows(heads=("a1",), operation="scale", keys=(0, 2), value=1.0),
        Rows(heads=("a0", "a1.h2"), operation="add", keys=(1,), value=0.0),
        Affine.of(model, ["a1"]),
        stack([]),
    )
    for edit in same:
        with edit.on(model):
            assert torch.allclose(run(model), plain, atol=1e-5), edit.describe()
    assert torch.equal(run(model), plain)


@pytest.mark.parametrize("name", PATTERNS)
def test_set_against_values_by_hand(bridge_of, name):
    """The head's output at the query becomes the weighted mean of two values; other heads and rows stay."""
    model = bridge_of(name)
    z, v = seen(model, "head-output", 1), seen(model, "v", 1)
    value = v[:, :, 1 if v.shape[2] == 4 else 0]  # head 1 reads group 0 where two heads share one
    edit = Rows(heads=("a1.h1",), operation="set", queries=(-1,), keys=(2, 5), weights=(1, 3))
    with edit.on(model):
        new = seen(model, "head-output", 1)
        changed = run(model)
    assert torch.allclose(new[:, -1, 1], 0.25 * value[:, 2] + 0.75 * value[:, 5], atol=1e-5)
    new[:, -1, 1] = z[:, -1, 1]
    assert torch.allclose(new, z, atol=1e-5)
    assert not torch.allclose(changed, run(model), atol=1e-4)


def test_positions_can_be_named_and_differ_between_prompts(bridge_of):
    model, where = bridge_of("gpt2"), {"end": torch.tensor([7, 5]), "wrong": torch.tensor([2, 4])}
    edit = Rows(heads=("a2.h3",), operation="set", queries=("end",), keys=("wrong",))
    with edit.on(model, at=where.__getitem__):
        pattern = seen(model, "pattern", 2)
        z, v = seen(model, "head-output", 2), seen(model, "v", 2)
    assert torch.allclose(z[0, 7, 3], v[0, 2, 3], atol=1e-5)
    assert torch.allclose(z[1, 5, 3], v[1, 4, 3], atol=1e-5)
    assert pattern.shape[-1] == 8
    with pytest.raises(OptionError, match="nothing says where"), edit.on(model):
        run(model)


def test_keys_ahead_are_refused_in_causal_models_and_fine_in_encoders(bridge_of):
    edit = Rows(heads=("a1.h0",), operation="set", queries=(2,), keys=(5,))
    with pytest.raises(OptionError, match="cannot see"), edit.on(bridge_of("llama")):
        run(bridge_of("llama"))
    with edit.on(bridge_of("bert")):
        z, v = seen(bridge_of("bert"), "head-output", 1), seen(bridge_of("bert"), "v", 1)
    assert torch.allclose(z[:, 2, 0], v[:, 5, 0], atol=1e-5)


def test_even_rows_stop_at_a_sliding_window(bridge_of):
    model = bridge_of("mistral")  # window 6
    with Rows(heads=("a1",), operation="set").on(model):
        z, v = seen(model, "head-output", 1), seen(model, "v", 1)
    assert torch.allclose(z[:, 7, 0], v[:, 2:8, 0].mean(1), atol=1e-5)


def test_decoding_rows_only(bridge_of):
    model = bridge_of("gpt2")
    edit = Rows(heads=("a1.h1",), operation="set", when="decode")
    with edit.on(model, decode_from=5):
        z, v = seen(model, "head-output", 1), seen(model, "v", 1)
    plain = seen(model, "head-output", 1)
    assert torch.equal(z[:, :5], plain[:, :5])
    assert torch.allclose(z[:, 6, 1], v[:, :7, 1].mean(1), atol=1e-5)
    with pytest.raises(OptionError, match="where decoding starts"), edit.on(model):
        run(model)


@pytest.mark.parametrize("name", ("llama", "opt", "native"))
def test_affine_against_a_hook(bridge_of, name):
    model = bridge_of(name)
    b = torch.linspace(-1, 1, 8)
    edit = Affine.of(model, ["a1.h2", "a1.h0"], a=torch.tensor([[2.0], [0.0]]), b=b, positions=(-1,))

    def by_hand(z, hook):
        z = z.clone()
        z[:, -1, 2] = 2 * z[:, -1, 2] + b
        z[:, -1, 0] = b
        return z

    with model.hooks(fwd_hooks=[(hook_name("head-output", 1), by_hand)]):
        wanted = run(model)
    with edit.on(model):
        assert torch.allclose(run(model), wanted, atol=1e-5)


def test_gradients_reach_the_offset_through_a_frozen_model(bridge_of):
    model = bridge_of("llama")
    asked = [p.requires_grad for p in model.parameters()]
    edit = Affine.of(model, ["a0.h1", "a2.h3"], train=("b",))
    assert edit.n_parameters == 16
    try:
        model.requires_grad_(False)
        with edit.on(model):
            model(IDS)[:, -1, 7].sum().backward()
    finally:
        for p, flag in zip(model.parameters(), asked, strict=True):
            p.requires_grad_(flag)
    step = torch.zeros_like(edit.b)
    step[0, 3] = 1e-2
    ends = []
    for sign in (1, -1):
        with Affine(heads=edit.heads, a=edit.a, b=sign * step).on(model):
            ends.append(run(model)[:, -1, 7].double().sum())
    assert float(edit.b.grad[0, 3]) == pytest.approx(float(ends[0] - ends[1]) / 2e-2, rel=2e-2)


@pytest.mark.parametrize("name", ("gpt2", "opt"))
def test_stacks_apply_in_their_order(bridge_of, name):
    """First even, then all on key 2 is not the same as first key 2, then even."""
    model = bridge_of(name)
    even = Rows(heads=("a1.h1",), operation="set", queries=(-1,))
    one = Rows(heads=("a1.h1",), operation="set", queries=(-1,), keys=(2,))
    double = Affine.of(model, ["a1.h1"], a=2.0)
    v = seen(model, "v", 1)
    with stack([even, double, one]).on(model):
        z = seen(model, "head-output", 1)
    assert torch.allclose(z[:, -1, 1], 2 * v[:, 2, 1], atol=1e-5)
    with stack([one, even]).on(model):
        z = seen(model, "head-output", 1)
    assert torch.allclose(z[:, -1, 1], v[:, :, 1].mean(1), atol=1e-5)


def test_two_edits_that_are_not_stacked_are_refused_where_the_second_would_undo_the_first(bridge_of):
    model, edit = bridge_of("opt"), Rows(heads=("a1.h1",), operation="drop", keys=(0,))
    with edit.on(model), pytest.raises(ModelError, match="another edit"), edit.on(model):
        pass
    with edit.on(model):
        pass
    live = bridge_of("gpt2")
    with edit.on(live), edit.on(live):
        twice = run(live)
    with edit.on(live):
        assert torch.allclose(run(live), twice, atol=1e-5)


def test_the_model_is_as_it_was_also_after_an_error(bridge_of):
    model = bridge_of("opt")
    plain, flags = run(model), [p.requires_grad for p in model.parameters()]
    hooks = {name: len(found) for name, found in model.list_hooks().items()}
    edit = Rows(heads=("a1",), operation="drop", keys=(1,))
    with pytest.raises(ZeroDivisionError), edit.on(model):
        raise ZeroDivisionError
    with pytest.raises(ModelError, match="heads 0 to 3"), Affine.of(model, ["a1.h4"]).on(model):
        pass
    assert torch.equal(run(model), plain)
    assert {name: len(found) for name, found in model.list_hooks().items()} == hooks
    assert [p.requires_grad for p in model.parameters()] == flags and not model.training
    with edit.on(model):
        assert not torch.allclose(run(model), plain, atol=1e-4)


def test_leaking_rows_are_allowed_when_asked_for(bridge_of):
    model = bridge_of("gpt2")
    edit = Rows(heads=("a0.h0",), operation="drop", keys=(0,), mass="leak")
    with edit.on(model):
        z, v = seen(model, "head-output", 0), seen(model, "v", 0)
    plain = seen(model, "pattern", 0)[:, 0]
    plain[:, :, 0] = 0
    assert torch.allclose(z[:, :, 0], plain @ v[:, :, 0], atol=1e-5)


def test_files_round_trip(bridge_of, tmp_path):
    model = bridge_of("llama")
    generator = torch.Generator().manual_seed(0)
    edit = stack(
        [
            Rows(heads=("a1.h1",), operation="set", queries=("end", -2), keys=(0, 1), weights=(1.0, 2.0)),
            Affine.of(model, ["a2.h0"], a=0.5, b=torch.randn(8, generator=generator), positions=(-1,)),
            Rows(heads=("a0",), operation="scale", value=0.4, keys=(0,), mass="leak"),
        ]
    )
    again = load_edit(save_edit(edit, tmp_path / "mine"))
    assert again.to_dict() == edit.to_dict() and again.describe() == edit.describe()
    outputs = []
    for one in (edit, again):
        with one.on(model, at=lambda name: torch.tensor([6, 6])):
            outputs.append(run(model))
    assert torch.equal(*outputs)


def test_damaged_files_are_refused(bridge_of, tmp_path):
    folder = save_edit(Affine.of(bridge_of("llama"), ["a2.h0"], b=1.0), tmp_path / "e")
    description, tensors = folder / "edit.json", folder / "edit.safetensors"
    text, content = description.read_text(), tensors.read_bytes()

    def refused(match: str, *, json_text: str = text, body: bytes | None = content) -> None:
        description.write_text(json_text)
        tensors.unlink(missing_ok=True)
        if body is not None:
            tensors.write_bytes(body)
        with pytest.raises(RunError, match=match):
            load_edit(folder)

    refused("not the file", body=content[:-3])
    refused("there is no", body=None)
    refused("not complete JSON", json_text=text[:-9])
    refused("version 3", json_text=json.dumps(json.loads(text) | {"version": 3}))
    for key, value, match in (
        ("kind", "afine", "kind is 'afine'; expected 'rows' or 'affine'"),
        ("heads", ["a2.h0", "a2.h1"], "one row for each"),
        ("heads", ["m2"], "is not a head"),
        ("heads", ["a2"], "single heads"),
        ("heads", 3, "heads is a number; expected a list"),
        ("when", "never", "when is 'never'; expected 'all' or 'decode'"),
        ("extra", 1, "unknown key 'extra'"),
    ):
        description.write_text(text)
        rewrite(description, edit=json.loads(text)["edit"] | {key: value})
        refused(match, json_text=description.read_text())


def test_a_description_changed_by_hand_is_read_with_a_warning(tmp_path):
    folder = save_edit(Rows(heads=("a0.h0",), operation="drop", keys=(0,)), tmp_path / "e")
    text = (folder / "edit.json").read_text()
    (folder / "edit.json").write_text(text.replace("a0.h0", "a0.h1"))
    with pytest.warns(ChangedFileWarning, match="changed since it was written"):
        assert load_edit(folder).heads == ("a0.h1",)
    with pytest.warns(ChangedFileWarning):
        assert "changed since" in describe_edit(folder)["notes"][0]


def test_a_saved_edit_is_never_replaced_unasked(tmp_path):
    one, other = (Rows(heads=(head,), operation="drop", keys=(0,)) for head in ("a0.h0", "a0.h1"))
    before = (save_edit(one, tmp_path) / "edit.json").read_bytes()
    assert save_edit(one, tmp_path) == tmp_path  # the same again
    with pytest.raises(RunError, match="says something else"):
        save_edit(other, tmp_path)
    assert (tmp_path / "edit.json").read_bytes() == before
    assert load_edit(save_edit(other, tmp_path, replace=True)) == other
    (tmp_path / "edit.json").write_text('{"hello": 1}')
    with pytest.raises(RunError, match="no 'format'"):
        load_edit(tmp_path)
    with pytest.raises(RunError, match="says something else"):
        save_edit(one, tmp_path)


def test_options_that_cannot_work_are_refused():
    for wrong in (
        {"operation": "sett"},
        {"operation": "scale"},
        {"operation": "set", "value": 1.0},
        {"operation": "scale", "value": -1.0},
        {"operation": "set", "keys": (1,), "weights": (1.0, 2.0)},
        {"operation": "scale", "value": 2.0, "share": "uniform"},
        {"operation": "drop", "when": "sometimes"},
    ):
        with pytest.raises(OptionError):
            Rows(heads=("a0",), **wrong)
    with pytest.raises(ShapeError):
        Affine(heads=("a0.h0",), a=torch.ones(2, 1), b=torch.zeros(1, 1))


def test_heads_that_are_not_there_are_refused_with_those_that_are(bridge_of):
    model = bridge_of("gpt2")  # 3 layers of 4 heads
    last = model.cfg.n_layers - 1
    for text, found in (("a9.h1", f"no attention layer 9; it has 0 to {last}"), ("a1.h99", "heads 0 to 3")):
        edits = [
            Rows(heads=(text,), operation="set"),
            Affine(heads=(text,), a=torch.ones(1, 1), b=torch.zeros(1, 1)),
        ]
        for edit in (*edits, stack(edits)):
            with pytest.raises(ModelError, match=found) as told, edit.on(model):
                pass
            assert told.value.message.startswith(text) and f"a0.h0 to a{last}.h3" in told.value.hint
        for mode in ("uniform", "zero"):
            with pytest.raises(ModelError, match=found):
                turn_off(model, [text], mode=mode)
    for text in ("m1", "a1.h1<q>", "a1.h1@2"):
        with pytest.raises(OptionError, match="is not a head"):
            Rows(heads=(text,), operation="set")


@pytest.mark.parametrize("n", [5, 9])
def test_negative_positions_count_from_the_end_of_the_prompt(bridge_of, n):
    """Key -1 is the last column, whatever the query: the last row alone changes."""
    model = bridge_of("gpt2")
    tokens = torch.randint(6, 100, (2, n), generator=torch.Generator().manual_seed(3))
    where = {"operation": "drop", "heads": ("a1",)}
    with torch.no_grad():
        plain = model(tokens)
        found = []
        for key in (-1, n - 1):
            with Rows(keys=(key,), **where).on(model):
                found.append(model(tokens))
        with Rows(keys=(-2,), queries=(-1,), **where).on(model):
            before_last = model(tokens)
        with Rows(keys=(n - 2,), queries=(n - 1,), **where).on(model):
            assert torch.equal(model(tokens), before_last)
    assert torch.equal(*found) and torch.equal(found[0][:, :-1], plain[:, :-1])
    assert (found[0][:, -1] - plain[:, -1]).abs().max() > 1e-3
    look_ahead = Rows(heads=("a1",), operation="set", keys=(-1,))
    with pytest.raises(OptionError, match="cannot see"), torch.no_grad(), look_ahead.on(model):
        model(tokens)


def test_rows_of_a_head_cost_nothing_of_the_size_of_all_heads(bridge_of):
    """The function sees its heads alone, and the others are the model's own to the bit."""
    model = bridge_of("gpt2")
    edit = Rows(heads=("a1.h1", "a1.h3"), operation="drop", keys=(0,))
    (change,) = edit.changes(Place(model=model, wiring=wiring(model)))
    plain, shown = (record(model, IDS, [hook_name("pattern", 1)])[1][hook_name("pattern", 1)] for _ in "ab")
    part = change.fn(shown[:, [1, 3]], {})
    assert change.alone and part.shape == (2, 2, 8, 8)
    with edit.on(model):
        edited = record(model, IDS, [hook_name("pattern", 1)])[1][hook_name("pattern", 1)]
    assert torch.equal(edited[:, [0, 2]], plain[:, [0, 2]]) and torch.equal(edited[:, [1, 3]], part)
