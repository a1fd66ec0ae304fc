"""Operations against the least, counted from abstract shapes of BAGEL-7B-MoT.

The least are the layers' products, one expert a token, and attention's two over the pairs of tokens that
see each other. Above it are embedders, heads, the triangle of a text that is not seen, and the padding to
buckets.
"""

from typing import Any

import jax.numpy as jnp

from benchmarks.scone.model import abstract_inputs, shape, velocity
from uno_jax.costs.flops import count_flops
from uno_jax.families.model import Model
from uno_jax.families.scone.cache import Context, Part, extended, padded_split, slots_for
from uno_jax.families.scone.config import SconeConfig
from uno_jax.families.scone.drawing import Contexts, Drawing, velocities
from uno_jax.families.scone.guidance import Guidance
from uno_jax.families.scone.splits import Reference, drawing_splits
from uno_jax.networks.mot import MoTConfig
from uno_jax.networks.registry import abstract_params
from uno_jax.networks.splits import CachedKeys, Split, Splits, seen_spans, starts

BAGEL = MoTConfig()
TEXT, SIDE = 60, 64  # tokens of an instruction, and along the side of 1024 pixels
TRAINED, SHOWN = (37, 37), (70, 70)  # cells of a reference in training, and in sampling


def sequence(references: int, cells: tuple[int, int]) -> Splits:
    """A picture of 1024² after references of 1024²."""
    return drawing_splits([Reference((SIDE, SIDE), cells)] * references, TEXT, (SIDE, SIDE))


def training_forward(references: int) -> tuple[int, int]:
    """Operations of a sample's forward in training, and the least."""
    splits = sequence(references, TRAINED)
    inputs = abstract_inputs(BAGEL, splits)
    return count_flops(velocity(BAGEL, splits), abstract_params(BAGEL)[0], inputs), least(splits)


def drawing_step(references: int) -> tuple[int, int]:
    """Operations of a step's three branches from padded caches, and the least of unpadded ones."""
    *shown, text, target = sequence(references, SHOWN)
    padded = [padded_split(split.kind, split.tokens).length for split in (*shown, text)]
    caches = (slots_for(sum(padded)), slots_for(padded[-1]))
    drawing = Drawing(target, Guidance(), (0, 0, 1), ((1, True),))

    def step(model: Model, x: Any, contexts: Contexts) -> Any:
        return velocities(model, x, 0.5, contexts, drawing, drawing.guidance.branches)

    keys = tuple(_context(slots) for slots in caches)
    reads = [keys[read] for read in drawing.reads]
    contexts = Contexts(
        tuple(each.keys for each in keys),
        tuple(each.seen for each in reads),
        tuple(each.position for each in reads),
    )
    x = shape(1, target.tokens, BAGEL.patch_channels)
    found = count_flops(step, _model(), x, contexts)
    branches = ((*shown, text, target), (*shown, target), (text, target))
    return found, sum(least(splits, last_only=True) for splits in branches)


def prefill(references: int) -> tuple[int, int]:
    """Operations of writing the references and the text to both caches, and the least."""
    *shown, text, _ = sequence(references, SHOWN)
    found = 0
    for group in ((*shown, text), (text,)):
        padded = [padded_split(split.kind, split.tokens) for split in group]
        slots = slots_for(sum(split.length for split in padded))
        found += sum(_extension(split, slots) for split in padded)
    return found, least((*shown, text)) + least((text,))


def _extension(split: Split, slots: int) -> int:
    width = {"vae": BAGEL.patch_channels, "vit": BAGEL.vit_size}.get(split.kind)
    values = shape(1, split.tokens, width) if width else shape(1, split.tokens, dtype=jnp.int32)
    places = shape(1, split.tokens, 2, dtype=jnp.int32) if width else None
    part = Part(values, shape(1, dtype=jnp.int32), places)

    def run(model: Model, context: Context, part: Part) -> Any:
        return extended(model, context, split, part, 0)

    return count_flops(run, _model(), _context(slots), part)


def _model() -> Model:
    return Model(SconeConfig(BAGEL), {"mot": abstract_params(BAGEL)[0]}, dtype=jnp.float32)


def _context(slots: int) -> Context:
    keys = shape(BAGEL.num_layers, 1, slots, BAGEL.num_kv_heads, BAGEL.head_dim)
    return Context(CachedKeys(keys, keys), shape(1, slots, dtype=bool), shape(1, dtype=jnp.int32))


def least(splits: Splits, last_only: bool = False) -> int:
    """Operations of the layers for all tokens, or for those of the last split."""
    c, found = BAGEL, 0
    heads = c.head_dim * c.num_heads
    products = (
        2 * c.hidden_size * (heads + c.head_dim * c.num_kv_heads) + 3 * c.hidden_size * c.intermediate_size
    )
    for number, (_, split) in enumerate(starts(splits)):
        if last_only and number < len(splits) - 1:
            continue
        seen = sum(end - start for start, end in seen_spans(splits, number))
        pairs = split.length * seen
        if split.kind == "text":
            pairs -= split.length * (split.length - 1) // 2
        found += c.num_layers * (2 * products * split.length + 4 * pairs * heads)
    return found
