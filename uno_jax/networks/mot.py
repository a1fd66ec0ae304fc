"""BAGEL's mixture of transformers, Scone's network: a Qwen2.5 decoder with two experts a layer.

Text, the marks around images and the cells of the ViT pass through the understanding expert, latent tokens
through the generation expert; attention is common to all. A sequence is a row of *splits* (`Split`): text,
clean images, and the noisy targets that are drawn. Each expert has a stream of its own tokens, in the order
of the splits, so that no expert computes another's tokens and nothing is gathered.

Sources: ByteDance-Seed/BAGEL `modeling/bagel`, transformers `modeling_qwen2.py`.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from uno_jax.networks.attention.dispatch import platform
from uno_jax.networks.blocks import REMAT_POLICIES
from uno_jax.networks.bounds import EPSILON, LAYERS, SIDE, VOCABULARY, WIDTH, check_bounds, check_divides
from uno_jax.networks.layers import (
    Dense,
    MLPEmbedder,
    RMSNorm,
    apply_rope,
    parameter,
    rope_table,
    scan_blocks,
    timestep_embedding,
)
from uno_jax.networks.splits import (
    CachedKeys,
    Layout,
    Seen,
    Split,
    Splits,
    attend,
    joined,
    parted,
)
from uno_jax.sharding.rules import spread
from uno_jax.support.trees import AnyArray

TOKENS = ("samples", "tokens", None)


@dataclass(frozen=True)
class MoTConfig:
    """BAGEL-7B-MoT's decoder and what joins pictures to it; Scone's bridge is in its last three numbers."""

    hidden_size: int = 3584
    intermediate_size: int = 18_944
    num_layers: int = 28
    num_heads: int = 28
    num_kv_heads: int = 4
    head_dim: int = 128
    vocab_size: int = 152_064
    rope_theta: float = 1e6
    rms_norm_eps: float = 1e-6
    max_positions: int = 32_768  # of rope
    latent_channels: int = 16
    latent_patch: int = 2  # latent cells along a token's side
    latent_side: int = 64  # most tokens along a picture's side
    vit_size: int = 1152  # features of a ViT cell
    vit_side: int = 70  # most cells along a picture's side
    bos_id: int = 151_644  # <|im_start|>
    eos_id: int = 151_645  # <|im_end|>
    image_start_id: int = 151_652  # <|vision_start|>
    image_end_id: int = 151_653  # <|vision_end|>
    bridge_layer: int = 8  # after this layer's output references are compared with the instruction
    bridge_masked: tuple[int, ...] = (9, 16)  # first and last layer whose targets see only what is alike
    bridge_threshold: float = 0.88

    def __post_init__(self) -> None:
        widths = ("hidden_size", "intermediate_size", "num_heads", "num_kv_heads", "head_dim", "vit_size")
        check_bounds(self, **dict.fromkeys(widths, WIDTH), vocab_size=VOCABULARY, num_layers=(1, LAYERS[1]))
        sides = dict.fromkeys(("latent_channels", "latent_patch", "latent_side", "vit_side"), (1, SIDE[1]))
        check_bounds(self, **sides, rope_theta=(1, 1e12), rms_norm_eps=EPSILON, max_positions=(1, 1 << 22))
        ids = dict.fromkeys(("bos_id", "eos_id", "image_start_id", "image_end_id"), (0, self.vocab_size - 1))
        check_bounds(self, **ids, bridge_threshold=(-1, 1), bridge_masked=LAYERS)
        check_divides(self, "num_heads", "num_kv_heads")
        if self.head_dim % 2 or self.hidden_size % 4:
            raise ValueError(
                f"head_dim must be even and hidden_size a multiple of 4, got {self.head_dim} and "
                f"{self.hidden_size}"
            )
        if not 0 <= self.bridge_layer < self.num_layers:
            raise ValueError(
                f"bridge_layer {self.bridge_layer} is outside the model's {self.num_layers} layers"
            )
        if len(self.bridge_masked) != 2 or self.bridge_masked[0] <= self.bridge_layer:
            raise ValueError(
                f"bridge_masked must be two layers after bridge_layer {self.bridge_layer}, "
                f"got {self.bridge_masked}"
            )

    @property
    def patch_channels(self) -> int:
        """Numbers of a latent token."""
        return self.latent_channels * self.latent_patch**2


class SwiGLU(nn.Module):
    config: MoTConfig
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"]) -> Float[Array, "b l d"]:
        def dense(features: int, axes: tuple[str, str], name: str) -> Dense:
            return Dense(features, axes, use_bias=False, dtype=self.dtype, name=name)

        inner, up = self.config.intermediate_size, ("embed", "mlp")
        hidden = nn.silu(dense(inner, up, "gate_proj")(x)) * dense(inner, up, "up_proj")(x)
        return dense(self.config.hidden_size, ("mlp", "embed"), "down_proj")(hidden)


class Expert(nn.Module):
    """One expert's part of a layer: `heads` comes before the common attention, `finish` after."""

    config: MoTConfig
    dtype: DTypeLike

    def setup(self) -> None:
        c, dtype = self.config, self.dtype
        self.input_norm = RMSNorm(c.rms_norm_eps, "embed")
        self.q_proj = Dense(c.num_heads * c.head_dim, ("embed", "heads"), dtype=dtype)
        self.k_proj = Dense(c.num_kv_heads * c.head_dim, ("embed", "heads"), dtype=dtype)
        self.v_proj = Dense(c.num_kv_heads * c.head_dim, ("embed", "heads"), dtype=dtype)
        self.q_norm = RMSNorm(c.rms_norm_eps)
        self.k_norm = RMSNorm(c.rms_norm_eps)
        self.o_proj = Dense(c.hidden_size, ("heads", "embed"), use_bias=False, dtype=dtype)
        self.post_norm = RMSNorm(c.rms_norm_eps, "embed")
        self.mlp = SwiGLU(c, dtype)

    def heads(self, x: Float[Array, "b l d"]) -> tuple[Array, Array, Array]:
        c, normed = self.config, self.input_norm(x)
        # A stream may be empty, so that no size can be left open.
        counts = (c.num_heads, c.num_kv_heads, c.num_kv_heads)
        q, k, v = (
            project(normed).reshape(*x.shape[:2], count, c.head_dim)
            for project, count in zip((self.q_proj, self.k_proj, self.v_proj), counts, strict=True)
        )
        if platform() == "cpu":  # else XLA puts the projection into the kernel of the norm, which is slower
            q, k = jax.lax.optimization_barrier((q, k))
        return self.q_norm(q), self.k_norm(k), v

    def finish(self, x: Float[Array, "b l d"], attended: Float[Array, "b l h d"]) -> Float[Array, "b l d"]:
        c = self.config
        x = x + self.o_proj(attended.reshape(*x.shape[:2], c.num_heads * c.head_dim))
        finished: Array = x + self.mlp(self.post_norm(x))
        return finished


