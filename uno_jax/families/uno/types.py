"""The pytrees of training and sampling: Batch -> Conditioning -> velocity.

References are tuples of arrays, since every reference has its own size; positions follow from the shapes at
trace time.
"""

from typing import NamedTuple

from jaxtyping import Array, Float, Int, UInt8

from uno_jax.families.uno.config import UnoPE
from uno_jax.networks.mmdit_blocks import ReferenceKeys
from uno_jax.support.trees import AnyArray


class Batch(NamedTuple):
    """A training batch. Each part is an encoder's input or its cached encoding, which differ in shape or
    dtype (`latents.is_encoded`): pictures in [-1, 1] or the posterior's moments (latent cells of mean
    and log variance), T5's token ids or hidden states, CLIP's token ids or pooled output.
    """

    target: Float[AnyArray, "b h w 3"] | Float[AnyArray, "b h2 w2 m"]
    refs: tuple[Float[AnyArray, "b h_i w_i 3"] | Float[AnyArray, "b h2_i w2_i m"], ...]
    txt: Int[AnyArray, "b s"] | Float[AnyArray, "b s d"]
    vec: Int[AnyArray, "b 77"] | Float[AnyArray, "b v"]
    mask: UInt8[AnyArray, "b h8 w8"] | None = None
    """Where errors have the weight `data.mask_weight`, from 0 to 255, in cells of 8 pixels of the target."""


class Conditioning(NamedTuple):
    """The MM-DiT's inputs beside the noisy picture.

    `refs` are scaled, noise-free latents, placed by the position convention `unope`, which is static;
    `guidance` is the strength of the guidance embedding, ignored by models without one. `keys` are what
    `velocity.with_reference_keys` computed of the references.
    """

    txt: Float[Array, "b s d"]
    vec: Float[Array, "b v"]
    refs: tuple[Float[Array, "b h_i w_i z"], ...] = ()
    guidance: Float[Array, "b"] | None = None
    unope: UnoPE = UnoPE()
    keys: ReferenceKeys | None = None
