"""Indirect object identification: of two people, the one who is not mentioned again receives."""

from __future__ import annotations

from itertools import combinations

from workbench.tasks.draw import Draw, allowed, both, choose, next_piece, of_split, render
from workbench.tasks.pairs import Pair
from workbench.tasks.registry import blank, task
from workbench.tasks.words import GIFTS, NAMES, PLACES

TRAIN = (
    "When {A} and {B} went to the {place}, {S2} gave a {gift} to",
    "Then, {A} and {B} went to the {place}. {S2} gave a {gift} to",
    "After {A} and {B} got to the {place}, {S2} handed a {gift} to",
    "While {A} and {B} were working at the {place}, {S2} gave a {gift} to",
    "Then, {A} and {B} had a long day at the {place}. Later, {S2} offered a {gift} to",
    "Yesterday, {A} and {B} met at the {place}, and {S2} decided to give a {gift} to",
    "The {place} was quiet when {A} and {B} came in, and {S2} showed a {gift} to",
    "Since {A} and {B} were old friends, {S2} brought a {gift} from the {place} to",
    "Once {A} and {B} found a {gift} at the {place}, {S2} handed it to",
    "Two friends, {A} and {B}, found a {gift} at the {place}. {S2} gave it to",
    "Today {A} and {B} were at the {place} with a {gift}. {S2} decided to pass it to",
    "Before {A} and {B} left the {place}, {S2} sold a {gift} to",
    "In the morning, {A} and {B} came to the {place}. Then {S2} passed a {gift} to",
    "Because {A} and {B} were late, {S2} left a {gift} at the {place} for",
)
HELD_OUT = (  # written only with words that the templates above use, so that a model can know every one
    "Later, {A} and {B} met at the {place}. {S2} brought a {gift} to",
    "After {A} and {B} left the {place}, {S2} decided to give a {gift} to",
    "Since {A} and {B} had a {gift} from the {place}, {S2} offered it to",
    "In the {place}, {A} and {B} found a {gift}. Then, {S2} passed it to",
    "While {A} and {B} were at the {place}, {S2} sold a {gift} to",
    "When old friends {A} and {B} came in from the {place}, {S2} showed a {gift} to",
)
GROUPS = {text: f"ioi-{index:02d}" for index, text in enumerate((*TRAIN, *HELD_OUT))}


@task(
    "ioi",
    source="Wang et al. 2023, arXiv:2211.00593",
    corruptions=("s2-flip", "abc"),
    positions=("IO", "S1", "S1+1", "S2"),
    describe="Of two people, name the one who is not mentioned again: the receiver.",
    texts=(*NAMES, *PLACES, *GIFTS, *map(blank, GROUPS)),
)
def ioi(draw: Draw, *, split: str, corruption: str, order: str = "mixed", templates: str = "split") -> Pair:
    """One IOI pair.

    The default corruption, ``s2-flip``, names the receiver in the second clause: one token differs, the
    incorrect answer becomes the right one, and so only the signal "which name is repeated" is removed.
    ``abc`` puts three unrelated names in, which also removes what the names themselves carry.

    Args:
        order: ``abba`` (receiver first), ``baba`` (subject first) or ``mixed``.
        templates: ``split`` (the split's own), ``train``, ``held-out`` or ``all``.
    """
    template = draw.pick(of_split(split, TRAIN, HELD_OUT, templates))
    receiver, subject = draw.sample(NAMES, 2)
    while not allowed(split, receiver, subject):
        receiver, subject = draw.sample(NAMES, 2)
    slots = {"place": draw.pick(PLACES), "gift": draw.pick(GIFTS)}
    if choose("order", order, ("mixed", "abba", "baba")) == "mixed":
        order = draw.pick(("abba", "baba"))
    io_slot, s1_slot = ("A", "B") if order == "abba" else ("B", "A")
    clean, clean_spans = render(template, slots | {io_slot: receiver, s1_slot: subject, "S2": subject})
    if corruption == "s2-flip":
        names = {io_slot: receiver, s1_slot: subject, "S2": receiver}
    else:
        others = _unrelated(draw, split, {receiver, subject})
        names = dict(zip((io_slot, s1_slot, "S2"), others, strict=True))
    corrupted, spans = render(template, slots | names)
    positions = both(clean_spans, spans, IO=io_slot, S1=s1_slot, S2="S2")
    after = next_piece(clean, clean_spans[s1_slot][1]), next_piece(corrupted, spans[s1_slot][1])
    return Pair(
        id="",
        clean=clean,
        corrupted=corrupted,
        correct=(f" {receiver}",),
        incorrect=(f" {subject}",),
        positions=positions | {"S1+1": after},
        group=f"{GROUPS[template]}-{order}",
    )


def _unrelated(draw: Draw, split: str, taken: set[str]) -> list[str]:
    """Three other names; in training no two of them are a held-out pair, so that none ever meets there."""
    free = [name for name in NAMES if name not in taken]
    while True:
        names = draw.sample(free, 3)
        if split != "train" or all(allowed(split, a, b) for a, b in combinations(names, 2)):
            return names
