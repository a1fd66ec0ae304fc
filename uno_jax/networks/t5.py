"""The T5 v1.1 encoder, without an attention mask, as FLUX uses it. Source: transformers `modeling_t5.py`."""

from dataclasses import dataclass

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from uno_jax.networks.attention.dispatch import attention
from uno_jax.networks.bounds import EPSILON, LAYERS, LENGTH, SEED, VOCABULARY, WIDTH, check_bounds
from uno_jax.networks.layers import Dense, RMSNorm, gelu, parameter, scan_blocks, seeded_features
from uno_jax.sharding.rules import spread


@dataclass(frozen=True)
class T5Config:
    """The T5 v1.1 encoder; `length` is the number of tokens to which prompts are padded for FLUX. With a
    `token_seed` the tokens' embeddings follow from it and are not stored.
    """

    vocab_size: int = 32_128
    d_model: int = 4096
    d_kv: int = 64
    d_ff: int = 10_240
    num_layers: int = 24
    num_heads: int = 64
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6
    length: int = 512
    token_seed: int | None = None

    def __post_init__(self) -> None:
        widths = dict.fromkeys(("d_model", "d_kv", "d_ff", "num_heads"), WIDTH)
        check_bounds(self, **widths, vocab_size=VOCABULARY, num_layers=LAYERS, length=LENGTH, token_seed=SEED)
        buckets, distance = self.relative_attention_num_buckets, self.relative_attention_max_distance
        check_bounds(self, relative_attention_num_buckets=(4, 1024), layer_norm_epsilon=EPSILON)
        if not buckets // 4 < distance <= 1 << 20:
            raise ValueError(
                f"relative_attention_max_distance {distance} must be more than a fourth of "
                f"relative_attention_num_buckets {buckets}"
            )


def relative_position_bucket(length: int, buckets: int, max_distance: int) -> Int[np.ndarray, "l l"]:
    """The bucket of each distance key - query: half of the buckets per sign, the first half of those exact,
    the others logarithmic.
    """
    distance = np.arange(length)[None, :] - np.arange(length)[:, None]
    half = buckets // 2
    exact = half // 2
    magnitude = np.abs(distance)
    log_ratio = np.log(np.maximum(magnitude, 1) / exact) / np.log(max_distance / exact)
    far = np.minimum(exact + (log_ratio * (half - exact)).astype(np.int32), half - 1)
    signed: np.ndarray = np.where(distance > 0, half, 0) + np.where(magnitude < exact, magnitude, far)
    return signed


class T5Block(nn.Module):
    config: T5Config
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"], bias: Float[Array, "1 h l l"]) -> tuple[Array, None]:
        c = self.config

        def dense(features: int, axes: tuple[str, str], name: str) -> Dense:
            return Dense(features, axes, use_bias=False, dtype=self.dtype, name=name)

        normed = RMSNorm(c.layer_norm_epsilon, "embed", name="attention_norm")(x)
        q, k, v = (
            dense(c.num_heads * c.d_kv, ("embed", "heads"), name)(normed).reshape(
                *x.shape[:2], c.num_heads, c.d_kv
            )
            for name in "qkv"
        )
        attended = attention(q, k, v, bias=bias, scale=1.0).reshape(*x.shape[:2], -1)
        x = x + dense(c.d_model, ("heads", "embed"), "o")(attended)
        normed = RMSNorm(c.layer_norm_epsilon, "embed", name="mlp_norm")(x)
        gate = gelu(dense(c.d_ff, ("embed", "mlp"), "wi_0")(normed))
        hidden = gate * dense(c.d_ff, ("embed", "mlp"), "wi_1")(normed)
        return x + dense(c.d_model, ("mlp", "embed"), "wo")(hidden), None


class T5Encoder(nn.Module):
    config: T5Config
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, tokens: Int[Array, "b l"]) -> Float[Array, "b l d"]:
        """The final hidden states of padded token ids."""
        c = self.config
        init = nn.initializers.normal
        if c.token_seed is None:
            embedding = parameter(self, "embedding", init(1.0), ("vocab", "embed"), (c.vocab_size, c.d_model))
            embedded = embedding[tokens]
        else:
            embedded = seeded_features(tokens, c.d_model, c.token_seed, spread=1.0)
        table_shape = (c.relative_attention_num_buckets, c.num_heads)
        table = parameter(
            self, "relative_attention_bias", init(c.d_model**-0.5), ("buckets", "heads"), table_shape
        )
        buckets = relative_position_bucket(
            tokens.shape[1], c.relative_attention_num_buckets, c.relative_attention_max_distance
        )
        bias = table[buckets].transpose(2, 0, 1)[None].astype(self.dtype)
        blocks = scan_blocks(T5Block, c.num_layers)(c, self.dtype, name="blocks")
        # Each chip its own samples: else the table's sharding would spread the channels over all of them.
        x, _ = blocks(spread(embedded.astype(self.dtype), "samples", None, None), bias)
        return RMSNorm(c.layer_norm_epsilon, "embed", name="final_norm")(x)


def smallest_inputs(config: T5Config) -> tuple[Array]:
    """Two tokens, for initialising the network."""
    return (jnp.zeros((1, 2), jnp.int32),)
