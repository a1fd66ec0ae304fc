"""Weights keep the names that are written into jobs, encodings and results."""

import pytest

from uno_jax.weights.checkpoint import CheckpointError
from uno_jax.weights.identity import fingerprint, weights_id
from uno_jax.weights.names import FOLDER

WRITTEN = {
    "mmdit": ("74ef8a3bd20d9d8870f7464f0014bb7bafe59fa01bef6743861f359fd2a94c0f", "0f106250"),
    "vae": ("a97f0cc1f84918a047f2de47ce6c61a23909488eaed62806259dec0771f584a3", "8bf06086"),
    "t5": ("3d6d5f6ed95ca8abc826a81308e058bedfee6eb503eabc46f773bb85ded77edc", "565c9acd"),
    "clip": ("a4eb8d0d236c8c71eca5c0a29bf8f28c39617b23043dd5d3b45ebc5c46c0248e", "7a560120"),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_shipped_networks_have_their_written_names(kind):
    assert (weights_id(FOLDER / kind), fingerprint(FOLDER / kind)) == WRITTEN[kind]


def test_the_shipped_model_and_lora_have_their_written_names():
    assert weights_id(FOLDER) == "a616f54802b72a4e6fa499fe704cabf7f37ba8d526d461c7c154a9fefc3f8ce6"
    assert weights_id(FOLDER / "lora") == "48a4ea4ef1a2caa0e0a793ca3e47a25e9d23a13fb6c03fef7d9c0d4c6c6e5fc7"
    with pytest.raises(CheckpointError, match="holds a lora"):
        fingerprint(FOLDER / "lora")
