"""The MM-DiT seen from outside: a noisy latent and its conditioning give the velocity; a loop of Euler
steps the picture.
"""

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from uno_jax.families import flow
from uno_jax.families.uno.positions import PATCH, TokenSize, pack, position_ids
from uno_jax.families.uno.types import Conditioning
from uno_jax.networks.config import MMDiTConfig, UnoPE
from uno_jax.networks.mmdit import MMDiT
from uno_jax.networks.registry import Params


def velocity(
    net: MMDiT,
    variables: dict[str, Params],
    x: Float[Array, "b l c"],
    size: TokenSize,
    conditioning: Conditioning,
    t: Float[Array, "b"],
    guidance: Float[Array, "b"] | None,
    unope: UnoPE,
) -> Float[Array, "b l c"]:
    """Velocity of the target's tokens `x` (rows, columns = `size`), with the references' tokens appended
    after them.

    `variables` is {"params": base} or {"params": base, "lora": lora}. Positions follow from the shapes.
    """
    refs = [pack(ref) for ref in conditioning.refs]
    ref_sizes = [(ref.shape[1] // PATCH, ref.shape[2] // PATCH) for ref in conditioning.refs]
    ids = position_ids(conditioning.txt.shape[1], size, ref_sizes, unope)
    ref = jnp.concatenate(refs, axis=1) if refs else None
    inputs = (x, conditioning.txt, conditioning.vec, t, ids, ref, guidance)
    return cast(Array, net.apply(variables, *inputs))


def denoise(
    config: MMDiTConfig,
    variables: dict[str, Params],
    noise: Float[Array, "b h w z"],
    conditioning: Conditioning,
    schedule: Float[np.ndarray, "steps+1"],
    guidance: float,
    unope: UnoPE = UnoPE(),
    dtype: Any = jnp.float32,
    plain: Conditioning | None = None,
    true_cfg: float = 1.0,
    left: Float[Array, "b h w/2 z"] | None = None,
) -> Float[Array, "b l c"]:
    """The tokens after all Euler steps from `noise` (UNO `sampling.py` denoise). One scan, so one compiled
    function when jitted; the state stays in float32, the network computes in `dtype`.

    With `plain`, of the empty prompt and no references, the velocity is v_plain + true_cfg * (v - v_plain)
    (classifier-free guidance, arXiv 2207.12598; diffusers' true_cfg_scale), for twice the work.

    With `left`, the latent of a diptych's left half, only the right one is made: the left is shown as it is,
    to the plain prediction as noisy as the rest (diptych prompting, arXiv 2411.15466).
    """
    net = MMDiT(config, dtype)
    size = (noise.shape[1] // PATCH, noise.shape[2] // PATCH)
    strength = jnp.full(noise.shape[0], guidance, jnp.float32) if config.guidance_embed else None
    x0 = pack(noise).astype(jnp.float32)
    given = noise if left is None else jnp.asarray(noise).at[:, :, : left.shape[2]].set(left)
    x1 = pack(given).astype(jnp.float32)
    is_left = jnp.tile(jnp.arange(size[1]) < size[1] // 2, size[0])[:, None]

    def with_left(x: Array, t: Array | float) -> Array:
        """`x` with the given half as it is at time t."""
        if left is None:
            return x
        return jnp.where(is_left, flow.interpolate(x1, x0, jnp.full(x.shape[0], t)), x)

    def step(x: Array, times: tuple[Array, Array]) -> tuple[Array, None]:
        def predicted(x: Array, given: Conditioning) -> Array:
            time = jnp.full(x.shape[0], t)
            return velocity(net, variables, x, size, given, time, strength, unope).astype(jnp.float32)

        t, t_next = times
        v = predicted(with_left(x, 0.0), conditioning)
        if plain is not None:
            v_plain = predicted(with_left(x, t), plain)
            v = v_plain + true_cfg * (v - v_plain)
        return flow.euler_step(x, v, t, t_next), None

    times = jnp.asarray(schedule, jnp.float32)
    tokens, _ = jax.lax.scan(step, x0, (times[:-1], times[1:]))
    return with_left(tokens, 0.0)
