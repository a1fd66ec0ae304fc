"""What a family of models is to the rest of the program.

A family is a method: which networks draw together, how they are trained and how they sample. Checkpoints,
loading, training, plans, sampling and evaluation ask this record, and name no network themselves.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt32
from PIL import Image

from uno_jax.costs.program import Program
from uno_jax.families.model import Model
from uno_jax.networks.registry import NETWORKS
from uno_jax.support.trees import Params

Loss = Callable[[dict[str, Params], Any, jax.Array], Float[Array, ""]]
"""(every parameter tree by name, a batch, a key) -> the loss."""


class Objective(NamedTuple):
    """What is minimised, and the networks that it takes."""

    networks: tuple[str, ...]
    make_loss: Callable[[Any, Any], Loss]
    """From a recipe (`training.config.TrainConfig`) and a model config."""


class LoraMethod(NamedTuple):
    """How the family's drawing network is adapted. `info` is a NamedTuple class: what a LoRA's directory
    records beside its parameters, first the config of the network that it adapts.
    """

    info: type
    config: type
    abstract: Callable[[Any, Any], tuple[Params, Params]]
    """Shapes and logical axes, from the network's config and the LoRA's."""
    init: Callable[[jax.Array, Any, Any], Params]
    """From a key and the two configs."""
    to_tensors: Callable[[Any, Params, Any], dict[str, np.ndarray]]
    """A tree in another program's naming, from an `info`, the tree and the naming's name."""
    from_tensors: Callable[[Any, dict[str, np.ndarray], float | None], tuple[Any, Params]]
    """The LoRA's config and its tree, from the network's config, named arrays and the default alpha."""


class Inputs(NamedTuple):
    """One batch of pictures to draw, all of one size and with references of the same sizes.

    `refs` holds an array (b, h, w, 3) in [-1, 1] for each reference; `left` is the given left half of
    pictures that are to be completed, (b, height, width / 2, 3).
    """

    prompts: Sequence[str]
    refs: tuple[Float[np.ndarray, "b h_i w_i 3"], ...]
    seeds: UInt32[np.ndarray, "b"]
    width: int
    height: int
    left: Float[np.ndarray, "b h w/2 3"] | None = None


ONE_STEP = "one denoising step"  # a planned program of this name is a part of another, and not added up


class PlannedSampling(NamedTuple):
    """A batch of pictures to be planned for: sizes in pixels, `refs` references of `ref_side` a side."""

    width: int
    height: int
    refs: int
    ref_side: int
    batch: int
    settings: Any


class Sampler(NamedTuple):
    """How pictures are drawn. `settings` is the class of its options, with `record(width, height)`."""

    make_settings: Callable[..., Any]
    """From a model config and options by name, those that are left out at the model's defaults. Raises
    ValueError for values that cannot work.
    """
    check_size: Callable[[Any, int, int], None]
    """Raises ValueError for a (width, height) that the model cannot draw."""
    reference_side: Callable[[Any, int, int | None], int]
    """The longest side of each of so many references in pixels, from a model config and a wanted side."""
    prepare_reference: Callable[[Image.Image, int, str], Image.Image]
    """A picture as the model is shown it, at that longest side; errors name it by the last argument."""
    sample: Callable[[Model, Inputs, Any], Float[np.ndarray, "b h w 3"]]
    """Pictures in [-1, 1] on the host, drawn with settings."""
    plan: Callable[[Any, dict[str, Params], Mesh, PlannedSampling], dict[str, Program]]
    """The compiled programs of `sample` by name, from a model config and abstract parameters."""


class BatchSizes(NamedTuple):
    """A training batch to be planned for, of square pictures: sides in pixels."""

    batch: int
    side: int
    refs: int
    ref_side: int


@dataclass(frozen=True)
class Family:
    """One family; `families.registry` lists them all."""

    name: str
    config: type
    """A model's config: a frozen dataclass with the config of each network under the network's name, and
    sampling's `defaults`.
    """
    defaults: type
    """The class of `config.defaults`, stored beside the drawing network's config."""
    core: str
    """The network that draws, which a LoRA adapts."""
    presets: Mapping[str, Any]
    objectives: Mapping[str, Objective]
    lora: LoraMethod
    sampler: Sampler
    encoders: Mapping[str, Callable[[Model, Any], Array]]
    """By network, what encodes a batch's pictures or token ids; encodings can be cached on disk."""
    tokenize: Callable[[Any, Sequence[str]], dict[str, np.ndarray]]
    """Prompts as token ids for each text encoder, by the network's name, from a model config."""
    abstract_batch: Callable[[Any, BatchSizes, Collection[str], str], Any]
    """A batch of ShapeDtypeStructs, from a model config, sizes, and the networks whose encodings are cached,
    with the dtype of those.
    """

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks of a model, in the order of its config's fields."""
        return tuple(field.name for field in fields(self.config) if field.name in NETWORKS)
