"""Plans of Scone's sampling, from abstract arrays and compiled programs, without any weights."""

from collections.abc import Callable, Sequence
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
from uno_jax.families.scone.settings import picture_tokens, reference_tokens, token_side, vit_pixels
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

    def array(shape: tuple[int, ...], kind: Any, *axes: Any) -> Any:
        return abstract(shape, kind, mesh, *axes)

    def compiled(function: Callable[..., Any], cache: Any, *inputs: Any) -> Program:
        named = {"weights": params, "cache": cache, "inputs": inputs}
        whole = jax.jit(function, keep_unused=True)  # every network stays where it is
        return compile_program(whole, (model, cache, *inputs), named, mesh)

    slots = slots_for(asked.refs * sum(split.length for split in _splits(config, asked)) + TEXT)
    context = _context(config, array, asked.batch, slots, dtype)
    programs = _references(compiled, array, config, asked, context) if asked.refs else {}
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


def _splits(config: SconeConfig, asked: PlannedSampling) -> list[Split]:
    """A reference's latent and its ViT cells, padded."""
    grids = reference_tokens(config, asked.settings, (asked.ref_side, asked.ref_side))
    return [
        padded_split(kind, rows * columns)
        for kind, (rows, columns) in zip(("vae", "vit"), grids, strict=True)
    ]


def _references(
    compiled: Callable[..., Program],
    array: Abstract,
    config: SconeConfig,
    asked: PlannedSampling,
    context: Context,
) -> dict[str, Program]:
    """What is computed of the references; the last of them has the longest context."""
    side = asked.ref_side
    width, height = vit_pixels(config, asked.settings, (side, side))
    picture = array((asked.batch, side, side, 3), jnp.float32)
    shown = array((asked.batch, height, width, 3), jnp.float32)
    found = {
        f"autoencoder, {side}x{side}": compiled(_encode, context, picture),
        f"ViT, {width}x{height}": compiled(_see, context, shown),
    }
    channels = (config.mot.patch_channels, config.mot.vit_size)
    for split, numbers in zip(_splits(config, asked), channels, strict=True):
        part = _part(array, asked.batch, split, numbers)
        found[f"prefill of {split.length} tokens ({split.kind})"] = compiled(
            partial(_prefill, split), context, part
        )
    title = f"references ({asked.refs}, one after another)"
    return {f"{title}, {name}": one._replace(flops=one.flops * asked.refs) for name, one in found.items()}


def least_bytes(config: SconeConfig, batch: int, sizes: Sequence[tuple[int, int]], dtype: str) -> int:
    """The cached keys and values of references' latents, once for all pictures, and the pictures' pixels."""
    c, ((width, height), *refs) = config.mot, sizes
    tokens = sum((width // token_side(config)) * (height // token_side(config)) for width, height in refs)
    cached = 2 * c.num_layers * c.num_kv_heads * c.head_dim * tokens * jnp.dtype(dtype).itemsize
    return cached + 12 * batch * width * height


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
