"""The FLUX MM-DiT with reference tokens: double blocks for (txt, img), then single blocks for both together.

The 19 + 38 blocks are stacked and scanned, or separate (`blocks`). Their modulations depend on time, guidance
and pooled text only and are computed before the blocks, in sampling once for all steps. LoRA is the `lora`
variable collection; without it the base model runs.
"""

from functools import partial
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from uno_jax.networks.blocks import Variables, call_separate, scan_stacked, separate_blocks
from uno_jax.networks.layers import Dense, MLPEmbedder, rope_table, timestep_embedding
from uno_jax.networks.mmdit_blocks import (
    BLOCKS,
    TOKENS,
    DoubleStreamBlock,
    Modulation,
    Own,
    ReferenceKeys,
    Rope,
    SingleStreamBlock,
    modulate,
)
from uno_jax.networks.mmdit_config import MMDiTConfig
from uno_jax.sharding.rules import spread
from uno_jax.support.trees import AnyArray


class Modulations(NamedTuple):
    """The shifts, scales and gates of all blocks and of the final layer."""

    double: Float[Array, "n 12 b 1 d"]
    single: Float[Array, "m 3 b 1 d"]
    final: Float[Array, "2 b 1 d"]


class MMDiTInputs(NamedTuple):
    """The inputs of the MM-DiT.

    `ids` are the positions of text, image and reference tokens in that order (`families.uno.positions`): on
    the host, so that the rope table is computed in float64, or on the device where every sample has its own.
    `timesteps` run from 1 (noise) to 0; in their place may stand the modulations that were computed from
    them, from vec and guidance. In place of the reference tokens may stand their keys and values, computed
    by `MMDiT.references`; `ids` are then those of text and image only.
    """

    img: Float[Array, "b l c"]
    txt: Float[Array, "b s d"]
    vec: Float[Array, "b v"]
    timesteps: Float[Array, "b"] | Modulations
    ids: Float[AnyArray, "*b n 3"]
    ref: Float[Array, "b r c"] | ReferenceKeys | None = None
    guidance: Float[Array, "b"] | None = None


