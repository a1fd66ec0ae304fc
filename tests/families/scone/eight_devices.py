"""Prints how far contexts, velocities, and ten pictures encoded and decoded over eight devices are off those
of one device, as a fraction of the largest value: `eight_devices.py MODEL REFERENCE`.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from uno_jax import load_model
from uno_jax.families import latents
from uno_jax.families.family import Inputs
from uno_jax.families.latents import decode_image, encode_image
from uno_jax.families.scone.contexts import encode_cells, make_contexts, make_items
from uno_jax.families.scone.drawing import Drawing, velocities
from uno_jax.families.scone.guidance import Guidance
from uno_jax.families.scone.settings import make_settings, prepare_reference
from uno_jax.networks.splits import Split
from uno_jax.sharding.rules import make_mesh
from uno_jax.support.images import to_array

latents.AT_ONCE = 1  # so that ten pictures are two groups
MESHES = {"fsdp 2, tensor 2, sequence 2": (1, 2, 2, 2), "fsdp 4, tensor 2": (1, 4, 2, 1)}


def computed(mesh, folder, picture):
    """The keys of everything that is shown, and the velocities of all branches."""
    model, guidance = load_model(folder, mesh=mesh), Guidance()
    inputs = Inputs(["a cat"], (picture[None],), np.zeros(1, np.uint32), 32, 32)
    with jax.set_mesh(mesh):
        items = make_items(model, inputs, make_settings(model.config))
        contexts, reads = make_contexts(model, items, guidance)
        drawing = Drawing(Split("target", 2, 2), guidance, reads, ())
        x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 8)), jnp.float32)
        drawn = jax.jit(
            lambda model, contexts: velocities(model, x, 0.5, contexts, drawing, guidance.branches)
        )
        found = drawn(model, contexts)
        pictures = np.random.default_rng(1).uniform(-1, 1, (10, 32, 32, 3)).astype(np.float32)
        latent = encode_image(model, pictures)
        networks = latent, encode_cells(model, pictures[:, :12, :12]), decode_image(model, latent)
    arrays = contexts.caches[0].k, *(found[name] for name in guidance.branches), *networks
    return [np.asarray(array) for array in arrays]


def main(folder, reference):
    picture = to_array(prepare_reference(Image.open(reference), 64))
    one = computed(make_mesh(devices=jax.devices()[:1]), folder, picture)
    for name, sizes in MESHES.items():
        several = computed(make_mesh(*sizes), folder, picture)
        worst = max(np.abs(a - b).max() / np.abs(a).max() for a, b in zip(one, several, strict=True))
        print(f"{name}: {worst:.1e}")


if __name__ == "__main__":
    main(*sys.argv[1:])
