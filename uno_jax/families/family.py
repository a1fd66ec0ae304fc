"""The interface between a family of models and the rest of the program.

A family is a method: which networks work together, how they are trained and how they sample. Checkpoints,
loading, training, plans, sampling and evaluation use this record and do not name networks themselves.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt32
from PIL import Image

from uno_jax.costs.program import Program
from uno_jax.families.model import Model
from uno_jax.families.progress import Watch
from uno_jax.networks.registry import NETWORKS
from uno_jax.support.errors import CheckpointError, RecipeError
from uno_jax.support.trees import Params
from uno_jax.tokenizers import Cut

Loss = Callable[[dict[str, Params], Any, jax.Array], Float[Array, ""]]
"""(all parameter trees by name, a batch, a key) -> the loss."""


class Objective(NamedTuple):
    """A training objective and the networks that it needs."""

    networks: tuple[str, ...]
    make_loss: Callable[[Any, Any], Loss]
    """Makes the loss from a recipe (`training.config.TrainConfig`) and a model config."""


class BatchParts(NamedTuple):
    """What is read for a training batch of b records. Pictures are in [-1, 1], or their cached encodings."""

    target: np.ndarray
    refs: tuple[np.ndarray, ...]
    prompts: Sequence[str]
    """The empty prompt where the text is dropped."""
    texts: Mapping[str, np.ndarray]
    """Cached encodings of the prompts, by text encoder."""
    mask: np.ndarray | None = None
    """Where errors have another weight, from 0 to 255 in cells of 8 pixels; None where they have none."""


class LoraMethod(NamedTuple):
    """How LoRA adapts the family's core network. `info` is the NamedTuple class of what a LoRA's directory
    records beside its parameters; its first field is the config of the adapted network.
    """

    info: type
    config: type
    abstract: Callable[[Any, Any], tuple[Params, Params]]
    """Shapes and logical axes from the configs of the network and the LoRA."""
    init: Callable[[jax.Array, Any, Any], Params]
    """Random parameters from a key and the two configs."""
    to_tensors: Callable[[Any, Params, Any], dict[str, np.ndarray]]
    """Tensors in another program's naming, from an `info`, the tree and the name of the format."""
    from_tensors: Callable[
        [Any, dict[str, np.ndarray], Callable[[str, int], float] | None], tuple[Any, Params]
    ]
    """The LoRA's config and tree, from the network's config, named tensors, and the scale of a layer by its
    name and rank where the tensors hold none.
    """
    read_updates: Callable[
        [Any, dict[str, np.ndarray], Callable[[str, int], float] | None], tuple[dict[str, Params], list[str]]
    ]
    """Trees of `down` and `up` at the paths of kernels by network, and the names of layers that are left out,
    from the model's config, and tensors and scale as of `from_tensors`: any layers of any trainer's LoRA.
    """
    is_own: Callable[[Iterable[str]], bool]
    """Whether keys are in the naming of the family's own LoRAs, which follow its position convention."""


class Encoder(NamedTuple):
    """What encodes a batch's pictures or token ids. Encodings can be cached on disk."""

    encode: Callable[[Model, Any], Array]
    text: str = ""
    """Name of a prompt's encoding in a cached record; empty for an encoder of pictures."""
    least_bytes: Callable[[Any, int, tuple[int, int], str], int] = lambda *asked: 0
    """Bytes that a batch holds at once at the least, beside the weights: of a model config, a number of
    inputs, the (height, width) of pictures, and a dtype.
    """


Turn = str | int
"""A text, or the number of a reference, from 0."""


class Inputs(NamedTuple):
    """One batch of pictures to sample, all of one size and of one `Sampler.batch_shape`.

    `refs` holds an array (b, h, w, 3) in [-1, 1] for each reference, or a list of arrays (h, w, 3) where
    their sizes differ. `left` is the given left half of diptychs to be completed, (b, height, width / 2, 3).
    `negatives` are prompts that guidance leads away from, by default empty ones. `start` are pictures to
    begin with, and `mask` says where they are drawn anew, 1, and where they stay, 0.
    `turns` are the texts and references of each picture in their order, by default its references and its
    prompt.
    """

    prompts: Sequence[str]
    refs: tuple[Float[np.ndarray, "b h_i w_i 3"] | list[Float[np.ndarray, "_ _ 3"]], ...]
    seeds: UInt32[np.ndarray, "b"]
    width: int
    height: int
    left: Float[np.ndarray, "b h w/2 3"] | None = None
    turns: Sequence[tuple[Turn, ...]] = ()
    negatives: Sequence[str] = ()
    start: Float[np.ndarray, "b h w 3"] | None = None
    mask: Float[np.ndarray, "b h w"] | None = None


class Drawn(NamedTuple):
    """Pictures in [-1, 1] on the host, and the text written before each, if the settings ask for it."""

    pictures: Float[np.ndarray, "b h w 3"]
    thoughts: Sequence[str] = ()


ONE_STEP = "one denoising step"  # the planned program of this name is part of another: left out of sums


class PlannedSampling(NamedTuple):
    """A sampling batch to plan: sizes in pixels, with `refs` square references of `ref_side` pixels."""

    width: int
    height: int
    refs: int
    ref_side: int
    batch: int
    settings: Any
    offload: bool = False
    """Whether each stage has only its own networks on the devices."""
    compiled: bool = True
    """Whether programs are compiled, or only their operations counted, in seconds and for any hardware."""


