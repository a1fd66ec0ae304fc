"""Training on every kind of mesh, on eight simulated devices, against one device."""

import subprocess
import sys

import numpy as np
import pytest

from tests.devices import simulated
from tests.tiny_model import write_model

ALONE = "1,1,1,1"
MESHES = {  # data, fsdp, tensor, sequence -> the share of T5's embedding that a device holds
    "8,1,1,1": 1,
    "1,8,1,1": 1 / 8,
    "4,1,2,1": 1 / 2,
    "2,1,1,4": 1,
    "1,2,2,2": 1 / 4,
}


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("meshes")
    weights, out = write_model(folder / "weights"), folder / "out.npz"
    command = [sys.executable, "-m", "tests.sharding.meshes", str(weights), str(out), ALONE, *MESHES]
    done = subprocess.run(command, env=simulated(8), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    arrays: dict[str, dict[str, np.ndarray]] = {}
    with np.load(out) as stored:
        for name in stored.files:
            mesh, _, key = name.partition(" ")
            arrays.setdefault(mesh, {})[key] = stored[name]
    return arrays


@pytest.mark.slow
@pytest.mark.parametrize("mesh", MESHES)
def test_a_mesh_trains_as_one_device_does(results, mesh):
    alone, spread = results[ALONE], results[mesh]
    assert spread.pop("t5_share") == MESHES[mesh]
    assert alone["loss"][0] != pytest.approx(alone["loss"][-1], abs=1e-4)
    for name, array in spread.items():
        np.testing.assert_allclose(array, alone[name], rtol=0, atol=1e-5, err_msg=name)
