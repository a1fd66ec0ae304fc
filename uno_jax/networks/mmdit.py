"""The FLUX MM-DiT with reference tokens: double blocks for (txt, img), then single blocks for both together.

The 19 + 38 blocks are stacked and scanned, or separate (`blocks`). Their modulations depend on time, guidance
and pooled text only and are computed before the blocks, in sampling once for all steps. LoRA is the `lora`
variable collection; without it the base model runs.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from uno_jax.networks.attention.dispatch import attention
from uno_jax.networks.blocks import Variables, call_separate, scan_stacked, separate_blocks
from uno_jax.networks.bounds import LAYERS, WIDTH, check_bounds, check_divides
from uno_jax.networks.fused import Fused, parts_of
from uno_jax.networks.layers import (
    Dense,
    MLPEmbedder,
    RMSNorm,
    apply_rope,
    gelu,
    gelu_bound,
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


FUSED = Fused(columns=("qkv", "lin"), rows=("linear2",))
Rope = tuple[AnyArray, AnyArray]
TOKENS = ("samples", "tokens", None)


class KeysValues(NamedTuple):
    """Keys, normalised and turned by their positions, and values; those of all blocks have a leading axis."""

    k: Float[Array, "*n b r h d"]
    v: Float[Array, "*n b r h d"]


class ReferenceKeys(NamedTuple):
    """The keys and values of reference tokens in every block."""

    double: KeysValues | None
    single: KeysValues | None


# A block's own modulations, and the keys and values that it sees beside its tokens'.
Own = tuple[Float[Array, "chunks b 1 d"], KeysValues | None]


class Modulation(nn.Module):
    """AdaLN: `chunks` vectors for shift, scale and gate, computed from vec."""

    chunks: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, vec: Float[Array, "b d"]) -> Float[Array, "chunks b 1 d"]:
        # Initialised to zero, so that training from scratch starts at the identity (adaLN-Zero, DiT 3.2).
        lin = Dense(
            self.chunks * vec.shape[-1],
            ("embed", "modulation"),
            dtype=self.dtype,
            kernel_init=nn.initializers.zeros,
            name="lin",
        )
        chunks = parts_of(lin(nn.silu(vec)), self.chunks, vec.shape[-1])
        return jnp.stack(chunks)[:, :, None, :]


def modulate(x: Float[Array, "b l d"], shift: Array, scale: Array) -> Float[Array, "b l d"]:
    return (1 + scale) * layer_norm(x) + shift


class QKNorm(nn.Module):
    @nn.compact
    def __call__(self, q: Array, k: Array) -> tuple[Array, Array]:
        return RMSNorm(name="query_norm")(q), RMSNorm(name="key_norm")(k)


def split_heads(qkv: Float[Array, "b l ..."], config: MMDiTConfig) -> list[Float[Array, "b l h d"]]:
    parts = parts_of(qkv, 3, config.hidden_size)
    return [x.reshape(*x.shape[:2], config.num_heads, -1) for x in parts]


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
        q, k, v = split_heads(self.qkv(modulate(x, shift, scale)), self.config)
        return *self.norm(q, k), v

    def finish(self, x: Array, attended: Array, modulation: Float[Array, "4 b 1 d"]) -> Array:
        gate, shift, scale, mlp_gate = modulation
        x = x + gate * self.proj(attended)
        hidden = self.mlp_in(modulate(x, shift, scale))
        finished: Array = x + mlp_gate * self.mlp_out(gelu(hidden), bound=partial(gelu_bound, hidden))
        return finished


def attend(
    q: Array, k: Array, v: Array, rope: Rope, seen: KeysValues | None
) -> tuple[Float[Array, "b l d"], KeysValues]:
    """Attention over a block's own keys and those `seen` beside them; and its own keys and values."""
    q, own = apply_rope(q, *rope), KeysValues(apply_rope(k, *rope), v)
    pairs = own if seen is None else zip(own, seen, strict=True)
    k, v = own if seen is None else (jnp.concatenate(pair, axis=1) for pair in pairs)
    return attention(q, k, v).reshape(*q.shape[:2], -1), own


class DoubleStreamBlock(nn.Module):
    """Text and image tokens with separate weights and one joint attention (txt first), which may see given
    keys and values beside.
    """

    config: MMDiTConfig
    dtype: DTypeLike

    def setup(self) -> None:
        self.img = Stream(self.config, self.dtype)
        self.txt = Stream(self.config, self.dtype)

    def modulations(self, vec: Float[Array, "b d"]) -> Float[Array, "12 b 1 d"]:
        return jnp.concatenate([self.img.mod(vec), self.txt.mod(vec)])

    def __call__(self, carry: tuple[Array, Array], each: Own, rope: Rope) -> tuple[tuple[Array, Array], None]:
        (img, txt), (modulations, seen) = carry, each
        img_mod, txt_mod = modulations[:6], modulations[6:]
        img_q, img_k, img_v = self.img.heads(img, *img_mod[:2])
        txt_q, txt_k, txt_v = self.txt.heads(txt, *txt_mod[:2])
        q = jnp.concatenate([txt_q, img_q], axis=1)
        k = jnp.concatenate([txt_k, img_k], axis=1)
        v = jnp.concatenate([txt_v, img_v], axis=1)
        joint, _ = attend(q, k, v, rope, seen)
        txt_attended, img_attended = jnp.split(joint, [txt.shape[1]], axis=1)
        img = self.img.finish(img, img_attended, img_mod[2:])
        txt = self.txt.finish(txt, txt_attended, txt_mod[2:])
        return (spread(img, *TOKENS), spread(txt, *TOKENS)), None

    def references(self, ref: Array, each: Own, rope: Rope) -> tuple[Array, KeysValues]:
        """The block for reference tokens alone, with their keys and values."""
        modulation = each[0][:6]
        attended, own = attend(*self.img.heads(ref, *modulation[:2]), rope, None)
        return spread(self.img.finish(ref, attended, modulation[2:]), *TOKENS), own


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

    def modulations(self, vec: Float[Array, "b d"]) -> Float[Array, "3 b 1 d"]:
        modulation: Array = self.modulation(vec)
        return modulation

    def __call__(self, x: Array, each: Own, rope: Rope) -> tuple[Array, None]:
        return self.references(x, each, rope)[0], None

    def references(self, x: Array, each: Own, rope: Rope) -> tuple[Array, KeysValues]:
        """The block for any tokens, with their keys and values."""
        (shift, scale, gate), seen = each
        normed = modulate(x, shift, scale)
        q, k, v = split_heads(self.qkv(normed), self.config)
        attended, own = attend(*self.norm(q, k), v, rope, seen)
        hidden = self.mlp(normed)
        joined = self.linear2(attended, gelu(hidden), bound=partial(gelu_bound, hidden))
        return spread(x + gate * joined, *TOKENS), own


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
        """The velocity in patch channels.

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
        img, txt = spread(self.img_in(img), *TOKENS), spread(self.txt_in(txt), *TOKENS)
        (img, txt), _ = self._run("double_blocks", (img, txt), (given.double, seen.double), rope)
        x = spread(jnp.concatenate([txt, img], axis=1), *TOKENS)
        x, _ = self._run("single_blocks", x, (given.single, seen.single), rope)
        return self.final_layer(x[:, txt.shape[1] :][:, :length], given.final)

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


BLOCKS: dict[str, type[nn.Module]] = {
    "double_blocks": DoubleStreamBlock,
    "single_blocks": SingleStreamBlock,
}


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
