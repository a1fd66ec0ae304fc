"""The FLUX MM-DiT with reference tokens: double blocks for (txt, img), then single blocks for both together.

The blocks of a kind are one scanned block with stacked parameters, so 19 + 38 blocks compile as one of
each. Their modulations are computed before the scan, for all blocks in one batched product, which saves small
kernels and collectives in the loop. LoRA is the `lora` variable collection; without it the base model runs.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from uno_jax.networks.attention.dispatch import attention
from uno_jax.networks.bounds import LAYERS, WIDTH, check_bounds, check_divides
from uno_jax.networks.layers import (
    Dense,
    RMSNorm,
    apply_rope,
    gelu,
    layer_norm,
    rope_table,
    timestep_embedding,
)
from uno_jax.sharding.rules import spread
from uno_jax.support.trees import AnyArray


@dataclass(frozen=True)
class MMDiTConfig:
    """The FLUX transformer. `axes_dim` divides a head's channels among the rope axes (text, row, column)."""

    in_channels: int = 64
    vec_in_dim: int = 768
    context_in_dim: int = 4096
    hidden_size: int = 3072
    mlp_ratio: float = 4.0
    num_heads: int = 24
    depth: int = 19
    depth_single_blocks: int = 38
    axes_dim: tuple[int, ...] = (16, 56, 56)
    theta: int = 10_000
    qkv_bias: bool = True
    guidance_embed: bool = True

    def __post_init__(self) -> None:
        widths = dict.fromkeys(("in_channels", "vec_in_dim", "context_in_dim", "hidden_size"), WIDTH)
        layers = {"depth": LAYERS, "depth_single_blocks": LAYERS, "mlp_ratio": (1 / 64, 64)}
        check_bounds(self, **widths, **layers, num_heads=WIDTH, axes_dim=WIDTH, theta=(1, 1e12))
        check_divides(self, "hidden_size", "num_heads")
        if len(self.axes_dim) != 3 or any(d % 2 for d in self.axes_dim):
            raise ValueError(f"axes_dim must be three even numbers, got {self.axes_dim}")
        if sum(self.axes_dim) != self.head_dim:
            raise ValueError(
                f"axes_dim {self.axes_dim} add up to {sum(self.axes_dim)}, expected the head size "
                f"hidden_size / num_heads = {self.head_dim}"
            )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def mlp_size(self) -> int:
        return int(self.hidden_size * self.mlp_ratio)


REMAT_POLICIES = {
    "none": None,
    "selective": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}

Rope = tuple[AnyArray, AnyArray]
TOKENS = ("samples", "tokens", None)


class MLPEmbedder(nn.Module):
    """Two dense layers with a SiLU between, for time, guidance and the pooled text."""

    hidden_size: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b i"]) -> Float[Array, "b d"]:
        x = Dense(self.hidden_size, ("in", "embed"), dtype=self.dtype, name="in_layer")(x)
        return Dense(self.hidden_size, ("embed_in", "embed"), dtype=self.dtype, name="out_layer")(nn.silu(x))


class Modulation(nn.Module):
    """AdaLN: `chunks` vectors for shift, scale and gate, computed from vec."""

    chunks: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, vec: Float[Array, "b d"]) -> list[Float[Array, "b 1 d"]]:
        # Initialised to zero, so that training from scratch starts at the identity (adaLN-Zero, DiT 3.2).
        lin = Dense(
            self.chunks * vec.shape[-1],
            ("embed", "modulation"),
            dtype=self.dtype,
            kernel_init=nn.initializers.zeros,
            name="lin",
        )
        return jnp.split(lin(nn.silu(vec))[:, None, :], self.chunks, axis=-1)


def modulate(x: Float[Array, "b l d"], shift: Array, scale: Array) -> Float[Array, "b l d"]:
    return (1 + scale) * layer_norm(x) + shift


class QKNorm(nn.Module):
    @nn.compact
    def __call__(self, q: Array, k: Array) -> tuple[Array, Array]:
        return RMSNorm(name="query_norm")(q), RMSNorm(name="key_norm")(k)


def split_heads(qkv: Float[Array, "b l width"], num_heads: int) -> list[Float[Array, "b l h d"]]:
    b, l, _ = qkv.shape
    return [x.reshape(b, l, num_heads, -1) for x in jnp.split(qkv, 3, axis=-1)]


