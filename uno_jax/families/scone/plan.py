"""Plans of Scone's sampling, from abstract arrays and compiled programs, without any weights."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from uno_jax.costs.program import Program, abstract, compile_program
from uno_jax.families.family import ONE_STEP, PlannedSampling
from uno_jax.families.latents import decode_image, encode_image
from uno_jax.families.model import Model
from uno_jax.families.scone.cache import Context, Part, extended, padded_split, slots_for
from uno_jax.families.scone.config import SconeConfig
from uno_jax.families.scone.contexts import encode_cells
from uno_jax.families.scone.drawing import Contexts, Drawing, denoise
from uno_jax.families.scone.guidance import schedule, segments
from uno_jax.families.scone.settings import picture_tokens, reference_tokens, vit_pixels
from uno_jax.networks.splits import CachedKeys, Split
from uno_jax.support.trees import Params

TEXT = 64
"""Tokens that a prompt and its marks are padded to."""
Abstract = Callable[..., Any]


def plan_sampling(
    config: SconeConfig, params: dict[str, Params], mesh: Mesh, asked: PlannedSampling
) -> dict[str, Program]:
    """The programs of `sampling.sample` by name. Every network's weights stay in memory throughout, and so do
    the contexts' caches from the first reference to the last step.
    """
    dtype = params["mot"]["embed_tokens"].dtype
    model = Model(config, params, dtype=dtype)
    side = (asked.ref_side, asked.ref_side)
    grids, pixels = reference_tokens(config, asked.settings, side), vit_pixels(config, asked.settings, side)

    def array(shape: tuple[int, ...], kind: Any, *axes: Any) -> Any:
        return abstract(shape, kind, mesh, *axes)

    def compiled(function: Callable[..., Any], cache: Any, *inputs: Any) -> Program:
        named = {"weights": params, "cache": cache, "inputs": inputs}
        whole = jax.jit(function, keep_unused=True)  # every network stays where it is
        return compile_program(whole, (model, cache, *inputs), named, mesh)

    splits = [
        padded_split(kind, rows * columns)
        for kind, (rows, columns) in zip(("vae", "vit"), grids, strict=True)
    ]
    slots = slots_for(asked.refs * sum(split.length for split in splits) + TEXT)
    context = _context(config, array, asked.batch, slots, dtype)
    programs = {}
    if asked.refs:
        picture = array((asked.batch, *reversed(side), 3), jnp.float32)
        programs[f"encode a reference of {side[0]}x{side[1]}"] = compiled(_encode, context, picture)
        shown = array((asked.batch, *reversed(pixels), 3), jnp.float32)
        programs[f"the ViT's cells of {pixels[0]}x{pixels[1]}"] = compiled(_see, context, shown)
        for split, width in zip(splits, (config.mot.patch_channels, config.mot.vit_size), strict=True):
            name = f"prefill the last of {asked.refs} references ({split.kind}, {split.length} tokens)"
            part = _part(array, asked.batch, split, width)
            programs[name] = compiled(partial(_prefill, split), context, part)
    target = Split("target", *picture_tokens(config, asked.width, asked.height))
    caches = (context, _context(config, array, asked.batch, TEXT, dtype))
    loop = compiled(*_loop(config, array, asked, target, caches))
    steps = asked.settings.points - 1
    programs[ONE_STEP] = loop._replace(flops=loop.flops // steps, text="")
    programs[f"all {steps} denoising steps (one program)"] = loop
    cells = [side // config.vae.downsampling for side in (asked.height, asked.width)]
    latent = array((asked.batch, *cells, config.vae.latent_channels), jnp.float32)
    programs[f"decode {asked.width}x{asked.height}"] = compiled(_decode, caches, latent)
    return programs


def _context(config: SconeConfig, array: Abstract, batch: int, slots: int, dtype: Any) -> Context:
    c = config.mot
    shape = (c.num_layers, batch, slots, c.num_kv_heads, c.head_dim)
    axes = (None, None, None, "tensor")
    keys = CachedKeys(array(shape, dtype, *axes), array(shape, dtype, *axes))
    return Context(keys, array((batch, slots), jnp.bool_), array((batch,), jnp.int32))


def _part(array: Abstract, batch: int, split: Split, width: int) -> Part:
    counts = array((batch,), jnp.int32)
    places = array((batch, split.columns, 2), jnp.int32)
    return Part(array((batch, split.columns, width), jnp.float32), counts, places)


def _encode(model: Model, cache: Any, picture: Any) -> Any:
    return encode_image(model, picture)


def _see(model: Model, cache: Any, pixels: Any) -> Any:
    return encode_cells(model, pixels)


def _decode(model: Model, caches: Any, latent: Any) -> Any:
    return decode_image(model, latent)


def _prefill(split: Split, model: Model, context: Context, part: Part) -> Any:
    slots = context.seen.shape[1]
    return extended(model, context, split, part, slots - TEXT - split.length)


def _loop(
    config: SconeConfig, array: Abstract, asked: PlannedSampling, target: Split, caches: tuple[Context, ...]
) -> tuple[Callable[..., Any], tuple[Context, ...], Any]:
    """The denoising loop and its inputs: cond and text read the first cache, image the second."""
    settings = asked.settings
    times, guidance = schedule(settings.points, settings.shift), settings.guidance
    reads = tuple({"cond": 0, "text": 0, "image": 1}[branch] for branch in guidance.branches)
    drawing = Drawing(target, guidance, reads, segments(times, guidance))

    def run(model: Model, caches: tuple[Context, ...], noise: Any) -> Any:
        contexts = Contexts(
            tuple(cache.keys for cache in caches),
            tuple(caches[read].seen for read in reads),
            tuple(caches[read].position for read in reads),
        )
        return denoise(model, noise, contexts, jnp.asarray(times), drawing)

    return run, caches, array((asked.batch, target.tokens, config.mot.patch_channels), jnp.float32)
