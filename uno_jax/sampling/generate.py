"""Prompts and reference pictures -> pictures, top to bottom as in the paper: encode text and references,
denoise in one compiled loop, decode.

`generate` is the Python API. `sample_batch` makes one batch of pictures of equal shapes; job lists use it
directly.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32
from PIL import Image

from uno_jax import tokenizers
from uno_jax.families.flow import sampling_schedule
from uno_jax.families.uno import conditioning as encode
from uno_jax.families.uno.positions import PATCH, unpack
from uno_jax.families.uno.types import Conditioning, Model
from uno_jax.families.uno.velocity import denoise
from uno_jax.networks.config import MMDiTConfig, ModelConfig, UnoPE
from uno_jax.networks.registry import Params
from uno_jax.networks.vae import decode_tiled
from uno_jax.sampling.request import (
    Request,
    Settings,
    agreed_unope,
    check_request,
    make_settings,
    prepare_refs,
)
from uno_jax.sharding.rules import on_host
from uno_jax.support import images
from uno_jax.weights.load import local_mesh

Item = TypeVar("Item")


def generate(
    model: Model,
    prompts: Sequence[str],
    refs: Sequence[Sequence[Image.Image]] | None = None,
    *,
    width: int | None = None,
    height: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    true_cfg: float | None = None,
    seed: int = 3407,
    num_images: int = 1,
    unope: UnoPE | None = None,
    lora: Params | None = None,
    ref_size: int | None = None,
    batch_size: int = 4,
) -> list[Image.Image]:
    """Pictures of the prompts, each with its own references: `num_images` of the first, then of the next.

    `model` comes from `pretrained.load_model`; it computes in the dtype of its parameters. `refs[i]` are the
    pictures of prompt i, none to many, of any size. Sizes are pixels, by default the model's own resolution;
    other defaults are those of `request.make_settings` and `request.ref_side`. Picture j of a prompt starts
    from the noise of `seed` + j, whatever batch it is in. `unope` must not contradict the convention of a
    merged LoRA. `lora` is one that is not merged: it runs as a side path, about 10 % more work but no copy of
    the weights, and `unope` says how it was trained.

    Raises ValueError for arguments that cannot work, images.ImageError for a reference that cannot be used,
    FloatingPointError when a picture comes out with values that are no numbers.
    """
    if isinstance(prompts, str):
        raise ValueError("prompts must be a list of texts, got one text")
    if lora is not None and unope is None:
        raise ValueError("a LoRA that is not merged does not say how it was trained: give its unope")
    refs = [()] * len(prompts) if refs is None else refs
    if len(refs) != len(prompts):
        raise ValueError(
            f"{len(prompts)} prompts but references for {len(refs)}: give one list for each prompt"
        )
    config = model.config
    settings = make_settings(config.mmdit, steps, guidance, agreed_unope(unope, model.unope), true_cfg)
    width = config.mmdit.resolution if width is None else width
    height = config.mmdit.resolution if height is None else height
    check_request(config, width, height, seed, num_images)
    requests = []
    for number, (prompt, pictures) in enumerate(zip(prompts, refs, strict=True)):
        names = [f"reference {i + 1} of prompt {number + 1}" for i in range(len(pictures))]
        prepared = prepare_refs(config, pictures, ref_size, names)
        requests += [Request(prompt, prepared, width, height, seed + j) for j in range(num_images)]
    made: dict[int, Image.Image] = {}
    sizes = [tuple(ref.size for ref in request.refs) for request in requests]
    with jax.set_mesh(local_mesh()):
        for batch in batches(range(len(requests)), lambda i: sizes[i], batch_size):
            pictures = sample_batch(model, [requests[i] for i in batch], settings, lora)
            made |= zip(batch, pictures, strict=True)
    return [made[i] for i in range(len(requests))]


def batches(items: Sequence[Item], shape: Callable[[Item], Hashable], size: int) -> list[list[Item]]:
    """Items of equal shape together, at most `size` at a time. Raises ValueError for a size below 1."""
    if size < 1:
        raise ValueError(f"the batch size must be at least 1, got {size}")
    groups: dict[Hashable, list[Item]] = defaultdict(list)
    for item in items:
        groups[shape(item)].append(item)
    return [group[i : i + size] for group in groups.values() for i in range(0, len(group), size)]


def sample_batch(
    model: Model,
    requests: Sequence[Request],
    settings: Settings,
    lora: Params | None = None,
    dtype: Any = None,
) -> list[Image.Image]:
    """One batch: every request has the same size, references of the same sizes, and a left half if one has
    it. Attention is spread over the mesh in use (`jax.set_mesh`). It is computed in `dtype`, by default the
    parameters'.
    """
    config, params = model.config, model.params
    dtype = jnp.dtype(dtype or jax.tree.leaves(params["mmdit"])[0].dtype)
    width, height = requests[0].width, requests[0].height

    def encoded(prompts: Sequence[str]) -> tuple[Array, Array]:
        t5, clip = tokenizers.t5_tokens(prompts, config.t5.length), tokenizers.clip_tokens(prompts)
        return encode_text(config, {"t5": params["t5"], "clip": params["clip"]}, t5, clip, dtype)

    prompts = [request.prompt for request in requests]
    txt, vec = encoded(prompts)
    plain = None if settings.true_cfg == 1 else Conditioning(*encoded([""] * len(prompts)))

    vae = {"vae": params["vae"]}
    columns = zip(*(request.refs for request in requests), strict=True)
    pixels = [np.stack([images.to_array(ref) for ref in column]) for column in columns]
    refs = tuple(encode_image(config, vae, column, dtype) for column in pixels)

    cells = (height // config.vae.downsampling, width // config.vae.downsampling, config.vae.latent_channels)
    noise = initial_noise(np.array([request.seed for request in requests], np.uint32), cells)
    schedule = sampling_schedule(settings.steps, width, height, shift=config.mmdit.guidance_embed)
    variables = {"params": params["mmdit"]} | ({} if lora is None else {"lora": lora})
    conditioning = Conditioning(txt, vec, refs)
    guidance = settings.guidance or 0.0
    lefts = [images.to_array(request.left) for request in requests if request.left is not None]
    left = encode_image(config, vae, np.stack(lefts), dtype) if lefts else None
    latent = denoise_latent(
        *(config.mmdit, variables, noise, conditioning, schedule, guidance),
        *(settings.unope, dtype, plain, settings.true_cfg, left),
    )

    pictures = decode_latent(config, vae, latent, settings.tile, dtype)
    if not np.isfinite(pictures).all():
        raise FloatingPointError(
            f"a picture of {prompts} came out with values that are no numbers: damaged weights, or too large "
            f"ones for {dtype}"
        )
    return [images.to_image(picture) for picture in pictures]


def decode_latent(
    config: ModelConfig, params: dict[str, Params], latent: Float[Array, "b h w z"], tile: int, dtype: Any
) -> Float[np.ndarray, "b H W 3"]:
    """Pictures on the host, decoded in tiles of `tile` pixels a side if they have more pixels than one."""
    decode = partial(decode_image, config, params, dtype=dtype)
    cells = tile // config.vae.downsampling
    if latent.shape[1] * latent.shape[2] > cells**2:
        return decode_tiled(decode, latent, cells, overlap=cells // 8)
    return on_host(decode(latent))


# What is compiled: each function once for every shape, the denoising loop as a whole.


@partial(jax.jit, static_argnames=("config", "dtype"))
def encode_text(
    config: ModelConfig,
    params: dict[str, Params],
    t5_tokens: Int[Array, "b s"],
    clip_tokens: Int[Array, "b 77"],
    dtype: Any,
) -> tuple[Float[Array, "b s d"], Float[Array, "b v"]]:
    return encode.encode_text(Model(config, params), t5_tokens, clip_tokens, dtype)


@partial(jax.jit, static_argnames=("config", "dtype"))
def encode_image(
    config: ModelConfig, params: dict[str, Params], image: Float[Array, "b H W 3"], dtype: Any
) -> Float[Array, "b h w z"]:
    return encode.encode_image(Model(config, params), image, dtype=dtype)


@partial(jax.jit, static_argnames=("config", "dtype"))
def decode_image(
    config: ModelConfig, params: dict[str, Params], latent: Float[Array, "b h w z"], dtype: Any
) -> Float[Array, "b H W 3"]:
    return encode.decode_image(Model(config, params), latent, dtype)


@partial(jax.jit, static_argnames="cells")
def initial_noise(seeds: UInt32[Array, "b"], cells: tuple[int, int, int]) -> Float[Array, "b h w z"]:
    """Normal noise in float32, each picture's from its own seed."""
    return jax.vmap(lambda seed: jax.random.normal(jax.random.key(seed), cells, jnp.float32))(seeds)


@partial(jax.jit, static_argnames=("config", "unope", "dtype"))
def denoise_latent(
    config: MMDiTConfig,
    variables: dict[str, Params],
    noise: Float[Array, "b h w z"],
    conditioning: Conditioning,
    schedule: Float[np.ndarray, "steps+1"],
    guidance: float,
    unope: UnoPE,
    dtype: Any,
    plain: Conditioning | None = None,
    true_cfg: float = 1.0,
    left: Float[Array, "b h w/2 z"] | None = None,
) -> Float[Array, "b h w z"]:
    """The whole denoising loop (`families.uno.velocity`): noise in, the picture's scaled latent out."""
    tokens = denoise(
        config, variables, noise, conditioning, schedule, guidance, unope, dtype, plain, true_cfg, left
    )
    return unpack(tokens, (noise.shape[1] // PATCH, noise.shape[2] // PATCH))
