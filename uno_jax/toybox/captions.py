"""Captions in plain English from subjects' names, scenes and placements. All randomness comes from `rng`.

Names come from manifests, usually emoji names ("flag: japan", "jeans", "e-mail"): `noun` makes them readable
and `noun_phrase` adds the article.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from numpy.random import Generator

from uno_jax.toybox.compose import Composite, Placement
from uno_jax.toybox.scenes import SCENES

Option = TypeVar("Option")
Template = tuple[str, ...]
"""Pieces of a caption, joined by spaces. "0" to "3" stand for the subjects, "where" for the scene, each also
followed by a comma; "side," for a side, "noun" and "there" for a diptych's subject and its second scene.
"""
# Fractions of the frame: middles further left or right than these are on a side, longer sides below or above
# these small or big.
LEFT, RIGHT, SMALL, BIG = 0.4, 0.6, 0.5, 0.66
# How often a caption says that a subject is big or small, on which side it is, in which order several are.
SAYS_SIZE, SAYS_SIDE, SAYS_SIDES = 0.3, 0.35, 0.4
# By the number of subjects.
TEMPLATES: dict[int, tuple[Template, ...]] = {
    1: (
        ("0", "where"),
        ("0", "where"),
        ("a picture of", "0", "where"),
        ("a photo of", "0", "where"),
        ("where,", "0"),
    ),
    2: (
        ("0", "and", "1", "where"),
        ("0", "next to", "1", "where"),
        ("a picture of", "0", "and", "1", "where"),
        ("where,", "0", "and", "1"),
    ),
    3: (
        ("0,", "1", "and", "2", "where"),
        ("a picture of", "0,", "1", "and", "2", "where"),
        ("where,", "0,", "1", "and", "2"),
    ),
    4: (
        ("0,", "1,", "2", "and", "3", "where"),
        ("a picture of", "0,", "1,", "2", "and", "3", "where"),
        ("where,", "0,", "1,", "2", "and", "3"),
    ),
}
ON_A_SIDE: Template = ("0", "side,", "where")
ON_BOTH_SIDES: tuple[Template, Template] = (
    ("0", "on the left and", "1", "on the right,", "where"),
    ("0", "on the right and", "1", "on the left,", "where"),
)
FROM_LEFT: dict[int, Template] = {
    3: ("from left to right", "0,", "1", "and", "2,", "where"),
    4: ("from left to right", "0,", "1,", "2", "and", "3,", "where"),
}
SIDE_BY_SIDE: dict[int, Template] = {
    1: ("two side-by-side images of the same", "noun:", "left", "where,", "right", "there"),
    2: ("two side-by-side images of the same", "noun:", "left", "where,", "right", "with", "1", "there"),
}
# Names that do not say what their picture shows.
SHOWN_AS = {
    "airplane arrival": "landing airplane",
    "airplane departure": "departing airplane",
    "badminton": "badminton racket",
    "bowling": "bowling ball with pins",
    "construction": "construction barrier",
    "cooking": "frying pan with an egg",
    "cricket game": "cricket bat with a ball",
    "field hockey": "field hockey stick with a ball",
    "hourglass not done": "hourglass",
    "ice hockey": "ice hockey stick with a puck",
    "lacrosse": "lacrosse stick with a ball",
    "locked": "padlock",
    "metro": "metro train",
    "pick": "pickaxe",
    "ping pong": "ping pong paddle",
    "thread": "spool of thread",
}
UNCOUNTABLE = frozenset(
    ("bacon", "bread", "broccoli", "butter", "clothes", "corn", "food", "garlic", "ginger", "ice", "jewelry")
    + ("liquid", "luggage", "meat", "money", "oden", "popcorn", "rice", "sake", "salt", "soap", "sushi")
    + ("wood", "yarn")
)
UNIQUE = frozenset({"statue of liberty", "tokyo tower"})
PLURALS_IN_IS_AS = frozenset({"skis", "maracas", "pajamas", "pyjamas"})
SINGULARS_IN_S = frozenset({"canvas", "christmas", "gas", "lens", "rhinoceros"})
AN_IN_SPITE = re.compile(r"hour|honest|heir|x-ray")
A_IN_SPITE = re.compile(r"uni|use|ufo|eu|ewe|one\b")


def noun(name: str) -> str:
    """The subject's name as a noun without article or colon, as it follows "the same"."""
    head, _, attributes = name.partition(": ")
    if head == "flag":
        return f"flag of {attributes}"
    if attributes:
        return f"{head} with {attributes.replace(', ', ' and ')}"
    return SHOWN_AS.get(name, name)


