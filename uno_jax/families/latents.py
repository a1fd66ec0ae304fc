"""Pictures, their latents, and latents as tokens: what every family shares that draws in an autoencoder's
latents.

Functions of networks are compiled when called on their own, for the latest few shapes (`bounded_jit`), and
inlined when called from a jitted function.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, UInt32

from uno_jax.families.family import Inputs
from uno_jax.families.model import Model
from uno_jax.networks.registry import apply
from uno_jax.networks.vae import Autoencoder, decode_tiled, posterior_mean, posterior_sample
from uno_jax.sharding.processes import on_host
from uno_jax.sharding.rules import shares, spread
from uno_jax.support.bounded_jit import bounded_jit, compile_ahead
from uno_jax.support.trees import AnyArray

PATCH = 2  # latent cells per token along one side
AT_ONCE = 1 << 20  # pixels that a chip encodes or decodes at once, where there are several pictures
TokenSize = tuple[int, int]  # rows, columns


def token_size(height: int, width: int, downsampling: int = 8, patch: int = PATCH) -> TokenSize:
    """Rows and columns of tokens for a picture of height x width pixels.

    Raises ValueError unless the sides are positive multiples of a token's.
    """
    side = patch * downsampling
    if height < side or width < side or height % side or width % side:
        raise ValueError(f"picture sides must be positive multiples of {side} pixels, got {width}x{height}")
    return height // side, width // side


def token_grid(latent: Float[AnyArray, "b h w z"]) -> TokenSize:
    """Rows and columns of a latent's tokens."""
    return latent.shape[1] // PATCH, latent.shape[2] // PATCH


Order = Literal["z dy dx", "dy dx z"]
"""The order of a token's numbers: FLUX has the channel outermost (`sampling.py`), BAGEL innermost."""


def pack(
    latent: Float[AnyArray, "b h w z"], patch: int = PATCH, order: Order = "z dy dx"
) -> Float[Array, "b (h//p)*(w//p) p*p*z"]:
    """Packs patch x patch latent cells into a token."""
    return rearrange(jnp.asarray(latent), f"b (h dy) (w dx) z -> b (h w) ({order})", dy=patch, dx=patch)


def unpack(
    tokens: Float[AnyArray, "b l c"], size: TokenSize, patch: int = PATCH, order: Order = "z dy dx"
) -> Float[Array, "b h w z"]:
    """The inverse of `pack` for a picture of `size` tokens (rows, columns)."""
    h, w = size
    pattern = f"b (h w) ({order}) -> b (h dy) (w dx) z"
    return rearrange(jnp.asarray(tokens), pattern, h=h, w=w, dy=patch, dx=patch)


def is_encoded(part: AnyArray) -> bool:
    """Whether a part of a Batch is an encoding rather than pictures or token ids."""
    return part.shape[-1] != 3 if part.ndim == 4 else jnp.issubdtype(part.dtype, jnp.floating)


@bounded_jit
def encode_vae(model: Model, image: Float[AnyArray, "b h w 3"]) -> Float[Array, "b h2 w2 m"]:
    """Mean and log variance of the autoencoder's posterior."""
    params, encode = {"params": model.params["vae"]}, Autoencoder.encode
    return cast(Array, apply(model.config.vae, params, image, dtype=model.compute_dtype, method=encode))


@bounded_jit
def encode_image(
    model: Model,
    image: Float[AnyArray, "b h w 3"] | Float[AnyArray, "b h2 w2 m"],
    key: jax.Array | None = None,
) -> Float[Array, "b h2 w2 z"]:
    """The scaled latent of pictures or of their cached moments: a sample of the posterior if there is a key
    (training), otherwise its mean (sampling), `in_groups`.
    """
    if key is not None:
        moments = image if is_encoded(image) else encode_vae(model, image)
        return posterior_sample(model.config.vae, jnp.asarray(moments, jnp.float32), key)
    if not is_encoded(image):
        image = in_groups(partial(encode_vae, model), jnp.asarray(image), AT_ONCE)
    return posterior_mean(model.config.vae, jnp.asarray(image, jnp.float32))


@bounded_jit
def decode_image(model: Model, latent: Float[Array, "b h w z"]) -> Float[Array, "b H W 3"]:
    """Pictures, not yet clamped to [-1, 1], `in_groups`."""
    params, decode = {"params": model.params["vae"]}, Autoencoder.decode

    def decoded(latent: Array) -> Array:
        picture = apply(model.config.vae, params, latent, dtype=model.compute_dtype, method=decode)
        return cast(Array, picture.astype(jnp.float32))

    return in_groups(decoded, latent, AT_ONCE // model.config.vae.downsampling**2)


def in_groups(
    function: Callable[[Array], Array], pictures: Array, cells: int, axis: str = "pictures"
) -> Array:
    """function(pictures) of (b, h, w, c), group by group: each of at most `cells` cells or one picture on a
    chip, since activations may take gigabytes a picture, and all as large as the fewest groups allow. `axis`
    is the logical axis of a group's pictures.
    """
    (count, height, width), chips = pictures.shape[:3], shares(axis)
    share = -(-count // chips)
    fewest = -(-share // max(1, cells // (height * width)))
    size = chips * -(-share // fewest)
    if count == 1 or (size >= count and chips == 1):
        return function(pictures)
    padding = (0, -count % size), (0, 0), (0, 0), (0, 0)
    groups = jnp.pad(pictures, padding).reshape(-1, size, *pictures.shape[1:])

    def one(group: Array) -> Array:
        return function(spread(group, axis, None, None, None))

    found = jax.lax.map(one, groups) if len(groups) > 1 else one(groups[0])[None]
    return found.reshape(-1, *found.shape[2:])[:count]


def decode_latent(model: Model, latent: Float[Array, "b h w z"], tile: int) -> Float[np.ndarray, "b H W 3"]:
    """Pictures on the host, decoded in tiles of tile x tile pixels if they are `in_tiles`."""
    factor = model.config.vae.downsampling
    if in_tiles(latent.shape[1] * factor, latent.shape[2] * factor, tile):
        cells = tile // factor
        return decode_tiled(partial(decode_image, model), latent, cells, overlap=cells // 8)
    return cast(np.ndarray, on_host(decode_image(model, latent)))


def in_tiles(height: int, width: int, tile: int) -> bool:
    """Whether pictures of height x width pixels have more of them than a tile."""
    return height * width > tile**2


def compile_decoder(model: Model, inputs: Inputs, tile: int) -> None:
    """Begins to compile what `decode_latent` runs for these pictures, on one device: over several it is not
    known before where their latent will lie.
    """
    vae = model.config.vae
    sides = inputs.height // vae.downsampling, inputs.width // vae.downsampling
    shape = (len(inputs.prompts), *sides, vae.latent_channels)
    place = getattr(jax.tree.leaves(model.params["vae"])[0], "sharding", None)
    if isinstance(place, NamedSharding):
        place = NamedSharding(place.mesh, PartitionSpec())
    if (place is None or place.num_devices == 1) and not in_tiles(inputs.height, inputs.width, tile):
        compile_ahead(decode_image, model, jax.ShapeDtypeStruct(shape, jnp.float32, sharding=place))


@partial(bounded_jit, static_argnames="shape")
def initial_noise(seeds: UInt32[AnyArray, "b"], shape: tuple[int, int, int]) -> Float[Array, "b h w z"]:
    """Normal noise in float32, each picture's from its own seed."""
    return jax.vmap(lambda seed: jax.random.normal(jax.random.key(seed), shape, jnp.float32))(seeds)
