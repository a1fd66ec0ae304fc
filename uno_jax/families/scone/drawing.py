"""The denoising loop over cached contexts: one scan for all steps in a row that need the same branches."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from uno_jax.families.flow import euler_step
from uno_jax.families.model import Model
from uno_jax.families.scone.guidance import Guidance, guided
from uno_jax.networks.mot import Hidden, MoT, MoTInputs
from uno_jax.networks.splits import CachedKeys, Layout, Seen, Split
from uno_jax.support.bounded_jit import bounded_jit
from uno_jax.support.compiler_options import EIGEN_PRODUCTS
from uno_jax.support.trees import AnyArray


class Contexts(NamedTuple):
    """Caches, and for each branch of a drawing the mask of the keys that it sees and its rope position: of
    every sample, or of one for all.
    """

    caches: tuple[CachedKeys, ...]
    seen: tuple[Bool[Array, "b s"], ...]
    positions: tuple[Int[Array, "b"], ...]


@jax.tree_util.register_static
@dataclass(frozen=True)
class Drawing:
    """What is known of a drawing before it runs: the target, its guidance, the cache that each branch reads,
    and numbers of steps in a row with and without guidance (`guidance.segments`).
    """

    target: Split
    guidance: Guidance
    reads: tuple[int, ...]
    segments: tuple[tuple[int, bool], ...]


@partial(bounded_jit, compiler_options=EIGEN_PRODUCTS)
def denoise(
    model: Model,
    noise: Float[AnyArray, "b n c"],
    contexts: Contexts,
    times: Float[AnyArray, "points"],
    drawing: Drawing,
) -> Float[Array, "b n c"]:
    """The target's tokens after all Euler steps from `noise`, in float32."""
    times = jnp.asarray(times, jnp.float32)

    def step(branches: tuple[str, ...], x: Array, now: tuple[Array, Array]) -> tuple[Array, None]:
        found = velocities(model, x, now[0], contexts, drawing, branches)
        return euler_step(x, guided(found, drawing.guidance), *now), None

    x, done = jnp.asarray(noise, jnp.float32), 0
    for count, acts in drawing.segments:
        branches = drawing.guidance.branches if acts else drawing.guidance.branches[:1]
        ends = times[done : done + count], times[done + 1 : done + count + 1]
        x, _ = jax.lax.scan(partial(step, branches), x, ends)
        done += count
    return x


def velocities(
    model: Model,
    x: Float[Array, "b n c"],
    t: Float[Array, ""] | float,
    contexts: Contexts,
    drawing: Drawing,
    branches: tuple[str, ...],
) -> dict[str, Float[Array, "b n c"]]:
    """The velocity of `x` at time t in the first branches' contexts, computed as one batch."""
    net, variables = MoT(model.config.mot, model.compute_dtype), {"params": model.params["mot"]}
    count, target = len(branches), drawing.target
    starts = [jnp.broadcast_to(start, len(x)) for start in contexts.positions[:count]]
    positions = jnp.concatenate(starts)[:, None]
    rows = len(positions)
    inputs = MoTInputs(
        text=(),
        cells=(),
        latents=(jnp.tile(x, (count, 1, 1)),),
        times=jnp.full((rows, 1), t),
        positions=jnp.broadcast_to(positions, (rows, target.length)),
    )
    layout = Layout((target,), reads=drawing.reads[:count])
    seen = Seen(contexts.seen[:count])
    _, gen, _ = cast(Hidden, net.apply(variables, inputs, layout, seen, contexts.caches))
    v = cast(Array, net.apply(variables, gen, method="velocity"))
    return dict(zip(branches, jnp.split(v.astype(jnp.float32), count), strict=True))