class MoTBlock(nn.Module):
    """A layer. It is passed the two streams and what targets see by the bridge, `own` is its number and its
    cached keys, `shared` what all layers have in common.
    """

    config: MoTConfig
    dtype: DTypeLike

    def setup(self) -> None:
        self.und = Expert(self.config, self.dtype)
        self.gen = Expert(self.config, self.dtype)

    def __call__(
        self,
        carry: tuple[Array, Array, Bool[Array, "b l"] | None],
        own: tuple[Array, tuple[CachedKeys, ...]],
        shared: tuple[Layout, Seen, tuple[Array, Array]],
    ) -> tuple[tuple[Array, Array, Bool[Array, "b l"] | None], CachedKeys | None]:
        (und, gen, alike), (number, cached), (layout, seen, rope) = carry, own, shared
        pairs = zip(self.und.heads(und), self.gen.heads(gen), strict=True)
        q, k, v = (joined(*pair, layout.splits) for pair in pairs)
        q, k = (apply_rope(x, *rope, halves=True) for x in (q, k))
        masked = alike
        if alike is not None:
            first, last = self.config.bridge_masked
            masked = alike | (number < first) | (number > last)
        attended = attend((q, k, v), layout, seen, cached, masked)
        to_und, to_gen = parted(attended, layout.splits)
        und, gen = self.und.finish(und, to_und), self.gen.finish(gen, to_gen)
        if layout.bridge is not None:
            now = number == self.config.bridge_layer
            alike = jax.lax.cond(now, layout.bridge, lambda _: alike, jax.lax.stop_gradient(und))
        return (spread(und, *TOKENS), spread(gen, *TOKENS), alike), CachedKeys(k, v) if layout.keep else None


