"""Text that the model writes: answers to questions about pictures, and thoughts before it draws one."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, UInt32

from uno_jax.families.family import Inputs
from uno_jax.families.model import Model
from uno_jax.families.scone.cache import Context, Part, bucket, extended
from uno_jax.families.scone.contexts import Item, grow, make_items
from uno_jax.families.scone.settings import SconeSettings, Writing
from uno_jax.networks.mot import MoT
from uno_jax.networks.splits import Split
from uno_jax.support.bounded_jit import bounded_jit
from uno_jax.support.compiler_options import EIGEN_PRODUCTS
from uno_jax.support.trees import AnyArray

DRAWING_THOUGHT = (
    "Plan the picture first. Write the plan between <think> and </think>: which subject of which reference "
    "is meant, where it stands, and what surrounds it. The picture that follows keeps to the plan."
)
ANSWER_THOUGHT = (
    "Think before you answer. Write what you see and conclude between <think> and </think>, and after that "
    "the answer itself."
)
TOKEN = Split("text", 1, 1)


def answer(model: Model, inputs: Inputs, settings: SconeSettings) -> list[str]:
    """The answer to each of the inputs' last texts; references are shown to the ViT only."""
    system = ANSWER_THOUGHT if settings.writing.think else ""
    items = make_items(model, inputs, settings, system, latents=False)
    return write(model, items, inputs.seeds, settings.writing)


def write(model: Model, items: Sequence[Item], seeds: UInt32[np.ndarray, "b"], writing: Writing) -> list[str]:
    """The text that follows the items, for each seed, up to its eos or `max_tokens` tokens.

    Raises FloatingPointError for NaN or infinite values.
    """
    rows, (context, _) = len(seeds), grow(model, items, bucket(writing.max_tokens))
    if len(context.position) != rows:
        context = jax.tree.map(lambda x: jnp.repeat(x, rows, axis=0 if x.ndim < 3 else 1), context)
    limits = writing.temperature, writing.max_tokens, bucket(writing.max_tokens)
    ids, counts, finite = map(np.asarray, next_tokens(model, context, seeds, *limits))
    if not finite.all():
        raise FloatingPointError(
            "a text came out of NaN or infinite values: the weights are damaged, or too large for "
            f"{model.compute_dtype}"
        )
    found = (row[:count].tolist() for row, count in zip(ids, counts, strict=True))
    return [model.tokenizer.decode(each) for each in found]


class Written(NamedTuple):
    """The state of the loop: which token is next, what was written, which samples have ended, and which had
    finite logits only.
    """

    step: Int[Array, ""]
    token: Int[Array, "b"]
    ids: Int[Array, "b most"]
    ended: Bool[Array, "b"]
    finite: Bool[Array, "b"]
    context: Context


@partial(bounded_jit, static_argnames="most", compiler_options=EIGEN_PRODUCTS)
def next_tokens(
    model: Model,
    context: Context,
    seeds: UInt32[AnyArray, "b"],
    temperature: float | Array,
    limit: int | Array,
    most: int,
) -> tuple[Int[Array, "b most"], Int[Array, "b"], Bool[Array, "b"]]:
    """At most `limit` tokens after bos, in an array of `most`, how many of them come before eos, and whether
    all logits were finite. Greedy at temperature 0.
    """
    c = model.config.mot
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))

    def step(now: Written) -> Written:
        part = Part(now.token[:, None], jnp.ones_like(now.token))
        longer, und = extended(model, now.context, TOKEN, part, now.context.used + now.step)
        net, variables = MoT(c, model.compute_dtype), {"params": model.params["mot"]}
        logits = cast(Array, net.apply(variables, und[:, -1], method="logits"))
        token = jnp.where(temperature > 0, _drawn(keys, now.step, logits, temperature), logits.argmax(-1))
        token = jnp.where(now.ended, c.eos_id, token).astype(jnp.int32)
        ids = now.ids.at[:, now.step].set(token)
        finite = now.finite & jnp.isfinite(logits).all(-1)
        return Written(now.step + 1, token, ids, now.ended | (token == c.eos_id), finite, longer)

    rows = len(context.position)
    first = jnp.full(rows, c.bos_id, jnp.int32)
    ids = jnp.full((rows, most), c.eos_id, jnp.int32)
    ended, finite = jnp.zeros(rows, bool), jnp.ones(rows, bool)
    start = Written(jnp.zeros((), jnp.int32), first, ids, ended, finite, context)
    done = jax.lax.while_loop(lambda now: (now.step < limit) & ~now.ended.all(), step, start)
    return done.ids, (done.ids != c.eos_id).sum(-1), done.finite


def _drawn(keys: Array, step: Array, logits: Array, temperature: float | Array) -> Int[Array, "b"]:
    own = jax.vmap(jax.random.fold_in, (0, None))(keys, step)
    return jax.vmap(jax.random.categorical)(own, logits / jnp.maximum(temperature, 1e-6))