class Sampler(NamedTuple):
    """How pictures are sampled."""

    make_settings: Callable[..., Any]
    """Settings, with a method `record(width, height)`, from a model config and `options` by name; absent
    options take the model's defaults.

    Raises ValueError for values that cannot work.
    """
    options: tuple[str, ...]
    """Names of the options that `make_settings` takes."""
    check_size: Callable[[Any, int, int], None]
    """Raises ValueError if the model of a config cannot sample pictures of (width, height) pixels."""
    reference_side: Callable[[Any, int, int | None], int]
    """The longest side of each reference in pixels, from a model config, the number of references and the
    requested side (None: the model's).
    """
    prepare_reference: Callable[[Image.Image, int, str], Image.Image]
    """A picture prepared for the model, at that longest side; the last argument names it in errors."""
    sample: Callable[[Model, Inputs, Any, Watch | None], Drawn]
    """Pictures, sampled with settings; the last argument, if any, is told of every step."""
    plan: Callable[[Any, dict[str, Params], Mesh, PlannedSampling], dict[str, Program]]
    """The compiled programs of `sample` by name, from a model config, abstract parameters and a mesh."""
    least_bytes: Callable[[Any, int, Sequence[tuple[int, int]], str], int] = lambda *asked: 0
    """Bytes that a forward pass holds at once at the least, beside the weights: of a model config, a number
    of pictures, the (width, height) of a picture and of its references, and a dtype.
    """
    prompt_cut: Callable[[Any, str], Cut | None] = lambda config, prompt: None
    """What the model of a config drops of a prompt that is too long for it; None where it takes all."""
    takes: Collection[str] = ()
    """What not every family takes: "left", "turns", "negative", "start", "mask"."""
    batch_shape: Callable[[Any, Any, Sequence[tuple[int, int]]], Hashable] = lambda config, settings, sizes: (
        tuple(sizes)
    )
    """What pictures of a batch must have in common, from a model config, settings, and the (width, height) of
    a picture's references.
    """
    check_turns: Callable[[Any, Any, Sequence[str | tuple[int, int]], Any], None] = lambda *_: None
    """Raises ValueError for a picture that cannot be drawn, from a model config, its tokenizer, the texts and
    the (width, height) of references in their order, and settings.
    """
    check_pictures: Callable[[Any, Sequence[Any]], None] = lambda *_: None
    """Raises ValueError for settings and pictures (`sampling.request.Shown`) that contradict each other."""
    options_of: Callable[[dict[str, Any]], dict[str, Any]] = lambda record: record
    """The options by name that a record of settings was made with."""
    tensor_shares: Callable[[Any], int] = lambda config: 0
    """A number that the shares of heads must divide; 0 where any will do."""
    in_stages: bool = False
    """Whether `sample` takes each network of a model for its stage alone (`Model.using`)."""
    step_ratios: Callable[[Model, Inputs, Any], Float[np.ndarray, "steps"]] | None = None
    """What steps may be left out by (`families.skipping`), measured on pictures that are drawn with all of
    them; None for a family that leaves out none.
    """
    answer: Callable[[Model, Inputs, Any], Sequence[str]] | None = None
    """The text that follows each of the inputs; None for a family that only draws."""


class BatchSizes(NamedTuple):
    """A training batch of square pictures to plan; sides are in pixels."""

    batch: int
    side: int
    refs: int
    ref_side: int


class Trainer(NamedTuple):
    """How models are trained."""

    objectives: Mapping[str, Objective]
    encoders: Mapping[str, Encoder]
    """By network."""
    tokenize: Callable[[Any, Sequence[str]], dict[str, np.ndarray]]
    """Token ids of prompts by text encoder, from a model config."""
    make_batch: Callable[[Any, BatchParts], Any]
    """A training batch from a model config and what was read: a pytree with a field `target`."""
    abstract_batch: Callable[[Any, BatchSizes, Collection[str], str], Any]
    """A training batch of ShapeDtypeStructs, from a model config, sizes, the networks whose encodings are
    cached, and the dtype of those encodings.
    """


@dataclass(frozen=True)
class Family:
    """One family of models. `families.registry` lists them all."""

    name: str
    config: type
    """The class of a model's config: a frozen dataclass with each network's config under the network's name,
    and the sampling `defaults`.
    """
    defaults: type
    """The class of `config.defaults`, which is stored with the core network's config."""
    core: str
    """Name of the network that generates pictures and that a LoRA adapts."""
    presets: Mapping[str, Any]
    sampler: Sampler
    trainer: Trainer | None = None
    """None for a family that is sampled only."""
    lora: LoraMethod | None = None
    """None for a family that takes no LoRA."""
    beside: tuple[str, ...] = ()
    """Folders of a model that hold no network."""
    read_tokenizer: Callable[[Path, Any], Any] = lambda directory, config: None
    """The tokenizer beside a model's weights, from the model's directory and config; None for a family whose
    tokenizers are part of this program. Raises CheckpointError.
    """

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks of a model, in the order of its config's fields."""
        return tuple(field.name for field in fields(self.config) if field.name in NETWORKS)

    def need_trainer(self) -> Trainer:
        """How the family's models are trained.

        Raises RecipeError for a family that is sampled only.
        """
        if self.trainer is None:
            raise RecipeError(f"models of the family {self.name} can be sampled, but not trained")
        return self.trainer

    def need_stages(self) -> None:
        """Raises ValueError for a family whose models need all of their weights at every stage."""
        if not self.sampler.in_stages:
            raise ValueError(f"models of the family {self.name} cannot be offloaded: leave out --offload")

    def need_lora(self) -> LoraMethod:
        """How LoRA adapts the family's models.

        Raises CheckpointError for a family that takes none.
        """
        if self.lora is None:
            raise CheckpointError(f"models of the family {self.name} take no LoRA")
        return self.lora