class MoTInputs(NamedTuple):
    """The parts of a sequence, each in the order of the splits that have it.

    `times` are those of the targets; given images are clean. `places` are the rows and columns of an image's
    tokens, by default those of its split's grid.
    """

    text: tuple[Int[Array, "b n"], ...]
    cells: tuple[Float[Array, "b n v"], ...]
    latents: tuple[Float[Array, "b n c"], ...]
    times: Float[Array, "b targets"]
    positions: Int[AnyArray, "*b l"]
    places: tuple[Int[AnyArray, "*b n 2"], ...] | None = None


class Hidden(NamedTuple):
    """The hidden states of both streams after their final norms, and the keys to be cached if there are."""

    und: Float[Array, "b u d"]
    gen: Float[Array, "b g d"]
    kept: CachedKeys | None


class MoT(nn.Module):
    """Hidden states of all tokens, and heads for the next token and for the velocity of a target."""

    config: MoTConfig
    dtype: DTypeLike = jnp.float32
    remat: str = "none"
    unroll: int = 1

    def setup(self) -> None:
        c, dtype = self.config, self.dtype
        init, shape = nn.initializers.normal(0.02), (c.vocab_size, c.hidden_size)
        self.embed_tokens = parameter(self, "embed_tokens", init, ("vocab", "embed"), shape)
        self.lm_head = Dense(c.vocab_size, ("embed", "vocab"), use_bias=False, dtype=dtype)
        self.time_embedder = MLPEmbedder(c.hidden_size, dtype)
        self.vae2llm = Dense(c.hidden_size, ("in", "embed"), dtype=dtype)
        self.llm2vae = Dense(c.patch_channels, ("embed", "out"), dtype=dtype)
        self.connector = Connector(c, dtype)
        policy = REMAT_POLICIES[self.remat]
        block = nn.remat(MoTBlock, prevent_cse=False, policy=policy) if self.remat != "none" else MoTBlock
        stacked = scan_blocks(block, c.num_layers, in_axes=(0, nn.broadcast), unroll=self.unroll)
        self.blocks = stacked(c, dtype)
        self.norm_und = RMSNorm(c.rms_norm_eps, "embed")
        self.norm_gen = RMSNorm(c.rms_norm_eps, "embed")

    def __call__(
        self,
        inputs: MoTInputs,
        layout: Layout,
        seen: Seen | None = None,
        cached: tuple[CachedKeys, ...] = (),
    ) -> Hidden:
        """`cached` holds each cache stacked over the layers; keys are kept if the layout says so."""
        c = self.config
        und, gen = self.embed(inputs, layout.splits)
        rope = rope_table(inputs.positions[..., None], (c.head_dim,), c.rope_theta)
        length = sum(split.length for split in layout.splits)
        alike = None if layout.bridge is None else jnp.ones((len(und), length), bool)
        own = (jnp.arange(c.num_layers), cached)
        (und, gen, _), kept = self.blocks((und, gen, alike), own, (layout, seen or Seen(), rope))
        und, gen = self.norm_und(und), self.norm_gen(gen)
        if self.is_initializing():
            self.velocity(gen)
            self.logits(und)
        return Hidden(und, gen, kept)

    def embed(self, inputs: MoTInputs, splits: Splits) -> tuple[Float[Array, "b u d"], Float[Array, "b g d"]]:
        """The two streams as they enter the first layer."""
        text, cells, latents = iter(inputs.text), iter(inputs.cells), iter(inputs.latents)
        places, times = iter(inputs.places or ()), iter(jnp.moveaxis(inputs.times, 1, 0))
        rows = len(inputs.times)
        und, gen = [], []
        for split in splits:
            if split.kind == "text":
                und.append(self.tokens(next(text)))
                continue
            place = next(places) if inputs.places is not None else grid_places(split.rows, split.columns)
            begin, end = (
                jnp.broadcast_to(self.tokens(jnp.array([[token]])), (rows, 1, self.config.hidden_size))
                for token in (self.config.image_start_id, self.config.image_end_id)
            )
            if split.kind == "vit":
                und += [begin, self.cells(next(cells), place), end]
                continue
            t = next(times) if split.kind == "target" else jnp.zeros(rows)
            und += [begin, end]
            gen.append(self.latents(next(latents), place, t))
        empty = jnp.zeros((rows, 0, self.config.hidden_size), self.dtype)
        return jnp.concatenate([empty, *und], axis=1), jnp.concatenate([empty, *gen], axis=1)

    def tokens(self, ids: Int[Array, "b n"]) -> Float[Array, "b n d"]:
        embedded: Array = self.embed_tokens[ids].astype(self.dtype)
        return embedded

    def cells(
        self, features: Float[Array, "b n v"], places: Int[AnyArray, "*b n 2"]
    ) -> Float[Array, "b n d"]:
        """ViT cells as tokens."""
        c = self.config
        table = sincos_places(places, c.vit_side, c.hidden_size)
        cells: Array = self.connector(features) + table.astype(self.dtype)
        return cells

    def latents(
        self, x: Float[Array, "b n c"], places: Int[AnyArray, "*b n 2"], t: Float[Array, "b"]
    ) -> Float[Array, "b n d"]:
        """Latent tokens at time t."""
        c = self.config
        time = self.time_embedder(timestep_embedding(t, factor=1.0))[:, None]
        table = sincos_places(places, c.latent_side, c.hidden_size)
        tokens: Array = self.vae2llm(x) + time + table.astype(self.dtype)
        return tokens

    def velocity(self, gen: Float[Array, "b n d"]) -> Float[Array, "b n c"]:
        """From normed hidden states of a target, towards noise."""
        predicted: Array = self.llm2vae(gen)
        return predicted

    def logits(self, und: Float[Array, "b n d"]) -> Float[Array, "b n vocab"]:
        """From normed hidden states, those of the token that follows, in float32."""
        predicted: Array = self.lm_head(und)
        return predicted.astype(jnp.float32)


