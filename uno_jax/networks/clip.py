"""The CLIP text tower. FLUX uses its pooled output; evaluation uses its projection.

Source: transformers `modeling_clip.py`.
"""

from dataclasses import dataclass
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from uno_jax.networks.attention.dispatch import Mask, attention
from uno_jax.networks.bounds import (
    EPSILON,
    LAYERS,
    LENGTH,
    SEED,
    VOCABULARY,
    WIDTH,
    check_bounds,
    check_divides,
)
from uno_jax.networks.layers import ACTIVATIONS, Dense, LayerNorm, parameter, scan_blocks, seeded_features


@dataclass(frozen=True)
class CLIPConfig:
    """The CLIP ViT-L/14 text tower. With a `projection` (its width; 0: none) the output is CLIP's text
    embedding, to be compared with those of pictures. With a `token_seed` the tokens' embeddings follow from
    it and are not stored.
    """

    vocab_size: int = 49_408
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_layers: int = 12
    num_heads: int = 12
    max_positions: int = 77
    layer_norm_eps: float = 1e-5
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    projection: int = 0
    token_seed: int | None = None

    def __post_init__(self) -> None:
        widths = dict.fromkeys(("hidden_size", "intermediate_size", "num_heads"), WIDTH)
        check_bounds(self, **widths, vocab_size=VOCABULARY, num_layers=LAYERS, max_positions=LENGTH)
        check_bounds(self, layer_norm_eps=EPSILON, projection=(0, WIDTH[1]), token_seed=SEED)
        check_divides(self, "hidden_size", "num_heads")


class CLIPBlock(nn.Module):
    config: CLIPConfig
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"], _: None) -> tuple[Array, None]:
        c = self.config
        normed = LayerNorm(c.layer_norm_eps, name="layer_norm1")(x)
        q, k, v = (
            Dense(c.hidden_size, ("embed", "heads"), dtype=self.dtype, name=name)(normed).reshape(
                *x.shape[:2], c.num_heads, -1
            )
            for name in ("q_proj", "k_proj", "v_proj")
        )
        attended = attention(q, k, v, mask=Mask(causal=True)).reshape(x.shape)
        x = x + Dense(c.hidden_size, ("heads", "embed"), dtype=self.dtype, name="out_proj")(attended)
        normed = LayerNorm(c.layer_norm_eps, name="layer_norm2")(x)
        hidden = Dense(c.intermediate_size, ("embed", "mlp"), dtype=self.dtype, name="fc1")(normed)
        hidden = ACTIVATIONS[c.activation](hidden)
        return x + Dense(c.hidden_size, ("mlp", "embed"), dtype=self.dtype, name="fc2")(hidden), None


class CLIPText(nn.Module):
    config: CLIPConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, tokens: Int[Array, "b l"]) -> Float[Array, "b d"]:
        """The hidden state at the end-of-text token (the highest id) after the final norm, projected if the
        config has a projection.
        """
        c = self.config
        init = nn.initializers.normal(0.02)
        embedding_shape, position_shape = (c.vocab_size, c.hidden_size), (c.max_positions, c.hidden_size)
        if c.token_seed is None:
            embedded = parameter(self, "token_embedding", init, ("vocab", "embed"), embedding_shape)[tokens]
        else:
            embedded = seeded_features(tokens, c.hidden_size, c.token_seed, spread=0.1)
        positions = parameter(self, "position_embedding", init, ("positions", "embed"), position_shape)
        x = (embedded + positions[: tokens.shape[1]]).astype(self.dtype)
        blocks = scan_blocks(CLIPBlock, c.num_layers)(c, self.dtype, name="blocks")
        x, _ = blocks(x, None)
        x = LayerNorm(c.layer_norm_eps, name="final_layer_norm")(x)
        pooled = x[jnp.arange(x.shape[0]), tokens.argmax(-1)]
        if not c.projection:
            return pooled
        axes = ("embed", "projection")
        return Dense(c.projection, axes, use_bias=False, dtype=self.dtype, name="projection")(pooled)


def smallest_inputs(config: CLIPConfig) -> tuple[Array]:
    """Two tokens, for initialising the network."""
    return (jnp.zeros((1, 2), jnp.int32),)
