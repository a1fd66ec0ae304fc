"""How a picture is spread over the devices of a process, and with it the model that draws it."""

from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from uno_jax.costs.chips import GIB
from uno_jax.costs.devices import chip_of
from uno_jax.families.model import Model
from uno_jax.families.registry import family_of
from uno_jax.networks.registry import abstract_params
from uno_jax.sharding.rules import make_mesh
from uno_jax.support.bounds import Devices
from uno_jax.support.trees import count

MOST_SEQUENCE = 4  # on GPUs: eight shares of FLUX's tokens take longer, by docs/plans.md


@dataclass(frozen=True)
class SampleMesh:
    """How a picture is spread over devices; -1 takes the remaining ones. Of one that is not given it is what
    the other leaves; of neither, the mix that docs/plans.md found fastest where it fits into memory.
    """

    tensor: Devices | None = None
    """Shares of heads, MLPs and weights."""
    sequence: Devices | None = None
    """Shares of the tokens, each with the weights of its heads."""


def sampling_mesh(sizes: SampleMesh, devices: list[jax.Device], config: Any, dtype: str) -> Mesh:
    """A mesh of devices for drawing with a model in `dtype`.

    Raises ValueError when the sizes do not multiply to the number of devices.
    """
    tensor, sequence = sizes.tensor, sizes.sequence
    if tensor is None and sequence is None:
        several_gpus = len(devices) > 1 and devices[0].platform == "gpu"
        tensor, sequence = default_mix(devices, model_bytes(config, dtype) if several_gpus else 0)
    return make_mesh(1, 1, -1 if tensor is None else tensor, -1 if sequence is None else sequence, devices)


def default_mix(devices: list[jax.Device], size: int) -> tuple[int, int]:
    """(tensor, sequence) for a model of `size` bytes. On GPUs as few shares of the weights as leave half of a
    card's memory free, and as cut tokens into `MOST_SEQUENCE` at most; elsewhere tensor alone.
    """
    chips, memory = len(devices), chip_of(devices[0]).memory
    if chips == 1 or devices[0].platform != "gpu" or not memory:
        return chips, 1
    mixes = ((tensor, chips // tensor) for tensor in range(1, chips + 1) if chips % tensor == 0)
    fitting = (mix for mix in mixes if mix[1] <= MOST_SEQUENCE and size / mix[0] <= memory * GIB / 2)
    return next(fitting, (chips, 1))


def model_bytes(config: Any, dtype: str) -> int:
    """Bytes of a model's weights."""
    shapes = (abstract_params(getattr(config, kind))[0] for kind in family_of(config).networks)
    return sum(map(count, shapes)) * jnp.dtype(dtype).itemsize


def local_mesh(sizes: SampleMesh, config: Any, dtype: str) -> Mesh:
    """All devices of this process, so that even a single picture uses all of them.

    Raises as `sampling_mesh`.
    """
    return sampling_mesh(sizes, jax.local_devices(), config, dtype)


def mesh_of(model: Model) -> Mesh:
    """The mesh over which a model's weights are spread."""
    place = getattr(jax.tree.leaves(model.params)[0], "sharding", None)
    if isinstance(place, NamedSharding):
        return cast(Mesh, place.mesh)
    return local_mesh(SampleMesh(), model.config, str(model.compute_dtype))
