"""What the killed commands read, made once: the tiny model, lists, encoders, and runs to report on."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

from tests.evaluation.tiny_dreambench import make_modules, write_encoders, write_list, write_photos
from tests.tiny_model import random_params, write_lora
from tests.tiny_run import make_recipe
from tools.convert_weights.__main__ import main as convert
from uno_jax.ablation.grid import Ablation, Score, Variant
from uno_jax.families.uno.config import UnoPE
from uno_jax.networks.efficientnet import EfficientNetConfig
from uno_jax.training.config import SamplesConfig, TrainConfig
from uno_jax.training.recipes import recipe_text
from uno_jax.weights.checkpoint import save_network

SMALL_PICTURES = ("--steps", 1, "--width", 32, "--height", 32, "--ref-size", 32)
# Random weights, in the shape of the real network but small.
SCORER = EfficientNetConfig(8, (1, 2, 1), (8, 12, 16), (3, 5, 3), (1, 2, 2), (1, 2, 2), 32, 64)
# Folder of a diffusers pipeline, and the command that writes its network.
PIPELINE = {"transformer": "flux", "vae": "vae", "text_encoder": "clip", "text_encoder_2": "t5"}


def words(*arguments: object) -> list[str]:
    return [str(argument) for argument in arguments]


def exits_well(main: Callable[[list[str]], object], *arguments: object) -> None:
    """Runs a command.

    Raises RuntimeError unless it ends with status 0.
    """
    try:
        main(words(*arguments))
    except SystemExit as stop:
        if stop.code:
            raise RuntimeError(f"{main.__module__} ended with {stop.code}") from None


def write_basics(folder: Path) -> None:
    """weights/, pairs.json with its pictures, jobs.json, lora/, and recipe.py: three checkpoints of two
    steps, each with its samples.
    """
    recipe = make_recipe(folder)
    write_lora(folder / "lora", UnoPE())
    names = ("chelsea", "coffee", "astronaut", "rocket")
    entries = [
        {"prompt": f"a {name} on grass", "image_paths": [str(folder / f"{name}.jpg")]} for name in names
    ]
    (folder / "jobs.json").write_text(json.dumps([*entries, {"prompt": "a stone", "image_paths": []}]))
    (folder / "samples.json").write_text(json.dumps(entries[:1]))
    samples = SamplesConfig(2, str(folder / "samples.json"), 1, width=32, height=32, ref_size=32)
    recipe = dataclasses.replace(recipe, steps=6, remat="none", samples=samples)
    (folder / "recipe.py").write_text(recipe_text(recipe) + "\n")


def recipe_of(folder: Path) -> TrainConfig:
    """The recipe that `write_basics` wrote."""
    namespace: dict[str, Callable[[], TrainConfig]] = {}
    exec((folder / "recipe.py").read_text(), namespace)
    return namespace["get_config"]()


def write_pipeline(folder: Path) -> None:
    """The model's networks as single files, in the folders of a diffusers pipeline."""
    for name, command in PIPELINE.items():
        (folder / "pipeline" / name).mkdir(parents=True)
        file = folder / "pipeline" / name / "model.safetensors"
        exits_well(convert, command, "--src", folder / "weights", "--dst", file)


def write_scorer(folder: Path) -> None:
    save_network(folder / "scorer" / "efficientnet", SCORER, random_params(SCORER, 3))


def write_dreambench(folder: Path) -> None:
    write_photos(folder / "photos")
    write_list(folder / "list.json")
    write_encoders(folder / "encoders", make_modules())


def dreambench_words(folder: Path) -> list[str]:
    shared = ("--data", folder / "photos", "--lists", folder / "list.json", "--encoders", folder / "encoders")
    return words("--suite", "dreambench-multi", *shared, *SMALL_PICTURES)


def write_ablation(folder: Path) -> None:
    """grid.py: a LoRA trained in two stages, and the base model, scored on DreamBench in small."""
    recipe = dataclasses.replace(recipe_of(folder), steps=2, checkpoint_every=1, samples=SamplesConfig())
    variants = (Variant("both stages", (recipe, dataclasses.replace(recipe, seed=1))), Variant("base"))
    score = Score("DINO", "one", ("scores", "dino", "mean"))
    grid = Ablation(recipe.weights, variants, {"one": tuple(dreambench_words(folder))}, (score,))
    names = (
        "from uno_jax.ablation.grid import *\nfrom uno_jax.training.config import *\n"
        "from uno_jax.data.config import *\nfrom uno_jax.families.uno.config import *\n"
    )
    (folder / "grid.py").write_text(f"{names}\n\ndef get_config():\n    return {grid!r}\n")
