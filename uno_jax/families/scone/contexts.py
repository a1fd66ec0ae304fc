"""From the texts and references of pictures to the contexts that each branch of the guidance sees.

With guidance a velocity is needed in up to three contexts, which differ in what they leave out: "cond"
nothing, "text" the last text of the user and the thought after it, "image" all references and the thought.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from PIL import Image

from uno_jax.families.family import Inputs, Turn
from uno_jax.families.latents import AT_ONCE, encode_image, in_groups, pack
from uno_jax.families.model import Model
from uno_jax.families.scone.cache import (
    Context,
    Part,
    empty_context,
    extend,
    pad_part,
    padded_split,
    slots_for,
)
from uno_jax.families.scone.drawing import Contexts
from uno_jax.families.scone.guidance import Guidance
from uno_jax.families.scone.settings import SconeSettings, vit_pixels
from uno_jax.networks.mot import grid_places
from uno_jax.networks.registry import apply
from uno_jax.networks.splits import Split
from uno_jax.support.bounded_jit import bounded_jit
from uno_jax.support.compiler_options import EIGEN_PRODUCTS
from uno_jax.support.images import to_array
from uno_jax.support.trees import AnyArray

Piece = tuple[Split, Part]


class Item(NamedTuple):
    """A text, or a reference as its latent and its ViT cells, of each sample of a batch."""

    kind: str  # text, reference, or thought
    pieces: tuple[Piece, ...]


def make_items(
    model: Model, inputs: Inputs, settings: SconeSettings, system: str = "", latents: bool = True
) -> list[Item]:
    """What is shown before a picture or an answer, in order. Without `latents` references are ViT cells
    only. Where all samples are shown the same, it is made once, as a batch of one.
    """
    count = 1 if _all_alike(inputs) else len(inputs.prompts)
    items = [text_item(model, [system] * count)] if system else []
    for column in zip(*all_turns(inputs)[:count], strict=True):
        if isinstance(column[0], str):
            items.append(text_item(model, cast(Sequence[str], column)))
        else:
            shown = [inputs.refs[cast(int, turn)][row] for row, turn in enumerate(column)]
            items.append(reference_item(model, shown, settings, latents))
    return items


def all_turns(inputs: Inputs) -> list[tuple[Turn, ...]]:
    """The turns of each sample."""
    references = range(len(inputs.refs))
    return list(inputs.turns) or [(*references, prompt) for prompt in inputs.prompts]


def _all_alike(inputs: Inputs) -> bool:
    turns = all_turns(inputs)
    return all(each == turns[0] for each in turns) and all(
        np.array_equal(ref, column[0]) for column in inputs.refs for ref in column
    )


def text_item(model: Model, texts: Sequence[str], kind: str = "text") -> Item:
    """Texts of any lengths, between bos and eos."""
    c = model.config.mot
    ids = [[c.bos_id, *model.tokenizer.encode(text), c.eos_id] for text in texts]
    split = padded_split("text", max(map(len, ids)))
    parts = [pad_part(np.array([row], np.int32), split.columns) for row in ids]
    return Item(kind, ((split, _stacked(parts)),))


def reference_item(
    model: Model,
    pictures: Sequence[Float[AnyArray, "_ _ 3"]],
    settings: SconeSettings,
    latents: bool = True,
) -> Item:
    """References of one bucket."""
    c = model.config.mot
    alike = all(picture.shape == pictures[0].shape for picture in pictures)
    batches = [np.stack(pictures)] if alike else [picture[None] for picture in pictures]
    pieces = []
    if latents:
        encoded = [encode_image(model, batch) for batch in batches]
        tokens = [np.asarray(pack(latent, c.latent_patch, "dy dx z")) for latent in encoded]
        grids = [tuple(side // c.latent_patch for side in latent.shape[1:3]) for latent in encoded]
        pieces.append(_image_piece("vae", tokens, grids))
    shown = [np.stack([shown_to_vit(model, settings, each) for each in batch]) for batch in batches]
    cells = [np.asarray(encode_cells(model, pixels)) for pixels in shown]
    flat = [each.reshape(len(each), -1, each.shape[-1]) for each in cells]
    pieces.append(_image_piece("vit", flat, [each.shape[1:3] for each in cells]))
    return Item("reference", tuple(pieces))


def shown_to_vit(
    model: Model, settings: SconeSettings, picture: Float[AnyArray, "h w 3"]
) -> Float[np.ndarray, "h2 w2 3"]:
    """A prepared reference in the ViT's size (bicubic), in [-1, 1]."""
    image = Image.fromarray(np.rint(127.5 * (np.asarray(picture) + 1)).astype(np.uint8))
    return to_array(image.resize(vit_pixels(model.config, settings, image.size), Image.Resampling.BICUBIC))


