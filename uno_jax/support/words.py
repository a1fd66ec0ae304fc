"""Numbers with their nouns and names with their escapes, for printed lines and messages."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """The number with its noun: "1 picture", "2 pictures"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def printable(text: str, kept: str = "") -> str:
    """The text with control characters and the like, which a terminal would obey, as escapes but for those
    that are `kept`.
    """
    return "".join(
        letter if letter.isprintable() or letter in kept else letter.encode("unicode_escape").decode()
        for letter in text
    )
