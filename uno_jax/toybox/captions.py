"""Captions in plain English from subjects' names, scenes and placements. All randomness comes from `rng`.

Names come from manifests, usually emoji names ("flag: japan", "jeans", "e-mail"): `noun` makes them readable
and `noun_phrase` adds the article.
"""

import re
from collections.abc import Sequence

from numpy.random import Generator

from uno_jax.toybox.compose import Composite, Placement
from uno_jax.toybox.scenes import SCENES

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
    if placement.x < 0.4:
        return "on the left"
    return "on the right" if placement.x > 0.6 else ""


def size_word(placement: Placement) -> str:
    """The word "small" or "big"; empty for sizes in between."""
    if placement.extent < 0.5:
        return "small"
    return "big" if placement.extent > 0.66 else ""


def caption(rng: Generator, names: Sequence[str], composite: Composite) -> str:
    """One line that names subjects and scene and, sometimes, the subjects' places and sizes."""
    where = choose(rng, SCENES[composite.scene].phrases)
    if len(names) == 1:
        return _with_one(rng, names[0], where, composite.placements[0])
    return _with_two(rng, names, where, composite.placements)


def diptych_caption(rng: Generator, names: Sequence[str], scenes: tuple[str, str]) -> str:
    """A caption like "two side-by-side images of the same dog: left on the grass, right in the snow"."""
    left, right = (choose(rng, SCENES[scene].phrases) for scene in scenes)
    beside = "".join(f"with {noun_phrase(name)} " for name in names[1:])
    return f"two side-by-side images of the same {noun(names[0])}: left {left}, right {beside}{right}"


def _with_one(rng: Generator, name: str, where: str, placement: Placement) -> str:
    adjective = size_word(placement) if rng.random() < 0.3 else ""
    subject = noun_phrase(name, adjective)
    if side(placement) and rng.random() < 0.35:
        return f"{subject} {side(placement)}, {where}"
    template = choose(rng, ("{s} {w}", "{s} {w}", "a picture of {s} {w}", "a photo of {s} {w}", "{w}, {s}"))
    return template.format(s=subject, w=where)


def _with_two(rng: Generator, names: Sequence[str], where: str, placements: Sequence[Placement]) -> str:
    first, second = (noun_phrase(name) for name in names)
    if rng.random() < 0.4:
        here, there = ("left", "right") if placements[0].x < placements[1].x else ("right", "left")
        return f"{first} on the {here} and {second} on the {there}, {where}"
    template = choose(
        rng, ("{a} and {b} {w}", "{a} next to {b} {w}", "a picture of {a} and {b} {w}", "{w}, {a} and {b}")
    )
    return template.format(a=first, b=second, w=where)


def choose(rng: Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]
