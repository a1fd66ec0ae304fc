"""The default mix of tensor and sequence shares, and whose mesh a model is drawn over."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from tests.tiny_model import random_params
from uno_jax.families.model import Model
from uno_jax.families.scone.config import SconeConfig
from uno_jax.families.uno.config import PRESETS
from uno_jax.networks.registry import abstract_params
from uno_jax.sharding.rules import make_mesh, tree_shardings
from uno_jax.support.memory import GIB
from uno_jax.weights.sample_mesh import SampleMesh, default_mix, local_mesh, mesh_of, sampling_mesh

TINY = PRESETS["tiny"]
KINDS = {"h100": "NVIDIA H100 80GB HBM3", "l4": "NVIDIA L4", "v6e": "TPU v6 lite"}


def chips(name, count):
    platform = "tpu" if name == "v6e" else "gpu"
    return [SimpleNamespace(platform=platform, device_kind=KINDS[name], memory_stats=dict)] * count


@pytest.mark.parametrize(
    ("name", "count", "mix"),
    [
        ("h100", 1, (1, 1)),
        ("h100", 4, (1, 4)),
        ("h100", 8, (2, 4)),
        ("l4", 8, (4, 2)),
        ("l4", 2, (2, 1)),
        ("v6e", 8, (8, 1)),
    ],
)
def test_gpus_cut_tokens_where_the_weights_leave_room(name, count, mix):
    assert default_mix(chips(name, count), int(31.4 * GIB)) == mix


@pytest.mark.parametrize(("name", "count", "mix"), [("h100", 4, (-1, 4, 1)), ("v6e", 8, (-1, 4, 1))])
def test_scones_heads_are_cut_and_not_its_tokens(name, count, mix, monkeypatch):
    monkeypatch.setattr("uno_jax.weights.sample_mesh.make_mesh", lambda data, *sizes: sizes[:3])
    assert sampling_mesh(SampleMesh(), chips(name, count), SconeConfig(), "bfloat16") == mix


def test_a_model_is_drawn_over_the_mesh_of_its_weights():
    mesh = make_mesh(devices=jax.devices()[:1])
    shapes, axes = abstract_params(TINY.mmdit)
    params = random_params(TINY.mmdit, 0)
    placed = jax.device_put(params, tree_shardings(mesh, axes, shapes))
    assert mesh_of(Model(TINY, {"mmdit": placed})) is mesh
    on_host = jax.tree.map(np.asarray, params)
    assert mesh_of(Model(TINY, {"mmdit": on_host})) == local_mesh(SampleMesh(), TINY, "float32")
