"""Every numeric option of every command, as its --help names them, with numbers that nobody means."""

import re
from collections.abc import Callable, Iterator

from benchmarks.hostile.case import BASES, Case, spoilt

VALUES = (
    *("-1", "1000000000", str(2**63), "1e999", "nan", "-inf"),
    *("", "many", "-٣", "0_1", "0x10"),
)
OPTION = re.compile(r"^│ (--[\w.-]+) (.*\b(?:INT|FLOAT)\b.*?)(?:  .*)?│?$", re.M)
GREATEST = re.compile(r"must be at most ([\d,]+)")
# What makes a run longer and nothing larger: its greatest value is no different work from a lesser one.
LONGER = re.compile(
    r"steps|every|warmup|retries|timeout|seconds|minutes|attempts|index|processes|seed|checkpoints"
)


def numeric_options(help_text: str) -> dict[str, int]:
    """Every numeric option of a command, and how many numbers it takes."""
    return {name: max(1, len(re.findall("INT|FLOAT", kind))) for name, kind in OPTION.findall(help_text)}


def cases(help_of: Callable[[str], str], only: str = "") -> Iterator[Case]:
    """`help_of` gives the --help of a base's command."""
    for base, found in BASES.items():
        if found.numbers and only in found.command:
            for option, count in numeric_options(help_of(base)).items():
                for value in VALUES:
                    words = (f"{option}={value}",) if count == 1 else (option, *[value] * count)
                    yield spoilt(base, f"{option} {value or 'empty'}", *words)


def greatest(case: Case, text: str) -> Case | None:
    """The same command at the greatest number that its error allows; None where there is none to try."""
    found, option = GREATEST.search(text), case.words[-1].partition("=")[0]
    if found is None or not case.words[-1].endswith("=1000000000") or LONGER.search(option):
        return None
    number = found[1].replace(",", "")
    name = f"{case.name.rpartition(' ')[0]} greatest {number}"
    return case._replace(name=name, words=(*case.words[:-1], f"{option}={number}"), works=True)
