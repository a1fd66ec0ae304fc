"""What a recipe's settings must satisfy together, checked without reading any file."""

import importlib.util

from uno_jax.data.config import DataConfig
from uno_jax.families.registry import FAMILIES, PRESETS
from uno_jax.support import images
from uno_jax.support.errors import RecipeError
from uno_jax.training.config import TrainConfig

Problems = list[tuple[bool, str]]


def check_recipe(config: TrainConfig) -> None:
    """Raises RecipeError, naming every problem, for settings that cannot work together."""
    kinds = (*dict.fromkeys(kind for family in FAMILIES for kind in family.networks), "lora")
    begins = tuple(f"{kind}/" for kind in kinds)
    problems = [
        (config.preset not in PRESETS, f"preset must be one of {', '.join(PRESETS)}, got {config.preset!r}"),
        *_data_problems(config.data),
        (config.batch_size < 1, f"batch_size must be at least 1, got {config.batch_size}"),
        (config.steps < 1, f"steps must be at least 1, got {config.steps}"),
        (config.checkpoint_every < 1, f"checkpoint_every must be at least 1, got {config.checkpoint_every}"),
        (
            config.accumulate < 1 or config.batch_size % max(config.accumulate, 1) != 0,
            f"batch_size {config.batch_size} does not divide into {config.accumulate} parts (accumulate)",
        ),
        (not 0 <= config.optim.ema_decay < 1, f"ema_decay must lie in [0, 1), got {config.optim.ema_decay}"),
        (config.keep_checkpoints < 1, f"keep_checkpoints must be at least 1, got {config.keep_checkpoints}"),
        (
            config.keep_every is not None and config.keep_every < 1,
            f"keep_every must be at least 1, or None for never, got {config.keep_every}",
        ),
        (bool(config.init_lora and config.init_run), "give init_lora or init_run, not both"),
        *_place_problems(config),
        (
            not 0 <= config.processes.index < config.processes.count,
            f"processes.index must be between 0 and {config.processes.count - 1}, "
            f"got {config.processes.index}",
        ),
        (
            config.processes.count > 1 and not config.processes.coordinator,
            "several processes need --processes.coordinator HOST:PORT, or auto",
        ),
        (config.log_every < 1, f"log_every must be at least 1, got {config.log_every}"),
        (config.profile_steps < 0, f"profile_steps must not be negative, got {config.profile_steps}"),
        (
            bool(config.wandb_project) and importlib.util.find_spec("wandb") is None,
            "wandb_project needs the package wandb: pip install wandb",
        ),
        *_sample_problems(config),
        (
            not config.optim.learning_rate > 0,
            f"learning_rate must be positive, got {config.optim.learning_rate}",
        ),
        (not config.trainable, "trainable is empty: nothing would be trained"),
        *(
            (
                not pattern.startswith(begins),
                f"trainable {pattern!r} must begin with one of {', '.join(begins)}",
            )
            for pattern in config.trainable
        ),
        (config.unroll < 1, f"unroll must be at least 1, got {config.unroll}"),
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
        (not 0 <= config.completion <= 1, f"completion must be between 0 and 1, got {config.completion}"),
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
        (not 0 <= data.text_dropout <= 1, f"text_dropout must be between 0 and 1, got {data.text_dropout}"),
        (
            not 0 <= data.max_bad_share <= 1,
            f"max_bad_share must be between 0 and 1, got {data.max_bad_share}",
        ),
        (data.buckets not in ("own", "mean"), f"data.buckets must be own or mean, got {data.buckets}"),
        (data.threads < 1, f"data.threads must be at least 1, got {data.threads}"),
        (data.workers < 0, f"data.workers must not be negative, got {data.workers}"),
        *(
            (not source.weight > 0, f"the weight of {source.path} must be positive, got {source.weight}")
            for source in data.sources
        ),
        *(
            (
                any(side < images.MULTIPLE or side % images.MULTIPLE for side in source.size or ()),
                f"the size of {source.path} must be multiples of {images.MULTIPLE}, got {source.size}",
            )
            for source in data.sources
        ),
    ]


def _base_problems(config: TrainConfig) -> Problems:
    return [
        (
            config.base not in ("", "int8", "fp8"),
            f"base must be int8, fp8 or empty (dtype), got {config.base!r}",
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
        (samples.every < 0, f"samples.every must not be negative, got {samples.every}"),
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
