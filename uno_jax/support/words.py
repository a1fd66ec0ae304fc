"""Numbers with their nouns, names with their escapes and errors in a line, for printed lines and messages."""

LONGEST_REASON = 200


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


def one_line(error: BaseException) -> str:
    """An error's text, or else its type, on one line that is not long."""
    return " ".join(str(error).split())[:LONGEST_REASON].rstrip(".") or type(error).__name__
