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

COLORS = tuple("black blue brown green orange purple red yellow".split())
OBJECTS = tuple(
    "ball bottle bowl bracelet cup envelope jug leash lighter mug necklace notebook pen pencil plate "
    "puzzle textbook".split()
)
SURFACES = tuple("desk floor table".split())

EVENTS = tuple(
    "attack campaign contract course deal festival journey marriage meeting plan process program project "
    "storm strike study trial trip war work".split()
)
TWO_DIGITS = tuple(f"{number:02d}" for number in range(100))

NOUNS = tuple(  # singular and plural, one word each
    tuple(pair.split("/"))
    for pair in "actor/actors artist/artists author/authors boy/boys brother/brothers car/cars "
    "doctor/doctors driver/drivers farmer/farmers father/fathers friend/friends girl/girls guest/guests "
    "manager/managers officer/officers parent/parents player/players sister/sisters student/students "
    "teacher/teachers tree/trees "
    "window/windows worker/workers writer/writers".split()
)

ARGUMENTS = tuple(
    "count data date field file first group image index last left line list mode name option path rate "
    "right shape size target test text time token user value".split()
)
FUNCTIONS = tuple("build check copy load make merge move port read send show sort".split())
