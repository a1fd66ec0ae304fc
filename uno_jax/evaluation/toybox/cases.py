"""The toybox suite: held-out subjects and a seed -> prompts with references and their real composites."""

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np

from uno_jax.support.memory import free_host_bytes, refuse_beyond_memory
from uno_jax.support.words import counted
from uno_jax.toybox import Sample, Subject, noun_phrase, pair
from uno_jax.toybox.compose import SMALLEST

Kind = Literal["single", "two", "three", "four", "placed"]
Cases = dict[Kind, list[Sample]]
KINDS: dict[Kind, int] = {"single": 1, "two": 2, "three": 3, "four": 4, "placed": 1}  # numbers of subjects
SIDES = ("left", "right")
USUAL: tuple[Kind, ...] = ("single", "two")
# The second number of a case's seed; 0, 3 and 4 are the order's, the scenes' and the candidates'.
STREAMS: dict[Kind, int] = {"single": 1, "two": 2, "three": 5, "four": 6, "placed": 7}


def check_kinds(kinds: Sequence[Kind]) -> None:
    """Raises ValueError where there are none."""
    if not kinds:
        raise ValueError(f"--kinds must name at least one of {', '.join(KINDS)}")


def check_cases_memory(size: int, count: int, kinds: Sequence[Kind] = USUAL) -> None:
    """Raises RecipeError where the composites and references of `make_cases` cannot fit into memory."""
    pictures = sum(1 + KINDS[kind] for kind in kinds)
    what = f"{counted(count, 'case')} of each kind in pictures of {size}x{size}"
    refuse_beyond_memory(count * pictures * 3 * size**2, what, "give a smaller --count", free_host_bytes())


def make_cases(
    subjects: Sequence[Subject], count: int, size: int, seed: int, kinds: Sequence[Kind] = USUAL
) -> Cases:
    """`count` cases of each of `kinds`, in pictures of `size` pixels a side. Those with one subject show
    every subject before one is repeated; those of kind "placed" all name a side. A kind's cases are the same
    beside any others.
    """
    order = np.random.default_rng([seed, 0]).permutation(len(subjects))
    turns = [subjects[order[i % len(order)]] for i in range(count)]
    return {
        kind: [_make_case(kind, [seed, STREAMS[kind], i], turns[i], subjects, size) for i in range(count)]
        for kind in dict.fromkeys(kinds)
    }


def _make_case(kind: Kind, seeds: list[int], turn: Subject, subjects: Sequence[Subject], size: int) -> Sample:
    if KINDS[kind] > 1:
        return pair(np.random.default_rng(seeds), subjects, size, references=KINDS[kind])
    if kind == "placed":
        # Prompts do not depend on the size: small pictures tell which try names a side.
        tries = (pair(np.random.default_rng([*seeds, n]), [turn], SMALLEST) for n in itertools.count())
        seeds = [*seeds, next(n for n, case in enumerate(tries) if side_of(case))]
    return pair(np.random.default_rng(seeds), [turn], size)


def side_of(case: Sample) -> str:
    """The side on which the prompt puts its one subject, "left" or "right"; empty where it names none."""
    return next((side for side in SIDES if f" on the {side}, " in case.prompt), "")


def left_to_right(case: Sample) -> tuple[str, ...] | None:
    """The subjects in the order that the prompt asks for; None where it names no order."""
    for names in itertools.permutations(case.subjects):
        if case.prompt.startswith(_beginnings([noun_phrase(name) for name in names])):
            return names
    return None


def _beginnings(phrases: Sequence[str]) -> tuple[str, ...]:
    """How prompts begin that put these, two or more, in this order."""
    if len(phrases) > 2:
        return (f"from left to right {', '.join(phrases[:-1])} and {phrases[-1]},",)
    left, right = phrases
    return f"{left} on the left and {right} on the right,", f"{right} on the right and {left} on the left,"
