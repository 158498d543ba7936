"""Shapes in annotations are checked while tests run, in every room (``tests/shapes.py``)."""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from jaxtyping import Int, TypeCheckError
from torch import Tensor

from tests.conftest import NOT_CHECKED
from tests.shapes import CACHE, checked, marked
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


def several(tensors: Sequence[Int[Tensor, "row pos"]], one: Int[Tensor, "row pos"]) -> int:
    return len(tensors) + len(one)


def test_tensors_of_a_list_have_sizes_of_their_own():
    check = checked(several)
    tensors = [torch.zeros(n, n + 1, dtype=torch.int64) for n in range(5)]
    assert {check(tensors, tensors[2]) for _ in range(20)} == {
        7
    }  # beartype would look at one of them by chance
    with pytest.raises(TypeCheckError, match="one"):
        check(tensors, torch.zeros(3))


def kept(values: Int[Tensor, "row pos"], many: bool, odd: bool) -> Int[Tensor, "row two"]:
    return torch.zeros(len(values) + odd, 3 if many else 2, dtype=torch.int64)


def test_a_call_is_checked_whatever_was_checked_before():
    """Also where only the answer is of other sizes, or where a name stands for another size than in the arguments."""
    check, two, answers = checked(kept), torch.zeros(2, 5, dtype=torch.int64), []

    def given(values: Int[Tensor, "row pos"], name: str) -> Int[Tensor, "row pos"]:
        return answers.pop()

    for _ in range(3):
        assert check(two, False, False).shape == (2, 2)
        with pytest.raises(TypeCheckError, match="return value"):
            check(two, False, True)
        with pytest.raises(TypeCheckError, match="values"):
            check(two.float(), False, False)
        with pytest.raises(TypeCheckError, match="values"):
            check(two[0], False, False)
    same = checked(given)
    for answer, is_right in (
        (two, True),
        (two, True),
        (two[:1], False),
        (two, True),
        (two.float(), False),
    ) * 2:
        answers.append(answer)
        if is_right:
            assert same(two, "") is answer
        else:
            with pytest.raises(TypeCheckError, match="return value"):
                same(two, "")


SOURCE = '''"""Says what it is."""
from __future__ import annotations
@first
def outer(x: int) -> int:
    def inner(y: int) -> int: ...
@last
class Found: ...
'''


def test_functions_and_classes_are_marked_and_functions_inside_functions_are_not():
    tree = marked(SOURCE)
    outer, found = tree.body[-2:]
    assert [ast.unparse(d) for d in outer.decorator_list] == ["first", "_shapes_are_checked"]
    assert [ast.unparse(d) for d in found.decorator_list] == ["_shapes_are_checked", "last"]
    assert outer.body[0].decorator_list == []
    assert ast.unparse(tree.body[2]) == "from tests.shapes import checked as _shapes_are_checked"


def test_what_is_compiled_for_the_check_is_cached_under_a_name_of_its_own():
    module = sys.modules["workbench.engine.interventions.surgery"]
    assert type(module.__spec__.loader).__module__ == "tests.shapes"
    assert CACHE != ".pyc" and Path(module.__spec__.cached).suffix == ".pyc"


def test_every_exception_has_a_module_and_a_reason():
    for module, why in NOT_CHECKED.items():
        assert module.startswith("workbench.") and len(why.split()) > 3
