"""The losses of the parts: (parameters, inputs, key, progress) -> a number. Each makes its own batch."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from uno_jax.families.flow import interpolate, sample_times
from uno_jax.families.model import Model
from uno_jax.families.uno.conditioning import encode, encode_image, encode_text
from uno_jax.families.uno.config import ModelConfig, UnoPE
from uno_jax.families.uno.objective import Noised, flow_loss
from uno_jax.families.uno.positions import pack, position_ids, shifted_ids, token_grid
from uno_jax.families.uno.types import Conditioning
from uno_jax.families.uno.velocity import variables
from uno_jax.networks.mmdit import MMDiT, MMDiTInputs
from uno_jax.networks.registry import apply
from uno_jax.networks.vae import Autoencoder, posterior_sample
from uno_jax.small_training import samples
from uno_jax.small_training.perceptual import perceptual_distance
from uno_jax.small_training.samples import Curriculum, Progress
from uno_jax.small_training.worlds import Inputs
from uno_jax.support.trees import Params

Loss = Callable[[Mapping[str, Params], Inputs, PRNGKeyArray, Progress], Float[Array, ""]]
KL_WEIGHT = 1e-6
PERCEPTUAL_WEIGHT = 0.1
PERMUTED = 0.3  # share of the autoencoder's pictures whose colour channels change places


class Numbers(NamedTuple):
    """What a part computes in: a network's config, its dtype, and the precision of float32's products."""

    model: ModelConfig
    dtype: DTypeLike
    unroll: int


def autoencoder_loss(numbers: Numbers, batch: int) -> Loss:
    """Absolute and squared error, LPIPS, and the posterior's divergence from N(0, 1)."""
    vae, dtype = numbers.model.vae, numbers.dtype

    def loss(params: Mapping[str, Params], inputs: Inputs, key: PRNGKeyArray, _: Progress) -> Array:
        draw, colour, noise = jax.random.split(key, 3)
        image = samples.draw_text_images(draw, inputs, batch, numbers.model.t5.length).target
        image = permute_channels(colour, jnp.asarray(image))
        weights = {"params": params["vae"]}
        moments = apply(vae, weights, image, dtype=dtype, method=Autoencoder.encode).astype(jnp.float32)
        latent = posterior_sample(vae, moments, noise)
        decoded = apply(vae, weights, latent, dtype=dtype, method=Autoencoder.decode).astype(jnp.float32)
        mean, log_variance = jnp.split(moments, 2, axis=-1)
        kl = 0.5 * jnp.mean(jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance)
        error = decoded - image
        total = jnp.mean(jnp.abs(error)) + 2 * jnp.mean(jnp.square(error)) + KL_WEIGHT * kl
        if inputs.perceptual:
            total += PERCEPTUAL_WEIGHT * perceptual_distance(inputs.perceptual, decoded, image, dtype)
        return total

    return loss


def permute_channels(key: PRNGKeyArray, image: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """Some pictures with their colour channels in another order, so that colours beyond the toy world's are
    seen.
    """
    order, some = jax.random.split(key)
    orders = jnp.argsort(jax.random.uniform(order, (len(image), 3)), axis=1)
    changed = jax.random.bernoulli(some, PERMUTED, (len(image), 1))
    orders = jnp.where(changed, orders, jnp.arange(3))
    return jnp.einsum("bhwc,bdc->bhwd", image, jax.nn.one_hot(orders, 3, dtype=image.dtype))


def base_loss(numbers: Numbers, sizes: tuple[int, int, int], curriculum: Curriculum) -> Loss:
    """The flow loss of panels with one given, of whole diptychs, and of captioned pictures (`sizes`)."""
    panels, whole, pictures = sizes

    def loss(params: Mapping[str, Params], inputs: Inputs, key: PRNGKeyArray, progress: Progress) -> Array:
        draw, encode_key, noise_key, time_key = jax.random.split(key, 4)
        length, model = numbers.model.t5.length, Model(numbers.model, dict(params), dtype=numbers.dtype)
        two, alone = samples.draw_panels(draw, inputs, sizes, length, (curriculum, progress))
        every = jnp.concatenate([two.first, alone.target, two.second])
        latents = encode_image(model, every, encode_key)
        txt, vec = encode_text(
            model,
            jnp.concatenate([two.caption.t5, alone.txt]),
            jnp.concatenate([two.caption.clip, alone.vec]),
        )
        count, both = sum(sizes), panels + whole
        t = sample_times(time_key, count, numbers.model.defaults.resolution)
        noise = jax.random.normal(noise_key, latents.shape)
        net = MMDiT(numbers.model.mmdit, numbers.dtype, "none", numbers.unroll)
        seen = Seen(txt[:both], vec[:both], t[:both], two.shift, jnp.arange(both) < panels)
        firsts, seconds = (slice(0, both), slice(count, None))
        of_panels = panels_loss(
            net,
            variables(dict(params)),
            ((latents[firsts], noise[firsts]), (latents[seconds], noise[seconds])),
            seen,
        )
        conditioning = Conditioning(txt[both:], vec[both:], (), jnp.ones(pictures))
        noised = Noised(latents[both:count], noise[both:count], t[both:])
        of_pictures = flow_loss(net, variables(dict(params)), noised, conditioning)
        return (both * of_panels + pictures * of_pictures) / count

    return loss


class Seen(NamedTuple):
    """What two panels are drawn from, and which second ones are `given` without noise."""

    txt: Float[Array, "b s d"]
    vec: Float[Array, "b v"]
    t: Float[Array, " b"]
    shift: Float[Array, "b 2"]
    given: Bool[Array, " b"]


def panels_loss(
    net: MMDiT,
    variables: dict[str, Params],
    panels: tuple[tuple[Array, Array], tuple[Array, Array]],
    seen: Seen,
) -> Float[Array, ""]:
    """`objective.flow_loss` of two panels (latents and noise of each), which lie elsewhere in every sample. A
    given panel does not count.
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
    return jnp.sum(error, where=~is_given) / jnp.sum(~is_given)


def pairs_loss(numbers: Numbers, references: int, batch: int) -> Loss:
    """The flow loss of UNO's pairs with so many references; of captioned pictures with 0."""

    def loss(params: Mapping[str, Params], inputs: Inputs, key: PRNGKeyArray, progress: Progress) -> Array:
        draw, encode_key, time_key, noise_key = jax.random.split(key, 4)
        length = numbers.model.t5.length
        if references:
            made = samples.draw_pairs(draw, inputs, (batch, references), length, progress)
        else:
            made = samples.draw_text_images(draw, inputs, batch, length, no_text=0.5)
        model = Model(numbers.model, dict(params), dtype=numbers.dtype)
        latent, conditioning = encode(model, made, encode_key)
        t = sample_times(time_key, batch, numbers.model.defaults.resolution)
        noise = jax.random.normal(noise_key, latent.shape)
        net = MMDiT(numbers.model.mmdit, numbers.dtype, "none", numbers.unroll)
        return flow_loss(net, variables(dict(params)), Noised(latent, noise, t), conditioning)

    return loss
