"""The pytrees that travel: Batch -> Conditioning -> velocity.

References are tuples with one array each, since every reference has its own size: shapes carry the sizes,
and positions follow from them at trace time.
"""

from typing import NamedTuple

from jaxtyping import Array, Float, Int

from uno_jax.families.uno.config import UnoPE
from uno_jax.support.trees import AnyArray


class Batch(NamedTuple):
    """What a training step sees. Each part is an encoder's input, or its encoding from a cache, which shapes
    and dtypes tell apart (`conditioning.is_encoded`): pictures in [-1, 1] or the posterior's moments (f
    pixels a cell), T5's token ids or hidden states, CLIP's token ids or pooled output.
    """

    target: Float[AnyArray, "b h w 3"] | Float[AnyArray, "b h/f w/f 2*z"]
    refs: tuple[Float[AnyArray, "b h_i w_i 3"] | Float[AnyArray, "b h_i/f w_i/f 2*z"], ...]
    txt: Int[AnyArray, "b s"] | Float[AnyArray, "b s d"]
    vec: Int[AnyArray, "b 77"] | Float[AnyArray, "b v"]


class Conditioning(NamedTuple):
    """What the MM-DiT is given beside the noisy picture.

    `refs` are scaled, noise-free latents, placed by the convention `unope`, which is static; `guidance` is
    the strength of the guidance embedding, which models without one ignore.
    """

    txt: Float[Array, "b s d"]
    vec: Float[Array, "b v"]
    refs: tuple[Float[Array, "b h_i w_i z"], ...] = ()
    guidance: Float[Array, "b"] | None = None
    unope: UnoPE = UnoPE()
