"""The toybox world at the speed of a chip: batches of the drawn world's pictures from a key, in JAX.

In: a bank of backgrounds (`python -m uno_jax.toybox.device` draws one), the subjects of a split and a key.
Out: `make_pairs`, `make_diptychs`, `make_text_images`: uint8 pictures on the device, and what they show;
`prompts`: their captions on the host.
"""

from uno_jax.toybox.device.atlas import Atlas, make_atlas
from uno_jax.toybox.device.bank import Bank, BankError, draw_bank, load_bank, save_bank
from uno_jax.toybox.device.composite import World, make_world
from uno_jax.toybox.device.pairs import (
    Diptychs,
    Pairs,
    TextImages,
    Variety,
    make_diptychs,
    make_pairs,
    make_pictures,
    make_text_images,
)
from uno_jax.toybox.device.prompts import prompts

__all__ = [
    "Atlas",
    "Bank",
    "BankError",
    "Diptychs",
    "Pairs",
    "TextImages",
    "Variety",
    "World",
    "draw_bank",
    "load_bank",
    "make_atlas",
    "make_diptychs",
    "make_pairs",
    "make_pictures",
    "make_text_images",
    "make_world",
    "prompts",
    "save_bank",
]
