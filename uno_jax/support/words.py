"""Numbers with their nouns, for printed lines and messages."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """The number with its noun: "1 picture", "2 pictures"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