@partial(bounded_jit, compiler_options=EIGEN_PRODUCTS)
def encode_cells(model: Model, pixels: Float[AnyArray, "b h w 3"]) -> Float[Array, "b rows columns d"]:
    """The ViT's cells of pictures, `in_groups`."""

    def seen(pixels: Array) -> Array:
        params = {"params": model.params["vit"]}
        return cast(Array, apply(model.config.vit, params, pixels, dtype=model.compute_dtype))

    return in_groups(seen, jnp.asarray(pixels), AT_ONCE, axis="samples")


def _image_piece(kind: str, values: Sequence[np.ndarray], grids: Sequence[tuple[int, int]]) -> Piece:
    split = padded_split(kind, max(rows * columns for rows, columns in grids))
    parts = [
        pad_part(each, split.columns, grid_places(*grid)) for each, grid in zip(values, grids, strict=True)
    ]
    return split, _stacked(parts)


def _stacked(parts: Sequence[Part]) -> Part:
    """Batches of equal sizes as one."""
    return parts[0] if len(parts) == 1 else jax.tree.map(lambda *each: np.concatenate(each), *parts)


def grow(model: Model, items: Sequence[Item], room: int = 0) -> tuple[Context, Context]:
    """The context of items, with room for more tokens, and what it was before its last text that is no
    thought; the second has no keys of its own.
    """
    pieces = [(item.kind == "text", *piece) for item in items for piece in item.pieces]
    batch = max((len(part.counts) for _, _, part in pieces), default=1)
    slots = slots_for(sum(split.length for _, split, _ in pieces) + room)
    context = before = empty_context(model, batch, slots)
    for is_text, split, part in pieces:
        before = context if is_text else before
        context, _ = extend(model, context, split, _widened(part, batch))
    return context, before


def _widened(part: Part, batch: int) -> Part:
    """A part of one sample for a batch."""
    if len(part.counts) == batch:
        return part
    return cast(Part, jax.tree.map(lambda x: np.broadcast_to(x, (batch, *x.shape[1:])), part))


def make_contexts(
    model: Model, items: Sequence[Item], guidance: Guidance
) -> tuple[Contexts, tuple[int, ...]]:
    """The contexts of `guidance.branches`, and which cache each branch reads. The text branch's is a part of
    cond's where nothing but a thought comes after the last text.
    """
    cond, before = grow(model, items)
    caches, found = [cond.keys], {"cond": (0, cond)}
    if "text" in guidance.branches:
        plain = [item for item in items if item.kind != "thought"]
        if plain and plain[-1].kind == "text":
            found["text"] = (0, before)
        else:
            last = max((place for place, item in enumerate(plain) if item.kind == "text"), default=None)
            own, _ = grow(model, [item for place, item in enumerate(plain) if place != last])
            found["text"] = (len(caches), own)
            caches.append(own.keys)
    if "image" in guidance.branches:
        own, _ = grow(model, [item for item in items if item.kind == "text"])
        found["image"] = (len(caches), own)
        caches.append(own.keys)
    chosen = [found[name] for name in guidance.branches]
    seen, positions = ([getattr(each, name) for _, each in chosen] for name in ("seen", "position"))
    return Contexts(tuple(caches), tuple(seen), tuple(positions)), tuple(read for read, _ in chosen)
