"""Weights keep the names that are written into jobs, encodings and results."""

import pytest

from uno_jax.weights.checkpoint import CheckpointError
from uno_jax.weights.identity import fingerprint, weights_id
from uno_jax.weights.names import FOLDER

WRITTEN = {
    "mmdit": ("53bcd0b9fa11ddbd37c12595b0bc73664d5bf22b3cf0d98893dd95c1196523b0", "0f106250"),
    "vae": ("a97f0cc1f84918a047f2de47ce6c61a23909488eaed62806259dec0771f584a3", "8bf06086"),
    "t5": ("3d6d5f6ed95ca8abc826a81308e058bedfee6eb503eabc46f773bb85ded77edc", "565c9acd"),
    "clip": ("a4eb8d0d236c8c71eca5c0a29bf8f28c39617b23043dd5d3b45ebc5c46c0248e", "7a560120"),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_shipped_networks_have_their_written_names(kind):
    assert (weights_id(FOLDER / kind), fingerprint(FOLDER / kind)) == WRITTEN[kind]


def test_the_shipped_model_and_lora_have_their_written_names():
    assert weights_id(FOLDER) == "9db5f70a387b1188a36d9739bc1f22db2d950fd4ed658e943b9673906722640e"
    assert weights_id(FOLDER / "lora") == "e9a12924c878a6653497c35a0ffc5e103f7986489170adee5c553f9b89c524dd"
    with pytest.raises(CheckpointError, match="holds a lora"):
        fingerprint(FOLDER / "lora")
