"""Contexts: the cached keys of what a picture or an answer is made from, in arrays of static shape.

A context grows split by split (`extend`). Splits are padded to one of a few sizes (`bucket`), so that a
compiled function serves all that fit, wherever they stand; a mask of the keys hides padding and what is
empty.
"""

from functools import partial
from typing import NamedTuple, cast

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from uno_jax.families.model import Model
from uno_jax.networks.mot import Hidden, MoT, MoTInputs
from uno_jax.networks.splits import MARKS, CachedKeys, Layout, Seen, Split
from uno_jax.support.bounded_jit import bounded_jit
from uno_jax.support.compiler_options import EIGEN_PRODUCTS
from uno_jax.support.trees import AnyArray

BUCKETS = (16, 32, 64, 128, 256, 512, 768, 1024, 1536, 2048, 3072, 4096, 5120)
"""Sizes that tokens of a text or image are padded to."""
SLOTS = 1024  # what the slots of a large context are a multiple of


@flax.struct.dataclass
class Context:
    """Cached keys and values, which of them exist, and the next rope position of each sample. `used` is the
    number of slots that splits have been written to.
    """

    keys: CachedKeys
    seen: Bool[Array, "b s"]
    position: Int[Array, "b"]
    used: int = flax.struct.field(pytree_node=False, default=0)


class Part(NamedTuple):
    """A text's ids, bos and eos included, or an image's latent tokens or ViT cells, padded to a bucket;
    `counts` are the real ones of each sample, `places` the rows and columns of an image's.
    """

    values: Int[AnyArray, "b n"] | Float[AnyArray, "b n c"]
    counts: Int[AnyArray, "b"]
    places: Int[AnyArray, "b n 2"] | None = None


def bucket(size: int) -> int:
    """The smallest bucket that holds `size` tokens; beyond the largest, multiples of it."""
    fitting = [each for each in BUCKETS if each >= size]
    return fitting[0] if fitting else -(-size // BUCKETS[-1]) * BUCKETS[-1]


def slots_for(size: int) -> int:
    """The slots of a context of `size` tokens: few different numbers, so that few programs are compiled."""
    return bucket(size) if size <= BUCKETS[-1] else -(-size // SLOTS) * SLOTS


def padded_split(kind: str, size: int) -> Split:
    """The split that `size` tokens are padded to."""
    return Split(kind, 1, bucket(size))  # type: ignore[arg-type]


def empty_context(model: Model, batch: int, slots: int) -> Context:
    """A context with room for `slots` tokens."""
    c = model.config.mot
    shape = (c.num_layers, batch, slots, c.num_kv_heads, c.head_dim)
    keys = CachedKeys(*(jnp.zeros(shape, model.compute_dtype) for _ in "kv"))
    return Context(keys, jnp.zeros((batch, slots), bool), jnp.zeros(batch, jnp.int32))


def extend(model: Model, context: Context, split: Split, part: Part) -> tuple[Context, Float[Array, "b u d"]]:
    """The context with one more split, and the normed hidden states of its understood tokens. The keys of
    the context that is given are used up.

    Raises ValueError if the context has no room for it.
    """
    slots = context.seen.shape[1]
    if context.used + split.length > slots:
        raise ValueError(
            f"{split.length} more tokens after {context.used} do not fit a context of {slots} slots"
        )
    # The masks stay: those of a shorter context are those of its beginning.
    rest = context.replace(keys=None, used=0)  # type: ignore[attr-defined]
    longer, und = _extend(model, context.keys, rest, split, part, jnp.int32(context.used))
    return longer.replace(used=context.used + split.length), und  # type: ignore[attr-defined]


@partial(bounded_jit, static_argnames="split", donate_argnums=1, compiler_options=EIGEN_PRODUCTS)
def _extend(
    model: Model, keys: CachedKeys, context: Context, split: Split, part: Part, slot: Int[Array, ""]
) -> tuple[Context, Float[Array, "b u d"]]:
    return extended(model, context.replace(keys=keys), split, part, slot)  # type: ignore[attr-defined]


def extended(
    model: Model, context: Context, split: Split, part: Part, slot: int | Int[Array, ""]
) -> tuple[Context, Float[Array, "b u d"]]:
    """`extend` within a compiled function: the split is written from a `slot` on, and not counted as used."""
    keys, text = context.keys, split.kind == "text"
    positions = context.position[:, None] + (jnp.arange(split.length) if text else 0)
    positions = jnp.broadcast_to(positions, (len(context.position), split.length))
    own = real_tokens(split, jnp.asarray(part.counts))
    inputs = part_inputs(split, part, positions)
    layout = Layout((split,), reads=(0,), keep=True)
    und, kept = _call(model, inputs, layout, (Seen((context.seen,), own), (keys,)))
    start = (0, 0, slot, 0, 0)
    keys = CachedKeys(
        *(
            jax.lax.dynamic_update_slice(old, new.astype(old.dtype), start)
            for old, new in zip(keys, kept, strict=True)
        )
    )
    seen = jax.lax.dynamic_update_slice(context.seen, own, start[1:3])
    position = context.position + (part.counts if text else 1)
    return Context(keys, seen, position, context.used), und


def _call(
    model: Model, inputs: MoTInputs, layout: Layout, before: tuple[Seen, tuple[CachedKeys, ...]]
) -> tuple[Float[Array, "b u d"], CachedKeys]:
    net = MoT(model.config.mot, model.compute_dtype)
    und, _, kept = cast(Hidden, net.apply({"params": model.params["mot"]}, inputs, layout, *before))
    return und, cast(CachedKeys, kept)


def part_inputs(split: Split, part: Part, positions: Int[Array, "b l"]) -> MoTInputs:
    """The network's inputs of one split of text or of a clean image."""
    of = {kind: (jnp.asarray(part.values),) if split.kind == kind else () for kind in ("text", "vit", "vae")}
    places = None if part.places is None else (jnp.asarray(part.places),)
    none = jnp.zeros((len(part.values), 0))
    return MoTInputs(of["text"], of["vit"], of["vae"], none, positions, places)


def real_tokens(split: Split, counts: Int[Array, "b"]) -> Bool[Array, "b l"]:
    """Which tokens of a padded split, in our order, are no padding."""
    real = jnp.arange(split.tokens) < counts[:, None]
    marks = jnp.ones((len(counts), 1), bool)
    if split.kind == "text":
        return real
    return jnp.concatenate([marks, real, marks] if split.kind == "vit" else [*[marks] * MARKS, real], axis=1)


def pad_part(values: np.ndarray, size: int, places: np.ndarray | None = None) -> Part:
    """A batch of equal samples (b, n) or (b, n, c) as a Part of `size` tokens, with the places (n, 2)."""
    batch, count = values.shape[:2]
    extra = size - count
    padded = np.pad(values, [(0, 0), (0, extra), *[(0, 0)] * (values.ndim - 2)])
    if places is not None:
        places = np.broadcast_to(np.pad(places, [(0, extra), (0, 0)]), (batch, size, 2))
    return Part(padded, np.full(batch, count, np.int32), places)
