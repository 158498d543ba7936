"""Word lists the tasks share: common English, meant to be one token each with a leading space in GPT-2."""

from __future__ import annotations

MEN = tuple(
    "Aaron Adam Alexander Andrew Anthony Benjamin Brandon Brian Bryan Charles Christopher Daniel David "
    "Eric George Gregory Henry Jacob James Jason Jeffrey Jeremy John Jonathan Joseph Joshua Justin "
    "Kenneth Kevin Kyle Matthew Michael Nathan Nicholas Patrick Paul Peter Richard Robert Ryan Samuel "
    "Scott Sean Simon Stephen Steven Thomas Timothy Tyler William".split()
)
WOMEN = tuple(
    "Alice Alicia Allison Amanda Amber Amy Andrea Angela Anna Ashley Christina Christine Courtney "
    "Danielle Elizabeth Emily Emma Erica Erin Heather Helen Jane Jennifer Jessica Julia Karen Kate "
    "Katherine Katie Kimberly Kristen Laura Lauren Lisa Maria Mary Megan Melissa Michelle Nancy Nicole "
    "Rachel Rebecca Samantha Sara Sarah Stephanie Susan Tiffany Vanessa".split()
)
NAMES = tuple(sorted(MEN + WOMEN))

PLACES = tuple(
    "beach garden hospital house library museum office park restaurant school station store".split()
)
GIFTS = tuple("ball book box drink flower gift key letter phone picture ring ticket".split())


def vocabulary() -> list[str]:
    """Every word and punctuation mark that any task can write, sorted (see `registry.vocabulary`)."""
    from workbench.tasks.registry import vocabulary

    return vocabulary()
