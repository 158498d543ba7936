"""Shapes in annotations are checked while tests run: ``SHAPES_CHECKED`` in ``tests/conftest.py`` names the modules."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

from workbench.engine.interventions.surgery import drop_keys

PATTERN = torch.full((2, 3, 3), 1 / 3)


def test_what_broadcasts_to_a_pattern_is_taken():
    assert drop_keys(PATTERN, torch.tensor([True, False, False])).shape == PATTERN.shape


def test_a_shape_that_the_annotation_does_not_allow_is_refused():
    with pytest.raises(TypeCheckError, match="keys"):
        drop_keys(PATTERN, torch.tensor([True, False, False, False]))


@pytest.mark.usefixtures("unchecked")
def test_without_the_check_torch_itself_refuses_it():
    with pytest.raises(RuntimeError):
        drop_keys(PATTERN, torch.tensor([True, False, False, False]))
