"""Contexts: growing split by split, padded, is the same as the whole sequence at once."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny_scone import MOT, VIT, random_params, sequence
from uno_jax.families.model import Model
from uno_jax.families.scone.cache import empty_context, extend, pad_part, padded_split
from uno_jax.families.scone.config import SconeConfig
from uno_jax.families.scone.drawing import Contexts, Drawing, denoise
from uno_jax.families.scone.guidance import Guidance, guided, schedule, segments
from uno_jax.families.scone.splits import Reference, drawing_splits, rope_positions
from uno_jax.networks.mot import MoT, grid_places
from uno_jax.networks.splits import Layout, Split
from uno_jax.networks.vae import VAEConfig

CONFIG = SconeConfig(MOT, VIT, VAEConfig(latent_channels=2))
SPLITS = drawing_splits([Reference((2, 3), (3, 2)), Reference((1, 4), (2, 2))], 5, (2, 2))


@pytest.fixture(scope="module")
def model():
    return Model(CONFIG, {"mot": random_params()})


def grown(model, splits, inputs, slots=176):
    """The context after all splits but the target, and the mask and position before the last text."""
    parts = {"text": iter(inputs.text), "vit": iter(inputs.cells), "vae": iter(inputs.latents)}
    context, before = empty_context(model, len(inputs.times), slots), None
    for split in splits:
        if split.kind == "target":
            continue
        before = (context.seen, context.position) if split.kind == "text" else before
        places = None if split.kind == "text" else grid_places(split.rows, split.columns)
        padded = padded_split(split.kind, split.tokens)
        part = pad_part(np.asarray(next(parts[split.kind])), padded.columns, places)
        context, _ = extend(model, context, padded, part)
    return context, before


@partial(jax.jit, static_argnames="splits")
def whole_velocity(model, splits, inputs, x, t):
    """The velocity of the target without a cache."""
    inputs = inputs._replace(latents=(*inputs.latents[:-1], x), times=jnp.full((len(x), 1), t))
    net, variables = MoT(MOT), {"params": model.params["mot"]}
    _, gen, _ = net.apply(variables, inputs, Layout(splits))
    return net.apply(variables, gen[:, -splits[-1].tokens :], method="velocity")


@pytest.mark.slow
def test_drawing_from_contexts_is_drawing_from_the_whole_sequence(model):
    """Guided by text and images in some of the steps, with two samples in a batch."""
    inputs = sequence(SPLITS, batch=2)
    alone = drawing_splits([], 5, (2, 2))
    context, before = grown(model, SPLITS, inputs)
    texts, _ = grown(model, alone, inputs, slots=16)
    guidance = Guidance(text=3.0, image=2.0, interval=(0.5, 1.0))
    times = schedule(5, 3.0)
    drawing = Drawing(SPLITS[-1], guidance, (0, 0, 1), segments(times, guidance))
    assert [acts for _, acts in drawing.segments] == [True, False]
    contexts = Contexts(
        (context.keys, texts.keys),
        (context.seen, before[0], texts.seen),
        (context.position, before[1], texts.position),
    )
    noise = jax.random.normal(jax.random.key(2), (2, 4, MOT.patch_channels))
    found = denoise(model, noise, contexts, times, drawing)

    shown = (*SPLITS[:-2], SPLITS[-1])

    def branch(splits, **parts):
        positions = jnp.asarray(np.broadcast_to(rope_positions(splits), (2, len(rope_positions(splits)))))
        return splits, inputs._replace(positions=positions, **parts)

    wanted = {
        "cond": branch(SPLITS),
        "text": branch(shown, text=()),
        "image": branch(alone, cells=(), latents=inputs.latents[-1:]),
    }
    x = noise
    for t, t_next in zip(times[:-1], times[1:], strict=True):
        names = guidance.branches if guidance.acts_at(float(t)) else ("cond",)
        velocities = {name: whole_velocity(model, *wanted[name], x, t) for name in names}
        x = x + (t_next - t) * guided(velocities, guidance)
    assert np.abs(found - x).max() < 1e-5 * np.abs(x).max()


def test_a_context_that_is_full(model):
    context = empty_context(model, 1, 20)
    split = padded_split("text", 5)
    assert split == Split("text", 1, 16)
    context, _ = extend(model, context, split, pad_part(np.ones((1, 5), np.int32), 16))
    with pytest.raises(ValueError, match="16 more tokens after 16 do not fit a context of 20 slots"):
        extend(model, context, split, pad_part(np.ones((1, 5), np.int32), 16))
