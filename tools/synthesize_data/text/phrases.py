"""Short texts for prompts: normalised, compared, limited, and given an article."""

import re
from collections import Counter
from collections.abc import Callable, Iterable

TOO_MANY = "more than asked for"
ARTICLES = re.compile(r"^(?:an?|the)\s+", re.IGNORECASE)
# What follows the noun in "kettle made of glass", "mug with a chip".
AFTER_NOUN = re.compile(r" (?:with|without|of|in|on|made|covered|carved|shaped|that|wearing|labelled) ")
UNCOUNTABLE = frozenset(
    ("bread", "broccoli", "cabbage", "canned food", "cheese", "corn", "food", "garlic", "lettuce", "luggage")
    + ("money", "notepaper", "okra", "asparagus", "pasta", "popcorn", "rice", "soap", "sushi")
    + ("tape", "tissue", "toilet paper", "toiletry")
)
SINGULAR_ENDS = ("ss", "us", "is", "as")
AN_IN_SPITE = re.compile(r"hour|honest|heir|x-ray|suv", re.IGNORECASE)
A_IN_SPITE = re.compile(r"uni|use|ufo|eu|ewe|one\b", re.IGNORECASE)


def tidy(text: str) -> str:
    """One line, single spaces, no full stop at the end."""
    return " ".join(text.split()).removesuffix(".").rstrip()


def key(text: str) -> str:
    """Equal for texts that differ only in case, spaces or a leading article."""
    return ARTICLES.sub("", tidy(text)).casefold()


def apply_limits(
    texts: Iterable[str], count: int, too_long: Callable[[str], bool]
) -> tuple[list[str], dict[str, int]]:
    """Returns the first `count` tidied texts within the limits, and how many were dropped, by reason."""
    kept: dict[str, str] = {}
    dropped: Counter[str] = Counter()
    for text in map(tidy, texts):
        if not key(text):
            dropped["empty"] += 1
        elif not text.isprintable():
            dropped["not printable"] += 1
        elif too_long(text):
            dropped["too long"] += 1
        elif key(text) in kept:
            dropped["duplicate"] += 1
        elif len(kept) == count:
            dropped[TOO_MANY] += 1
        else:
            kept[key(text)] = text
    return list(kept.values()), dict(dropped)


def with_article(noun: str) -> str:
    """ "an owl", "a red car with wings"; no article for plurals, uncountable nouns, or if there is one."""
    head = AFTER_NOUN.split(noun.lower(), maxsplit=1)[0]
    plural = head.endswith("s") and not head.endswith(SINGULAR_ENDS)
    if ARTICLES.match(noun) or plural or any(f" {head}".endswith(f" {stuff}") for stuff in UNCOUNTABLE):
        return noun
    vowel = AN_IN_SPITE.match(noun) or (noun[:1].lower() in tuple("aeiou") and not A_IN_SPITE.match(noun))
    return f"an {noun}" if vowel else f"a {noun}"
