"""The cards of the built-in models are complete, agree with the files beside them, and make the page of the docs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from workbench.model.builtin import ZOO, list_models
from workbench.training import RECIPES
from workbench.training.focus_guidance import NAME as FOCUS
from workbench.training.guided_arms import NAME as GUIDED
from workbench.training.joint_streams import NAME as STREAMS
from workbench.training.mixers.arms import COMPARISONS
from workbench.training.prompted_reader import NAME as READER
from workbench.training.routed_arms import NAME as TUNED
from workbench.training.zoo_page import checkout, page

CARDS = {card.name: card for card in list_models()}
LIMIT = 60_000_000  # bytes of all models together


@pytest.fixture(params=sorted(CARDS))
def card(request):
    return CARDS[request.param]


def test_every_built_in_model_has_a_recipe():
    assert set(CARDS) <= set(RECIPES)
    assert {path.name for path in ZOO.iterdir() if path.is_dir()} == {*CARDS, "lab"}


def test_every_shipped_comparison_of_the_lab_has_its_card_and_weights():
    there = {path.name for path in (ZOO / "lab").iterdir()}
    assert there == {
        f"{name}.{end}"
        for name in [*COMPARISONS, TUNED, GUIDED, READER, FOCUS, STREAMS]
        for end in ("json", "safetensors")
    }


def test_all_models_together_stay_small():
    files = [path for path in ZOO.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < LIMIT
    assert {path.suffix for path in files} <= {".json", ".safetensors"}  # nothing that could run


def test_a_card_states_how_the_model_was_made(card):
    fields = card.fields
    assert fields["name"] == card.name
    assert fields["recipe"] == f"python -m workbench.training {card.name} --seed {fields['seed']}"
    assert fields["wall_seconds"] >= 0 and fields["versions"]["torch"]
    assert fields["title"] and fields["what"] and fields["held_out"]


def test_a_card_counts_what_is_there(card):
    later = ("card.json", "opened.json")  # written about the model when it is there
    beside = [path for path in card.directory.iterdir() if path.name not in later]
    assert card.fields["bytes"] == sum(path.stat().st_size for path in beside)
    assert card.fields["parameters"] == _stored_numbers(card.directory / "model.safetensors")


def test_every_number_has_a_count_and_a_unit(card):
    fields = card.fields
    assert set(fields["measured"]) == set(fields["counts"]) == set(fields["units"]) != set()
    assert all(n > 0 for n in fields["counts"].values())
    for name, value in fields["measured"].items():
        if fields["units"][name] in ("accuracy", "attention"):
            assert 0 <= value <= 1, name


def test_what_a_model_can_is_backed_by_its_numbers(card):
    for line in card.fields["can"]:
        name = next(name for name in card.fields["measured"] if line.startswith(f"{name}: "))
        said = float(line.removeprefix(f"{name}: ").split()[0])
        assert said == pytest.approx(card.fields["measured"][name], abs=6e-4)  # three digits against four


def test_the_tokenizer_has_its_special_tokens(card):
    if not (card.directory / "tokenizer.json").is_file():
        config = json.loads((card.directory / "config.json").read_text())
        # The first reads pictures and no words; the words of the other are slots of its own.
        assert config["architectures"] in (["ViTForImageClassification"], ["PainterModel"])
        return
    tokenizer = json.loads((card.directory / "tokenizer_config.json").read_text())
    vocabulary = json.loads((card.directory / "tokenizer.json").read_text())["model"]["vocab"]
    special = [tokenizer[f"{kind}_token"] for kind in ("bos", "eos", "pad", "unk")]
    assert [vocabulary.get(token) for token in special] == [0, 1, 2, 3]


def test_the_page_is_made_of_the_cards():
    root = checkout()
    if root is None:
        pytest.skip("installed without the docs")
    written = (root / "docs" / "zoo.md").read_text(encoding="utf-8")
    assert written == page(list_models()), "python -m workbench.training --docs"


def test_reading_cards_needs_no_torch():
    code = (
        "import sys; from workbench.training.zoo_page import page; from workbench.model.builtin import list_models; "
        "page(list_models()); assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ZOO.parents[2])


def _stored_numbers(path) -> int:
    """Numbers in a safetensors file, from its header alone (eight bytes of length, then JSON)."""
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    total = 0
    for name, entry in header.items():
        if name != "__metadata__":
            size = 1
            for n in entry["shape"]:
                size *= n
            total += size
    return total
