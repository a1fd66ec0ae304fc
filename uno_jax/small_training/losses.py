"""The losses of the parts: (parameters, inputs, key, progress) -> a number. Each makes its own batch."""

from collections.abc import Callable
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from uno_jax.families.autoencoder import reconstruct, reconstruction_loss
from uno_jax.families.flow import interpolate, sample_times
from uno_jax.families.latents import encode_image, pack, token_grid
from uno_jax.families.model import Model
from uno_jax.families.uno.conditioning import encode_text
from uno_jax.families.uno.config import ModelConfig, UnoPE
from uno_jax.families.uno.objective import Noised, flow_loss, make_loss
from uno_jax.families.uno.positions import position_ids, shifted_ids
from uno_jax.families.uno.types import Conditioning
from uno_jax.families.uno.velocity import variables
from uno_jax.networks.mmdit import MMDiT, MMDiTInputs
from uno_jax.small_training import samples
from uno_jax.small_training.perceptual import perceptual_distance
from uno_jax.small_training.samples import Curriculum, Progress
from uno_jax.small_training.worlds import Inputs
from uno_jax.support.trees import Params
from uno_jax.training.config import TrainConfig

Loss = Callable[[dict[str, Params], Inputs, PRNGKeyArray, Progress], Float[Array, ""]]
PERCEPTUAL_WEIGHT = 0.1
ON_SUBJECTS = 3.0  # how much more a token counts that a subject covers
PERMUTED = 0.3  # share of the autoencoder's pictures whose colour channels change places
NO_TEXT_BESIDE_PAIRS = 0.5  # of the pictures without references that are trained on beside pairs


def autoencoder_loss(recipe: TrainConfig, model: ModelConfig, batch: int, side: int) -> Loss:
    """The autoencoder's objective on windows of that many pixels a side, and LPIPS where its weights are
    given.
    """

    def loss(params: dict[str, Params], inputs: Inputs, key: PRNGKeyArray, _: Progress) -> Array:
        draw, colour, noise, place = jax.random.split(key, 4)
        image = samples.draw_text_images(draw, inputs, batch, model.t5.length).target
        image = permute_channels(colour, cut_windows(place, jnp.asarray(image), side))
        found = reconstruct(model.vae, params["vae"], image, noise, recipe.dtype)
        total = reconstruction_loss(found, image, recipe.kl_weight)
        if inputs.perceptual:
            distance = perceptual_distance(inputs.perceptual, found.decoded, image, recipe.dtype)
            total += PERCEPTUAL_WEIGHT * distance
        return total

    return loss


def cut_windows(
    key: PRNGKeyArray, image: Float[Array, "b h w 3"], side: int
) -> Float[Array, "b side side 3"]:
    """A square part of each picture."""
    corners = jax.random.randint(key, (len(image), 2), 0, image.shape[1] - side + 1)
    return jax.vmap(lambda one, at: jax.lax.dynamic_slice(one, (*at, 0), (side, side, 3)))(image, corners)


