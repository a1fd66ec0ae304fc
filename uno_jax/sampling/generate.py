"""Prompts and reference pictures -> pictures. `generate` is the Python API; `sample_batch` makes one batch of
pictures of equal shapes, for job lists and others that batch by themselves.
"""

import warnings
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypedDict, TypeVar, Unpack

import jax
import numpy as np
from PIL import Image

from uno_jax.families.family import Inputs
from uno_jax.families.model import Model
from uno_jax.families.progress import Watch
from uno_jax.families.registry import family_of
from uno_jax.families.uno.config import UnoPE
from uno_jax.sampling.prompt_length import cut_prompts
from uno_jax.sampling.references import Picture, References, as_prompts, as_references
from uno_jax.sampling.request import (
    Request,
    agreed_unope,
    batch_shape,
    check_answers,
    check_mask,
    check_pictures,
    check_request,
    check_takes,
    check_turns,
    make_settings,
    prepare_mask,
    prepare_refs,
    prepare_start,
    turns_of,
)
from uno_jax.support import images
from uno_jax.support.trees import Params
from uno_jax.weights.sample_mesh import mesh_of

Item = TypeVar("Item")
THOUGHT = "thought"  # the key of a picture's info
SEED = 3407


class Options(TypedDict, total=False):
    """Options of `generate`; those that are left out take the model's defaults."""

    width: int | None
    """Width in pixels; default the model's resolution."""
    height: int | None
    """Height in pixels; default the model's resolution."""
    seed: int
    """Seed of the noise, default 3407: picture j of a prompt has seed + j, whatever batch it is in."""
    num_images: int
    """Pictures of each prompt; default 1."""
    ref_size: int | None
    """Longest side of references in pixels; default for FLUX 512 for one and 320 for several."""
    steps: int | None
    """Euler steps; default 25, for schnell 4."""
    guidance: float | None
    """Strength of the guidance embedding; default for FLUX.1-dev 4, for schnell none."""
    true_cfg: float | None
    """Scale of classifier-free guidance away from the negative prompt, for twice the work; default for FLUX
    1, which leaves it out.
    """
    image_cfg: float | None
    """Scale of the guidance by references, away from the picture without them; default `true_cfg` if it is
    given, else the model's: for FLUX 1, which leaves it out, for Scone 2.
    """
    negative: str | None
    """What `true_cfg` leads away from; default the empty prompt. Like it, shown no references."""
    start_image: Picture | None
    """Picture, or its path, that every picture begins with, part way through the steps."""
    strength: float | None
    """How far a start image is drawn over: the share of the steps that are taken, default 0.6."""
    mask: Picture | None
    """Of a start image: white where it is drawn anew, black where it stays."""
    unope: UnoPE | None
    """Position convention that `lora` was trained with; it must not contradict that of a merged LoRA."""
    text_cfg: float | None
    """Scone: scale of the guidance away from the picture without the prompt; default 4."""
    renorm: str | None
    """Scone: how guidance is kept from growing: text_channel (the default), channel, global or none."""
    renorm_min: float | None
    """Scone: the least factor of that; default 0."""
    cfg_interval: tuple[float, float] | None
    """Classifier-free guidance acts at times in (low, high], from 1, noise, to 0; default all, 0 to 1."""
    shift: float | None
    """Scone: shift of the schedule towards noise; default 3."""
    points: int | None
    """Scone: times of the schedule, one more than Euler steps; default 50."""
    vit_size: int | None
    """Scone: longest side in which the ViT is shown references, in pixels; default 980."""
    think: bool
    """Scone: write a thought before each picture (in the picture's `info`) or answer."""
    temperature: float | None
    """Scone: temperature of what is written; default 0, greedy."""
    max_tokens: int | None
    """Scone: most tokens of what is written; default 1000."""