class MMDiT(nn.Module):
    """Predicts the velocity of the img tokens, given text, time, guidance and noise-free reference tokens.

    `remat` selects what the backward pass recomputes: "none", "selective" (all but the matrix products), or
    "full" (each block from its input). `unroll` is the number of blocks in one iteration of the scan.
    """

    config: MMDiTConfig
    dtype: DTypeLike = jnp.float32
    remat: str = "none"
    unroll: int = 1

    def setup(self) -> None:
        c, dtype = self.config, self.dtype
        self.time_in = MLPEmbedder(c.hidden_size, dtype)
        if c.guidance_embed:
            self.guidance_in = MLPEmbedder(c.hidden_size, dtype)
        self.vector_in = MLPEmbedder(c.hidden_size, dtype)
        self.img_in = Dense(c.hidden_size, ("in", "embed"), dtype=dtype)
        self.txt_in = Dense(c.hidden_size, ("in", "embed"), dtype=dtype)
        stacked = partial(scan_stacked, remat=self.remat, unroll=self.unroll)
        self.double_blocks = stacked(DoubleStreamBlock, c.depth)(c, dtype)
        self.single_blocks = stacked(SingleStreamBlock, c.depth_single_blocks)(c, dtype)
        self.final_layer = FinalLayer(c, dtype)

    def modulations(
        self, vec: Float[Array, "b v"], timesteps: Float[Array, "b"], guidance: Float[Array, "b"] | None
    ) -> Modulations:
        """What the blocks are given of time, guidance and pooled text.

        Raises ValueError if a guidance model gets no guidance or another model gets one.
        """
        if self.config.guidance_embed != (guidance is not None):
            takes = self.config.guidance_embed
            wanted = "takes guidance (4.0 is usual)" if takes else "has no guidance embedding"
            raise ValueError(f"this model {wanted}, got {guidance}")
        total = self.time_in(timestep_embedding(timesteps))
        if guidance is not None:
            total += self.guidance_in(timestep_embedding(guidance))
        total += self.vector_in(vec)

        return Modulations(
            self._modulations("double_blocks", total),
            self._modulations("single_blocks", total),
            self.final_layer.modulation(total),
        )

    def _modulations(self, name: str, vec: Float[Array, "b d"]) -> Float[Array, "n chunks b 1 d"]:
        if blocks := separate_blocks(self, name):
            block: Any = BLOCKS[name](self.config, self.dtype, parent=None)
            return jnp.stack([block.apply(own, vec, method="modulations") for own in blocks])
        depth = self.config.depth if name == "double_blocks" else self.config.depth_single_blocks
        # A copy for each block makes this a product batched over blocks, without transposed kernels.
        copies = jnp.broadcast_to(vec, (depth, *vec.shape))
        return cast(Array, getattr(self, name).modulations(copies))

    def __call__(self, inputs: MMDiTInputs) -> Float[Array, "b l c"]:
        """The velocity in patch channels; as the intermediate "added" what the blocks add to the img tokens.

        Raises ValueError as `modulations`, and if the number of ids is not that of the tokens.
        """
        img, txt, ref, length = inputs.img, inputs.txt, inputs.ref, inputs.img.shape[1]
        seen = ref if isinstance(ref, ReferenceKeys) else ReferenceKeys(None, None)
        if ref is not None and not isinstance(ref, ReferenceKeys):
            img = jnp.concatenate([img, ref.astype(img.dtype)], axis=1)
        if inputs.ids.shape[-2] != txt.shape[1] + img.shape[1]:
            raise ValueError(
                f"{inputs.ids.shape[-2]} position ids for {txt.shape[1]} text and {img.shape[1]} image tokens"
            )
        rope = rope_table(inputs.ids, self.config.axes_dim, self.config.theta)
        given = inputs.timesteps
        if not isinstance(given, Modulations):
            given = self.modulations(inputs.vec, given, inputs.guidance)
        first, txt = spread(self.img_in(img), *TOKENS), spread(self.txt_in(txt), *TOKENS)
        (img, txt), _ = self._run("double_blocks", (first, txt), (given.double, seen.double), rope)
        x = spread(jnp.concatenate([txt, img], axis=1), *TOKENS)
        x, _ = self._run("single_blocks", x, (given.single, seen.single), rope)
        x = x[:, txt.shape[1] :][:, :length]
        if self.is_mutable_collection("intermediates"):
            self.sow("intermediates", "added", x - first[:, :length])
        return self.final_layer(x, given.final)

    def references(
        self, ref: Float[Array, "b r c"], ids: Float[AnyArray, "*b r 3"], given: Modulations
    ) -> ReferenceKeys:
        """The keys and values of reference tokens that attend to one another only, under the modulations of
        one time, which for noise-free tokens is 0: what every step of a picture may see of them.
        """
        rope = rope_table(ids, self.config.axes_dim, self.config.theta)
        x = spread(self.img_in(ref), *TOKENS)
        x, double = self._run("double_blocks", x, (given.double, None), rope, "references")
        _, single = self._run("single_blocks", x, (given.single, None), rope, "references")
        return ReferenceKeys(double, single)

    def _run(self, name: str, carry: Any, each: Any, rope: Rope, method: str = "__call__") -> Any:
        if blocks := separate_blocks(self, name):
            block: Any = BLOCKS[name](self.config, self.dtype, parent=None)

            def call(variables: Variables, carry: Any, own: Own) -> Any:
                return block.apply(variables, carry, own, rope, method=method)

            return call_separate(call, blocks, carry, each, self.remat)
        return getattr(getattr(self, name), method)(carry, each, rope)


class FinalLayer(nn.Module):
    config: MMDiTConfig
    dtype: DTypeLike

    def setup(self) -> None:
        c, dtype = self.config, self.dtype
        self.modulation = Modulation(2, dtype)
        self.linear = Dense(c.in_channels, ("embed", "out"), dtype=dtype, kernel_init=nn.initializers.zeros)

    def __call__(
        self, x: Float[Array, "b l d"], modulation: Float[Array, "2 b 1 d"]
    ) -> Float[Array, "b l c"]:
        shift, scale = modulation
        return self.linear(modulate(x, shift, scale))


def smallest_inputs(config: MMDiTConfig) -> tuple[MMDiTInputs]:
    """One token of each kind, for initialising the network."""
    img, txt = jnp.zeros((1, 1, config.in_channels)), jnp.zeros((1, 1, config.context_in_dim))
    one, vec = jnp.ones(1), jnp.zeros((1, config.vec_in_dim))
    guidance = one if config.guidance_embed else None
    return (MMDiTInputs(img, txt, vec, one, np.zeros((2, 3)), None, guidance),)
