"""Pixels for vision transformers equal those of transformers' processors."""

import tracemalloc

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from uno_jax.evaluation.preprocess import crop_picture, normalise
from uno_jax.networks.vit import VITS

BICUBIC = Image.Resampling.BICUBIC
IMAGENET = dict(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
# As the published preprocessor_config.json of facebook/dinov2-*, openai/clip-vit-* and google/siglip-*.
# DINO's own evaluation does what DINOv2's file says.
DINOV2 = BitImageProcessorPil(
    size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}, resample=BICUBIC, **IMAGENET
)
PROCESSORS = {
    "dino": DINOV2,
    "dinov2": DINOV2,
    "clip": CLIPImageProcessorPil(),
    "siglip": SiglipImageProcessorPil(resample=BICUBIC, image_mean=[0.5] * 3, image_std=[0.5] * 3),
}
# Wide, high, square, smaller than what is cut out, and with odd margins of both kinds.
SIZES = [(300, 451), (517, 260), (224, 224), (40, 63), (331, 300)]


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("shape", [(1, 30000), (30000, 1), (2, 20000)])
def test_a_line_of_pixels_is_seen_without_being_resized_to_gigabytes(name, shape):
    picture = np.full((*shape, 3), 200, np.uint8)
    picture[:1, :1] = 0  # far from the centre
    tracemalloc.start()
    cropped = crop_picture(VITS[name], picture)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert cropped.shape == (224, 224, 3) and np.median(cropped) == 200 and most < 100e6


@pytest.mark.parametrize("name", PROCESSORS)
def test_pixels_are_those_of_the_processor(name):
    rng = np.random.default_rng(0)
    for height, width in SIZES:
        picture = rng.integers(0, 256, (height, width, 3), np.uint8)
        theirs = PROCESSORS[name](Image.fromarray(picture), return_tensors="np")["pixel_values"][0]
        cropped = crop_picture(VITS[name], picture)
        ours = np.asarray(normalise(jnp.asarray(cropped), VITS[name].mean, VITS[name].std))
        assert ours.dtype == np.float32 and ours.shape == (224, 224, 3)
        assert np.abs(ours - theirs.transpose(1, 2, 0)).max() < 1e-5
