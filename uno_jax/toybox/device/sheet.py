"""A sheet of the device's pictures under the drawn composer's: docs/toybox_device.png.

python -m uno_jax.toybox.device.sheet --size 96 --out docs/toybox_device.png
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from uno_jax.support.atomic import atomic_write
from uno_jax.support.bounds import Bounds, Seed
from uno_jax.support.command_line import exit_on, parse_args
from uno_jax.toybox.compose import LARGEST, SMALLEST, compose
from uno_jax.toybox.device.bank import BankError, draw_bank, load_bank
from uno_jax.toybox.device.composite import World, make_world
from uno_jax.toybox.device.pairs import Variety, make_diptychs, make_pairs, make_pictures
from uno_jax.toybox.samples import SCENE_NAMES
from uno_jax.toybox.subjects import Subject, load_subjects

COLUMNS = 6
FREEDOMS = (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Args:
    """Four rows: drawn pictures; the device's of the same subjects in the same scenes; a target and its
    reference with freedom 0, 0.5 and 1; diptychs.
    """

    out: Path
    bank: Path | None = None
    """Bank of backgrounds; by default two drawings of each scene are made."""
    size: Annotated[int, Bounds(SMALLEST, LARGEST)] = 128
    """Pixels of a side."""
    seed: Seed = 0


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(Args, "python -m uno_jax.toybox.device.sheet", argv)
    with exit_on(BankError, OSError):
        bank = draw_bank(2) if args.bank is None else load_bank(args.bank)
        subjects = load_subjects(split="val")
        world = make_world(bank, subjects, args.size)
        rows = [*_beside(world, subjects, args.seed), _freer(world, args.seed), _wide(world, args.seed)]
        with atomic_write(args.out) as partial:
            Image.fromarray(np.concatenate(rows)).save(partial, "PNG", optimize=True)


def _beside(world: World, subjects: Sequence[Subject], seed: int) -> list[UInt8[np.ndarray, "h w 3"]]:
    rng = np.random.default_rng(seed)
    shown, scenes = (rng.choice(len(each), COLUMNS, replace=False) for each in (subjects, SCENE_NAMES))
    drawn = [
        compose(rng, [subjects[who]], SCENE_NAMES[where], world.size).image
        for who, where in zip(shown, scenes, strict=True)
    ]
    key, alone = jax.random.key(seed), jnp.zeros(COLUMNS, bool)
    made, _ = make_pictures(key, world, jnp.asarray(scenes), jnp.asarray(shown)[:, None], alone)
    return [np.concatenate(row, 1) for row in (drawn, np.asarray(made))]


def _freer(world: World, seed: int) -> UInt8[np.ndarray, "h w 3"]:
    pairs = make_pairs(jax.random.key(seed), world, len(FREEDOMS), variety=Variety(jnp.array(FREEDOMS)))
    halves = zip(np.asarray(pairs.target), np.asarray(pairs.refs[:, 0]), strict=True)
    return np.concatenate([half for both in halves for half in both], 1)


def _wide(world: World, seed: int) -> UInt8[np.ndarray, "h w 3"]:
    return np.concatenate(np.asarray(make_diptychs(jax.random.key(seed + 1), world, COLUMNS // 2).target), 1)


if __name__ == "__main__":
    main()
