"""Sizes of references: a few of those that the reference's own function gives."""

import pytest

from uno_jax.families.scone.references import TRAINED_VIT_RULE, VAE_RULE, VIT_RULE, ruled_size


@pytest.mark.parametrize(
    ("size", "vae", "vit", "trained"),
    [
        ((1024, 1024), (1024, 1024), (980, 980), (518, 518)),
        ((512, 512), (512, 512), (518, 518), (518, 518)),
        ((1, 1), (512, 512), (518, 518), (224, 224)),
        ((7, 300), (16, 1024), (14, 980), (14, 518)),
        ((300, 7), (1024, 16), (980, 14), (518, 14)),
        ((640, 480), (688, 512), (686, 518), (518, 392)),
    ],
)
def test_sizes_are_the_references(size, vae, vit, trained):
    """The ViT of sampling sees what the autoencoder sees, in training the picture itself."""
    assert ruled_size(*size, VAE_RULE) == vae
    assert ruled_size(*vae, VIT_RULE) == vit
    assert ruled_size(*size, TRAINED_VIT_RULE) == trained