def generate(
    model: Model,
    prompts: str | Sequence[str],
    refs: References | None = None,
    lora: Params | None = None,
    batch_size: int = 4,
    watch: Watch | None = None,
    **options: Unpack[Options],
) -> list[Image.Image]:
    """Pictures of the prompts, each with its own references: `num_images` of the first, then of the next.

    `model` comes from `uno_jax.load_model`. `prompts` is one prompt or a list of them. A reference is a
    picture of any size or the path of one: `refs` is one for all prompts, a list of those of a single
    prompt, or a list whose item i is the reference of prompt i or a list of them, none to many.
    `lora` is not merged into the weights: it runs as a side path, for about 10 % more work
    but no copy of the weights. At most `batch_size` pictures of equal shapes are made at once.
    `watch` is called with a `families.progress.Progress` at each step of each batch. What it raises ends the
    drawing and comes out of this function: so it is cancelled.

    Raises:
      ValueError: for arguments that cannot work.
      FileNotFoundError: for a reference's path without a file.
      images.ImageError: for a reference that cannot be used.
      FloatingPointError: when a picture comes out with NaN or infinite values.
    """
    asked: dict[str, Any] = dict(options)
    if watch is not None and not callable(watch):
        raise ValueError(f"watch must be a function, got {watch!r:.60}")
    if not isinstance(negative := asked.get("negative"), str | None):
        raise ValueError(f"negative must be one text for all prompts, got {negative!r:.60}")
    unope = asked.pop("unope", None)
    if lora is not None:
        if unope is None:
            raise ValueError("a LoRA that is not merged does not say how it was trained: give its unope")
        model = replace(model, params=model.params | {"lora": lora})
    requests = make_requests(model.config, prompts, refs, asked)
    settings = make_settings(model.config, agreed_unope(unope, model.unope), asked)
    if asked.get("strength") is not None and all(request.start is None for request in requests):
        raise ValueError("strength says how far a start image is drawn over: give that image too")
    check_pictures(model.config, settings, requests)
    for request in requests:
        check_turns(model.config, model.tokenizer, settings, request)
    made: dict[int, Image.Image] = {}
    shapes = [batch_shape(model.config, settings, request) for request in requests]
    with jax.set_mesh(mesh_of(model)):
        for batch in batches(range(len(requests)), lambda i: shapes[i], batch_size):
            made |= zip(
                batch, sample_batch(model, [requests[i] for i in batch], settings, watch), strict=True
            )
    return [made[i] for i in range(len(requests))]


def make_requests(
    config: Any, prompts: str | Sequence[str], refs: References | None, asked: dict[str, Any]
) -> list[Request]:
    """A request for each picture. Removes from `asked` what is not a setting of the model's family."""
    prompts = as_prompts(prompts)
    for line in cut_prompts(config, [*prompts, asked.get("negative") or ""]):
        warnings.warn(line.removeprefix("warning: "), stacklevel=3)
    width, height = (asked.pop(side, None) for side in ("width", "height"))
    width = config.defaults.resolution if width is None else width
    height = config.defaults.resolution if height is None else height
    seed, num_images = asked.pop("seed", SEED), asked.pop("num_images", 1)
    ref_size = asked.pop("ref_size", None)
    given = make_given(asked, width, height)
    check_request(config, width, height, seed, num_images)
    requests, shown = [], as_references(refs, len(prompts))
    for number, (prompt, pictures) in enumerate(zip(prompts, shown, strict=True)):
        names = [f"reference {i + 1} of prompt {number + 1}" for i in range(len(pictures))]
        prepared = prepare_refs(config, pictures, ref_size, names)
        request = Request(prompt, prepared, width, height, seed)._replace(**given)
        check_takes(config, request)
        requests += [request._replace(seed=seed + j) for j in range(num_images)]
    return requests


