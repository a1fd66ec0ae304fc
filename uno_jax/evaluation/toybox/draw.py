"""Cases -> pictures by a model, in batches, with the references or without."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from uno_jax.families.model import Model
from uno_jax.sampling.generate import batches, sample_batch
from uno_jax.sampling.request import Request, prepare_refs
from uno_jax.toybox import Sample
from uno_jax.weights.sample_mesh import mesh_of


def case_requests(
    config: Any, cases: Sequence[Sample], seed: int, references: bool = True, ref_size: int | None = None
) -> list[Request]:
    """A request a case, of the size of its composite; case i starts from the noise of `seed` + i. References'
    longest sides are `ref_size` pixels, None the model's.
    """
    return [_request(config, case, seed + i, references, ref_size) for i, case in enumerate(cases)]


def draw_cases(
    model: Model, requests: Sequence[Request], settings: Any, batch_size: int
) -> list[UInt8[np.ndarray, "h w 3"]]:
    """A picture a request, in their order."""
    made: dict[int, np.ndarray] = {}
    what = "with references" if any(each.refs for each in requests) else "without references"
    with jax.set_mesh(mesh_of(model)), tqdm(total=len(requests), desc=what, dynamic_ncols=True) as bar:
        for batch in batches(range(len(requests)), lambda i: len(requests[i].refs), batch_size):
            pictures = sample_batch(model, [requests[i] for i in batch], settings)
            made |= zip(batch, map(np.asarray, pictures), strict=True)
            bar.update(len(batch))
    return [made[i] for i in range(len(requests))]


def _request(config: Any, case: Sample, seed: int, references: bool, ref_size: int | None) -> Request:
    height, width = case.target.shape[:2]
    shown = [Image.fromarray(each) for each in case.references] if references else []
    refs = prepare_refs(config, shown, ref_size, case.subjects[: len(shown)])
    return Request(case.prompt, refs, width, height, seed)
