"""Recipes: Python files whose get_config() returns a TrainConfig, and command lines that override it."""

import pprint
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated, TypeVar

import tyro

from uno_jax.support.command_line import option_value, parse_args
from uno_jax.support.errors import RecipeError
from uno_jax.support.python_config import returned_by
from uno_jax.training.config import TrainConfig

Args = TypeVar("Args", bound="RecipeArgs")

# What recipe files of version 0.1 import, and where it is now.
MOVED = {
    "uno_jax.config": (
        "uno_jax.families.uno.config",
        "uno_jax.networks.mmdit_config",
        "uno_jax.networks.vae",
        "uno_jax.networks.t5",
        "uno_jax.networks.clip",
    ),
    "uno_jax.recipe": ("uno_jax.training.config", "uno_jax.training.recipes"),
}


@dataclass(frozen=True, kw_only=True)
class RecipeArgs:
    """Options of every command that takes a recipe; the recipe's fields stand beside its own options."""

    config: str = ""
    """Recipe: a Python file, or the name of a shipped one, such as configs/small_stage1.py."""
    recipe: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)
    """Overrides of the recipe."""


def parse_recipe_args(args_type: type[Args], prog: str, argv: Sequence[str] | None) -> Args:
    """A command's arguments, with the fields of its --config as defaults. A --data.path replaces the recipe's
    sources. Exits 2 for unknown arguments.

    Raises RecipeError when there is no recipe, and for a --data.path beside --data.encodings.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    # Read first, since the other options' defaults come from this file.
    name = option_value(words, "--config")
    if not name and not {"-h", "--help"} & set(words):
        raise RecipeError("no recipe: pass --config FILE, for example --config configs/small_stage1.py")
    default = load_recipe(name) if name else TrainConfig()
    defaults = {each.name: each.default for each in fields(args_type)}
    unset = {name: tyro.MISSING if value is MISSING else value for name, value in defaults.items()}
    blank = object.__new__(args_type)  # not constructed, since required options have no value yet
    blank.__dict__.update(unset | {"recipe": default})
    args = parse_args(args_type, prog, words, blank)
    recipe = args.recipe
    listed, cached = (option_value(words, f"--data.{name}") for name in ("path", "encodings"))
    if listed and cached:
        raise RecipeError(
            f"give --data.path {listed} or --data.encodings {cached}, not both: encodings hold their list"
        )
    if recipe.data.path != default.data.path and recipe.data.sources == default.data.sources:
        recipe = replace(recipe, data=replace(recipe.data, sources=()))
    return replace(args, recipe=recipe)


def find_recipe(name: str, kind: str = "recipe") -> Path:
    """The file of a recipe, or of an ablation or co-evolution, whose name ends in _ablation or _coevolution:
    the path itself, else the shipped file of that name.

    Raises RecipeError when there is neither.
    """
    if not name:
        raise RecipeError("the name of the recipe is empty: pass --config FILE")
    shipped = [Path(__file__).parents[2] / folder for folder in ("configs", "uno_jax_configs")]
    candidates = [Path(name), *(folder / Path(name).with_suffix(".py").name for folder in shipped)]
    for path in candidates:
        if path.is_file():
            return path
    files = [f for folder in shipped for f in folder.glob("*.py") if f.stem != "__init__"]
    known = sorted(file.name for file in files if _kind(file) == kind)
    raise RecipeError(f"no {kind} {name}: expected a file, or one of {', '.join(known)}")


def _kind(file: Path) -> str:
    end = file.stem.rpartition("_")[2]
    return end if end in ("ablation", "coevolution") else "recipe"


def load_recipe(name: str) -> TrainConfig:
    """The TrainConfig that a recipe's get_config() returns.

    Raises RecipeError where there is no such file, ConfigError for anything but such a recipe.
    """
    path = find_recipe(name)
    provide_modules_of_0_1()
    return returned_by(path, TrainConfig)


def provide_modules_of_0_1() -> None:
    """Lets recipe files that were written for version 0.1 find what they import."""
    for old, places in MOVED.items():
        module = sys.modules.setdefault(old, ModuleType(old))
        for place in places:
            module.__dict__.update(
                {name: value for name, value in vars(import_module(place)).items() if name[0] != "_"}
            )


def recipe_text(config: TrainConfig) -> str:
    """The text of a recipe file that names every field of `config`."""
    start = "    return "
    body = textwrap.indent(pprint.pformat(config, width=100), " " * len(start)).strip()
    return f"from uno_jax.training.config import *\n\n\ndef get_config():\n{start}{body}"
