"""The parts of the small model's training, in order, with their losses, batches and learning rates."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax

from uno_jax.data.config import DataConfig
from uno_jax.families.uno.config import PRESETS, LoraConfig, ModelConfig
from uno_jax.networks.vae import VAEConfig
from uno_jax.small_training.losses import Loss, autoencoder_loss, base_loss, pairs_loss
from uno_jax.small_training.samples import Curriculum
from uno_jax.training.config import TrainConfig

SHIPPED = PRESETS["small"]
# The shipped model's successor. The embeddings of its tokens follow from seeds; the 12.5 MB that the shipped
# model spends on them are blocks of the MM-DiT here.
MODEL = dataclasses.replace(
    SHIPPED,
    mmdit=dataclasses.replace(SHIPPED.mmdit, depth_single_blocks=9),
    vae=VAEConfig(width=24, multipliers=(1, 2, 4, 4), res_blocks=1, norm_groups=8),
    t5=dataclasses.replace(SHIPPED.t5, length=48, token_seed=0),
    clip=dataclasses.replace(SHIPPED.clip, token_seed=1),
)
LORA = LoraConfig(rank=64)
AUTOENCODER = 96
COPYING = Curriculum(twice=(0.4, 0.2), freedom=(0.0, 0.5))
# Freedom grows over most of the part: with (0.5, 4.0), all free after an eighth of it, held-out subjects fell
# from 9 to 3 of 24.
PANELS = Curriculum(twice=(0.2, 0.0), freedom=(0.3, 1.5), straight=(0.0, 0.6), gap=(0.0, 24.0))
BASE = (168, 24, 64)  # given panels, whole diptychs, captioned pictures
PAIRS = {0: 256, 1: 256, 2: 192, 3: 160, 4: 128}  # by the number of references
# Numbers of references, one a step, again and again.
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
        return any(pattern.split("/")[0] == kind for pattern in self.trainable)


class Job(NamedTuple):
    """A part with what stays the same over its steps."""

    part: Part
    model: ModelConfig
    recipe: TrainConfig
    minutes: float
    folder: Path


class Platform(NamedTuple):
    """How the parts run on a platform: the share of the full batches, and the recipe's numbers."""

    batch_share: float
    recipe: TrainConfig


ON_CHIPS = Platform(1.0, TrainConfig(dtype="bfloat16", remat="none"))
# Half precision is slower on CPUs, products of rounded inputs are not.
ON_CPUS = Platform(1 / 16, TrainConfig(dtype="float32", precision="bfloat16", unroll=3, remat="none"))


def choose_platform(model: ModelConfig, batch_share: float | None = None, seed: int = 0) -> Platform:
    """The platform in use, for the model's pictures; with another share of the batches where one is given."""
    platform = ON_CPUS if jax.default_backend() == "cpu" else ON_CHIPS
    data = DataConfig(resolution=model.defaults.resolution)
    recipe = dataclasses.replace(platform.recipe, data=data, seed=seed)
    return Platform(platform.batch_share if batch_share is None else batch_share, recipe)


def make_parts(platform: Platform, model: ModelConfig) -> dict[str, Part]:
    """Every part by name, in order."""
    recipe = platform.recipe

    def fewer(size: int) -> int:
        return max(1, round(size * platform.batch_share))

    # Both stages have the same losses and schedules, so that each is compiled once.
    pairs = {count: pairs_loss(recipe, model, count, fewer(batch)) for count, batch in PAIRS.items()}
    lora = Schedule(1e-3, 50, 0.995, weight_decay=0.0)
    every = ("vae", "mmdit", "t5", "clip")
    panels, whole, pictures = (fewer(size) for size in BASE)
    rows = (
        Part(
            "autoencoder",
            ("vae/.*",),
            ("vae",),
            {0: autoencoder_loss(recipe, model, fewer(AUTOENCODER))},
            (0,),
            Schedule(1.5e-3, 100, 0.998, weight_decay=0.0),
        ),
        *(
            Part(
                name,
                ("mmdit/.*", "t5/.*", "clip/.*"),
                every,
                {0: base_loss(recipe, model, (panels, whole, pictures), curriculum)},
                (0,),
                Schedule(1.5e-3, 100, 0.998, cooling=cooling),
            )
            for name, curriculum, cooling in (("copying", COPYING, 0.1), ("base", PANELS, 0.4))
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