def make_given(asked: dict[str, Any], width: int, height: int) -> dict[str, Any]:
    """The parts of a request beside prompt and references, which are removed from `asked`.

    Raises ValueError for a mask of another size than its start image.
    """
    start, mask = (asked.pop(name, None) for name in ("start_image", "mask"))
    start, mask = (part and as_references(part, 1)[0][0] for part in (start, mask))
    if start and mask:
        check_mask(mask.size, start.size)
    return {
        "negative": asked.pop("negative", None),
        "start": start and prepare_start(start, width, height),
        "mask": mask and prepare_mask(mask, width, height),
    }


def batches(items: Sequence[Item], shape: Callable[[Item], Hashable], size: int) -> list[list[Item]]:
    """Groups of items of equal shape, of at most `size` each.

    Raises ValueError for a size below 1.
    """
    if size < 1:
        raise ValueError(f"the batch size must be at least 1, got {size}")
    groups: dict[Hashable, list[Item]] = defaultdict(list)
    for item in items:
        groups[shape(item)].append(item)
    return [group[i : i + size] for group in groups.values() for i in range(0, len(group), size)]


def sample_batch(
    model: Model, requests: Sequence[Request], settings: Any, watch: Watch | None = None
) -> list[Image.Image]:
    """The pictures of one batch: all requests have the same `request.batch_shape`. A text that the model
    wrote before a picture is in its `info` as "thought". `watch` is told of each step. Attention is spread
    over the mesh in use (`jax.set_mesh`).

    Raises FloatingPointError for NaN or infinite values.
    """
    inputs, sampler = make_inputs(requests), family_of(model.config).sampler
    pictures, thoughts = sampler.sample(model, inputs, settings, watch)
    if not np.isfinite(pictures).all():
        raise FloatingPointError(
            f"a picture of {inputs.prompts} came out with NaN or infinite values: the weights are damaged, "
            f"or too large for {model.compute_dtype}"
        )
    made = [images.to_image(picture) for picture in pictures]
    for picture, thought in zip(made, thoughts, strict=False):
        picture.info[THOUGHT] = thought
    return made


def answer(model: Model, question: str, refs: References | None = None, **options: Unpack[Options]) -> str:
    """The answer to a question about pictures, by a model that can write. Of the `options` those that say how
    references are read and text is written are used.

    Raises ValueError for a model that only draws, and otherwise as `generate`.
    """
    asked: dict[str, Any] = dict(options)
    check_answers(model.config)
    (request,) = make_requests(model.config, question, refs, asked)
    settings = make_settings(model.config, None, asked)
    check_turns(model.config, model.tokenizer, settings, request)
    with jax.set_mesh(mesh_of(model)):
        return answer_batch(model, [request], settings)[0]


def answer_batch(model: Model, requests: Sequence[Request], settings: Any) -> list[str]:
    """The answers of one batch; see `sample_batch`.

    Raises ValueError for a model that only draws.
    """
    return list(check_answers(model.config)(model, make_inputs(requests), settings))


def make_inputs(requests: Sequence[Request]) -> Inputs:
    """A batch of requests as arrays."""
    columns = (
        [images.to_array(ref) for ref in column]
        for column in zip(*(request.refs for request in requests), strict=True)
    )

    def stacked(parts: Iterable[Image.Image | None]) -> np.ndarray | None:
        arrays = [images.to_array(part) for part in parts if part is not None]
        return np.stack(arrays) if arrays else None

    masks = stacked(request.mask for request in requests)
    return Inputs(
        prompts=[request.prompt for request in requests],
        refs=tuple(np.stack(each) if len({ref.shape for ref in each}) == 1 else each for each in columns),
        seeds=np.array([request.seed for request in requests], np.uint32),
        width=requests[0].width,
        height=requests[0].height,
        left=stacked(request.left for request in requests),
        turns=[turns_of(request) for request in requests],
        negatives=[request.negative or "" for request in requests],
        start=stacked(request.start for request in requests),
        mask=None if masks is None else (masks[..., 0] + 1) / 2,
    )
