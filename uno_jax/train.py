"""`uno-train`, `python -m uno_jax.train --config RECIPE`: one training run, or what it would need."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import FlagCreatePairsOff

from uno_jax.support.bounds import Bounds
from uno_jax.support.command_line import exit_on
from uno_jax.support.compile_cache import use_compile_cache
from uno_jax.training.plan import plan_training
from uno_jax.training.recipes import RecipeArgs, parse_recipe_args, recipe_text
from uno_jax.training.run import train


@dataclass(frozen=True, kw_only=True)
class Args(RecipeArgs):
    """Train by a recipe. The same command again continues from the newest checkpoint."""

    plan: str = ""
    """Hardware to plan for in place of training: a TPU topology such as v5p:2x2x1, a GPU such as h100 or
    several as h100:8, or local. Prints what a step needs, and the nearest setting that fits.
    """
    plan_refs: Annotated[int, Bounds(0, 64)] = 1
    """Number of references of each sample, for --plan."""
    detail: Annotated[bool, FlagCreatePairsOff] = False
    """With --plan, also print where the time goes: the kernels by kind and by place in the model."""
    print_config: Annotated[bool, FlagCreatePairsOff] = False
    """Print the recipe with every field, and nothing else."""
    export: Annotated[bool, FlagCreatePairsOff] = False
    """Export the weights of the newest checkpoint in place of training on."""


def main(argv: Sequence[str] | None = None) -> None:
    """The command `uno-train`."""
    with exit_on(ValueError, OSError):
        args = parse_recipe_args(Args, "uno-train", argv)
        if args.plan:
            return plan_training(args.recipe, args.plan, args.plan_refs, args.detail)
        if args.print_config:
            return print(recipe_text(args.recipe))
        use_compile_cache()
        train(args.recipe, only_export=args.export)


if __name__ == "__main__":
    main()
