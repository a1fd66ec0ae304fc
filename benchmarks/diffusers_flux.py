"""diffusers' FLUX transformer in the sizes of ours, for the benchmarks that compare with it."""

from diffusers import FluxTransformer2DModel

from uno_jax.networks.mmdit_config import MMDiTConfig


def diffusers_transformer(config: MMDiTConfig) -> FluxTransformer2DModel:
    """The module with random weights, on torch's current default device."""
    return FluxTransformer2DModel(
        in_channels=config.in_channels,
        num_layers=config.depth,
        num_single_layers=config.depth_single_blocks,
        attention_head_dim=config.head_dim,
        num_attention_heads=config.num_heads,
        joint_attention_dim=config.context_in_dim,
        pooled_projection_dim=config.vec_in_dim,
        guidance_embeds=config.guidance_embed,
        axes_dims_rope=config.axes_dim,
    )
