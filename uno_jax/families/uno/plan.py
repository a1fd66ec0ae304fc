"""Plans of UNO's sampling and training, from abstract arrays and compiled programs, without any weights."""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from uno_jax.costs.program import Program, abstract, chip_bytes, compile_program, only_counted
from uno_jax.families.family import ONE_STEP, BatchSizes, PlannedSampling
from uno_jax.families.flow import sampling_schedule
from uno_jax.families.latents import decode_image, encode_image, in_tiles
from uno_jax.families.model import Model
from uno_jax.families.uno.conditioning import encode_text
from uno_jax.families.uno.config import ModelConfig
from uno_jax.families.uno.denoising import Contrast
from uno_jax.families.uno.sampling import denoise_latent, latent_shape
from uno_jax.families.uno.types import Batch, Conditioning
from uno_jax.support.trees import Params


def plan_sampling(
    config: ModelConfig, params: dict[str, Params], mesh: Mesh, asked: PlannedSampling
) -> dict[str, Program]:
    """The programs of `sampling.sample` by name. Every network's weights stay in memory throughout, or with
    `asked.offload` those of a stage while it runs.
    """
    array, settings = partial(abstract, mesh=mesh), asked.settings
    weights, dtype = chip_bytes(params), jax.tree.leaves(params)[0].dtype

    def latent(width: int, height: int) -> Any:
        return array((asked.batch, *latent_shape(config, width, height)), jnp.float32)

    def compiled(function: Callable[..., Any], kinds: tuple[str, ...], *inputs: Any) -> Program:
        model = Model(config, {kind: params[kind] for kind in kinds}, dtype=dtype)
        named = {"weights": model, "inputs": inputs}
        make = compile_program if asked.compiled else only_counted
        whole = jax.jit(function, keep_unused=True)  # the autoencoder is in memory whole, both halves
        program = make(whole, (model, *inputs), named, mesh)
        if asked.offload:
            return program
        others = weights - program.inputs["weights"]
        return program._replace(inputs=program.inputs | {"weights": weights}, used=program.used + others)

    lengths = (config.t5.length, config.clip.max_positions)
    tokens = [array((asked.batch, length), jnp.int32) for length in lengths]
    programs = {"text (T5 and CLIP)": compiled(encode_text, ("t5", "clip"), *tokens)}
    if asked.refs:
        side = asked.ref_side
        one = compiled(encode_image, ("vae",), array((asked.batch, side, side, 3), jnp.float32))
        name = f"references ({asked.refs} of {side}x{side}, one after another)"
        programs[name] = one._replace(flops=one.flops * asked.refs)
    shift = settings.guidance is not None
    schedule = sampling_schedule(settings.steps, asked.width, asked.height, shift)
    computed = settings.computed_at(schedule[:-1])
    count = settings.steps if computed is None else int(computed.sum())
    given, contrast = _conditioned(config, asked, array, latent, dtype)
    noise = latent(asked.width, asked.height)
    # What stands in for a step that is left out costs nothing beside one.
    loop = compiled(partial(_denoise, schedule[: count + 1]), ("mmdit",), noise, given, contrast)
    programs[ONE_STEP] = loop._replace(flops=loop.flops // count, text="")
    steps = f"all {count}" if computed is None else f"{count} of {settings.steps}"
    programs[f"{steps} denoising steps (one program)"] = loop
    tiled = in_tiles(asked.height, asked.width, settings.tile)
    tile = (settings.tile, settings.tile) if tiled else (asked.width, asked.height)
    programs[f"decode {tile[0]}x{tile[1]}"] = compiled(decode_image, ("vae",), latent(*tile))
    return programs


def _denoise(schedule: Any, model: Model, noise: Any, given: Conditioning, contrast: Contrast | None) -> Any:
    return denoise_latent(model, noise, given, schedule, contrast)


def _conditioned(
    config: ModelConfig,
    asked: PlannedSampling,
    array: Callable[..., Any],
    latent: Callable[[int, int], Any],
    dtype: Any,
) -> tuple[Conditioning, Contrast | None]:
    """Abstract conditioning, with and without references."""

    def plain(batch: int) -> Conditioning:
        txt = array((batch, config.t5.length, config.t5.d_model), dtype)
        vec = array((batch, config.clip.hidden_size), dtype)
        return Conditioning(txt, vec, (), array((batch,), jnp.float32), asked.settings.unope)

    refs = (latent(asked.ref_side, asked.ref_side),) * asked.refs
    shown, count = plain(asked.batch)._replace(refs=refs), len(asked.settings.away_from(asked.refs))
    if not count:
        return shown, None
    return shown, Contrast(plain(count * asked.batch), (array((), jnp.float32),) * count)


def least_bytes(config: ModelConfig, batch: int, sizes: Sequence[tuple[int, int]], dtype: str) -> int:
    """What attention holds at once: the tokens, their queries, keys and values; on a CPU also the scores of
    one head of all samples, or of all heads of one sample where those are fewer (`networks.attention.cpu`),
    and the pixels of references. Or, where that is more, what a single block holds after it (the tokens, the
    MLP's hidden layer and one product), or T5 of the prompts.
    """
    mmdit, side = config.mmdit, 2 * config.vae.downsampling
    tokens = config.t5.length + sum((width // side) * (height // side) for width, height in sizes)
    layer = batch * tokens * jnp.dtype(dtype).itemsize
    attended = 4 * layer * mmdit.hidden_size
    after = layer * (2 * mmdit.hidden_size + mmdit.mlp_size) if mmdit.depth_single_blocks else 0
    pixels = 0
    if jax.default_backend() == "cpu":
        attended += 4 * min(batch, mmdit.num_heads) * tokens**2
        pixels = 12 * batch * sum(width * height for width, height in sizes[1:])
    return pixels + max(attended, after, text_bytes(config, batch, sizes[0], dtype))


def picture_bytes(config: ModelConfig, batch: int, size: tuple[int, int], dtype: str) -> int:
    """The autoencoder's first feature map of pictures, and on a CPU their pixels."""
    pixels = 12 if jax.default_backend() == "cpu" else 0
    return batch * size[0] * size[1] * (pixels + config.vae.width * jnp.dtype(dtype).itemsize)


def text_bytes(config: ModelConfig, batch: int, size: tuple[int, int], dtype: str) -> int:
    """What T5's attention holds of prompts: tokens, queries, keys and values, and on a CPU all scores."""
    t5, tokens = config.t5, batch * config.t5.length
    block = tokens * (t5.d_model + 3 * t5.num_heads * t5.d_kv) * jnp.dtype(dtype).itemsize
    return block + (4 * tokens * t5.num_heads * t5.length if jax.default_backend() == "cpu" else 0)


def abstract_batch(config: ModelConfig, sizes: BatchSizes, cached: Collection[str], dtype: str) -> Batch:
    """An abstract batch of square pictures (every bucket has about as many tokens), with encodings in `dtype`
    for the networks that are `cached`.
    """

    def part(kind: str, given: tuple[int, ...], of: str, encoding: tuple[int, ...]) -> Any:
        shape, of = (encoding, dtype) if kind in cached else (given, of)
        return jax.ShapeDtypeStruct((sizes.batch, *shape), jnp.dtype(of))

    def picture(side: int) -> Any:
        cells = side // config.vae.downsampling
        return part("vae", (side, side, 3), "float32", (cells, cells, 2 * config.vae.latent_channels))

    return Batch(
        picture(sizes.side),
        (picture(sizes.ref_side),) * sizes.refs,
        part("t5", (config.t5.length,), "int32", (config.t5.length, config.t5.d_model)),
        part("clip", (config.clip.max_positions,), "int32", (config.clip.hidden_size,)),
    )