class Connector(nn.Module):
    """From a ViT cell to a token."""

    config: MoTConfig
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b n v"]) -> Float[Array, "b n d"]:
        width = self.config.hidden_size
        x = nn.gelu(Dense(width, ("in", "embed"), dtype=self.dtype, name="fc1")(x), approximate=True)
        return Dense(width, ("embed_in", "embed"), dtype=self.dtype, name="fc2")(x)


def grid_places(rows: int, columns: int) -> Int[np.ndarray, "n 2"]:
    """The row and column of every token of a grid, row by row."""
    return np.indices((rows, columns)).reshape(2, -1).T


def sincos_places(places: Int[AnyArray, "*b n 2"], side: int, width: int) -> Float[Array, "*b n width"]:
    """Position embeddings of (row, column): half of the width for the column, then half for the row, each
    sines then cosines (MAE's `get_2d_sincos_pos_embed`).
    """
    frequencies = 10_000.0 ** (-np.arange(width // 4) / (width / 4))
    angles = np.arange(side)[:, None] * frequencies
    line = jnp.asarray(np.concatenate([np.sin(angles), np.cos(angles)], axis=1), jnp.float32)
    places = jnp.asarray(places)
    return jnp.concatenate([line[places[..., 1]], line[places[..., 0]]], axis=-1)


def smallest_inputs(config: MoTConfig) -> tuple[Any, ...]:
    """A text of two tokens, an image of one cell and one latent, and a target, for initialising."""
    layout = Layout((Split("vae", 1, 1), Split("vit", 1, 1), Split("text", 1, 2), Split("target", 1, 1)))
    latent = jnp.zeros((1, 1, config.patch_channels))
    length = sum(split.length for split in layout.splits)
    positions = jnp.zeros((1, length), jnp.int32)
    cells = jnp.zeros((1, 1, config.vit_size))
    text = jnp.zeros((1, 2), jnp.int32)
    return MoTInputs((text,), (cells,), (latent, latent), jnp.zeros((1, 1)), positions), layout
