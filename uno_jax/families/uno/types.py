"""The pytrees that travel: Batch -> Conditioning -> loss, and the trainer's state.

References are tuples with one array each, since every reference has its own size: shapes carry the sizes,
and positions follow from them at trace time.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from uno_jax.networks.config import ModelConfig, UnoPE
from uno_jax.networks.registry import Params

AnyArray = Array | np.ndarray


class Batch(NamedTuple):
    """What a training step sees. Each part is an encoder's input, or its encoding from a cache, which shapes
    and dtypes tell apart (`encode`): pictures in [-1, 1] or the posterior's moments (f pixels a cell), T5's
    token ids or hidden states, CLIP's token ids or pooled output.
    """

    target: Float[AnyArray, "b h w 3"] | Float[AnyArray, "b h/f w/f 2*z"]
    refs: tuple[Float[AnyArray, "b h_i w_i 3"] | Float[AnyArray, "b h_i/f w_i/f 2*z"], ...]
    txt: Int[AnyArray, "b s"] | Float[AnyArray, "b s d"]
    vec: Int[AnyArray, "b 77"] | Float[AnyArray, "b v"]


class Conditioning(NamedTuple):
    """What the MM-DiT is given beside the noisy picture; `refs` are scaled, noise-free latents."""

    txt: Float[Array, "b s d"]
    vec: Float[Array, "b v"]
    refs: tuple[Float[Array, "b h_i w_i z"], ...] = ()


class Model(NamedTuple):
    """A model's numbers and its parameters: `params` maps mmdit, vae, t5, clip to plain trees.

    `unope` is the position convention of the LoRA that is merged in; None where there is none.
    """

    config: ModelConfig
    params: dict[str, Params]
    unope: UnoPE | None = None


class TrainState(NamedTuple):
    """Everything a step changes. `trainable` is the LoRA, or the whole parameters of what is trained; `ema`
    is its running average, empty when none is kept; `skipped` counts the steps that were not finite.
    """

    step: Int[Array, ""]
    trainable: Params
    opt_state: Any
    ema: Params
    skipped: Int[Array, ""]
