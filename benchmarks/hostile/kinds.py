"""The kinds of cases by name."""

from collections.abc import Callable, Iterator

from benchmarks.hostile import (
    checkpoints,
    environment,
    lists,
    loras,
    models,
    names,
    numbers,
    outputs,
    pictures,
    reports,
    scone,
    sizes,
    tensors,
)
from benchmarks.hostile.case import BASES, Case

FILES = {
    file.__name__.rpartition(".")[2]: file.cases
    for file in (
        pictures,
        lists,
        tensors,
        models,
        loras,
        names,
        outputs,
        environment,
        reports,
        checkpoints,
        scone,
        sizes,
    )
}


def cases(help_of: Callable[[str], str], kind: str = "", only: str = "") -> Iterator[tuple[str, Case]]:
    """Every case with its kind. `help_of` gives the --help of a base's command."""
    if kind in "valid":
        yield from (("valid", case) for case in valid())
    for name, make in FILES.items():
        if kind in name:
            yield from ((name, case) for case in make())
    if kind in "numbers":
        yield from (("numbers", case) for case in numbers.cases(help_of, only))


def valid() -> Iterator[Case]:
    """The command lines that others spoil, as they are."""
    refused = {
        "marks",
        "pipeline",
        "vit",
        "verify",
        "lpips",
        "judge",
        "judge evaluation",
    }  # what they need is not there
    for base, found in BASES.items():
        if (
            base in refused
            or base.startswith("stage ")
            or found.command in ("uno_jax.ablate", "uno_jax.demo")
        ):
            continue
        yield Case(
            found.command, f"{base}: valid", found.words, given=found.given, codes=(0,), works=found.works
        )
