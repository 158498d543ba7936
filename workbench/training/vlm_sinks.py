"""Settings in which `zoo:vlm` might grow sinks: patches that draw attention whatever is asked.

None of them did (`docs/replications.md`, visual-sinks), so none is built in. In `zoo:vlm` a penalty keeps background
patches alike, matrices are trained by Muon, whose updates have no long direction, and ``<bos>`` can take what attention
is left over. The first setting leaves out the penalty, the others one more of these each; seed, pictures and questions
are those of `zoo:vlm`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.training.dense_labels import PREPROCESSOR
from workbench.training.recipe import Trained
from workbench.training.schedule import adamw
from workbench.training.seeing_tower import STEPS as TOWER_STEPS
from workbench.training.seeing_tower import learn_to_see
from workbench.training.seeing_words import DESCRIPTION, LENGTH, Packed, block_mask, scene_tokenizer
from workbench.training.vlm import BATCH, Optimisers, PackedReader, build, learn_to_answer, words_optimisers


def adam_alone(asked: torch.nn.Module) -> list[torch.optim.Optimizer]:
    """Return AdamW for everything, without decay of weights."""
    return [adamw(asked, lr=2e-3, weight_decay=0.0)]


class StartlessReader(PackedReader):
    """The language model whose prompts begin with the picture: there is no ``<bos>``."""

    def forward(
        self, pixels: Float[Tensor, "picture 3 height width"], packed: Packed
    ) -> tuple[Float[Tensor, "picture question d_vocab"], Float[Tensor, "picture token d_vocab"] | None]:
        """Return logits of the answers, and of the words of the description if there is one."""
        lengths = [LENGTH] * packed.answers.shape[1]
        lengths += [] if packed.described is None else [LENGTH + DESCRIPTION - 1]
        mask, places = (part[..., 1:] for part in block_mask(lengths))
        mask = mask[:, :, 1:]
        hidden = self.words(
            inputs_embeds=torch.cat([self.see(pixels), self.words.embed_tokens(packed.ids)], dim=1),
            attention_mask=torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min),
            position_ids=places - 1,
            use_cache=False,
        ).last_hidden_state
        answers = self.unembed(hidden[:, packed.answer_at - 1])
        if packed.described is None:
            return answers, None
        said = slice(packed.described_from - 1, packed.described_from - 1 + DESCRIPTION)
        return answers, self.unembed(hidden[:, said])


@dataclass(frozen=True, kw_only=True)
class SinkSetting:
    """One way to train.

    Attributes:
        what: In words, what is other than in `zoo:vlm`.
        optimisers: Of the language model.
        reader: Who sees whom.
        steps: Of the language model.
    """

    what: str
    optimisers: Optimisers = words_optimisers
    reader: type[PackedReader] = PackedReader
    steps: int = 1600


SETTINGS: Mapping[str, SinkSetting] = {
    "no-penalty": SinkSetting(what="background patches may say what they like"),
    "adam": SinkSetting(
        what="the same, the language model by AdamW alone without decay, longer",
        optimisers=adam_alone,
        steps=2600,
    ),
    "no-start": SinkSetting(
        what="the same as the first, no <bos> before the picture", reader=StartlessReader
    ),
}


def train_setting(
    name: str,
    *,
    seed: int = 0,
    scratch: Path | None = None,
    tower_steps: int = TOWER_STEPS,
    steps: int | None = None,
    batch: int = BATCH,
) -> Trained:
    """Train one of the settings; the tower is shared by all of one seed.

    Returns:
        The model, which ``workbench.training.recipe.save`` writes to a directory.
    """
    setting, model, tokenizer = SETTINGS[name], build(seed), scene_tokenizer()
    if setting.reader is StartlessReader:
        tokenizer.bos_token = None

    def saved(what: str) -> Path | None:
        return None if scratch is None else scratch / f"vlm-sinks-{what}-{seed}.pt"

    tower = learn_to_see(model, seed=seed, steps=tower_steps, penalty=0.0, checkpoint=saved("tower"))
    words = learn_to_answer(
        model,
        seed=seed,
        reader=setting.reader,
        steps=setting.steps if steps is None else steps,
        batch=batch,
        optimisers=setting.optimisers,
        checkpoint=saved(name),
    )
    beside = {"preprocessor_config.json": PREPROCESSOR | {"image_processor_type": "CLIPImageProcessor"}}
    return Trained(model=model, tokenizer=tokenizer, phases={"tower": tower, "words": words}, beside=beside)
