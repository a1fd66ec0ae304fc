"""The toybox suite: held-out subjects and a seed -> prompts with references and their real composites."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from uno_jax.support.memory import free_host_bytes, refuse_beyond_memory
from uno_jax.support.words import counted
from uno_jax.toybox import Sample, Subject, noun_phrase, pair

SIDES = ("left", "right")


class Cases(NamedTuple):
    """What is drawn and scored: prompts with one subject each, and prompts with two."""

    single: list[Sample]
    two: list[Sample]


def check_cases_memory(size: int, count: int) -> None:
    """Raises RecipeError where the composites and references of `make_cases` cannot fit into memory."""
    pictures = 2 + 3
    what = f"{counted(count, 'case')} of each kind in pictures of {size}x{size}"
    refuse_beyond_memory(count * pictures * 3 * size**2, what, "give a smaller --count", free_host_bytes())


def make_cases(subjects: Sequence[Subject], count: int, size: int, seed: int) -> Cases:
    """`count` cases of each kind, in pictures of `size` pixels a side. Those with one subject show every
    subject before one is repeated.
    """
    order = np.random.default_rng([seed, 0]).permutation(len(subjects))
    turns = (subjects[order[i % len(order)]] for i in range(count))
    single = [pair(np.random.default_rng([seed, 1, i]), [subject], size) for i, subject in enumerate(turns)]
    two = [pair(np.random.default_rng([seed, 2, i]), subjects, size, references=2) for i in range(count)]
    return Cases(single, two)


def left_to_right(case: Sample) -> tuple[str, str] | None:
    """The two subjects in the order that the prompt asks for; None where it names no order."""
    first, second = case.subjects
    for names, (here, there) in (((first, second), SIDES), ((second, first), SIDES[::-1])):
        if case.prompt.startswith(
            f"{noun_phrase(first)} on the {here} and {noun_phrase(second)} on the {there},"
        ):
            return names
    return None
