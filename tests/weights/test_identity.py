"""Weights keep the names that version 0.1 wrote into jobs, encodings and results."""

import pytest

from uno_jax.weights.checkpoint import CheckpointError
from uno_jax.weights.identity import fingerprint, weights_id
from uno_jax.weights.names import FOLDER

WRITTEN = {
    "mmdit": ("263b5de126e974e87c6b533489a09a746aaea59d90550f3ae27bbacd09398fbc", "e0ea0103"),
    "vae": ("9b564b79bfbb026a2247d6cfb8985cc55136660deb96cab32b7ea2116cab1b7b", "22c4ae17"),
    "t5": ("64013a5ceebd85faf9a434fa3e33f8f61e5a1355388c3d4f728422f32c2f00a7", "347fa2b7"),
    "clip": ("d225ce1d71455b19dd86d599120dd3ef147663b2efbb26c2ee4a0ececd9898a7", "99c7ad86"),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_shipped_networks_have_their_written_names(kind):
    assert (weights_id(FOLDER / kind), fingerprint(FOLDER / kind)) == WRITTEN[kind]


def test_the_shipped_model_and_lora_have_their_written_names():
    assert weights_id(FOLDER) == "08176bb786e2512495c08426d14261131483fb7165d94bfc74999a1c041203be"
    assert weights_id(FOLDER / "lora") == "4e07019ccb0d3f0f83799e5c55c1ef1e4f16da6d35dd57cecfaac9f0b8fa090d"
    with pytest.raises(CheckpointError, match="holds a lora"):
        fingerprint(FOLDER / "lora")
