"""What a recipe's settings must satisfy together, checked without reading any file."""

import importlib.util
import re
from typing import get_args

from uno_jax.data.config import DataConfig
from uno_jax.families.registry import FAMILIES, PRESETS
from uno_jax.support import images
from uno_jax.support.bounds import check_bounds
from uno_jax.support.errors import RecipeError
from uno_jax.training.config import ProcessesConfig, TrainConfig
from uno_jax.weights.base import Trained

Problems = list[tuple[bool, str]]


def check_recipe(config: TrainConfig) -> None:
    """Raises RecipeError, naming every problem, for settings that cannot work together."""
    kinds = (*dict.fromkeys(kind for family in FAMILIES for kind in family.networks), "lora")
    begins = tuple(f"{kind}/" for kind in kinds)
    problems = [
        *((True, problem) for problem in check_bounds(config)),
        (config.preset not in PRESETS, f"preset must be one of {', '.join(PRESETS)}, got {config.preset!r}"),
        *_data_problems(config.data),
        (
            config.batch_size % max(config.accumulate, 1) != 0,
            f"batch_size {config.batch_size} does not divide into {config.accumulate} parts (accumulate)",
        ),
        (bool(config.init_lora and config.init_run), "give init_lora or init_run, not both"),
        (
            config.data.mask_weight != 1 and config.objective != "flow",
            f"data.mask_weight is for the objective flow; {config.objective} has no masks",
        ),
        *_place_problems(config),
        *_process_problems(config.processes),
        (
            bool(config.wandb_project) and importlib.util.find_spec("wandb") is None,
            "wandb_project needs the package wandb: pip install wandb",
        ),
        *_sample_problems(config),
        *_trainable_problems(config.trainable, begins),
        (
            config.precision not in ("", "bfloat16"),
            f"precision must be bfloat16 or empty, got {config.precision!r}",
        ),
        *_base_problems(config),
        (
            config.objective == "autoencoder" and any(config.trains(kind) for kind in kinds if kind != "vae"),
            "the autoencoder objective trains vae/… only",
        ),
        (
            config.objective == "autoencoder" and bool(config.data.encodings),
            "the autoencoder objective learns from pictures, not from data.encodings",
        ),
        (
            config.objective == "autoencoder" and config.completion > 0,
            "the autoencoder objective has no noise: completion must be 0",
        ),
        (
            config.objective == "flow" and config.trains("vae"),
            "the flow objective cannot train vae/…: the loss is measured in its latents",
        ),
    ]
    if wrong := [message for bad, message in problems if bad]:
        raise RecipeError("; ".join(wrong))
    for resolution in (config.data.resolution, config.data.ref_resolution):
        images.bucket_size(1, 1, resolution)


def _trainable_problems(patterns: tuple[str, ...], begins: tuple[str, ...]) -> Problems:
    problems = [(not patterns, "trainable is empty: nothing would be trained")]
    for pattern in patterns:
        wrong = f"trainable {pattern!r} must begin with one of {', '.join(begins)}"
        problems.append((not pattern.startswith(begins), wrong))
        try:
            re.compile(pattern)
        except re.error as error:
            problems.append((True, f"trainable {pattern!r} is not a regular expression: {error}"))
    return problems


def _process_problems(processes: ProcessesConfig) -> Problems:
    coordinator = processes.coordinator
    return [
        (
            processes.index >= processes.count,
            f"processes.index must be between 0 and {processes.count - 1}, got {processes.index}",
        ),
        (
            processes.count > 1 and not coordinator,
            "several processes need --processes.coordinator HOST:PORT, or auto",
        ),
        (
            coordinator not in ("", "auto") and not re.fullmatch(r".+:[0-9]{1,5}", coordinator),
            f"processes.coordinator must be HOST:PORT, or auto, got {coordinator!r}",
        ),
    ]


def _place_problems(config: TrainConfig) -> Problems:
    """Paths that must be local, unlike those of lists and pictures."""
    places = {
        "workdir": config.workdir,
        "weights": config.weights,
        "init_lora": config.init_lora,
        "init_run": config.init_run,
        "data.encodings": config.data.encodings,
    }
    return [
        ("://" in place, f"{name} {place} must be a local folder: mount the bucket and give that path")
        for name, place in places.items()
    ] + [(not config.workdir, "workdir is empty: name a directory (--workdir DIR)")]


def _data_problems(data: DataConfig) -> Problems:
    return [
        (
            not (data.path or data.sources or data.encodings),
            "data.path is empty: give a JSON list of pairs (--data.path FILE)",
        ),
        (bool(data.path and data.sources), "give data.path or data.sources, not both"),
        (data.buckets not in ("own", "mean"), f"data.buckets must be own or mean, got {data.buckets}"),
        *(
            (
                any(side % images.MULTIPLE for side in source.size or ()),
                f"the size of {source.path} must be multiples of {images.MULTIPLE}, got {source.size}",
            )
            for source in data.sources
        ),
    ]


def _base_problems(config: TrainConfig) -> Problems:
    return [
        (
            config.base not in get_args(Trained),
            f"base must be int8, fp8, fp8-products or empty (dtype), got {config.base!r}",
        ),
        (
            bool(config.base) and any(not pattern.startswith("lora/") for pattern in config.trainable),
            f"base {config.base} is for LoRA training: trainable must name lora/… only, "
            f"got {', '.join(config.trainable)}",
        ),
        (
            bool(config.base) and importlib.util.find_spec("qwix") is None,
            f"base {config.base} needs qwix: pip install 'uno_jax[quant]'",
        ),
    ]


def _sample_problems(config: TrainConfig) -> Problems:
    samples = config.samples
    return [
        (
            samples.every > 0 and not samples.jobs,
            "samples.every needs a list of prompts (--samples.jobs FILE)",
        ),
        (
            bool(samples.jobs) and not samples.every,
            "samples.jobs is drawn every samples.every steps, which is 0: give it too (--samples.every 500)",
        ),
        (
            samples.every > 0 and config.objective != "flow",
            "an autoencoder cannot draw samples (samples.every)",
        ),
    ]