class Stream(nn.Module):
    """One stream of a double block (img or txt): `heads` comes before the joint attention, `finish` after."""

    config: MMDiTConfig
    dtype: DTypeLike

    def setup(self) -> None:
        c, dtype = self.config, self.dtype
        self.mod = Modulation(6, dtype)
        self.qkv = Dense(3 * c.hidden_size, ("embed", "heads"), use_bias=c.qkv_bias, dtype=dtype)
        self.norm = QKNorm()
        self.proj = Dense(c.hidden_size, ("heads", "embed"), dtype=dtype)
        self.mlp_in = Dense(c.mlp_size, ("embed", "mlp"), dtype=dtype)
        self.mlp_out = Dense(c.hidden_size, ("mlp", "embed"), dtype=dtype)

    def heads(self, x: Array, shift: Array, scale: Array) -> tuple[Array, Array, Array]:
        q, k, v = split_heads(self.qkv(modulate(x, shift, scale)), self.config.num_heads)
        return *self.norm(q, k), v

    def finish(self, x: Array, attended: Array, gate: Array, mlp_mod: list[Array]) -> Array:
        x = x + gate * self.proj(attended)
        shift, scale, mlp_gate = mlp_mod
        hidden = gelu(self.mlp_in(modulate(x, shift, scale)))
        return x + mlp_gate * self.mlp_out(hidden)


class DoubleStreamBlock(nn.Module):
    """Text and image tokens with separate weights and one joint attention (txt first)."""

    config: MMDiTConfig
    dtype: DTypeLike

    def setup(self) -> None:
        self.img = Stream(self.config, self.dtype)
        self.txt = Stream(self.config, self.dtype)

    def modulations(self, vec: Array) -> tuple[list[Array], list[Array]]:
        return self.img.mod(vec), self.txt.mod(vec)

    def __call__(
        self, carry: tuple[Array, Array], modulations: tuple[list[Array], list[Array]], rope: Rope
    ) -> tuple[tuple[Array, Array], None]:
        img, txt = carry
        img_mod, txt_mod = modulations
        img_q, img_k, img_v = self.img.heads(img, *img_mod[:2])
        txt_q, txt_k, txt_v = self.txt.heads(txt, *txt_mod[:2])
        q = apply_rope(jnp.concatenate([txt_q, img_q], axis=1), *rope)
        k = apply_rope(jnp.concatenate([txt_k, img_k], axis=1), *rope)
        v = jnp.concatenate([txt_v, img_v], axis=1)
        joint = attention(q, k, v).reshape(img.shape[0], -1, self.config.hidden_size)
        txt_attended, img_attended = jnp.split(joint, [txt.shape[1]], axis=1)
        img = self.img.finish(img, img_attended, img_mod[2], img_mod[3:])
        txt = self.txt.finish(txt, txt_attended, txt_mod[2], txt_mod[3:])
        return (spread(img, *TOKENS), spread(txt, *TOKENS)), None


class SingleStreamBlock(nn.Module):
    """Attention and MLP in parallel. The reference's `linear1` is split into `qkv` and `mlp`, since UNO
    adapts only qkv.
    """

    config: MMDiTConfig
    dtype: DTypeLike

    def setup(self) -> None:
        c, dtype = self.config, self.dtype
        self.modulation = Modulation(3, dtype)
        self.qkv = Dense(3 * c.hidden_size, ("embed", "heads"), dtype=dtype)
        self.norm = QKNorm()
        self.mlp = Dense(c.mlp_size, ("embed", "mlp"), dtype=dtype)
        self.linear2 = Dense(c.hidden_size, ("mlp", "embed"), dtype=dtype)

    def modulations(self, vec: Array) -> list[Array]:
        return self.modulation(vec)

    def __call__(self, x: Array, modulations: list[Array], rope: Rope) -> tuple[Array, None]:
        shift, scale, gate = modulations
        normed = modulate(x, shift, scale)
        q, k, v = split_heads(self.qkv(normed), self.config.num_heads)
        q, k = self.norm(q, k)
        attended = attention(apply_rope(q, *rope), apply_rope(k, *rope), v).reshape(x.shape)
        both = jnp.concatenate([attended, gelu(self.mlp(normed))], axis=-1)
        return spread(x + gate * self.linear2(both), *TOKENS), None


