"""The parts of the small model's training, in order, with their losses, batches and learning rates."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax

from uno_jax.data.config import DataConfig
from uno_jax.families.uno.config import PRESETS, LoraConfig, ModelConfig
from uno_jax.small_training.losses import Loss, autoencoder_loss, base_loss, pairs_loss
from uno_jax.small_training.samples import Curriculum
from uno_jax.training.config import TrainConfig

MODEL = PRESETS["small"]
LORA = LoraConfig(rank=64)
AUTOENCODER = 96
# First panels that are nearly alike, from which copying is learned at all, then freer and freer ones.
PANELS = Curriculum(
    twice=((0.0, 0.4), (0.2, 0.2), (0.5, 0.0)),
    freedom=((0.0, 0.0), (0.2, 0.5), (0.8, 2.0)),
    straight=((0.15, 0.0), (0.6, 0.4)),
    gap=((0.15, 0.0), (0.6, 24.0)),
)
BASE = (112, 16, 32)  # given panels, whole diptychs, captioned pictures
BASE_PAIRS = 96  # pairs of two references
PAIRS = {0: 192, 1: 128, 2: 96, 3: 64, 4: 48}  # by the number of references
# Numbers of references, one a step, again and again.
BASE_TURNS = (-1, -1, -1, 2)  # -1 for panels
STAGE1 = (1, 1, 1, 1, 1, 1, 0, 1)
STAGE2 = (2, 1, 2, 3, 2, 0, 2, 4, 2, 1, 3, 4)


class Schedule(NamedTuple):
    """AdamW's rate: a linear warm-up in steps, constant, and linear to zero over the last `cooling`."""

    learning_rate: float
    warmup_steps: int
    ema_decay: float
    weight_decay: float = 0.01
    b2: float = 0.98
    cooling: float = 0.4


class Part(NamedTuple):
    """One part: what it trains (regular expressions over parameter paths), from what, and how."""

    name: str
    trainable: tuple[str, ...]
    networks: tuple[str, ...]
    losses: Mapping[int, Loss]
    """By what `turns` call them."""
    turns: tuple[int, ...]
    """Which loss each step has, again and again."""
    schedule: Schedule

    def trains(self, kind: str) -> bool:
        """Whether it trains the whole of a network, which then need not be there."""
        return f"{kind}/.*" in self.trainable


class Job(NamedTuple):
    """A part with what stays the same over its steps."""

    part: Part
    model: ModelConfig
    recipe: TrainConfig
    minutes: float
    folder: Path


class Platform(NamedTuple):
    """How the parts run on a platform: the share of the full batches, the side of the autoencoder's pictures
    in that of the model's, and the recipe's numbers.
    """

    batch_share: float
    window: float
    recipe: TrainConfig


ON_CHIPS = Platform(1.0, 1.0, TrainConfig(dtype="bfloat16", remat="none"))
# Half precision is slower on CPUs, products of rounded inputs are not.
ON_CPUS = Platform(1 / 16, 0.5, TrainConfig(dtype="float32", precision="bfloat16", unroll=3, remat="none"))


def choose_platform(model: ModelConfig, batch_share: float | None = None, seed: int = 0) -> Platform:
    """The platform in use, for the model's pictures; with another share of the batches where one is given."""
    platform = ON_CPUS if jax.default_backend() == "cpu" else ON_CHIPS
    data = DataConfig(resolution=model.defaults.resolution)
    recipe = dataclasses.replace(platform.recipe, data=data, seed=seed)
    share = platform.batch_share if batch_share is None else batch_share
    return platform._replace(batch_share=share, recipe=recipe)


def make_parts(platform: Platform, model: ModelConfig) -> dict[str, Part]:
    """Every part by name, in order."""
    recipe, side = platform.recipe, model.defaults.resolution

    def fewer(size: int) -> int:
        return max(1, round(size * platform.batch_share))

    # Both stages have the same losses and schedules, so that each is compiled once.
    pairs = {count: pairs_loss(recipe, model, count, fewer(batch)) for count, batch in PAIRS.items()}
    lora = Schedule(1e-3, 50, 0.995, weight_decay=0.0)
    window = fewer(AUTOENCODER), round(platform.window * side)
    # Attention and borders of whole pictures are what the decoder meets in use.
    whole_pictures = max(1, round(AUTOENCODER * platform.batch_share * platform.window**2)), side
    every = ("vae", "mmdit", "t5", "clip")
    panels, whole, pictures = (fewer(size) for size in BASE)
    rows = (
        Part(
            "autoencoder",
            ("vae/.*",),
            ("vae",),
            {0: autoencoder_loss(recipe, model, *window)},
            (0,),
            Schedule(1.5e-3, 100, 0.998, weight_decay=0.0),
        ),
        Part(
            "base",
            ("mmdit/.*", "t5/.*", "clip/.*"),
            every,
            {
                -1: base_loss(recipe, model, (panels, whole, pictures), PANELS),
                2: pairs_loss(recipe, model, 2, fewer(BASE_PAIRS)),
            },
            BASE_TURNS,
            Schedule(1.5e-3, 100, 0.998),
        ),
        Part(
            "decoder",
            ("vae/decoder/.*",),
            ("vae",),
            {0: autoencoder_loss(recipe, model, *whole_pictures)},
            (0,),
            Schedule(7e-4, 100, 0.998, weight_decay=0.0, cooling=0.8),
        ),
        Part(
            "stage1",
            ("lora/.*",),
            (*every, "lora"),
            {count: pairs[count] for count in sorted({*STAGE1})},
            STAGE1,
            lora,
        ),
        Part(
            "stage2",
            ("lora/.*",),
            (*every, "lora"),
            pairs,
            STAGE2,
            lora,
        ),
    )
    return {part.name: part for part in rows}
