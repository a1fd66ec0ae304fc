"""What every sample of the small model's training is made of, on the device: pictures, captions, weights."""

from pathlib import Path

import flax.struct

from uno_jax.small_training.perceptual import Weights, load_perceptual
from uno_jax.toybox import load_subjects
from uno_jax.toybox.device import BankError, World, draw_bank, load_bank, make_world, save_bank
from uno_jax.toybox.device.caption_tokens import CaptionTables, make_caption_tables

BANK_FILE = "bank.npz"


@flax.struct.dataclass
class Inputs:
    """All that a loss needs beside the parameters; `perceptual` is empty where there is none."""

    __no_type_check__ = True  # as a pytree it also holds what jit.lower says of its arguments

    world: World
    captions: CaptionTables
    perceptual: Weights


def make_inputs(folder: Path, size: int, per_scene: int, perceptual: Path | None) -> Inputs:
    """The world of the training subjects in pictures of `size` pixels; its backgrounds are drawn once and
    kept in `folder`.

    Raises OSError, CheckpointError or BankError for files that cannot be read or are others.
    """
    weights = {} if perceptual is None else load_perceptual(perceptual)
    path = folder / BANK_FILE
    if not path.is_file():
        save_bank(draw_bank(per_scene, processes=None), path)
    bank = load_bank(path)
    if bank.record.per_scene != per_scene:
        raise BankError(
            f"{path} holds {bank.record.per_scene} drawings of each scene, expected {per_scene}: remove it, "
            f"or give --per-scene {bank.record.per_scene}"
        )
    world = make_world(bank, load_subjects(split="train"), size)
    return Inputs(world, make_caption_tables(world.atlas.names), weights)