class MMDiTInputs(NamedTuple):
    """The inputs of the MM-DiT.

    `ids` are the positions of text, image and reference tokens in that order (`families.uno.positions`): on
    the host, so that the rope table is computed in float64, or on the device where every sample has its own.
    `timesteps` run from 1 (noise) to 0.
    """

    img: Float[Array, "b l c"]
    txt: Float[Array, "b s d"]
    vec: Float[Array, "b v"]
    timesteps: Float[Array, "b"]
    ids: Float[AnyArray, "*b n 3"]
    ref: Float[Array, "b r c"] | None = None
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

    @nn.compact
    def __call__(self, inputs: MMDiTInputs) -> Float[Array, "b l c"]:
        """The velocity in patch channels.

        Raises ValueError if a guidance model gets no guidance or another model gets one, and if the number of
        ids is not that of the tokens.
        """
        img, txt, vec, timesteps, ids, ref, guidance = inputs
        c, dtype = self.config, self.dtype
        length = img.shape[1]
        img = img if ref is None else jnp.concatenate([img, ref.astype(img.dtype)], axis=1)
        if ids.shape[-2] != txt.shape[1] + img.shape[1]:
            raise ValueError(
                f"{ids.shape[-2]} position ids for {txt.shape[1]} text and {img.shape[1]} image tokens"
            )
        if c.guidance_embed != (guidance is not None):
            wanted = "takes guidance (4.0 is usual)" if c.guidance_embed else "has no guidance embedding"
            raise ValueError(f"this model {wanted}, got {guidance}")
        rope = rope_table(ids, c.axes_dim, c.theta)

        vec_sum = MLPEmbedder(c.hidden_size, dtype, name="time_in")(timestep_embedding(timesteps))
        if guidance is not None:
            vec_sum += MLPEmbedder(c.hidden_size, dtype, name="guidance_in")(timestep_embedding(guidance))
        vec_sum += MLPEmbedder(c.hidden_size, dtype, name="vector_in")(vec)
        img = spread(Dense(c.hidden_size, ("in", "embed"), dtype=dtype, name="img_in")(img), *TOKENS)
        txt = spread(Dense(c.hidden_size, ("in", "embed"), dtype=dtype, name="txt_in")(txt), *TOKENS)

        # A copy of vec per block makes this a product batched over blocks, without transposed kernels.
        double = self._stacked(DoubleStreamBlock, c.depth)(c, dtype, name="double_blocks")
        modulations = double.modulations(jnp.broadcast_to(vec_sum, (c.depth, *vec_sum.shape)))
        (img, txt), _ = double((img, txt), modulations, rope)
        x = spread(jnp.concatenate([txt, img], axis=1), *TOKENS)
        single = self._stacked(SingleStreamBlock, c.depth_single_blocks)(c, dtype, name="single_blocks")
        modulations = single.modulations(jnp.broadcast_to(vec_sum, (c.depth_single_blocks, *vec_sum.shape)))
        x, _ = single(x, modulations, rope)
        return FinalLayer(c, dtype, name="final_layer")(x[:, txt.shape[1] :][:, :length], vec_sum)

    def _stacked(self, block: Any, depth: int) -> Any:
        """`depth` blocks with stacked parameters: `__call__` scans over them and `modulations` maps."""
        policy = REMAT_POLICIES[self.remat]
        body = nn.remat(block, prevent_cse=False, policy=policy) if self.remat != "none" else block
        stacked: dict[str, Any] = {
            "variable_axes": {"params": 0, "lora": 0},
            "split_rngs": {"params": True},
            "metadata_params": {nn.PARTITION_NAME: "layers"},
        }
        mapped = nn.vmap(body, axis_size=depth, methods=["modulations"], **stacked)
        return nn.scan(mapped, length=depth, unroll=self.unroll, in_axes=(0, nn.broadcast), **stacked)


class FinalLayer(nn.Module):
    config: MMDiTConfig
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"], vec: Float[Array, "b d"]) -> Float[Array, "b l c"]:
        shift, scale = Modulation(2, self.dtype, name="modulation")(vec)
        linear = Dense(
            self.config.in_channels,
            ("embed", "out"),
            dtype=self.dtype,
            kernel_init=nn.initializers.zeros,
            name="linear",
        )
        return linear(modulate(x, shift, scale))


def smallest_inputs(config: MMDiTConfig) -> tuple[MMDiTInputs]:
    """One token of each kind, for initialising the network."""
    img, txt = jnp.zeros((1, 1, config.in_channels)), jnp.zeros((1, 1, config.context_in_dim))
    one, vec = jnp.ones(1), jnp.zeros((1, config.vec_in_dim))
    guidance = one if config.guidance_embed else None
    return (MMDiTInputs(img, txt, vec, one, np.zeros((2, 3)), None, guidance),)