def permute_channels(key: PRNGKeyArray, image: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """Some pictures with their colour channels in another order, so that colours beyond the toy world's are
    seen.
    """
    order, some = jax.random.split(key)
    orders = jnp.argsort(jax.random.uniform(order, (len(image), 3)), axis=1)
    changed = jax.random.bernoulli(some, PERMUTED, (len(image), 1))
    orders = jnp.where(changed, orders, jnp.arange(3))
    return jnp.einsum("bhwc,bdc->bhwd", image, jax.nn.one_hot(orders, 3, dtype=image.dtype))


def base_loss(
    recipe: TrainConfig, model: ModelConfig, sizes: tuple[int, int, int], curriculum: Curriculum
) -> Loss:
    """The flow loss of panels with one given, of whole diptychs, and of captioned pictures (`sizes`)."""
    panels, whole, pictures = sizes
    net = MMDiT(model.mmdit, jnp.dtype(recipe.dtype), recipe.remat, recipe.unroll)

    def loss(params: dict[str, Params], inputs: Inputs, key: PRNGKeyArray, progress: Progress) -> Array:
        draw, encode_key, noise_key, time_key = jax.random.split(key, 4)
        here = Model(model, params, dtype=recipe.dtype)
        side = recipe.data.resolution // (2 * model.vae.downsampling)
        form = (model.t5.length, side)
        two, alone = samples.draw_panels(draw, inputs, sizes, form, (curriculum, progress))
        every = jnp.concatenate([two.first, alone.target, two.second])
        latents = encode_image(here, every, encode_key)
        txt, vec = encode_text(
            here,
            jnp.concatenate([two.caption.t5, alone.txt]),
            jnp.concatenate([two.caption.clip, alone.vec]),
        )
        count, both = sum(sizes), panels + whole
        t = sample_times(time_key, count, recipe.data.resolution)
        noise = jax.random.normal(noise_key, latents.shape)
        given = jnp.arange(both) < panels
        seen = Seen(txt[:both], vec[:both], t[:both], two.shift, given, 1 + ON_SUBJECTS * two.covered)
        first, second = (latents[:both], noise[:both]), (latents[count:], noise[count:])
        of_panels = panels_loss(net, variables(params), (first, second), seen)
        conditioning = Conditioning(txt[both:], vec[both:], (), jnp.ones(pictures))
        noised = Noised(latents[both:count], noise[both:count], t[both:])
        of_pictures = flow_loss(net, variables(params), noised, conditioning)
        return (both * of_panels + pictures * of_pictures) / count

    return loss


class Seen(NamedTuple):
    """What two panels are drawn from, and which second ones are `given` without noise."""

    txt: Float[Array, "b s d"]
    vec: Float[Array, "b v"]
    t: Float[Array, " b"]
    shift: Float[Array, "b 2"]
    given: Bool[Array, " b"]
    weight: Float[Array, "b two_panels"]
    """Of each token's error."""


def panels_loss(
    net: MMDiT,
    variables: dict[str, Params],
    panels: tuple[tuple[Array, Array], tuple[Array, Array]],
    seen: Seen,
) -> Float[Array, ""]:
    """`objective.flow_loss` of two panels (latents and noise of each), which lie elsewhere in every sample,
    as a weighted mean over tokens. A given panel does not count.
    """
    (first, noise), (second, other_noise) = panels
    x1 = jnp.concatenate([pack(first), pack(second)], axis=1)
    x0 = jnp.concatenate([pack(noise), pack(other_noise)], axis=1)
    size = token_grid(first)
    cells, text = size[0] * size[1], seen.txt.shape[1]
    is_given = seen.given[:, None] & (jnp.arange(2 * cells) >= cells)
    x_t = jnp.where(is_given[..., None], x1, interpolate(x1, x0, seen.t))
    ids = position_ids(text, size, [size], UnoPE("o"))
    inputs = MMDiTInputs(
        x_t,
        seen.txt,
        seen.vec,
        seen.t,
        shifted_ids(ids, text + cells, seen.shift),
        None,
        jnp.ones(len(x_t)) if net.config.guidance_embed else None,
    )
    v = cast(Array, net.apply(variables, inputs))
    error = jnp.square(v.astype(jnp.float32) - (x0 - x1).astype(jnp.float32)).mean(-1)
    weight = jnp.where(is_given, 0.0, seen.weight)
    return jnp.sum(weight * error) / jnp.sum(weight)


def pairs_loss(recipe: TrainConfig, model: ModelConfig, references: int, batch: int) -> Loss:
    """UNO's objective on pairs with that number of references; on captioned pictures with 0."""
    objective = make_loss(recipe, model)

    def loss(params: dict[str, Params], inputs: Inputs, key: PRNGKeyArray, progress: Progress) -> Array:
        draw, rest = jax.random.split(key)
        if references:
            made = samples.draw_pairs(draw, inputs, (batch, references), model.t5.length, progress)
        else:
            made = samples.draw_text_images(draw, inputs, batch, model.t5.length, NO_TEXT_BESIDE_PAIRS)
        return objective(params, made, rest)

    return loss
