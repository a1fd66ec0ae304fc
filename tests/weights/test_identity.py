"""Weights keep the names that are written into jobs, encodings and results."""

import pytest

from uno_jax.weights.checkpoint import CheckpointError
from uno_jax.weights.identity import fingerprint, weights_id
from uno_jax.weights.names import CACHED_FOLDER, FOLDER

WRITTEN = {
    "mmdit": ("74ef8a3bd20d9d8870f7464f0014bb7bafe59fa01bef6743861f359fd2a94c0f", "0f106250"),
    "vae": ("6c495eeb8ba0b4b79a9ccb23e7abdafb718f3288161d16b8401a9ba1fd5b7a31", "7816f28f"),
    "t5": ("3d6d5f6ed95ca8abc826a81308e058bedfee6eb503eabc46f773bb85ded77edc", "565c9acd"),
    "clip": ("a4eb8d0d236c8c71eca5c0a29bf8f28c39617b23043dd5d3b45ebc5c46c0248e", "7a560120"),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_shipped_networks_have_their_written_names(kind):
    assert (weights_id(FOLDER / kind), fingerprint(FOLDER / kind)) == WRITTEN[kind]


def test_the_shipped_model_and_loras_have_their_written_names():
    assert weights_id(FOLDER) == "e99b436ad7c6b09d8a260d7dc5ccf03dcb778382f034d984d0eedb8b72a2bbed"
    assert weights_id(FOLDER / "lora") == "48a4ea4ef1a2caa0e0a793ca3e47a25e9d23a13fb6c03fef7d9c0d4c6c6e5fc7"
    assert weights_id(CACHED_FOLDER) == "b8049caa5b30d7cf037b19ebd79314622e97b9f5f8a1f5929310a1826c71c390"
    with pytest.raises(CheckpointError, match="holds a lora"):
        fingerprint(FOLDER / "lora")
