"""The bridge, against PyTorch's interpolation and by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from uno_jax.families.scone.bridge import Bridge, bilinear_weights, similarity
from uno_jax.networks.splits import Split


@pytest.mark.parametrize(("given", "wanted"), [((2, 3), (5, 4)), ((6, 5), (2, 2)), ((1, 4), (3, 9))])
def test_grids_are_resized_as_torch_does(given, wanted):
    torch = pytest.importorskip("torch")
    grid = np.random.default_rng(0).normal(size=given).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.tensor(grid)[None, None], wanted, mode="bilinear", align_corners=False
    )[0, 0].numpy()
    rows, columns = (bilinear_weights(*pair) for pair in zip(given, wanted, strict=True))
    assert np.abs(rows @ grid @ columns.T - expected).max() < 1e-6


SPLITS = (Split("vae", 1, 2), Split("vit", 1, 2), Split("text", 1, 2), Split("target", 1, 1))


def test_what_targets_see():
    """Cells along the instruction's direction, across it, and the latent tokens at the same places."""
    along, across, zero = [2.0, 0.0], [0.0, 3.0], [0.0, 0.0]
    und = jnp.array([[zero, zero, along, along, across, along, along, along, zero, zero]])
    assert similarity(und, SPLITS)[0].tolist() == [1, 1, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 1]
    seen = Bridge(SPLITS, 0.5)(und)[0].tolist()
    assert [number for number, each in enumerate(seen) if not each] == [3, 6]


def test_without_an_instruction_all_is_seen():
    splits = (SPLITS[0], SPLITS[1], SPLITS[3])
    assert bool(Bridge(splits, 2.0)(jnp.ones((1, 8, 2))).all())
