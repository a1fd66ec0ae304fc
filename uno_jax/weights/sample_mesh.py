"""How a picture is spread over the devices of a process, and with it the model that draws it."""

import math
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from uno_jax.costs.devices import chip_of
from uno_jax.families.model import Model
from uno_jax.families.registry import family_of
from uno_jax.networks.registry import abstract_params
from uno_jax.sharding.rules import make_mesh
from uno_jax.support.bounds import Devices
from uno_jax.support.memory import GIB
from uno_jax.support.trees import count

MOST_SEQUENCE = 4  # on GPUs: eight shares of FLUX's tokens take longer, by docs/plans.md


@dataclass(frozen=True)
class SampleMesh:
    """How a picture is spread over devices; -1 takes the remaining ones. Of one that is not given it is what
    the other leaves; of neither, shares of whole heads where a family has such, or else the mix that
    docs/plans.md found fastest where it fits into memory.
    """

    tensor: Devices | None = None
    """Shares of heads, MLPs and weights. Devices that a model has too few heads for hold parts of the
    weights of their own.
    """
    sequence: Devices | None = None
    """Shares of the tokens, each with the weights of its heads."""


def sampling_mesh(sizes: SampleMesh, devices: list[jax.Device], config: Any, dtype: str) -> Mesh:
    """A mesh of devices for drawing with a model in `dtype`.

    Raises ValueError when the sizes do not multiply to the number of devices, and for more shares of heads
    than the model has.
    """
    shares = family_of(config).sampler.tensor_shares(config)
    if shares and sizes.tensor not in (None, -1) and shares % (sizes.tensor or 1):
        raise ValueError(f"this model's heads can be cut into {shares} shares, not into {sizes.tensor}")
    tensor, sequence = sizes.tensor, sizes.sequence
    if tensor is None and sequence is None and shares:
        # With their marks a picture's tokens are no multiple of four: each share would attend for all.
        tensor, sequence = -1, 1
    elif tensor is None and sequence is None:
        several_gpus = len(devices) > 1 and devices[0].platform == "gpu"
        tensor, sequence = default_mix(devices, model_bytes(config, dtype) if several_gpus else 0)
    tensor, sequence = (-1 if size is None else size for size in (tensor, sequence))
    fsdp, tensor, sequence = whole_heads((tensor, sequence), len(devices), shares)
    return make_mesh(1, fsdp, tensor, sequence, devices)


def whole_heads(mix: tuple[int, int], chips: int, shares: int) -> tuple[int, int, int]:
    """(fsdp, tensor, sequence) for a mix in which -1 takes the rest and heads are cut into whole `shares`
    (0: any). Chips that no head is left for hold parts of the weights.
    """
    tensor, sequence = mix
    if not shares or (sequence == -1 and tensor != -1):
        return 1, tensor, sequence
    sequence = max(sequence, 1)
    return -1, math.gcd(chips // sequence if tensor == -1 else tensor, shares), sequence


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
    first = jax.tree.leaves(model.homes or model.params)[0]
    place = first if model.homes else getattr(first, "sharding", None)
    if isinstance(place, NamedSharding):
        return cast(Mesh, place.mesh)
    return local_mesh(SampleMesh(), model.config, str(model.compute_dtype))
