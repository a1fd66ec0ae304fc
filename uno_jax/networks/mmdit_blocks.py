"""The blocks of the FLUX MM-DiT: double ones for text and image, single ones for both together."""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from uno_jax.networks.attention.dispatch import attention, float8_attention
from uno_jax.networks.attention.float8 import Limits
from uno_jax.networks.fused import parts_of
from uno_jax.networks.layers import Dense, RMSNorm, apply_rope, gelu, gelu_bound, layer_norm
from uno_jax.networks.mmdit_config import MMDiTConfig
from uno_jax.sharding.rules import spread
from uno_jax.support.trees import AnyArray

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
        chunks = parts_of(lin.in_columns(nn.silu(vec)), self.chunks, vec.shape[-1])
        return jnp.stack(chunks)[:, :, None, :]


def modulate(x: Float[Array, "b l d"], shift: Array, scale: Array) -> Float[Array, "b l d"]:
    return (1 + scale) * layer_norm(x) + shift


def widest(one: Limits | None, other: Limits | None) -> Limits | None:
    """Limits of what lies within either."""
    return one and other and Limits(jnp.maximum(one.q, other.q), jnp.maximum(one.k, other.k))


class QKNorm(nn.Module):
    @nn.compact
    def __call__(self, q: Array, k: Array) -> tuple[Array, Array]:
        return RMSNorm(name="query_norm")(q), RMSNorm(name="key_norm")(k)

    def limits(self) -> Limits:
        """Bounds of what it gives, and of what rope makes of it, which turns pairs of channels."""
        scales: list[Array] = [
            self.get_variable("params", name)["scale"] for name in ("query_norm", "key_norm")
        ]
        return Limits(*(jnp.abs(scale).max() * scale.shape[-1] ** 0.5 for scale in scales))


def limits_of(qkv: Dense, norm: QKNorm) -> Limits | None:
    """Bounds of q and k for an attention in float8; None where the base does not ask for it."""
    return norm.limits() if qkv.attends_in_float8 else None


def split_heads(qkv: tuple[Array, ...], config: MMDiTConfig) -> list[Float[Array, "b l h d"]]:
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
        self.proj = Dense(c.hidden_size, ("heads", "embed"), dtype=dtype, takes_slice=True)
        self.mlp_in = Dense(c.mlp_size, ("embed", "mlp"), dtype=dtype)
        self.mlp_out = Dense(c.hidden_size, ("mlp", "embed"), dtype=dtype)

    def heads(self, x: Array, shift: Array, scale: Array) -> tuple[Array, Array, Array]:
        q, k, v = split_heads(self.qkv.in_columns(modulate(x, shift, scale)), self.config)
        return *self.norm(q, k), v

    def limits(self) -> Limits | None:
        return limits_of(self.qkv, self.norm)

    def finish(self, x: Array, attended: Array, modulation: Float[Array, "4 b 1 d"]) -> Array:
        gate, shift, scale, mlp_gate = modulation
        x = x + gate * self.proj(attended)
        hidden = self.mlp_in(modulate(x, shift, scale))
        finished: Array = x + mlp_gate * self.mlp_out(gelu(hidden), bound=partial(gelu_bound, hidden))
        return finished


def attend(
    q: Array, k: Array, v: Array, rope: Rope, seen: KeysValues | None, limits: Limits | None
) -> tuple[Float[Array, "b l d"], KeysValues]:
    """Attention over a block's own keys and those `seen` beside them; and its own keys and values."""
    q, own = apply_rope(q, *rope), KeysValues(apply_rope(k, *rope), v)
    k, v = own
    if seen is not None:
        k, v = (jnp.concatenate(pair, axis=1) for pair in zip(own, seen, strict=True))
    mixed = attention(q, k, v) if limits is None else float8_attention(q, k, v, limits)
    return mixed.reshape(*q.shape[:2], -1), own


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
        joint, _ = attend(q, k, v, rope, seen, widest(self.img.limits(), self.txt.limits()))
        txt_attended, img_attended = jnp.split(joint, [txt.shape[1]], axis=1)
        img = self.img.finish(img, img_attended, img_mod[2:])
        txt = self.txt.finish(txt, txt_attended, txt_mod[2:])
        return (spread(img, *TOKENS), spread(txt, *TOKENS)), None

    def references(self, ref: Array, each: Own, rope: Rope) -> tuple[Array, KeysValues]:
        """The block for reference tokens alone, with their keys and values."""
        modulation = each[0][:6]
        attended, own = attend(*self.img.heads(ref, *modulation[:2]), rope, None, self.img.limits())
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
        q, k, v = split_heads(self.qkv.in_columns(normed), self.config)
        attended, own = attend(*self.norm(q, k), v, rope, seen, limits_of(self.qkv, self.norm))
        hidden = self.mlp(normed)
        joined = self.linear2(attended, gelu(hidden), bound=partial(gelu_bound, hidden))
        return spread(x + gate * joined, *TOKENS), own


BLOCKS: dict[str, type[nn.Module]] = {
    "double_blocks": DoubleStreamBlock,
    "single_blocks": SingleStreamBlock,
}