def noun_phrase(name: str, adjective: str = "") -> str:
    """The noun with its article and an optional adjective: "a dog", "an owl", "jeans", "a small owl"."""
    words = f"{adjective} {noun(name)}".strip()
    if name in UNIQUE:
        return f"the {words}"
    if _takes_no_article(noun(name)):
        return words
    start = words.lower()
    vowel = AN_IN_SPITE.match(start) or (start[0] in "aeiou" and not A_IN_SPITE.match(start))
    return f"an {words}" if vowel else f"a {words}"


def _takes_no_article(words: str) -> bool:
    head = re.split(r" (?:with|without|of|in|on|and) ", words)[0].split()[-1].lower()
    if head in UNCOUNTABLE or head in PLURALS_IN_IS_AS:
        return True
    return head.endswith("s") and not head.endswith(("ss", "us", "is", "as")) and head not in SINGULARS_IN_S


def side(placement: Placement) -> str:
    """The words "on the left" or "on the right"; empty for the middle."""
    if placement.x < LEFT:
        return "on the left"
    return "on the right" if placement.x > RIGHT else ""


def size_word(placement: Placement) -> str:
    """The word "small" or "big"; empty for sizes in between."""
    if placement.extent < SMALL:
        return "small"
    return "big" if placement.extent > BIG else ""


def caption(rng: Generator, names: Sequence[str], composite: Composite) -> str:
    """One line that names subjects and scene and, sometimes, the subjects' places and sizes."""
    where = choose(rng, SCENES[composite.scene].phrases)
    if len(names) == 1:
        return _with_one(rng, names[0], where, composite.placements[0])
    return _with_several(rng, names, where, composite.placements)


def diptych_caption(rng: Generator, names: Sequence[str], scenes: tuple[str, str]) -> str:
    """A caption like "two side-by-side images of the same dog: left on the grass, right in the snow"."""
    left, right = (choose(rng, SCENES[scene].phrases) for scene in scenes)
    values = {"noun:": f"{noun(names[0])}:", "there": right} | _values(map(noun_phrase, names), left)
    return fill(SIDE_BY_SIDE[len(names)], values)


def fill(template: Template, values: Mapping[str, str]) -> str:
    """The template's pieces, with the values in place of those that name one, as one line."""
    return " ".join(values.get(piece, piece) for piece in template)


def _values(phrases: Iterable[str], where: str) -> dict[str, str]:
    """What the pieces of a template stand for."""
    values = {str(index): phrase for index, phrase in enumerate(phrases)} | {"where": where}
    return values | {f"{piece},": f"{value}," for piece, value in values.items()}


def _with_one(rng: Generator, name: str, where: str, placement: Placement) -> str:
    adjective = size_word(placement) if rng.random() < SAYS_SIZE else ""
    values = _values([noun_phrase(name, adjective)], where)
    if side(placement) and rng.random() < SAYS_SIDE:
        return fill(ON_A_SIDE, values | {"side,": f"{side(placement)},"})
    return fill(choose(rng, TEMPLATES[1]), values)


def _with_several(rng: Generator, names: Sequence[str], where: str, placements: Sequence[Placement]) -> str:
    phrases, count = [noun_phrase(name) for name in names], len(names)
    if rng.random() >= SAYS_SIDES:
        return fill(choose(rng, TEMPLATES[count]), _values(phrases, where))
    if count == 2:
        template = ON_BOTH_SIDES[0 if placements[0].x < placements[1].x else 1]
        return fill(template, _values(phrases, where))
    from_left = sorted(range(count), key=lambda index: placements[index].x)
    return fill(FROM_LEFT[count], _values([phrases[index] for index in from_left], where))


def choose(rng: Generator, options: Sequence[Option]) -> Option:
    return options[int(rng.integers(len(options)))]
