"""Counted work by hand, the same however often it is asked, linear for gathers and not for masks."""

from __future__ import annotations

import torch

from workbench.masks.agreement import power_of_length, random_vectors, work_by_length
from workbench.masks.counted_work import CountedWork, counted_work
from workbench.masks.gathers import masked_attention
from workbench.masks.sequences import neighborhood


def test_products_and_what_is_written_by_hand():
    x, y = torch.ones(2, 3), torch.ones(3, 4)
    assert counted_work(lambda: x @ y) == CountedWork(2 * 3 * 4, 8)
    assert counted_work(lambda: x.view(6)[1:].unsqueeze(0)) == CountedWork(0, 0)  # views write nothing
    assert counted_work(lambda: (x + 1).sum()) == CountedWork(0, 7)


def masked_work(n: int) -> int:
    q, k, v = random_vectors(n)
    return counted_work(lambda: masked_attention(q, k, v, neighborhood(n, 8))).multiply_adds


def test_gathered_work_grows_as_the_length_and_that_of_masks_and_all_keys_as_its_square():
    lengths = (64, 128, 256)
    rows = work_by_length(lengths, 8)
    assert rows == work_by_length(lengths, 8)
    for what in ("multiply-adds", "written"):
        assert power_of_length(rows, f"gathered, {what}") < 1.05
        assert power_of_length(rows, f"all keys, {what}") > 1.8
    under_mask = [{"tokens": n, "work": masked_work(n)} for n in lengths]
    assert power_of_length(under_mask, "work") > 1.8  # the same neighborhood, no gather
