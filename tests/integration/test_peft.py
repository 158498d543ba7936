"""A real adapter of PEFT, put on an open model and switched: it is seen, and what was known is measured again."""

import pytest

from tests.families import build_hf
from workbench.model.identity import identity
from workbench.model.open import open_model

peft = pytest.importorskip("peft")


def test_an_adapter_that_is_switched_on_later_is_seen():
    """The results say its name and whether it was on, and the digest is another."""
    model = open_model(build_hf("llama"))
    before = identity(model)
    assert before.standing == ()
    onto = r".*[qv]_proj\._original_component"  # TransformerLens holds the layers of Hugging Face there
    peft.inject_adapter_in_model(
        peft.LoraConfig(r=2, target_modules=onto, init_lora_weights=False), model.original_model
    )
    on = identity(model)
    assert on.standing[0] == "adapter default on" and on.digest != before.digest
    for module in model.original_model.modules():
        if isinstance(module, peft.tuners.tuners_utils.BaseTunerLayer):
            module.enable_adapters(False)
    assert identity(model).standing[0] == "adapter default off"
