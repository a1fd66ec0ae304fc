"""The parts of the small model's training, in order, with their losses, batches and learning rates."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from uno_jax.families.uno.config import PRESETS, LoraConfig, ModelConfig
from uno_jax.networks.vae import VAEConfig
from uno_jax.small_training.losses import Loss, Numbers, autoencoder_loss, base_loss, pairs_loss
from uno_jax.small_training.samples import Curriculum

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
RANK = 64
AUTOENCODER = 96
COPYING = Curriculum(twice=(0.4, 0.2), freedom=(0.0, 0.5))
PANELS = Curriculum(twice=(0.15, 0.0), freedom=(0.5, 4.0), straight=(0.0, 0.6), gap=(0.0, 24.0))
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


class Platform(NamedTuple):
    """How the parts run where they run: the share of the full batches, and the numbers."""

    batch_share: float
    dtype: str
    precision: str
    unroll: int


PLATFORMS = {
    "gpu": Platform(1.0, "bfloat16", "", 1),
    "tpu": Platform(1.0, "bfloat16", "", 1),
    # Half precision is slower on CPUs, products of rounded inputs are not.
    "cpu": Platform(1 / 16, "float32", "bfloat16", 3),
}


def choose_platform(batch_share: float | None = None) -> Platform:
    """The default platform's row, with another share of the batches where one is given."""
    row = PLATFORMS[jax.default_backend()]
    return row if batch_share is None else row._replace(batch_share=batch_share)


def numbers_of(platform: Platform, model: ModelConfig) -> Numbers:
    return Numbers(model, jnp.dtype(platform.dtype), platform.unroll)


def make_parts(platform: Platform, model: ModelConfig) -> dict[str, Part]:
    """Every part by name, in order."""
    numbers = numbers_of(platform, model)

    def fewer(size: int) -> int:
        return max(1, round(size * platform.batch_share))

    # Both stages have the same losses and schedules, so that each is compiled once.
    pairs = {references: pairs_loss(numbers, references, fewer(batch)) for references, batch in PAIRS.items()}
    lora = Schedule(1e-3, 50, 0.995, weight_decay=0.0)
    every = ("vae", "mmdit", "t5", "clip")
    panels, whole, pictures = (fewer(size) for size in BASE)
    rows = (
        Part(
            "autoencoder",
            ("vae/.*",),
            ("vae",),
            {0: autoencoder_loss(numbers, fewer(AUTOENCODER))},
            (0,),
            Schedule(1.5e-3, 100, 0.998, weight_decay=0.0),
        ),
        *(
            Part(
                name,
                ("mmdit/.*", "t5/.*", "clip/.*"),
                every,
                {0: base_loss(numbers, (panels, whole, pictures), curriculum)},
                (0,),
                Schedule(1.5e-3, 100, 0.998, cooling=cooling),
            )
            for name, curriculum, cooling in (("copying", COPYING, 0.1), ("base", PANELS, 0.4))
        ),
        Part(
            "stage1",
            ("lora/.*",),
            (*every, "lora"),
            {references: pairs[references] for references in sorted({*STAGE1})},
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


LORA = LoraConfig(rank=RANK)
